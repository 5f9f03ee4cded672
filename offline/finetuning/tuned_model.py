"""V-JEPA 2 and a head as one module, of which chosen parts learn.

    VideoTransformer + head -> [tuned_model] -> loop -> the same two, with other weights

Low-rank updates (LoRA, Hu et al. 2021): a linear layer's weights stay as they are, and the product
of two narrow matrices is added to its output. `merge` adds that product to the weights, so that the
result is a plain encoder, as fast as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.heads import Head, HeadOutput
from models.vjepa2.model import PictureEncoder, VideoTransformer
from offline.finetuning.config import FinetuneSettings

_LINEAR = ("qkv", "proj", "fc1", "fc2")  # of a block
_SCALE = 2.0  # of low-rank updates; alpha = 2 * rank in other people's words


class TunedModel(nn.Module):
    """Call it with pictures (B, T, H, W, C), RGB, uint8; it returns the head's output."""

    def __init__(self, encoder: VideoTransformer, head: Head, *, pooled: bool) -> None:
        """`pooled`: the head takes the mean of each time step, else all tokens."""
        super().__init__()
        self.encoder = PictureEncoder(encoder, pooled=pooled)
        self.head = head

    def forward(self, pictures: Tensor) -> HeadOutput:
        features = self.features(pictures)
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        output: HeadOutput = self.head(features, mask)
        return output

    def features(self, pictures: Tensor) -> Tensor:
        """(B, S, D) float32 What the encoder makes of `pictures`."""
        features: Tensor = self.encoder(pictures)
        return features

    def unfreeze(self, settings: FinetuneSettings) -> None:
        """Let the head and the chosen part of the encoder learn.

        Raises:
            ValueError: it has fewer blocks, or both --unfreeze and --lora are given.
        """
        model, blocks = self.encoder.model, settings.blocks
        model.requires_grad_(False)
        if settings.lora:
            for block in model.blocks:
                for name in _LINEAR:
                    setattr(block, name, LowRank(getattr(block, name), settings.lora))
        elif blocks is None:
            model.requires_grad_(True)
        elif blocks > len(model.blocks):
            raise ValueError(f"--unfreeze {blocks}: the encoder has {len(model.blocks)} blocks")
        elif blocks:
            model.blocks[-blocks:].requires_grad_(True)
            model.norm.requires_grad_(True)
        if settings.checkpointing:
            for block in model.blocks:
                again: Any = partial(checkpoint, block.forward, use_reentrant=False)
                block.forward = again  # an attribute: names in the state dict stay

    def merge(self) -> None:
        """Add low-rank updates to the weights that they belong to."""
        for block in self.encoder.model.blocks:
            for name in _LINEAR:
                if isinstance(layer := getattr(block, name), LowRank):
                    setattr(block, name, layer.merged())

    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def groups(self, settings: FinetuneSettings) -> list[dict[str, Any]]:
        """Parameters for AdamW with their `peak` learning rate; biases and norms do not decay."""
        depth = len(self.encoder.model.blocks)
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.learning().items():
            peak = settings.lr
            if (layer := _layer(name, depth)) is not None:
                peak = settings.encoder_lr * settings.layer_decay ** (depth - layer)
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            grouped.setdefault((peak, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), parameters in grouped.items()
        ]

    @contextmanager
    def having(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Within the block the parameters that learn are `weights`."""
        learning = self.learning()
        before = {name: p.detach().clone() for name, p in learning.items()}
        copy_weights(weights, learning)
        try:
            yield
        finally:
            copy_weights(before, learning)


@torch.no_grad()
def copy_weights(weights: dict[str, Tensor], to: dict[str, nn.Parameter]) -> None:
    for name, parameter in to.items():
        parameter.copy_(weights[name])


class LowRank(nn.Module):
    """A linear layer that stays as it is, and an update of low rank that starts at nothing."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        weight = base.weight
        self.down = nn.Parameter(weight.new_empty(rank, base.in_features))
        self.up = nn.Parameter(weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as a linear layer's own

    def forward(self, x: Tensor) -> Tensor:
        narrow = nn.functional.linear(x, self.down)
        result: Tensor = self.base(x) + _SCALE * nn.functional.linear(narrow, self.up)
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        self.base.weight += _SCALE * self.up @ self.down
        return self.base


def _layer(name: str, depth: int) -> int | None:
    """Which layer a parameter belongs to: 0 embeds, 1 to `depth` are blocks; None: the head."""
    match name.split("."):
        case ["encoder", "model", "blocks", number, *_]:
            return int(number) + 1
        case ["encoder", "model", "norm", *_]:
            return depth
        case ["encoder", *_]:
            return 0
    return None

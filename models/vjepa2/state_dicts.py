"""The weights of `VideoTransformer` as others name and order them, there and back.

    state dict of transformers (2.0) or of facebookresearch/vjepa2 (2.1) <-> ours

The numbers are the same. Queries, keys and values are one product here, and the features of a head
that turn together lie half a head apart, which are neighbours there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.vjepa2.model import Shape, VideoTransformer, pairs_apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How one of the others names its tensors."""

    blocks: str
    modules: Mapping[str, tuple[str, ...]]  # ours -> theirs, where theirs has another name
    unused: tuple[str, ...] = ()  # tensors that must be there, and that no video needs

    def names(self, ours: str) -> list[str]:
        """The tensors of which our `ours` is made."""
        match ours.split("."):
            case ["blocks", i, module, part]:
                theirs = self.modules.get(module, (module,))
                return [f"{self.blocks}.{i}.{one}.{part}" for one in theirs]
            case [module, *part]:
                return [".".join((one, *part)) for one in self.modules[module]]
        raise ValueError(f"{ours} is not a tensor of ours")


_LAYOUTS = {
    # `VJEPA2Model(...).encoder.state_dict()`
    "2.0": _Layout(
        blocks="layer",
        modules={
            "patch_embed": ("embeddings.patch_embeddings.proj",),
            "qkv": ("attention.query", "attention.key", "attention.value"),
            "proj": ("attention.proj",),
            "fc1": ("mlp.fc1",),
            "fc2": ("mlp.fc2",),
            "norm": ("layernorm",),
        },
    ),
    # `VisionTransformer(...).state_dict()` of app/vjepa_2_1/models/vision_transformer.py. What has
    # `img` in its name is for single pictures; the first three norms are for outputs in mid-depth,
    # which it gives in training.
    "2.1": _Layout(
        blocks="blocks",
        modules={
            "patch_embed": ("patch_embed.proj",),
            "modality": ("video_mod_embed",),
            "qkv": ("attn.qkv",),
            "proj": ("attn.proj",),
            "fc1": ("mlp.fc1",),
            "fc2": ("mlp.fc2",),
            "norm": ("norms_block.3",),
        },
        unused=(
            "patch_embed_img.proj.weight",
            "patch_embed_img.proj.bias",
            "img_mod_embed",
            *(f"norms_block.{i}.{part}" for i in range(3) for part in ("weight", "bias")),
        ),
    ),
}


def converted(weights: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Our state dict of the encoder's `weights`, named as the others of `shape.version` name them.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the message names the first.
    """
    layout, left = _LAYOUTS[shape.version], dict(weights)
    apart = pairs_apart(shape.width // shape.heads)

    def take(name: str, size: tuple[int, ...] | None = None) -> Tensor:
        if name not in left:
            raise ValueError(f"the checkpoint lacks {name}")
        tensor = left.pop(name)
        if size is not None and tensor.shape != size:
            raise ValueError(f"{name} is {tuple(tensor.shape)} in the checkpoint, not {size}")
        return tensor

    ours = {}
    for name, wanted in _meta(shape).items():
        names = layout.names(name)
        size = _size(name, wanted, shape, len(names))
        parts = [take(one, size) for one in names]
        whole = (torch.cat(parts) if len(parts) > 1 else parts[0]).reshape(wanted.shape)
        ours[name] = _reordered(whole, apart, shape) if ".qkv." in name else whole
    for name in layout.unused:
        take(name)
    if left:
        raise ValueError(f"the checkpoint has {min(left)}, which is not the encoder's")
    return ours


def _meta(shape: Shape) -> dict[str, Tensor]:
    """Our state dict, sizes alone."""
    with torch.device("meta"):
        return VideoTransformer(shape, (1, 2, 2)).state_dict()


def _size(name: str, ours: Tensor, shape: Shape, parts: int) -> tuple[int, ...]:
    """The size of each of the `parts` tensors that `ours` is made of."""
    if name == "patch_embed.weight":  # theirs is a convolution's
        return (shape.width, shape.channels, shape.tubelet, shape.patch, shape.patch)
    if name == "modality":
        return (1, 1, shape.width)
    return (len(ours) // parts, *ours.shape[1:])


def _reordered(qkv: Tensor, order: Tensor, shape: Shape) -> Tensor:
    """`qkv` (3 * width, ...) with the features of each head's queries and keys in `order`."""
    q, k, v = qkv.reshape(3, shape.heads, -1, *qkv.shape[1:])  # each heads, d, ...
    order = order.to(qkv.device)
    return torch.stack([q[:, order], k[:, order], v]).flatten(0, 2)

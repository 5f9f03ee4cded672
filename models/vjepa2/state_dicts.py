"""Published weights -> the names and the order that `VideoTransformer` has.

    state dict of transformers (2.0) or of facebookresearch/vjepa2 (2.0, 2.1) -> [converted] -> ours
    ours, trained further -> [published] -> theirs

The numbers are the same. Queries, keys and values are one product here, and the two features that
rotate together lie half a head apart, where the published weights have neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.vjepa2.model import Shape, VideoTransformer, pairs_apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The names of a published version's tensors."""

    blocks: str
    modules: Mapping[str, tuple[str, ...]]  # our name -> published names, where they differ
    unused: tuple[str, ...] = ()  # tensors that must be there, but that videos do not use

    def names(self, ours: str) -> list[str]:
        """The published tensors that make up our tensor `ours`."""
        match ours.split("."):
            case ["blocks", i, module, part]:
                published = self.modules.get(module, (module,))
                return [f"{self.blocks}.{i}.{name}.{part}" for name in published]
            case [module, *part]:
                return [".".join((name, *part)) for name in self.modules[module]]
        raise ValueError(f"VideoTransformer has no tensor {ours}")


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
    # `VisionTransformer(...).state_dict()` of src/models/vision_transformer.py.
    "2.0 of a run": _Layout(
        blocks="blocks",
        modules={
            "patch_embed": ("patch_embed.proj",),
            "qkv": ("attn.qkv",),
            "proj": ("attn.proj",),
            "fc1": ("mlp.fc1",),
            "fc2": ("mlp.fc2",),
            "norm": ("norm",),
        },
    ),
    # `VisionTransformer(...).state_dict()` of app/vjepa_2_1/models/vision_transformer.py. `img` in
    # a name is for single pictures; the first three norms are for the outputs of inner blocks,
    # which only training uses.
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
    """The state dict of a `VideoTransformer` from the published `weights` of `shape.version`.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the message names the first.
    """
    layout, left = _layout(weights, shape), dict(weights)

    def take(name: str, size: tuple[int, ...] | None = None) -> Tensor:
        if name not in left:
            raise ValueError(f"the checkpoint lacks {name}")
        tensor = left.pop(name)
        if size is not None and tensor.shape != size:
            raise ValueError(f"{name} is {tuple(tensor.shape)} in the checkpoint, not {size}")
        return tensor

    with torch.device("meta"):  # sizes alone
        ours = VideoTransformer(shape, (1, 2, 2)).state_dict()
    state_dict = {}
    for name, wanted in ours.items():
        names = layout.names(name)
        size = _published_size(name, wanted, shape, len(names))
        parts = [take(part, size) for part in names]
        tensor = (torch.cat(parts) if len(parts) > 1 else parts[0]).reshape(wanted.shape)
        state_dict[name] = _pairs_apart(tensor, shape) if ".qkv." in name else tensor
    for name in layout.unused:
        take(name)
    if left:
        raise ValueError(f"the checkpoint has {min(left)}, which is not the encoder's")
    return state_dict


def published(
    state_dict: Mapping[str, Tensor], shape: Shape, unused: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`converted` the other way round: published weights, float32, from a state dict of ours.

    unused: published weights of `shape.version`, for those that our encoder does not have.
    """
    layout = _layout(unused, shape)
    weights = {name: unused[name].float().clone() for name in layout.unused}
    for name, tensor in state_dict.items():
        tensor = tensor.detach().float().cpu()
        if ".qkv." in name:
            tensor = _pairs_apart(tensor, shape, back=True)
        names = layout.names(name)
        size = _published_size(name, tensor, shape, len(names))
        for part, numbers in zip(names, tensor.chunk(len(names)), strict=True):
            weights[part] = numbers.reshape(size).clone()
    return weights


def _layout(weights: Mapping[str, Tensor], shape: Shape) -> _Layout:
    """The names that the published `weights` have: those of 2.0 stand under two sorts of names."""
    of_run = shape.version == "2.0" and any(name.startswith("blocks.") for name in weights)
    return _LAYOUTS["2.0 of a run" if of_run else shape.version]


def _published_size(name: str, ours: Tensor, shape: Shape, parts: int) -> tuple[int, ...]:
    """The size of each of the `parts` published tensors that make up `ours`."""
    if name == "patch_embed.weight":  # published as a convolution
        return (shape.width, shape.channels, shape.tubelet, shape.patch, shape.patch)
    if name == "modality":
        return (1, 1, shape.width)
    return (len(ours) // parts, *ours.shape[1:])


def _pairs_apart(qkv: Tensor, shape: Shape, *, back: bool = False) -> Tensor:
    """`qkv` (3 * width, ...) with the features of each head's queries and keys in our order.

    back: from our order to the published one.
    """
    q, k, v = qkv.reshape(3, shape.heads, -1, *qkv.shape[1:])  # each heads, d, ...
    order = pairs_apart(shape.width // shape.heads).to(qkv.device)
    order = order.argsort() if back else order
    return torch.stack([q[:, order], k[:, order], v]).flatten(0, 2)

"""V-JEPA 2's encoder from the mathematics, in float64 and slowly: what tests hold ours to.

Shares no code with `models`. Written from facebookresearch/vjepa2: src/models/utils/modules.py for
2.0, app/vjepa_2_1/models/{vision_transformer.py,utils/modules.py} for 2.1, whose names the weights
have here. A head of d features is cut into three axes of 2 * (d // 3 // 2) features and a rest;
neighbours of an axis make pairs, which turn by position / 10000 ** (2k / axis).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]
# Width -> blocks, heads, hidden features of the published 2.1: B, L, g, G.
PUBLISHED = {
    768: (12, 12, 3072),
    1024: (24, 16, 4096),
    1408: (40, 22, 6144),
    1664: (48, 26, 8192),
}


def random_weights(width: int, hidden: int, depth: int, seed: int = 0) -> Weights:
    """The tensors of a 2.1 encoder, as a published file holds them but for `module.backbone.`."""
    sizes: dict[str, tuple[int, ...]] = {
        "img_mod_embed": (1, 1, width),
        "video_mod_embed": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 2, 16, 16),
        "patch_embed.proj.bias": (width,),
        "patch_embed_img.proj.weight": (width, 3, 1, 16, 16),
        "patch_embed_img.proj.bias": (width,),
    }
    for i in range(depth):
        for name, size in {
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "mlp.fc1.weight": (hidden, width),
            "mlp.fc1.bias": (hidden,),
            "mlp.fc2.weight": (width, hidden),
            "mlp.fc2.bias": (width,),
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
        }.items():
            sizes[f"blocks.{i}.{name}"] = size
    for i in range(4):
        sizes[f"norms_block.{i}.weight"] = sizes[f"norms_block.{i}.bias"] = (width,)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in sizes.items():
        spread = 1 / math.sqrt(math.prod(size[1:])) if len(size) in (2, 5) else 0.1
        weights[name] = spread * torch.randn(size, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def tokens(weights: Weights, video: Tensor, heads: int, version: str) -> Tensor:
    """(B, N, D) float64 of a `video` (B, T, C, H, W), of any size in tubelets of 2 x 16 x 16."""
    weights = {name: weight.double() for name, weight in weights.items()}
    x = torch.nn.functional.conv3d(
        video.double().transpose(1, 2),
        weights["patch_embed.proj.weight"],
        weights["patch_embed.proj.bias"],
        stride=(2, 16, 16),
    )  # B, D, T/2, H/16, W/16
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    if version == "2.1":
        x = x + weights["video_mod_embed"]
    i = 0
    while f"blocks.{i}.norm1.weight" in weights:
        block = {
            name.removeprefix(f"blocks.{i}."): weight
            for name, weight in weights.items()
            if name.startswith(f"blocks.{i}.")
        }
        x = x + _attention(_norm(x, block, "norm1"), block, heads, grid, version)
        hidden = _linear(_norm(x, block, "norm2"), block, "mlp.fc1")
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        x = x + _linear(hidden, block, "mlp.fc2")
        i += 1
    return _norm(x, weights, "norms_block.3")


def _attention(x: Tensor, block: Weights, heads: int, grid: torch.Size, version: str) -> Tensor:
    width = x.shape[-1]
    size = width // heads
    weight, bias = block["attn.qkv.weight"], block["attn.qkv.bias"]
    made = []
    for head in range(heads):
        q, k, v = (
            x @ weight[first : first + size].T + bias[first : first + size]
            for first in (which * width + head * size for which in range(3))
        )  # each B, N, d
        q, k = _turned(q, grid, version), _turned(k, grid, version)
        scores = (q @ k.transpose(1, 2) / math.sqrt(size)).exp()
        made.append(scores / scores.sum(-1, keepdim=True) @ v)
    return _linear(torch.cat(made, -1), block, "attn.proj")


def _turned(x: Tensor, grid: torch.Size, version: str) -> Tensor:
    """`x` (B, N, d) of one head with each pair of neighbours turned by the token's place."""
    axis = 2 * (x.shape[-1] // 3 // 2)
    rates = [10000 ** (-2 * k / axis) for k in range(axis // 2)]
    turned = x.clone()
    for which, positions in enumerate(_places(grid, version)):
        for k in range(axis // 2):
            at = which * axis + 2 * k
            first, second = x[..., at], x[..., at + 1]
            if version == "2.1":
                turn = torch.polar(torch.ones_like(positions), positions * rates[k])
                whole = torch.complex(first, second) * turn
                turned[..., at], turned[..., at + 1] = whole.real, whole.imag
            else:  # the two have different rates: no rotation, but what 2.0 was trained with
                a = positions * rates[2 * k % len(rates)]
                b = positions * rates[(2 * k + 1) % len(rates)]
                turned[..., at] = first * a.cos() - second * a.sin()
                turned[..., at + 1] = second * b.cos() + first * b.sin()
    return turned


def _places(grid: torch.Size, version: str) -> tuple[Tensor, Tensor, Tensor]:
    """The time, row and column of each token (N); 2.1 counts rows and columns from 0 to 15."""
    times, down, across = grid
    places = [
        (t, 15 * row / (down - 1), 15 * column / (across - 1))
        if version == "2.1"
        else (t, row, column)
        for t in range(times)
        for row in range(down)
        for column in range(across)
    ]
    time, row, column = torch.tensor(places, dtype=torch.float64).T
    return time, row, column


def _norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

"""V-JEPA 2's encoder as plain torch: a vision transformer over tubelets with 3D rotary positions.

    pictures (B, T, H, W, C) uint8 -> /255, mean, deviation -> video (B, T, C, H, W)
    -> tubelets -> blocks of attention and MLP -> norm -> tokens (B, N, D) -> features (B, S, D)

`VideoTransformer` computes the same as transformers' `VJEPA2Model` without its predictor (version
2.0), or as the video encoder of facebookresearch/vjepa2, app/vjepa_2_1 (2.1), in fewer operations:
queries, keys and values in one product, rotation tables made once in float32, tubelets cut by a
reshape and embedded by one product. Tokens are ordered by time, row, column,
N = T/2 * H/16 * W/16. `models.vjepa2.state_dicts` converts published weights to our order.

`PictureEncoder` is the whole graph that is exported, compiled and captured. It normalises as
`models.vjepa2.preprocess` does, to the last bit, but on the device that encodes: a quarter of the
bytes travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.onnx_file import write_onnx
from models.vjepa2.preprocess import MEAN, STD

Grid = tuple[int, int, int]  # tubelets in time, down and across
Version = Literal["2.0", "2.1"]

_THETA = 10000.0  # of the rotary positions
_STRETCHED = 16  # rows and columns of 256 px; 2.1 stretches any other number over their positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An encoder's sizes and version. A checkpoint's `config.json` has them under other names."""

    width: int  # D
    depth: int  # blocks
    heads: int
    hidden: int  # of the MLPs
    patch: int = 16  # px
    tubelet: int = 2  # frames
    channels: int = 3
    qkv_bias: bool = True
    norm_eps: float = 1e-6
    version: Version = "2.0"

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"{self.heads} heads of an even size do not make a width {self.width}")
        if self.version == "2.1" and self.patch != 16:
            raise ValueError(f"V-JEPA 2.1 has patches of 16 px, not {self.patch}")

    @classmethod
    def of(cls, config: Any) -> Shape:
        """The shape that transformers' `VJEPA2Config` describes.

        Raises:
            ValueError: it asks for something that `VideoTransformer` does not have.
        """
        if not isinstance(config.patch_size, int):
            raise ValueError(f"an encoder with patches of {config.patch_size} px, not square ones")
        if config.hidden_act != "gelu":
            raise ValueError(f"an encoder with {config.hidden_act} in its MLPs, not gelu")
        return cls(
            width=config.hidden_size,
            depth=config.num_hidden_layers,
            heads=config.num_attention_heads,
            hidden=int(config.hidden_size * config.mlp_ratio),
            patch=config.patch_size,
            tubelet=config.tubelet_size,
            channels=config.in_chans,
            qkv_bias=config.qkv_bias,
            norm_eps=config.layer_norm_eps,
        )


class VideoTransformer(nn.Module):
    """Call it with a normalised video (B, T, C, H, W) of the size it was made for.

    Raises (from a call):
        ValueError: the video is of another size: its positions would be wrong.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, grid: Grid) -> None:
        """An encoder of `shape` for videos of `grid` tubelets, square or not.

        Raises:
            ValueError: the grid is empty, or too small for 2.1.
        """
        super().__init__()
        if min(grid) < 1:
            raise ValueError(f"a grid of {grid} tubelets holds no video")
        self.shape = shape
        self.grid = grid
        t, p = shape.tubelet, shape.patch
        self.video_size = (grid[0] * t, shape.channels, grid[1] * p, grid[2] * p)  # T, C, H, W
        self.patch_embed = nn.Linear(shape.channels * t * p * p, shape.width)
        # 2.1 adds this to each tubelet of a video; it was trained on images too.
        self.modality = nn.Parameter(torch.zeros(shape.width)) if shape.version == "2.1" else None
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        cos, sin = rotations(grid, shape.width // shape.heads, shape.version)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @classmethod
    def loaded(cls, weights: Mapping[str, Tensor], shape: Shape, grid: Grid) -> VideoTransformer:
        """An encoder that has `weights`, a state dict of ours, and computes in their dtype."""
        with torch.device("meta"):  # no random weights first, and no room for them
            model = cls(shape, grid)
        model.load_state_dict(weights, assign=True)
        dtype = model.patch_embed.weight.dtype
        tables = rotations(grid, shape.width // shape.heads, shape.version)
        model.cos, model.sin = (table.to(dtype) for table in tables)
        return model.eval().requires_grad_(False)

    def forward(self, video: Tensor) -> Tensor:
        """(B, N, D) The tokens of `video`."""
        x = self._embed(video)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        tokens: Tensor = self.norm(x)
        return tokens

    def steps(self, tokens: Tensor) -> Tensor:
        """(B, T/2, D) The mean of the `tokens` (B, N, D) of each time step, in float32."""
        times, down, across = self.grid
        return tokens.float().view(-1, times, down * across, self.shape.width).mean(2)

    def _embed(self, video: Tensor) -> Tensor:
        """(B, N, D) The embedded tubelets of `video`."""
        if video.shape[1:] != self.video_size:
            raise ValueError(
                f"a video of (T, C, H, W) {tuple(video.shape[1:])}, not {self.video_size}"
            )
        (times, down, across), t, p = self.grid, self.shape.tubelet, self.shape.patch
        cut = video.reshape(-1, times, t, self.shape.channels, down, p, across, p)
        tubelets = cut.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
        x: Tensor = self.patch_embed(tubelets)
        return x if self.modality is None else x + self.modality


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=shape.qkv_bias)
        self.proj = nn.Linear(shape.width, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))  # B, N, 3, heads, d
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each B, heads, N, d
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(attended.transpose(1, 2).flatten(-2))
        mlp: Tensor = self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return x + mlp


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (B, heads, N, d) by the tokens' positions; feature i is paired with i + d/2."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def rotations(grid: Grid, size: int, version: Version = "2.0") -> tuple[Tensor, Tensor]:
    """cos and sin (N, size), float32, of each token's angles, for heads of `size` features.

    A third of a head rotates with time, a third with the row, a third with the column (each an even
    number of features); the rest does not rotate. Features are in our order, see `pairs_apart`. In
    bfloat16 a position times a frequency would be wrong by up to 0.1, so angles are float32.

    2.1 stretches the rows and columns of any picture over those of 256 px, its training size.

    Raises:
        ValueError: 2.1 with a single row or column, which cannot be stretched.
    """
    axis = 2 * (size // 3 // 2)
    rates = _THETA ** -(torch.arange(axis // 2, dtype=torch.float32) / (axis / 2))
    # The two features of a pair have one rate in 2.1. In 2.0 they have two, by a mistake that its
    # weights were trained with (facebookresearch/vjepa2, src/models/utils/modules.py).
    rates = rates.repeat_interleave(2) if version == "2.1" else rates.repeat(2)
    times, *sides = (torch.arange(count, dtype=torch.float32) for count in grid)
    if version == "2.1":
        if min(grid[1:]) < 2:
            raise ValueError(f"V-JEPA 2.1 needs two rows and columns of patches, not {grid[1:]}")
        sides = [side * (_STRETCHED - 1) / (len(side) - 1) for side in sides]
    places = torch.cartesian_prod(times, *sides)
    angles = torch.zeros(len(places), size)
    for i in range(3):
        angles[:, i * axis : (i + 1) * axis] = places[:, i : i + 1] * rates
    angles = angles[:, pairs_apart(size)]
    return angles.cos(), angles.sin()


def pairs_apart(size: int) -> Tensor:
    """The order of a head's features that puts neighbours 2i and 2i + 1 half a head apart."""
    return torch.arange(size).view(-1, 2).T.flatten()


class PictureEncoder(nn.Module):
    """Call it with pictures (B, T, H, W, C), RGB, uint8, of the size that `model` was made for.

    Returns float32 (B, S, D): the mean of each time step (S = T/2) if `pooled`, else all tokens.

    Raises (from a call):
        ValueError: the pictures are not uint8 or of another size, or the module was cast.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: VideoTransformer, *, pooled: bool) -> None:
        """`model` computes in the dtype that it has now: to change it, cast `model` alone."""
        super().__init__()
        self.model = model
        self.pooled = pooled
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.dtype != torch.uint8:
            raise ValueError(f"pictures of {pictures.dtype}, not torch.uint8")
        if self.mean.dtype != torch.float32:
            raise ValueError("the picture encoder was cast; cast the model within it alone")
        pixels = (pictures.float() / 255 - self.mean) / self.std
        video = pixels.to(self.model.patch_embed.weight.dtype).permute(0, 1, 4, 2, 3)
        tokens: Tensor = self.model(video)
        return self.model.steps(tokens) if self.pooled else tokens.float()

    def export(self, file: Path) -> list[Path]:
        """Write the ONNX file `pictures` -> `features` with B free; see `write_onnx`."""
        frames, channels, height, width = self.model.video_size
        pictures = torch.zeros(2, frames, height, width, channels, dtype=torch.uint8)
        return write_onnx(self, {"pictures": pictures}, ["features"], {0: "B"}, file)

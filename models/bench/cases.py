"""What `models.bench` measures: encoders of published sizes, cases of them, and plans of cases.

A plan puts what matters most first, because a machine may be taken away.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers import VJEPA2Config

from models.vjepa2.graph import WAYS
from models.vjepa2.model import Grid, Shape

# Width, blocks, heads, MLP ratio, crop (px). L, H and g are published; B is V-JEPA 2.1's; S is what
# a CPU can run.
SIZES: dict[str, tuple[int, int, int, float, int]] = {
    "S": (384, 12, 6, 4.0, 160),
    "B": (768, 12, 12, 4.0, 256),
    "L": (1024, 24, 16, 4.0, 256),
    "H": (1280, 32, 16, 4.0, 256),
    "g": (1408, 40, 22, 48 / 11, 256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What engines are measured with, side by side."""

    size: str
    frames: int
    batch: int
    dtype: str

    @property
    def config(self) -> VJEPA2Config:
        width, depth, heads, ratio, crop = SIZES[self.size]
        return VJEPA2Config(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            mlp_ratio=ratio,
            crop_size=crop,
            frames_per_clip=self.frames,
            pred_num_hidden_layers=1,
        )

    @property
    def shape(self) -> Shape:
        return Shape.of(self.config)

    @property
    def crop(self) -> int:
        return SIZES[self.size][4]

    @property
    def grid(self) -> Grid:
        patches = self.crop // self.shape.patch
        return self.frames // self.shape.tubelet, patches, patches

    @property
    def flops(self) -> float:
        """Of a batch."""
        return self.batch * flops(self.shape, self.grid)


def flops(shape: Shape, grid: Grid) -> float:
    """Of one clip: two for each multiplication of its matrix products, nothing else counted."""
    tokens, width = grid[0] * grid[1] * grid[2], shape.width
    tubelet = shape.channels * shape.tubelet * shape.patch**2
    linear = 4 * width * width + 2 * width * shape.hidden  # qkv and proj, then the MLP
    attention = 2 * tokens * width
    return 2.0 * tokens * (tubelet * width + shape.depth * (linear + attention))


BenchPlan = Sequence[tuple[Case, Sequence[str]]]  # each with the engines that take turns in it


def every(
    sizes: Iterable[str],
    frames: Iterable[int],
    dtypes: Iterable[str],
    batches: Iterable[int],
    engines: Sequence[str],
) -> BenchPlan:
    """All combinations, in the order given."""
    return [
        (Case(size=size, frames=count, batch=batch, dtype=dtype), engines)
        for size, count, dtype, batch in itertools.product(sizes, frames, dtypes, batches)
    ]


def _bf16(size: str, frames: int, batch: int, *engines: str) -> tuple[Case, Sequence[str]]:
    return Case(size=size, frames=frames, batch=batch, dtype="bfloat16"), engines


_BY_TORCH = ("transformers", "transformers-compiled", "lean", "lean-compiled", "pipeline")

PLANS: Mapping[str, BenchPlan] = {
    "quick": every(["S"], [16], ["float32", "bfloat16"], [1], ["transformers", "lean"]),
    "cpu": [
        (Case(size="S", frames=16, batch=1, dtype="float32"), (*_BY_TORCH, *WAYS)),
        _bf16("S", 16, 1, *_BY_TORCH),
    ],
    # Ten minutes of one GPU. What is compiled as a whole takes a minute or two, the rest seconds.
    "gpu": [
        _bf16("g", 16, 8, "torch", "pipeline", "transformers-compiled"),
        _bf16("g", 16, 1, "torch", "pipeline"),
        _bf16("L", 16, 8, "torch", "pipeline", "transformers-compiled"),
        _bf16("L", 16, 1, "torch", "pipeline"),
        *(_bf16(size, 16, 16, "torch", "pipeline") for size in ("g", "L")),
        *(_bf16(size, 16, 4, "torch") for size in ("g", "L")),
        _bf16("g", 64, 4, "torch"),
        _bf16("g", 32, 4, "torch"),
        *(_bf16(size, 16, 8, "transformers", "lean", "lean-compiled") for size in ("g", "L")),
        *(_bf16(size, 16, 8, "torch") for size in ("H", "B")),
        *(_bf16(size, 64, 4, "torch") for size in ("L", "H", "B")),
    ],
}

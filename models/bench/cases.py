"""The cases that `models.bench` measures: encoders of published sizes, and plans of cases.

A plan begins with the most important cases, because a rented machine may be taken away. Imports
nothing heavy, so that a command line is checked at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.vjepa2.graph_engine import WAYS

# Width, blocks, heads, MLP ratio, crop (px). L, H and g are published; B is V-JEPA 2.1's; S is
# small enough for a CPU.
SIZES: dict[str, tuple[int, int, int, float, int]] = {
    "S": (384, 12, 6, 4.0, 160),
    "B": (768, 12, 12, 4.0, 256),
    "L": (1024, 24, 16, 4.0, 256),
    "H": (1280, 32, 16, 4.0, 256),
    "g": (1408, 40, 22, 48 / 11, 256),
}
_PATCH, _TUBELET, _CHANNELS = 16, 2, 3  # px, frames; of all sizes

_PLAIN = ("transformers", "transformers-compiled", "lean", "lean-compiled", "pipeline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A size, clip length, batch and dtype, for which engines are measured side by side."""

    size: str
    frames: int
    batch: int
    dtype: str

    @property
    def crop(self) -> int:
        return SIZES[self.size][4]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubelets in time, down and across."""
        return self.frames // _TUBELET, self.crop // _PATCH, self.crop // _PATCH

    @property
    def flops(self) -> float:
        """Floating-point operations of a batch."""
        width, depth, _, ratio, _ = SIZES[self.size]
        times, down, across = self.grid
        return self.batch * clip_flops(width, depth, int(width * ratio), times * down * across)


def clip_flops(width: int, depth: int, hidden: int, tokens: int) -> float:
    """Of one clip: two for each multiplication of its matrix products, nothing else counted."""
    tubelet = _CHANNELS * _TUBELET * _PATCH**2
    linear = 4 * width * width + 2 * width * hidden  # qkv and proj, then the MLP
    attention = 2 * tokens * width
    return 2.0 * tokens * (tubelet * width + depth * (linear + attention))


def _case(
    size: str, frames: int, batch: int, *engines: str, dtype: str = "bfloat16"
) -> tuple[Case, Sequence[str]]:
    return Case(size=size, frames=frames, batch=batch, dtype=dtype), engines


PLANS: Mapping[str, Sequence[tuple[Case, Sequence[str]]]] = {  # cases and engines to compare
    "quick": [_case("S", 16, 1, "transformers", "lean", dtype=d) for d in ("float32", "bfloat16")],
    "cpu": [_case("S", 16, 1, *_PLAIN, *WAYS, dtype="float32"), _case("S", 16, 1, *_PLAIN)],
    # Ten minutes of one GPU. Compiling a whole model takes a minute or two, all else seconds.
    "gpu": [
        _case("g", 16, 8, "torch", "pipeline", "transformers-compiled"),
        _case("g", 16, 1, "torch", "pipeline"),
        _case("L", 16, 8, "torch", "pipeline", "transformers-compiled"),
        _case("L", 16, 1, "torch", "pipeline"),
        *(_case(size, 16, 16, "torch", "pipeline") for size in ("g", "L")),
        *(_case(size, 16, 4, "torch") for size in ("g", "L")),
        *(_case("g", frames, 4, "torch") for frames in (64, 32)),
        *(_case(size, 16, 8, "transformers", "lean", "lean-compiled") for size in ("g", "L")),
        *(_case(size, 16, 8, "torch") for size in ("H", "B")),
        *(_case(size, 64, 4, "torch") for size in ("L", "H", "B")),
    ],
}

"""Holds each way to run an encoder's graph against torch, and refuses what answers otherwise.

clips + torch's features -> [graph after graph] -> figures, or an error
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vjepa2.graph import Candidate, open_graph
from offline.exporting.top_five import first_five_alike

_TOLERANCE = 1e-4  # of a feature in float32; measured 1e-5
# Cosines of features that are less than these are no rounding: something is wrong.
_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "int8": 0.9}
_SAME = 0.7  # of the clips must keep their first answer
_TIE = 1e-3  # logits so near may change places: features that differ by 1e-4 move them as far

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # features (N, S, D) -> (N, K)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How one way to run a graph compares with torch in float32, on the same clips."""

    name: str  # "openvino-int8"
    megabytes: float
    difference: float  # the largest of a feature
    cosine: float  # of a step's or token's features, the mean
    least_cosine: float
    same: float | None  # share of the clips whose first answer is the same; None: no head
    same_five: float | None  # whose first five are, in the same order but for ties
    clips: int
    ms: float  # a clip, the median

    def line(self) -> str:
        """For people."""
        same = ""
        if self.same is not None and self.same_five is not None:
            same = f", the same first answer {self.same:.0%}, first five {self.same_five:.1%}"
        return (
            f"{self.name}: {self.megabytes:.1f} MB, {self.ms:.0f} ms a clip; to torch: difference "
            f"{self.difference:.1e}, cosine {self.cosine:.5f} (least {self.least_cosine:.5f}){same}"
        )


def compare(
    candidate: Candidate,
    clips: Sequence[NDArray[np.uint8]],
    want: NDArray[np.float32],
    logits: Logits | None,
    threads: int,
) -> Agreement:
    """Run `candidate` on `clips` (T, H, W, C), of which torch makes `want` (N, S, D).

    Raises:
        ValueError: it can't be opened, or differs by more than its precision explains.
    """
    graph = open_graph(candidate, threads)
    graph(clips[0])  # to warm up
    got, took = [], []
    for clip in clips:
        began = time.perf_counter()
        got.append(graph(clip))
        took.append(time.perf_counter() - began)
    found = _figures(np.stack(got), want, logits)
    data = candidate.file.with_name(f"{candidate.file.name}.data")
    size = sum(file.stat().st_size for file in (candidate.file, data) if file.is_file())
    agreement = Agreement(
        name=candidate.name,
        megabytes=round(size / 1e6, 1),
        clips=len(clips),
        ms=round(1000 * float(np.median(took)), 1),
        **found,
    )
    _judge(agreement, candidate.precision)
    return agreement


def _figures(
    got: NDArray[np.float32], want: NDArray[np.float32], logits: Logits | None
) -> dict[str, Any]:
    if got.shape != want.shape:
        raise ValueError(f"the graph gives features {got.shape}, torch {want.shape}")
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    cosines = (got * want).sum(-1) / np.maximum(lengths, 1e-12)
    same = same_five = None
    if logits is not None:
        said, by_torch = logits(got), logits(want)
        same = float((said.argmax(1) == by_torch.argmax(1)).mean())
        same_five = float(first_five_alike(by_torch, said, _TIE).mean())
    return {
        "difference": float(np.abs(got - want).max()),
        "cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
        "same": same,
        "same_five": same_five,
    }


def _judge(found: Agreement, precision: str) -> None:
    """Raise ValueError unless `found` is what rounding to `precision` explains."""
    exact = precision != "float32" or found.difference <= _TOLERANCE
    alike = found.cosine >= _COSINE[precision]
    same = found.same is None or found.same >= _SAME
    if precision == "float32":
        same = found.same_five in (None, 1.0)
    if not (exact and alike and same):  # NaN is not alike
        raise ValueError(f"{found.line()}: more than {precision} explains, so nothing was written")

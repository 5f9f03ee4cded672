"""Holds each way to run an encoder's graph against torch, and says which answer as it does.

clips + torch's features -> [graph after graph] -> figures, and whether it agrees; or an error
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vjepa2.graph_engine import GraphVariant, open_graph

# MERGED from offline.exporting.top_five: Whether two ways to compute one model name the same five
# classes, in the same order. Pure.

FIVE = 5
EQUAL = 1e-3  # logits so near are one: features off by 1e-4, as in float32, move them so far


def first_five_alike(
    want: NDArray[np.float32], got: NDArray[np.float32], tie: float = 0.0
) -> NDArray[np.bool_]:
    """(N,) Where logits `got` (N, K) name the first five classes of `want`, in its order.

    Classes that are no further apart than `tie` in `want` may change places, as rounding decides
    between them; but which five they are must be the same. What is not a number names nothing.
    """
    ranks = slice(0, FIVE)
    theirs = np.argsort(-got, axis=1, kind="stable")[:, ranks]
    ours = np.argsort(-want, axis=1, kind="stable")[:, ranks]
    best, named = (np.take_along_axis(want, ranked, 1) for ranked in (ours, theirs))
    placed = ((ours == theirs) | (np.abs(best - named) <= tie)).all(1)
    members = named.min(1) >= best.min(1) - min(tie, EQUAL)
    same: NDArray[np.bool_] = placed & members & np.isfinite(got).all(1)
    return same


_TOLERANCE = 1e-4  # of a feature in float32; measured 1e-5
# Cosines of features that are less than these are more than rounding.
_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "int8": 0.99}
# Logits of torch so near may change places; 0.02 is a fiftieth of a probability.
_TIES = {"float32": EQUAL, "bfloat16": 0.02, "int8": 0.02}

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # features (N, S, D) -> (N, K)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How one way to run a graph compares with torch in float32, on the same clips.

    What is told of answers is None without a head.
    """

    name: str  # "openvino-int8"
    megabytes: float
    difference: float  # the largest of a feature
    cosine: float  # of a step's or token's features, the mean
    least_cosine: float
    logit: float | None  # the largest difference of a logit
    same: int | None  # clips whose first answer is the same
    same_five: int | None  # whose first five are, in the same order
    same_but_ties: int | None  # the same, where classes nearer than `tie` may change places
    tie: float  # of torch's logits
    clips: int
    ms: float  # a clip, the median
    agrees: bool  # features are alike, and the first five of every clip the same but for ties
    taken: bool  # False: the server is not to run it

    def line(self) -> str:
        """For people."""
        answers = ""
        if self.same is not None:
            answers = (
                f"; of {self.clips} clips the same first answer in {self.same}, the same first "
                f"five in {self.same_five}, {self.same_but_ties} but for logits {self.tie:g} apart "
                f"(off by {self.logit:.1e} at most)"
            )
        return (
            f"{self.name}: {self.megabytes:.1f} MB, {self.ms:.0f} ms a clip; to torch: difference "
            f"{self.difference:.1e}, cosine {self.cosine:.5f} (least {self.least_cosine:.5f})"
            f"{answers}"
        )


def compare(
    candidate: GraphVariant,
    clips: Sequence[NDArray[np.uint8]],
    want: NDArray[np.float32],
    logits: Logits | None,
    threads: int,
    *,
    anyway: bool = False,
) -> Agreement:
    """Run `candidate` on `clips` (T, H, W, C), of which torch makes `want` (N, S, D).

    `anyway`: take it even where it names other classes.

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
    tie = _TIES[candidate.precision]
    found = _figures(np.stack(got), want, logits, tie)
    data = candidate.file.with_name(f"{candidate.file.name}.data")
    size = sum(file.stat().st_size for file in (candidate.file, data) if file.is_file())
    same = found["same_but_ties"] in (None, len(clips))
    agrees = same and found["cosine"] >= _COSINE[candidate.precision]
    agreement = Agreement(
        name=candidate.name,
        megabytes=round(size / 1e6, 1),
        tie=tie,
        clips=len(clips),
        ms=round(1000 * float(np.median(took)), 1),
        agrees=agrees,
        taken=anyway or agrees,
        **found,
    )
    _judge(agreement, candidate.precision)
    return agreement


def _figures(
    got: NDArray[np.float32], want: NDArray[np.float32], logits: Logits | None, tie: float
) -> dict[str, Any]:
    if got.shape != want.shape:
        raise ValueError(f"the graph gives features {got.shape}, torch {want.shape}")
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    cosines = (got * want).sum(-1) / np.maximum(lengths, 1e-12)
    names = ("logit", "same", "same_five", "same_but_ties")
    answers: dict[str, Any] = dict.fromkeys(names)
    if logits is not None:
        said, by_torch = logits(got), logits(want)
        answers = {
            "logit": float(np.abs(said - by_torch).max()),
            "same": int((said.argmax(1) == by_torch.argmax(1)).sum()),
            "same_five": int(first_five_alike(by_torch, said, EQUAL).sum()),
            "same_but_ties": int(first_five_alike(by_torch, said, tie).sum()),
        }
    return {
        "difference": float(np.abs(got - want).max()),
        "cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
        **answers,
    }


def _judge(found: Agreement, precision: str) -> None:
    """Raise ValueError where something is wrong, not rounded: `found` is not what it can be."""
    exact = precision != "float32" or (found.difference <= _TOLERANCE and found.agrees)
    if not (exact and np.isfinite(found.cosine)):
        raise ValueError(f"{found.line()}: more than {precision} explains, so nothing was written")

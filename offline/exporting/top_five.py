"""Whether two ways to compute one model name the same five classes, in the same order. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

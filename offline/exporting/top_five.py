"""Whether two ways to compute one model name the same five classes, in the same order. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIVE = 5


def first_five_alike(
    want: NDArray[np.float32], got: NDArray[np.float32], tie: float = 0.0
) -> NDArray[np.bool_]:
    """(N,) Where logits `got` (N, K) name the first five classes of `want`, in its order.

    Classes that are no further apart than `tie` in `want` may change places: rounding decides
    between them. What is not a number names nothing.
    """
    ranks = slice(0, FIVE)
    theirs = np.argsort(-got, axis=1, kind="stable")[:, ranks]
    ours = np.argsort(-want, axis=1, kind="stable")[:, ranks]
    gaps = np.take_along_axis(want, ours, 1) - np.take_along_axis(want, theirs, 1)
    same: NDArray[np.bool_] = ((ours == theirs) | (np.abs(gaps) <= tie)).all(1)
    return same & np.isfinite(got).all(1)

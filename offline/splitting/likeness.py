"""How alike two clips move, and how alike many can be at most: so that few are compared in full.

    fingerprints -> [likeness] -> copies

Likeness is the correlation of movement at the shift in time, by whole steps or halves, where it is
highest. Few directions out of 64 hold most of what moves: in these many clips are compared at once,
as if they were perfectly alike in the others, so a pair that is ruled out so can't be a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from offline.splitting.fingerprints import CELLS, Fingerprint

SHORTEST = 5  # steps: less shows no movement to tell by

_OVERLAP = 0.6  # of the shorter clip, at least, must lie in the other
_DARK = 8.0  # grey levels: pictures with less contrast are not stretched further
_SAMPLE = 500  # clips that directions are taken from
_ALL = np.eye(CELLS)


def likeness(one: Fingerprint, other: Fingerprint) -> float:
    """How alike two clips move, 0 to 1, at the shift in time where they do so most.

    0 when one of them is too short to tell.
    """
    short, long = sorted((one, other), key=len)
    if len(short) < SHORTEST:
        return 0.0
    a, only = Movement.of([short], _ALL), np.zeros(1, np.int64)
    both = (Movement.of([long], _ALL), Movement.of([long], _ALL, halfway=True))
    return max(float(at_most(a, 0, b, only)[0]) for b in both)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Movement:
    """Clips in D directions, one after another, S steps; then one step of stillness."""

    start: NDArray[np.int64]  # (clips,) the step at which each begins
    length: NDArray[np.int64]  # (clips,)
    seen: NDArray[np.floating]  # (S + 1, D) how far each picture is from its clip's mean
    before: NDArray[np.floating]  # (S + 1, D) sum of a clip's steps before each
    squares: NDArray[np.floating]  # (2, S + 1) of what is seen, and of all in other directions

    @classmethod
    def of(
        cls,
        prints: Sequence[Fingerprint],
        directions: NDArray[np.floating],
        halfway: bool = False,
    ) -> Movement:
        """The movement of clips in `directions` (64, D), orthonormal columns, of their type.

        halfway: of the means of each two steps, which are one less.
        """
        length = np.array([len(one) - halfway for one in prints], np.int64)
        start = np.cumsum(length) - length
        seen = np.zeros((length.sum() + 1, directions.shape[1]), directions.dtype)
        before, squares = np.zeros_like(seen), np.zeros((2, len(seen)), directions.dtype)
        for one, first, steps in zip(prints, start, length, strict=True):
            moved: NDArray[np.floating] = _even(one)
            if halfway:
                moved = (moved[1:] + moved[:-1]) / 2
            moved -= moved.mean(0)
            here = slice(first, first + steps)
            seen[here] = moved @ directions
            np.cumsum(seen[here][:-1], 0, out=before[here][1:])
            squares[0, here] = (seen[here] ** 2).sum(1)
            squares[1, here] = ((moved - seen[here] @ directions.T) ** 2).sum(1)
        return cls(start=start, length=length, seen=seen, before=before, squares=squares)


def main_directions(prints: Sequence[Fingerprint], count: int) -> NDArray[np.float32]:
    """(64, count) The directions in which clips move most; of many clips, by some of them."""
    moved = Movement.of(prints[:: 1 + len(prints) // _SAMPLE], _ALL).seen
    return np.asarray(np.linalg.eigh(moved.T @ moved)[1][:, : -count - 1 : -1], np.float32)


def at_most(
    these: Movement, one: int, those: Movement, others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(others,) The most that `others` of those can be alike to `one` of these, by whole steps.

    0 to 1, and just their likeness when all directions are seen. `one` has `SHORTEST` steps at
    least, and others one less than it has.
    """
    n = int(these.length[one])
    shortest = max(SHORTEST, round(_OVERLAP * n))
    # All others in one row, and before each stillness for as long as `one` may stand over its edge.
    gap = n - shortest
    size = those.length[others] + gap
    begin = np.cumsum(size) - size
    step = np.arange(size.sum()) - np.repeat(begin + gap, size)
    row = np.where(step < 0, len(those.seen) - 1, step + np.repeat(those.start[others], size))
    row = np.pad(row, (0, gap + 1), constant_values=len(those.seen) - 1)
    # Put beside `step`, `one` overlaps from its step `first` to its step `last`.
    first = np.maximum(0, -step)
    last = np.minimum(n, np.repeat(those.length[others], size) - step)
    at = np.flatnonzero(last - first >= shortest)
    first, last = first[at], last[at]
    count = last - first

    own = np.arange(n + 1) + these.start[one]
    each = these.seen[own[:n]] @ those.seen.take(row, 0).T
    down, along = each.strides
    shifted = as_strided(each, (n, len(row) - n), (down + along, along), writeable=False)
    a_sum, (a_seen, a_rest) = _overlaps(these, own, first, last)
    b_sum, (b_seen, b_rest) = _overlaps(those, row, at, at + n)
    common = shifted.sum(0)[at] - _dot(a_sum, b_sum) / count
    a_seen = (a_seen - _dot(a_sum, a_sum) / count).clip(min=0)
    b_seen = (b_seen - _dot(b_sum, b_sum) / count).clip(min=0)
    correlation = common.clip(min=0) / (np.sqrt(a_seen * b_seen) + 1e-6)
    share = np.maximum(
        (a_seen + 1e-9) / (a_seen + a_rest + 1e-9), (b_seen + 1e-9) / (b_seen + b_rest + 1e-9)
    )
    alike = np.zeros(len(step))
    alike[at] = np.sqrt((1 - share * (1 - correlation**2)).clip(min=0))
    return np.maximum.reduceat(alike, begin)


def _overlaps(
    clips: Movement, rows: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Of the steps from `start` to `stop` in `rows`: their sum (N, D), and `squares` (2, N)."""
    before, squares = clips.before.take(rows, 0), clips.squares.take(rows, 1)
    running = squares.cumsum(1, np.float64) - squares
    return (
        before.take(stop, 0) - before.take(start, 0),
        running.take(stop, 1) - running.take(start, 1),
    )


def _dot(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """The products of rows."""
    return np.asarray(np.einsum("ij,ij->i", a, b))


def looks(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """(N, 128) What likely pairs share: unit rows of the mean picture, and of where it moves."""
    rows = []
    for one in prints:
        even = _even(one)
        for part in (even.mean(0), even.std(0)):
            part = part - part.mean()
            rows.append(part / (np.linalg.norm(part) + 1e-6))
    return np.asarray(rows, np.float32).reshape(len(prints), 2 * CELLS)


def _even(cells: Fingerprint) -> NDArray[np.float32]:
    """Each picture with mean 0 and spread 1: fades and exposure are no movement."""
    grey = cells.astype(np.float32)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.maximum(grey.std(1, keepdims=True), _DARK)
    return grey

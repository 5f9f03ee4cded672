"""How far landmark rows of two makers are apart on the same clips.

    two indexes -> read_pairs -> align: rate and shift in time -> distance_figures -> figures

The clips of two collections may be cut otherwise, and one of them may have been taken at a wrong
frame rate. So the second one's clock is stretched and shifted until the hands move as those of the
first: only then rows are compared, tick by tick. Distances are in the rows' unit, shoulder widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout
from offline.data.index import Entry, StoredRows, read_index

_RATE_STEP = 0.1
_RATES = np.arange(0.6, 1.6001, _RATE_STEP)  # of the second's clock, in terms of the first's
_OVERLAP = 0.6  # of the ticks in which the shorter clip shows a hand, at least, both must
_LEAST = 8  # ticks of either in which both must see the same hand: fewer fit by chance
_ALIKE = 0.9  # correlation from which two clips count as lined up
_WRISTS = [layout.BODY_POINTS.index(f"{side}_wrist") for side in ("left", "right")]
_STILL = 0.03  # shoulder widths: movement that noise makes of a still hand

Rows = NDArray[np.float32]  # (T, DIM)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPair:
    """The rows of one clip by two makers, a row a tick."""

    video_id: str
    first: Rows
    second: Rows
    fps: float  # ticks a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Tick `t` of the first is tick `(t - shift) * rate` of the second."""

    rate: float  # 1.2: the second's frames were 1.2 times as many a second as it was taken to have
    shift: float  # ticks
    correlation: float  # of the wrists' movement; 0: they can't be compared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wrists:
    """The wrists of the left and the right hand."""

    points: NDArray[np.float32]  # (..., T, 2, 2): side, x and y
    seen: NDArray[np.bool_]  # (..., T, 2)


def read_pairs(first: Path, second: Path) -> list[RowPair]:
    """The clips whose original is in both indexes, by video id.

    Raises:
        ValueError: there is none, an index or its rows can't be read, or they are no landmarks.
    """
    ones, others = ({e.video_id: e for e in read_index(i)} for i in (first, second))
    pairs = []
    for video_id in sorted(ones.keys() & others.keys()):
        one, other = ones[video_id], others[video_id]
        if one.fps != other.fps or not one.fps:
            raise ValueError(f"{video_id}: {one.fps:g} rows a second, and {other.fps:g}")
        rows = [_rows(file.parent, e) for file, e in ((first, one), (second, other))]
        pairs.append(RowPair(video_id=video_id, first=rows[0], second=rows[1], fps=one.fps))
    if not pairs:
        raise ValueError(f"{first} and {second}: no video is in both")
    return pairs


def _rows(folder: Path, entry: Entry) -> Rows:
    path = folder / entry.path_to_npy_file
    rows = np.asarray(StoredRows.of(path), np.float32)
    if rows.shape[1] != layout.DIM:
        raise ValueError(f"{path}: {rows.shape[1]} numbers a row, so they are no landmarks")
    return rows


def align(first: Rows, second: Rows) -> Alignment:
    """The rate and shift at which the wrists of `second` move as those of `first`.

    The best of all in coarse steps, then of those around it in fine ones.
    """
    a, b = _wrists(first), _wrists(second)
    rough = _best(a, b, _RATES, np.arange(-len(second) / _RATES[0], len(first)))
    if not rough.correlation:
        return rough
    rates = rough.rate + np.linspace(-_RATE_STEP, _RATE_STEP, 9)
    return _best(a, b, rates, rough.shift + np.linspace(-2, 2, 9))


def _best(
    a: Wrists, b: Wrists, rates: NDArray[np.float64], shifts: NDArray[np.float64]
) -> Alignment:
    best = Alignment(rate=1.0, shift=0.0, correlation=0.0)
    for rate in rates.tolist():
        at = (np.arange(len(a.points)) - shifts[:, None]) * rate  # S, T
        moved = _between(b, at)
        seen = a.seen & moved.seen  # S, T, side
        shorter = min(a.seen.any(1).sum(), b.seen.any(1).sum() / rate)
        enough = seen.any(2).sum(1) >= max(_LEAST, _LEAST / rate, _OVERLAP * shorter)
        if enough.any():
            correlation = _correlation(a.points, moved.points[enough], seen[enough])
            if (most := correlation.max()) > best.correlation:
                shift = shifts[enough][correlation.argmax()]
                best = Alignment(rate=rate, shift=float(shift), correlation=float(most))
    return best


def distance_figures(pairs: Sequence[RowPair], alignments: Sequence[Alignment]) -> dict[str, Any]:
    """How far the rows of pairs that could be lined up are apart; JSON, distances as [median, p95].

    `hand_shape` is in hand sizes (root mean square distance of a hand's points from its wrist),
    `ratio` the second's divided by the first's. `seen` are shares of ticks: of hands that are
    raised, and of low ones.
    """
    fits = [(p, a) for p, a in zip(pairs, alignments, strict=True) if a.correlation >= _ALIKE]
    figures: dict[str, Any] = {"clips": len(pairs), "lined_up": len(fits)}
    if not fits:
        return figures
    rates, shifts = np.array([(a.rate, a.shift / p.fps) for p, a in fits]).T
    together = [_together(pair, alignment) for pair, alignment in fits]
    a, b, near = (np.concatenate(part) for part in zip(*together, strict=True))
    return figures | {
        "ticks": len(a),
        "rate_quartiles": _rounded(np.percentile(rates, [25, 50, 75])),
        "shift_s_quartiles": _rounded(np.percentile(shifts, [25, 50, 75])),
        "body": _body_distances(a, b),
        **_hand_distances(a, b),
        "seen": _seen_shares(a, near),
    }


def _wrists(rows: Rows) -> Wrists:
    points = np.stack([rows[:, hand.start : hand.start + 2] for hand in layout.HANDS], axis=1)
    return Wrists(points=points, seen=rows[:, layout.SEEN] > 0.5)


def _between(wrists: Wrists, at: NDArray[np.float64]) -> Wrists:
    """Wrists at times `at` (S, T) between their ticks; seen where they are in both neighbours."""
    low, high, part = _neighbours(at, len(wrists.points))
    part = part[..., None, None]
    points = wrists.points[low] * (1 - part) + wrists.points[high] * part
    inside = (at >= 0) & (at <= len(wrists.points) - 1)
    return Wrists(points=points, seen=wrists.seen[low] & wrists.seen[high] & inside[..., None])


def _neighbours(
    at: NDArray[np.floating], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The ticks before and after each time, and how far it is from the one to the other."""
    low = np.clip(np.floor(at).astype(np.int64), 0, count - 1)
    return low, np.minimum(low + 1, count - 1), (at - low).astype(np.float32)


def _correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], seen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(S,) Of the movement of wrists a (T, 2, 2) and b (S, T, 2, 2), where both are seen."""
    weight = seen[..., None].astype(np.float32)
    count = np.maximum(weight.sum(1, keepdims=True), 1)
    away = [(x - (x * weight).sum(1, keepdims=True) / count) * weight for x in (a[None], b)]
    noise = _STILL**2 * weight.sum((1, 2, 3))
    ones, others = (np.maximum((x**2).sum((1, 2, 3)), noise) for x in away)
    return np.asarray((away[0] * away[1]).sum((1, 2, 3)) / np.sqrt(ones * others), np.float32)


def _together(pair: RowPair, alignment: Alignment) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """The first's rows, the second's at the same times, and (T, 2) whether that sees the hands.

    Only ticks in which both show a body. Between two ticks of the second, a hand counts as seen in
    the row when it is in both, so that no held point is taken for a measured one.
    """
    second = pair.second
    flags: NDArray[np.bool_] = second[:, layout.SEEN] > 0.5
    at = (np.arange(len(pair.first)) - alignment.shift) * alignment.rate
    low, high, part = _neighbours(at, len(second))
    rows = second[low] * (1 - part[:, None]) + second[high] * part[:, None]
    rows[:, layout.SEEN] = flags[low] & flags[high]
    nearest = np.where(part < 0.5, low, high)
    shown: NDArray[np.bool_] = (at >= 0) & (at <= len(second) - 1)
    shown &= pair.first.any(1) & second[low].any(1) & second[high].any(1)
    return pair.first[shown], rows[shown], flags[nearest[shown]]


def _body_distances(a: Rows, b: Rows) -> dict[str, list[float]]:
    one, other = (rows[:, layout.BODY].reshape(len(rows), -1, 2) for rows in (a, b))
    known = np.asarray(one.any(2) & other.any(2))
    away = np.hypot(*np.moveaxis(one - other, 2, 0))
    return {
        name: _median_p95(away[known[:, point], point])
        for point, name in enumerate(layout.BODY_POINTS)
        if known[:, point].any()
    }


def _hand_distances(a: Rows, b: Rows) -> dict[str, Any]:
    """Of the hands that both see, left and right ones together."""
    one, other = (
        np.concatenate(
            [
                rows[seen, hand].reshape(-1, layout.HAND_POINTS, 3)
                for hand, seen in zip(layout.HANDS, _seen_by_both(a, b), strict=True)
            ]
        )
        for rows in (a, b)
    )
    if not len(one):
        return {}
    away = np.hypot(*np.moveaxis(one - other, 2, 0)[:2])
    flat, size = [], []
    for hand in (one, other):
        points = hand[..., :2] - hand[:, :1, :2]
        size.append(np.sqrt((points**2).sum(2).mean(1)).clip(min=1e-6))
        flat.append(points / size[-1][:, None, None])
    depth = [np.sqrt((hand[..., 2] ** 2).mean(1)).clip(min=1e-6) for hand in (one, other)]
    return {
        "wrist": _median_p95(away[:, layout.HAND_WRIST]),
        "fingertips": _median_p95(away[:, layout.FINGERTIPS]),
        "hand_shape": _median_p95(np.hypot(*np.moveaxis(flat[0] - flat[1], 2, 0)).mean(1)),
        "hand_size_ratio": _median_p95(size[1] / size[0]),
        "z_ratio": _median_p95(depth[1] / depth[0]),
        "z_correlation": round(
            float(np.corrcoef(one[..., 2].ravel(), other[..., 2].ravel())[0, 1]), 3
        ),
    }


def _seen_by_both(a: Rows, b: Rows) -> NDArray[np.bool_]:
    """(2, T) Left, right."""
    return ((a[:, layout.SEEN] > 0.5) & (b[:, layout.SEEN] > 0.5)).T


def _seen_shares(a: Rows, second: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Who sees a hand, by whether the first's hand, or its body's wrist, is raised."""
    first = a[:, layout.SEEN] > 0.5
    by_body = a[:, [2 * wrist + 1 for wrist in _WRISTS]]
    by_hand = a[:, [hand.start + 1 for hand in layout.HANDS]]
    raised = np.where(first, by_hand, by_body) < layout.LOW
    return {
        name: {
            "hands": int(where.sum()),
            "both": _share(where, first & second),
            "only_first": _share(where, first & ~second),
            "only_second": _share(where, ~first & second),
            "neither": _share(where, ~first & ~second),
        }
        for name, where in (("raised", raised), ("low", ~raised))
        if where.any()
    }


def _share(where: NDArray[np.bool_], seen: NDArray[np.bool_]) -> float:
    return round(float(seen[where].mean()), 3)


def _median_p95(values: NDArray[np.floating]) -> list[float]:
    return _rounded(np.percentile(values, [50, 95]))


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 3) for value in values]

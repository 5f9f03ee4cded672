"""A take's rows as a figure in which everything is there: arms, both hands, a little rest.

    rows of one take -> [completing] -> `models.drawn_figure.DrawnFigure`

Landmarks lack much: hands are lost for some pictures, a resting hand is out of the picture, and
those of others have no elbows. Nothing of it may flicker or jump when it is drawn.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from models.drawn_figure import MAX_PICTURES, DrawnFigure
from models.landmarks import layout

_REST = 5  # pictures kept on either side of the sign: in them the hands come and go
_GAP = 8  # pictures: a hand that is lost for longer went to rest
_LEAST = 0.2  # of the sign's pictures: a hand that is raised in fewer takes no part
_CALM = 0.55  # pictures: spread of the smoothing. 4 a second keep 70 % of their way
_WAY = 0.32  # shoulder widths a picture: hands between rest and sign go about so fast
_HANGING = ((0.62, 1.75), (-0.62, 1.75))  # wrists at rest: left, right
_JUMP = 0.55  # shoulder widths from both neighbours: no hand, but an error
_SIZES = (0.35, 2.2)  # of a hand by its median
_TWISTED = 1.1  # hand sizes that a hand's points are off their neighbours', on average
_SHOULDERS, _ELBOWS, _WRISTS = (7, 8), (9, 10), (11, 12)  # body points: left, right
_OUTWARD = (1, -1)  # the signer's left lies at the right of the picture
# The elbow by the wrist, both from the right shoulder: (1, y, y², x, xy, x²) -> x, y. Fitted to
# 80,000 arms of the live encoder's rows: 0.17 shoulder widths off at the median, 0.39 at the 95th
# percentile, for an arm may turn about the line from shoulder to wrist.
_ELBOW = np.array(
    [[-0.390, 0.677], [0.145, 0.456], [-0.012, -0.226], [0.392, 0.084], [-0.259, 0.024],
     [0.172, 0.006]]
)  # fmt: skip
_FITTED = ((-1.0, -0.9), (1.0, 1.7))  # where wrists were; outside of it the nearest place counts
_UPPER, _FORE = 1.05, 1.0  # the longest arms in a picture


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignedHands:
    """The hands of a take, where each is seen and is no error, and the part that is signed."""

    points: NDArray[np.float32]  # (2, T, 21, 2)
    seen: NDArray[np.bool_]  # (2, T)
    first: int  # picture with a hand raised ...
    last: int  # ... and one past the last of them; both 0 where none is raised
    part: tuple[bool, bool]  # which hands take part: left, right


def signed_hands(rows: NDArray[np.float32]) -> SignedHands:
    """The hands in rows (T, D)."""
    points, seen = _seen_hands(rows)
    up = seen & (points[:, :, 0, 1] < layout.LOW)
    steps = np.flatnonzero(up.any(axis=0))
    first = last = 0
    part = False, False
    if len(steps):
        first, last = int(steps[0]), int(steps[-1]) + 1
        share = up[:, first:last].mean(axis=1)
        left, right = (bool(one > _LEAST or one == share.max()) for one in share)
        part = left, right
    return SignedHands(points=points, seen=seen, first=first, last=last, part=part)


def _seen_hands(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Points (2, T, 21, 2) of the hands, and where each is seen (2, T) and is no error."""
    points = np.stack([rows[:, hand].reshape(-1, layout.HAND_POINTS, 3) for hand in layout.HANDS])
    points = points[..., :2]
    seen = rows[:, layout.SEEN].T > 0.5
    size = np.hypot(*(points[:, :, 9] - points[:, :, 0]).transpose(2, 0, 1))  # 2, T
    for side in (0, 1):
        if not seen[side].any():
            continue
        usual = max(float(np.median(size[side, seen[side]])), 0.05)
        span = np.ptp(points[side], axis=1).max(axis=1)  # a hand seen edge-on is still long
        seen[side] &= (span > _SIZES[0] * usual) & (span < _SIZES[1] * 2 * usual)
        seen[side] &= ~_errors(points[side], seen[side], usual)
    return points, seen


def _errors(points: NDArray[np.float32], seen: NDArray[np.bool_], size: float) -> NDArray[np.bool_]:
    """(T,) Where a hand (T, 21, 2) is far from both pictures beside it, which agree."""
    wrong = np.zeros(len(points), bool)
    at = np.flatnonzero(seen)
    for before, now, after in zip(at, at[1:], at[2:], strict=False):
        if after - before > 4 or wrong[before]:
            continue
        a, b, c = points[before], points[now], points[after]
        off = np.hypot(*(b - (a + c) / 2).T)
        calm = np.hypot(*(c - a).T).mean()
        far = off[0] > _JUMP or off.mean() > _TWISTED * size
        wrong[now] = far and calm < off.mean() / 2
    return wrong


def right_handed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows (T, D), mirrored where the left hand leads: it alone is raised, or moves more."""
    hands = signed_hands(rows)
    left, right = hands.part
    during = slice(hands.first, hands.last)
    ways = [0.0, 0.0]
    for side in (0, 1):
        wrist = hands.points[side, during, 0][hands.seen[side, during]]
        ways[side] = float(np.hypot(*np.diff(wrist, axis=0).T).sum()) if len(wrist) > 1 else 0.0
    leads = left and (not right or ways[0] > 1.3 * ways[1] + 0.2)
    return layout.mirrored(rows) if leads else rows


def completed(rows: NDArray[np.float32], fps: float) -> DrawnFigure:
    """The figure of a take of rows (T, D), `fps` a second.

    Raises:
        ValueError: no hand is raised, or the take is too long.
    """
    hands = signed_hands(rows)
    first, last, part = hands.first, hands.last, hands.part
    if last - first < 2:
        raise ValueError("no hand is raised in it")
    if last - first + 2 * _REST > MAX_PICTURES:
        raise ValueError(f"it has more than {MAX_PICTURES} pictures")
    steps = np.arange(first - _REST, last + _REST)
    inside = (steps >= 0) & (steps < len(rows))
    cut = rows[steps.clip(0, len(rows) - 1)]
    points, seen = _seen_hands(cut)
    seen &= inside
    body = _body(cut)
    drawn: list[NDArray[np.float32] | None] = [None, None]
    for side in (0, 1):
        if part[side]:
            whole = _whole(points[side], seen[side], side)
            drawn[side] = gaussian_filter1d(whole, _CALM, axis=0, mode="nearest")
    body = gaussian_filter1d(body, _CALM, axis=0, mode="nearest")
    for side in (0, 1):
        hand = drawn[side]
        body[:, _WRISTS[side]] = _HANGING[side] if hand is None else hand[:, 0]
        known = cut[:, layout.BODY].reshape(-1, 13, 2)[:, _ELBOWS[side]]
        body[:, _ELBOWS[side]] = _elbows(
            body[:, _SHOULDERS[side]],
            body[:, _WRISTS[side]],
            known,
            known.any(axis=1) & (seen[side] if part[side] else False),
            side,
        )
    return DrawnFigure(fps=round(fps), body=body, hands=(drawn[0], drawn[1]))


def _body(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 13, 2) Head and shoulders; where they were not seen, as in the nearest picture."""
    body: NDArray[np.float32] = rows[:, layout.BODY].reshape(-1, 13, 2)
    there = np.flatnonzero(body[:, _SHOULDERS].any(axis=(1, 2)))
    if not len(there):
        raise ValueError("no body is seen in it")
    nearest = there[np.abs(np.arange(len(body))[:, None] - there).argmin(axis=1)]
    return np.asarray(body[nearest], np.float32)


def _whole(points: NDArray[np.float32], seen: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """A hand (T, 21, 2) that is seen now and then, put where it must have been meanwhile."""
    whole: NDArray[np.float32] = points.astype(np.float32)
    at = np.flatnonzero(seen).tolist()
    for a, b in itertools.pairwise(at):
        if b - a > _GAP:
            _leave(whole, a, b - a, 1, side)
            _leave(whole, b, min(b - a, _ticks(whole[b], side)) + 1, -1, side)
        else:
            for step in range(a + 1, b):
                part = np.float32((step - a) / (b - a))
                whole[step] = whole[a] + part * (whole[b] - whole[a])
    _leave(whole, at[-1], len(whole) - at[-1], 1, side)
    _leave(whole, at[0], at[0] + 1, -1, side)
    return whole


def _leave(whole: NDArray[np.float32], start: int, count: int, way: int, side: int) -> None:
    """The hand goes from picture `start` to rest, in time (`way` 1) or against it (-1)."""
    goal = np.asarray(_HANGING[side], np.float32)
    ticks = _ticks(whole[start], side)
    for n in range(1, count):
        part = min(n / ticks, 1.0)
        part = part * part * (3 - 2 * part)  # begins and ends gently
        whole[start + way * n] = whole[start] + np.float32(part) * (goal - whole[start, 0])


def _ticks(hand: NDArray[np.float32], side: int) -> int:
    way = np.hypot(*(np.asarray(_HANGING[side]) - hand[0]))
    return max(2, round(float(way) / _WAY))


def _elbows(
    shoulder: NDArray[np.float32],
    wrist: NDArray[np.float32],
    known: NDArray[np.float32],
    seen: NDArray[np.bool_],
    side: int,
) -> NDArray[np.float32]:
    """(T, 2) Elbows: as they are known, else as wrists let expect; arms of a length that can be."""
    flip = np.array([-_OUTWARD[side], 1])  # as if it were the right arm
    x, y = np.clip((wrist - shoulder) * flip, *_FITTED).T
    likely = np.stack([np.ones_like(x), y, y * y, x, x * y, x * x], axis=1) @ _ELBOW
    elbow = shoulder + likely * flip
    if seen.any():
        # Between a known elbow and a guessed one nothing jumps: the guess keeps its distance.
        off = known[seen] - elbow[seen]
        steps = np.arange(len(elbow))
        elbow += np.stack([np.interp(steps, np.flatnonzero(seen), one) for one in off.T], axis=1)
    elbow = gaussian_filter1d(elbow, 1.0, axis=0, mode="nearest")
    for _ in range(2):
        elbow = _within(elbow, wrist, _FORE)
        elbow = _within(elbow, shoulder, _UPPER)
    return np.asarray(elbow, np.float32)


def _within(
    points: NDArray[np.floating], centre: NDArray[np.floating], most: float
) -> NDArray[np.floating]:
    """Points (T, 2), no farther than `most` from `centre` (T, 2)."""
    way = points - centre
    far = np.hypot(*way.T)[:, None]
    return np.asarray(centre + way * np.minimum(1, most / np.maximum(far, 1e-6)))

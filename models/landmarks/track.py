"""One signer over time, followed from frame to frame.

    frames of one stream -> [track]: body and hand networks -> landmark rows, `Seen`

A row depends on its frame and the frames before it, never on later ones, so rows are computed once
and are the same live and offline. `layout.py` says what a row holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout
from models.landmarks.detectors import (
    LEFT_ELBOW,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    SIDES,
    Body,
    BodyNetworks,
    Hand,
    HandNetworks,
    forearm_region,
    rough_region,
)
from models.landmarks.networks import Region
from models.schema import Box, Pair, Seen, Signer

_BODY = [0, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # BlazePose's numbers of BODY_POINTS
_WRISTS = (LEFT_WRIST, RIGHT_WRIST)
_EYES, _EARS, _MOUTH = [2, 5], [7, 8], [9, 10]
_HANDS = (layout.LEFT_HAND, layout.RIGHT_HAND)

_LARGEST, _SMALLEST = 16384, 8  # px: pictures with longer or shorter sides are taken for empty
_ORIGIN_TAU_S = 0.5  # origin and shoulder width follow the body with this time constant
# Probability from which a hand network has found a hand. MediaPipe's 0.5 loses hands blurred by
# signing: of wrists raised before the body 96.7 % had a hand with 0.5, 97.9 % with 0.3 (40 clips).
_PRESENT = 0.3
_FAR = 0.9  # shoulder widths: a hand further from the body's wrist belongs to somebody else
# Hand sizes: two hands nearer than the first are the same hand found twice; nearer than the second,
# if one of them does not look like a hand of its side (hands that touch are 0.3 apart and do).
_ONE_HAND, _CLOSE = 0.12, 0.6
_OTHER_SIDE = 0.25  # `own_side` below which a hand does not look like one of its side
_PALM_EVERY = 4  # frames between two searches for palms, and between wide searches for a lost hand
# A head in multiples of the eye-to-mouth distance: rough proportions of adults.
_CROWN, _CHIN, _HALF_WIDTH = 1.7, 0.8, 1.15


class Track:
    """Follows body and hands of one signer from frame to frame."""

    def __init__(self, bodies: BodyNetworks, hands: HandNetworks) -> None:
        self._bodies = bodies
        self._hands = hands
        self.reset()

    def reset(self) -> None:
        """Forget the signer: the stream's clock jumped."""
        self._region: Region | None = None
        self._body: Body | None = None
        self._found: list[Hand | None] = [None, None]
        self._missed = [0, 0]  # frames in a row without this hand
        self._searched = 0  # frames since the last search for palms
        self._axes: _BodyAxes | None = None
        self._points = np.zeros((2, layout.HAND_POINTS, 3), np.float32)  # as last found
        self._seen_s = [-math.inf, -math.inf]

    def row(self, image: NDArray[np.uint8], media_s: float) -> NDArray[np.float32]:
        """(DIM,) The row of the next frame: `image` (H, W, 3) at media time `media_s`."""
        row = np.zeros(layout.DIM, np.float32)
        before, self._body = self._body, self._find_body(image)
        if self._body is None:
            self._found = [None, None]
            return row
        self._axes = _BodyAxes.following(self._axes, self._body, media_s)
        found = self._find_hands(image, self._body, before)
        row[layout.BODY] = self._axes.points(self._body.points[_BODY]).ravel()
        for side in SIDES:
            hand = found[side]
            if hand is not None:
                self._points[side] = self._axes.points(hand.points)
                self._points[side, :, 2] -= self._points[side, 0, 2]
                self._seen_s[side] = media_s
                row[layout.LEFT_SEEN + side] = 1
            if media_s - self._seen_s[side] <= layout.HOLD_S:
                row[_HANDS[side]] = self._points[side].ravel()
        self._found = found
        return row

    def seen(self, image: NDArray[np.uint8]) -> Seen:
        """Where the signer is in `image`, the picture of the last `row`."""
        height, width = image.shape[:2]
        signer = None
        if self._body is not None:
            signer = _signer(self._body, self._found, np.array([width, height], np.float32))
        return Seen(aspect=width / height, signer=signer)

    def _find_body(self, image: NDArray[np.uint8]) -> Body | None:
        height, width = image.shape[:2]
        if min(height, width) < _SMALLEST or max(height, width) > _LARGEST:
            return None
        body = None if self._region is None else self._bodies.locate(image, self._region)
        if body is None:
            detected = self._bodies.detect(image)
            body = None if detected is None else self._bodies.locate(image, detected)
        self._region = None if body is None else body.region
        return body

    def _find_hands(
        self, image: NDArray[np.uint8], body: Body, before: Body | None
    ) -> list[Hand | None]:
        assert self._axes is not None
        unit = self._axes.unit
        found: list[Hand | None] = [None, None]
        for side in SIDES:
            if not _inside(image, body, side, unit):
                self._missed[side] = 0
                continue
            found[side] = self._find_hand(image, body, before, side, unit)
            self._missed[side] = 0 if found[side] is not None else self._missed[side] + 1
        self._searched += 1
        missed = [frames for frames in self._missed if frames]
        if missed and (self._searched >= _PALM_EVERY or min(missed) == 1):
            self._searched = 0
            self._find_palms(image, body, found, unit)
        return _without_duplicates(found, body, unit)

    def _find_hand(
        self, image: NDArray[np.uint8], body: Body, before: Body | None, side: int, unit: float
    ) -> Hand | None:
        for region in self._hand_regions(image, body, before, side, unit):
            hand = self._hands.locate(image, region)
            if hand is not None and _fits(hand, body, side, unit):
                return hand
        return None

    def _hand_regions(
        self, image: NDArray[np.uint8], body: Body, before: Body | None, side: int, unit: float
    ) -> Iterator[Region]:
        """Where to search for a hand: likeliest first, each computed when it is needed."""
        last = self._found[side]
        if last is not None and before is not None:  # where it was, moved along with the wrist
            dx, dy = (body.points[_WRISTS[side]] - before.points[_WRISTS[side]]).tolist()
            region = last.region(side)
            yield replace(region, x=region.x + dx, y=region.y + dy)
        refined = self._hands.region_of(image, body, side)
        if refined is not None:
            yield refined
        if self._missed[side] % _PALM_EVERY == 0:
            yield forearm_region(body, side, unit)

    def _find_palms(
        self, image: NDArray[np.uint8], body: Body, found: list[Hand | None], unit: float
    ) -> None:
        """Fill the gaps in `found` with palms detected in front of the body."""
        for palm in self._hands.palms(image, _front(body, unit)):
            for side in SIDES:
                if found[side] is None and self._missed[side]:
                    hand = self._hands.locate(image, replace(palm, flipped=side == 0))
                    if hand is not None and _fits(hand, body, side, unit):
                        found[side] = hand
                        self._missed[side] = 0


class _BodyAxes:
    """A body's coordinates, steady over time: pixel position of (0, 0), pixels of length 1."""

    def __init__(self, origin: NDArray[np.float32], unit: float, media_s: float) -> None:
        self.origin = origin
        self.unit = unit
        self.media_s = media_s

    @classmethod
    def following(cls, last: _BodyAxes | None, body: Body, media_s: float) -> _BodyAxes:
        left, right = body.points[LEFT_SHOULDER], body.points[RIGHT_SHOULDER]
        origin = (left + right) / 2
        unit = max(float(np.hypot(*(left - right))), 4.0)
        if last is None:
            return cls(origin, unit, media_s)
        keep = np.float32(math.exp(-max(media_s - last.media_s, 0.0) / _ORIGIN_TAU_S))
        return cls(
            keep * last.origin + (1 - keep) * origin,
            float(keep * last.unit + (1 - keep) * unit),
            media_s,
        )

    def points(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (n, 2 or 3) in pixels, in the body's coordinates."""
        moved = pixels / np.float32(self.unit)
        moved[:, :2] -= self.origin / np.float32(self.unit)
        return np.asarray(moved, np.float32)


def _inside(image: NDArray[np.uint8], body: Body, side: int, unit: float) -> bool:
    """Whether the middle of the hand, by the body's wrist and fingers, is in the picture."""
    height, width = image.shape[:2]
    region = rough_region(body, side)
    margin = 0.1 * unit
    return bool(-margin <= region.x <= width + margin and -margin <= region.y <= height + margin)


def _front(body: Body, unit: float) -> Region:
    """The region in front of the chest in which signs are made."""
    x, y = (body.points[LEFT_SHOULDER] + body.points[RIGHT_SHOULDER]) / 2
    return Region(float(x), float(y) + 0.3 * unit, 2.6 * unit)


def _distance(hand: Hand, body: Body, side: int) -> float:
    return float(np.hypot(*(hand.points[0, :2] - body.points[_WRISTS[side]])))


def _fits(hand: Hand, body: Body, side: int, unit: float) -> bool:
    """Whether this is a hand of a plausible size near that wrist."""
    return (
        hand.present >= _PRESENT
        and _distance(hand, body, side) <= _FAR * unit
        and 0.08 * unit <= hand.size <= 0.8 * unit
    )


def _without_duplicates(found: list[Hand | None], body: Body, unit: float) -> list[Hand | None]:
    """`found` without a hand that both sides have found, and each hand at its own side.

    Hands that touch stay two: each looks like a hand of its own side.
    """
    left, right = found
    if left is not None and right is not None:
        apart = np.hypot(*(left.points[:, :2] - right.points[:, :2]).T).mean()
        size = (left.size + right.size) / 2
        other = min(left.own_side, right.own_side) < _OTHER_SIDE
        if apart < _ONE_HAND * size or (other and apart < _CLOSE * size):
            costs = [_distance(h, body, s) / unit - h.own_side for s, h in ((0, left), (1, right))]
            return [left, None] if costs[0] <= costs[1] else [None, right]
        return found
    for side in SIDES:
        hand = found[side]
        if hand is None or hand.own_side >= _OTHER_SIDE / 2:
            continue
        if _distance(hand, body, 1 - side) < _distance(hand, body, side):
            hand = replace(hand, own_side=1 - hand.own_side)
            return [hand, None] if side == 1 else [None, hand]
    return found


def _signer(body: Body, hands: Sequence[Hand | None], size: NDArray[np.float32]) -> Signer:
    """The signer in fractions of a picture of `size` (width, height)."""
    points = body.points / size

    def pair(left: int, right: int) -> Pair:
        (x, y), (u, v) = points[left].tolist(), points[right].tolist()
        return (x, y), (u, v)

    left, right = (None if hand is None else _box(hand.points[:, :2] / size) for hand in hands)
    return Signer(
        head=_box(_head(body.points) / size),
        shoulders=pair(LEFT_SHOULDER, RIGHT_SHOULDER),
        elbows=pair(LEFT_ELBOW, RIGHT_ELBOW),
        wrists=pair(LEFT_WRIST, RIGHT_WRIST),
        hands=(left, right),
    )


def _head(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(6, 2) Points that bound the head, pixels."""
    eyes, mouth = points[_EYES].mean(axis=0), points[_MOUTH].mean(axis=0)
    up = eyes - mouth
    across = np.array([_HALF_WIDTH * float(np.hypot(*up)), 0], np.float32)
    middle = points[_EARS].mean(axis=0) / 2 + (eyes + mouth) / 4
    corners = (eyes + _CROWN * up, mouth - _CHIN * up, middle - across, middle + across)
    return np.stack([*corners, *points[_EARS]])


def _box(points: NDArray[np.float32]) -> Box:
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return left, top, right, bottom

"""One signer over time, followed from frame to frame.

    frames of one stream -> [track]: body and hand networks -> landmark rows, `Seen`

A row depends on its frame and the frames before it, never on later ones, so rows are computed once
and are the same live and offline. `layout.py` says what a row holds.

Hands are found in every frame, the body in every other one: between, head, shoulders and elbows
stay, and wrists move with their hands. Where a hand is missing, each frame has a body of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
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
from models.landmarks.rows import RowBuilder
from models.schema import Box, Pair, Point, Seen, Signer

_BODY = [0, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # BlazePose's numbers of BODY_POINTS
_WRISTS = (LEFT_WRIST, RIGHT_WRIST)
_KNUCKLES = ([15, 17, 19, 21], [16, 18, 20, 22])  # BlazePose's points of each hand, with the wrist
_EYES, _EARS, _MOUTH = [2, 5], [7, 8], [9, 10]

_LARGEST, _SMALLEST = 16384, 8  # px: pictures with longer or shorter sides are taken for empty
# Probability from which a hand network has found a hand. MediaPipe's 0.5 loses hands blurred by
# signing: of wrists raised before the body 96.7 % had a hand with 0.5, 97.9 % with 0.3 (40 clips).
_PRESENT = 0.3
_FAR = 0.9  # shoulder widths: a hand further from the body's wrist belongs to somebody else
# Hand sizes: two hands nearer than the first are the same hand found twice; nearer than the second,
# if one of them does not look like a hand of its side (hands that touch are 0.3 apart and do).
_ONE_HAND, _CLOSE = 0.12, 0.6
_OTHER_SIDE = 0.25  # `own_side` below which a hand does not look like one of its side
_NEAR = 0.4  # shoulder widths: a hand no further outside the picture may be in it in the next frame
# Smoothed shoulder widths: narrower shoulders may be what came into the body's place when the
# picture jumped. It would be followed, smaller from frame to frame; so the body is searched anew.
_SHRUNK = 0.5
_HOLD_S = 0.15  # seconds: the longest time that a body is taken to stay
# Frames between two wide searches: for palms, for a lost hand, for somebody where nobody is; and
# between two searches for a lowered hand, which heads do not look at (`posture.hide_lowered`).
_SEARCH_EVERY = 4
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
        self._body_s = -math.inf  # media time of the frame that it was found in
        self._held = False  # the last frame had no body of its own
        self._found: list[Hand | None] = [None, None]
        self._alone = 0  # frames in a row without a body
        self._missed = [0, 0]  # frames in a row without this hand
        self._searched = 0  # frames since the last search for palms
        self._rows = RowBuilder()

    def row(self, image: NDArray[np.uint8], media_s: float) -> NDArray[np.float32]:
        """(DIM,) The row of the next frame: `image` (H, W, 3) at media time `media_s`."""
        if not _SMALLEST <= min(image.shape[:2]) <= max(image.shape[:2]) <= _LARGEST:
            self._body, self._found = None, [None, None]
            return np.zeros(layout.DIM, np.float32)
        # OpenCV cuts regions out of four channels in half the time, with the same result.
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), np.uint8)
        due = self._held or media_s - self._body_s > _HOLD_S
        self._held = not due and self._follow_hands(image)
        if not self._held:
            before, self._body = self._body, self._find_body(image)
            if self._body is None:
                self._found = [None, None]
                return np.zeros(layout.DIM, np.float32)
            self._body_s = media_s
            self._rows.follow(self._body.points[_BODY], media_s)
            self._found = self._find_hands(image, self._body, before)
        assert self._body is not None
        hands = [None if hand is None else hand.points for hand in self._found]
        return self._rows.row(self._body.points[_BODY], hands, media_s)

    def seen(self, image: NDArray[np.uint8]) -> Seen:
        """Where the signer is in `image`, the picture of the last `row`."""
        height, width = image.shape[:2]
        signer = None
        if self._body is not None:
            signer = _signer(self._body, self._found, np.array([width, height], np.float32))
        return Seen(aspect=width / height, signer=signer)

    def _follow_hands(self, image: NDArray[np.uint8]) -> bool:
        """Find the hands near where they were and keep the body, whose wrists move with them.

        False, and nothing changes, if a hand is lost or may come into the picture: it is searched
        by its wrist, so a body of this frame is needed.
        """
        if self._body is None:
            return False
        unit = self._rows.unit
        missing = [side for side in SIDES if self._found[side] is None]
        if any(_inside(image, self._body, side, _NEAR * unit) for side in missing):
            return False
        body = replace(self._body, points=self._body.points.copy())
        found: list[Hand | None] = [None, None]
        for side, last in enumerate(self._found):
            if last is None:
                continue
            hand = self._hands.locate(image, last.region(side))
            if hand is None:
                return False
            body.points[_KNUCKLES[side]] += hand.points[0, :2] - last.points[0, :2]
            if not _fits(hand, body, side, unit):
                return False
            found[side] = hand
        if _without_duplicates(found, body, unit) != found:
            return False
        self._body, self._found = body, found
        return True

    def _find_body(self, image: NDArray[np.uint8]) -> Body | None:
        body = None if self._region is None else self._bodies.locate(image, self._region)
        small = body is not None and _shoulder_width(body) < _SHRUNK * self._rows.unit
        if small or (body is None and self._alone % _SEARCH_EVERY == 0):
            detected = self._bodies.detect(image)
            found = None if detected is None else self._bodies.locate(image, detected)
            body = found or body
        self._region = None if body is None else body.region
        self._alone = self._alone + 1 if body is None else 0
        return body

    def _find_hands(
        self, image: NDArray[np.uint8], body: Body, before: Body | None
    ) -> list[Hand | None]:
        unit = self._rows.unit
        found: list[Hand | None] = [None, None]
        inside = [side for side in SIDES if _inside(image, body, side, 0.1 * unit)]
        for side in inside:
            if self._missed[side] % _SEARCH_EVERY == 0 or not _lowered(body, side, unit):
                found[side] = self._find_hand(image, body, before, side, unit)
        gaps = [side for side in inside if found[side] is None]
        self._searched += 1
        if gaps and (self._searched >= _SEARCH_EVERY or not all(self._missed[s] for s in gaps)):
            self._searched = 0
            self._find_palms(image, body, found, gaps, unit)
        found = _without_duplicates(found, body, unit)
        for side in SIDES:
            missed = side in inside and found[side] is None
            self._missed[side] = self._missed[side] + 1 if missed else 0
        return found

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
        if self._missed[side] % _SEARCH_EVERY == 0:
            yield forearm_region(body, side, unit)

    def _find_palms(
        self,
        image: NDArray[np.uint8],
        body: Body,
        found: list[Hand | None],
        gaps: Sequence[int],
        unit: float,
    ) -> None:
        """Fill the `gaps` in `found` with palms detected in front of the body."""
        for palm in self._hands.palms(image, _front(body, unit)):
            for side in gaps:
                if found[side] is None:
                    hand = self._hands.locate(image, replace(palm, flipped=side == 0))
                    if hand is not None and _fits(hand, body, side, unit):
                        found[side] = hand


def _inside(image: NDArray[np.uint8], body: Body, side: int, margin: float) -> bool:
    """Whether the middle of the hand, by the body's wrist and fingers, is in the picture, or
    outside by no more than `margin` pixels.
    """
    height, width = image.shape[:2]
    region = rough_region(body, side)
    return bool(-margin <= region.x <= width + margin and -margin <= region.y <= height + margin)


def _lowered(body: Body, side: int, unit: float) -> bool:
    """Whether the hand hangs down or lies in the lap, by the body's wrist."""
    shoulders_y = (body.points[LEFT_SHOULDER, 1] + body.points[RIGHT_SHOULDER, 1]) / 2
    return bool(body.points[_WRISTS[side], 1] - shoulders_y >= layout.LOW * unit)


def _front(body: Body, unit: float) -> Region:
    """The region in front of the chest in which signs are made."""
    x, y = (body.points[LEFT_SHOULDER] + body.points[RIGHT_SHOULDER]) / 2
    return Region(float(x), float(y) + 0.3 * unit, 2.6 * unit)


def _shoulder_width(body: Body) -> float:
    return float(np.hypot(*(body.points[LEFT_SHOULDER] - body.points[RIGHT_SHOULDER])))


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
    joints = [() if hand is None else _places(hand.points[:, :2] / size) for hand in hands]
    return Signer(
        head=_box(_head(body.points) / size),
        shoulders=pair(LEFT_SHOULDER, RIGHT_SHOULDER),
        elbows=pair(LEFT_ELBOW, RIGHT_ELBOW),
        wrists=pair(LEFT_WRIST, RIGHT_WRIST),
        hands=(left, right),
        face=_places(points[_BODY[:7]]),
        joints=(joints[0], joints[1]),
    )


def _places(points: NDArray[np.floating]) -> tuple[Point, ...]:
    return tuple((x, y) for x, y in points.tolist())


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

"""Where a hand is: 21 landmarks of one hand in one frame (MediaPipe's hand networks).

The body says where to look; a tracked hand, a wider look and the palm detector help where the body
is wrong. Left hands are looked at in a mirror, so that the network sees right hands only and a
mirrored signer gets mirrored points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.landmarks.anchors import Detector
from models.landmarks.body import Body
from models.landmarks.mediapipe import HAND_LANDMARKS, HAND_RECROP, PALM_DETECTION, Member
from models.landmarks.network import Network
from models.landmarks.region import Region, spanning, turn_of

# What of the 21 points bounds the palm: wrist, thumb's and fingers' bases (MediaPipe's subset).
_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
_DEPTH = 0.4  # MediaPipe divides a hand's depth by this
_PALM_SEEN = 0.5

SIDES = (0, 1)  # left, right: the signer's own
_WRIST, _LITTLE, _INDEX, _ELBOW = (15, 16), (17, 18), (19, 20), (13, 14)  # body points by side


@dataclass(frozen=True, slots=True)
class Hand:
    """`points` (21, 3) pixels (depth relative to the wrist), how sure it is that this is a hand,
    and that it is the hand of the side it was looked at for."""

    points: NDArray[np.float32]
    present: float
    own_side: float

    @property
    def size(self) -> float:
        """Wrist to the base of the middle finger, pixels."""
        return float(np.hypot(*(self.points[9, :2] - self.points[0, :2])))

    def region(self, side: int) -> Region:
        """Where to look for this hand again."""
        flat = self.points[:, :2]
        fingers = (flat[6] + flat[14]) / 4 + flat[10] / 2
        turn = turn_of(flat[0], fingers)
        cos, sin = math.cos(turn), math.sin(turn)
        upright = flat[list(_PALM)] @ np.array([[cos, -sin], [sin, cos]], np.float32)
        low, high = upright.min(axis=0), upright.max(axis=0)
        x, y = (low + high) / 2
        long = float((high - low).max())
        height = float(high[1] - low[1])
        centre = Region(x * cos - y * sin, x * sin + y * cos, height, turn, flipped=side == 0)
        return replace(centre.grown(1.0, down=-0.1), side=long * 2.0)


class HandFinder:
    """The hand networks; keeps nothing between calls."""

    def __init__(self, paths: Mapping[Member, Path], threads: int = 1) -> None:
        self._recrop = Network(paths[HAND_RECROP], ("output_crop",), threads=threads)
        self._landmarks = Network(
            paths[HAND_LANDMARKS], ("Identity", "Identity_1", "Identity_2"), threads=threads
        )
        palm = Network(paths[PALM_DETECTION], ("Identity", "Identity_1"), threads=threads)
        self._detector = Detector(palm, (8, 16, 16, 16))

    def look(self, image: NDArray[np.uint8], region: Region) -> Hand | None:
        """The hand in `region`, however unlikely; None where that makes no sense."""
        if not region.usable:
            return None
        pixels = self._landmarks.pixels
        crop = region.cut(image, pixels, cv2.BORDER_REPLICATE)
        numbers, present, handedness = self._landmarks(crop)
        marks = numbers.reshape(21, 3) / np.float32(pixels)
        marks[:, 2] /= _DEPTH
        placed = region.place(marks)
        if not np.isfinite(placed).all():
            return None
        return Hand(placed, float(present[0]), float(handedness[0]))

    def from_body(self, image: NDArray[np.uint8], body: Body, side: int) -> Region | None:
        """Where the body's wrist and fingers say the hand is, set right by a small network."""
        rough = rough_region(body, side)
        if not rough.usable:
            return None
        (numbers,) = self._recrop(rough.cut(image, self._recrop.pixels, cv2.BORDER_REPLICATE))
        points = rough.place(numbers.reshape(2, 2) / np.float32(self._recrop.pixels))
        region = spanning(points[0], points[1], 1.0, target=-math.pi / 2)
        return replace(region, flipped=side == 0) if region.usable else None

    def palms(self, image: NDArray[np.uint8], around: Region) -> list[Region]:
        """Where palms are in `around`, best first, two at most; not flipped."""
        regions = []
        for palm in self._detector(image, around, cv2.BORDER_CONSTANT, _PALM_SEEN, most=2):
            turn = turn_of(palm.points[0], palm.points[2])  # wrist to middle finger
            x, y = palm.centre
            region = Region(float(x), float(y), palm.side, turn).grown(2.6, down=-0.5)
            if region.usable:
                regions.append(region)
        return regions


def rough_region(body: Body, side: int) -> Region:
    """Around the hand that the body's wrist, index and little finger make."""
    points = body.points
    middle = (2 * points[_INDEX[side]] + points[_LITTLE[side]]) / 3
    region = spanning(points[_WRIST[side]], middle, 2.7)
    return replace(region, x=float(middle[0]), y=float(middle[1]), flipped=side == 0)


def forearm_region(body: Body, side: int, unit: float) -> Region:
    """A wide look past the wrist along the forearm; `unit` is the shoulder width in pixels."""
    wrist, elbow = body.points[_WRIST[side]], body.points[_ELBOW[side]]
    arm = wrist - elbow
    centre = wrist + arm / max(float(np.hypot(*arm)), 1.0) * 0.2 * unit
    turn = turn_of(elbow, wrist)
    return Region(float(centre[0]), float(centre[1]), 0.95 * unit, turn, flipped=side == 0)

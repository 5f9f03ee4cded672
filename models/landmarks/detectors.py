"""Body and hands in one picture: MediaPipe's detectors and landmark networks.

    picture -> [BodyNetworks] -> Body, 33 points -> [HandNetworks] -> Hand, 21 points -> track

A detector searches a region for a body or for palms; a landmark network then computes the points
of one body or hand in a tighter region. Points are pixels of the picture, x right, y down. Nothing
is kept between calls: `track.py` remembers where body and hands were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.landmarks.networks import (
    HAND_LANDMARKS,
    HAND_RECROP,
    PALM_DETECTION,
    POSE_DETECTION,
    POSE_LANDMARKS,
    Network,
    NetworkFile,
    Region,
    sigmoid,
    spanning,
    turn_of,
)

LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12  # body points
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16
SIDES = (0, 1)  # left, right: the signer's own
_ELBOW, _WRIST = (LEFT_ELBOW, RIGHT_ELBOW), (LEFT_WRIST, RIGHT_WRIST)  # by side
_LITTLE, _INDEX = (17, 18), (19, 20)

_OVERLAP = 0.3  # boxes that overlap more are one detection (MediaPipe's min_suppression_threshold)
_BODY_PRESENT = 0.5  # MediaPipe's threshold of the body detector and of the body landmark network
_PALM_PRESENT = 0.5
_BODY_MARGIN = 1.25  # a body's region is this much larger than the body
_REACH = 3  # cells of the heat map to each side of a landmark that refine its position
_USED = np.array([*range(23), 33, 34])  # landmarks that are used: no hips, no legs
# The points that bound the palm: wrist, bases of thumb and fingers (MediaPipe's subset).
_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
_DEPTH = 0.4  # MediaPipe divides a hand's depth by this


@dataclass(frozen=True, slots=True)
class Detection:
    """A body or palm that a detector found."""

    score: float
    centre: NDArray[np.float32]  # (2,)
    side: float  # of the square box
    points: NDArray[np.float32]  # (n, 2)


def anchor_centres(pixels: int, strides: Sequence[int]) -> NDArray[np.float32]:
    """(n, 2) in [0, 1]: two anchors a cell and layer; layers of the same stride share cells."""
    centres = []
    for stride in dict.fromkeys(strides):
        cells = (np.arange(pixels // stride) + 0.5) * stride / pixels
        y, x = np.meshgrid(cells, cells, indexing="ij")
        grid = np.stack([x.ravel(), y.ravel()], axis=1)
        centres.append(np.repeat(grid, 2 * strides.count(stride), axis=0))
    return np.concatenate(centres).astype(np.float32)


class Detector:
    """A single-shot detection network, which scores a fixed grid of anchors."""

    def __init__(self, network: Network, strides: Sequence[int]) -> None:
        self._network = network
        self._anchors = anchor_centres(network.pixels, strides)

    def __call__(
        self, image: NDArray[np.uint8], region: Region, border: int, threshold: float, most: int
    ) -> list[Detection]:
        """The best detections in `region` of `image`, best first, at most `most`."""
        pixels = self._network.pixels
        boxes, scores = self._network(region.cut(image, pixels, border))  # (n, 4 + 2k), (n, 1)
        likely = sigmoid(scores[:, 0])
        order = np.flatnonzero(likely >= threshold)
        order = order[np.argsort(-likely[order], kind="stable")]
        found: list[Detection] = []
        while order.size and len(found) < most:
            numbers = boxes[order] / np.float32(pixels)
            numbers[:, :2] += self._anchors[order]
            numbers[:, 4:] += np.tile(self._anchors[order], (1, (boxes.shape[1] - 4) // 2))
            same = _overlap(numbers) > _OVERLAP
            same[0] = True
            weights = likely[order][same]
            mean = np.average(numbers[same], axis=0, weights=weights).astype(np.float32)
            placed = region.place(np.concatenate([mean[None, :2], mean[4:].reshape(-1, 2)]))
            side = float(mean[2:4].max()) * region.side
            found.append(Detection(float(likely[order[0]]), placed[0], side, placed[1:]))
            order = order[~same]
        return found


def _overlap(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of the first box (centre x, y, width, height) with each."""
    low, high = boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2
    inner = np.clip(np.minimum(high, high[0]) - np.maximum(low, low[0]), 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 2:4], 0, None).prod(axis=1)
    return np.asarray(inner / np.maximum(areas + areas[0] - inner, 1e-9), np.float32)


@dataclass(frozen=True, slots=True)
class Body:
    """The signer in one frame (MediaPipe's BlazePose)."""

    points: NDArray[np.float32]  # (33, 2)
    region: Region  # where to search in the next frame


class BodyNetworks:
    """The body detector and the body landmark network."""

    def __init__(self, paths: Mapping[NetworkFile, Path], threads: int = 1) -> None:
        detection = Network(
            paths[POSE_DETECTION], ("Identity", "Identity_1"), low=-1.0, threads=threads
        )
        self._detector = Detector(detection, (8, 16, 32, 32, 32))
        self._landmarks = Network(
            paths[POSE_LANDMARKS], ("Identity", "Identity_1", "Identity_3"), threads=threads
        )

    def detect(self, image: NDArray[np.uint8]) -> Region | None:
        """The region of a body, found in the whole picture."""
        height, width = image.shape[:2]
        whole = Region(width / 2, height / 2, max(width, height))
        found = self._detector(image, whole, cv2.BORDER_CONSTANT, _BODY_PRESENT, most=1)
        if not found:
            return None
        hips, extent = found[0].points[:2]
        region = spanning(hips, extent, _BODY_MARGIN)
        return region if region.usable else None

    def locate(self, image: NDArray[np.uint8], region: Region) -> Body | None:
        """The body in `region`, or None when there is none."""
        pixels = self._landmarks.pixels
        crop = region.cut(image, pixels, cv2.BORDER_REPLICATE)
        numbers, present, heat = self._landmarks(crop)
        if float(present[0]) < _BODY_PRESENT:
            return None
        marks = numbers.reshape(39, 5)
        points = _refined(marks[:, :2] / np.float32(pixels), heat)
        placed = region.place(points)
        following = spanning(placed[33], placed[34], _BODY_MARGIN)  # hips, and the body's extent
        if not (following.usable and np.isfinite(placed).all()):
            return None
        return Body(placed[:33], following)


def _refined(points: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each used point to the centroid of its heat map nearby, if that has a peak.

    `points` (39, 2) in [0, 1], `heat` (rows, columns, 39).
    """
    size = np.array([heat.shape[1], heat.shape[0]])
    cells = np.floor(points[_USED] * size).astype(np.int64)  # (n, 2)
    near = cells[:, None] + np.arange(-_REACH, _REACH + 1)[:, None]  # (n, cells a side, 2)
    inside = (near >= 0) & (near < size)
    at = np.clip(near, 0, size - 1)
    hot = sigmoid(heat[at[:, :, None, 1], at[:, None, :, 0], _USED[:, None, None]])
    hot *= inside[:, :, None, 1] & inside[:, None, :, 0]  # (n, rows, columns)
    moved = (hot.max(axis=(1, 2)) >= 0.5) & inside[:, _REACH].all(axis=1)
    total = np.maximum(hot.sum(axis=(1, 2)), 1e-9)
    x = (hot.sum(axis=1) * near[:, :, 0]).sum(axis=1) / total / size[0]
    y = (hot.sum(axis=2) * near[:, :, 1]).sum(axis=1) / total / size[1]
    refined = points.astype(np.float32)
    refined[_USED[moved]] = np.stack([x, y], axis=1)[moved]
    return refined


@dataclass(frozen=True, slots=True)
class Hand:
    """One hand in one frame."""

    points: NDArray[np.float32]  # (21, 3), depth relative to the wrist
    present: float  # probability that it is a hand
    own_side: float  # probability that it is the hand of the side that was searched for

    @property
    def size(self) -> float:
        """Wrist to the base of the middle finger, pixels."""
        return float(np.hypot(*(self.points[9, :2] - self.points[0, :2])))

    def region(self, side: int) -> Region:
        """Where to search for this hand in the next frame."""
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


class HandNetworks:
    """The hand networks. A left hand's region is mirrored: the networks get right hands only, and
    a mirrored signer gets mirrored points.
    """

    def __init__(self, paths: Mapping[NetworkFile, Path], threads: int = 1) -> None:
        self._recrop = Network(paths[HAND_RECROP], ("output_crop",), threads=threads)
        self._landmarks = Network(
            paths[HAND_LANDMARKS], ("Identity", "Identity_1", "Identity_2"), threads=threads
        )
        palm = Network(paths[PALM_DETECTION], ("Identity", "Identity_1"), threads=threads)
        self._detector = Detector(palm, (8, 16, 16, 16))

    def locate(self, image: NDArray[np.uint8], region: Region) -> Hand | None:
        """The hand in `region`, however unlikely; None if the region or the points are unusable."""
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

    def region_of(self, image: NDArray[np.uint8], body: Body, side: int) -> Region | None:
        """The region of a hand by the body's wrist and fingers, refined by a small network."""
        rough = rough_region(body, side)
        if not rough.usable:
            return None
        (numbers,) = self._recrop(rough.cut(image, self._recrop.pixels, cv2.BORDER_REPLICATE))
        points = rough.place(numbers.reshape(2, 2) / np.float32(self._recrop.pixels))
        region = spanning(points[0], points[1], 1.0, target=-math.pi / 2)
        return replace(region, flipped=side == 0) if region.usable else None

    def palms(self, image: NDArray[np.uint8], around: Region) -> list[Region]:
        """The regions of palms detected in `around`, best first, two at most; not flipped."""
        regions = []
        for palm in self._detector(image, around, cv2.BORDER_CONSTANT, _PALM_PRESENT, most=2):
            turn = turn_of(palm.points[0], palm.points[2])  # wrist to middle finger
            x, y = palm.centre
            region = Region(float(x), float(y), palm.side, turn).grown(2.6, down=-0.5)
            if region.usable:
                regions.append(region)
        return regions


def rough_region(body: Body, side: int) -> Region:
    """The region of a hand by the body's wrist, index and little finger."""
    points = body.points
    middle = (2 * points[_INDEX[side]] + points[_LITTLE[side]]) / 3
    region = spanning(points[_WRIST[side]], middle, 2.7)
    return replace(region, x=float(middle[0]), y=float(middle[1]), flipped=side == 0)


def forearm_region(body: Body, side: int, shoulder_width: float) -> Region:
    """A wide region beyond the wrist, along the forearm."""
    wrist, elbow = body.points[_WRIST[side]], body.points[_ELBOW[side]]
    arm = wrist - elbow
    centre = wrist + arm / max(float(np.hypot(*arm)), 1.0) * 0.2 * shoulder_width
    turn = turn_of(elbow, wrist)
    x, y = centre.tolist()
    return Region(x, y, 0.95 * shoulder_width, turn, flipped=side == 0)

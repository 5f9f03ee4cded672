"""Where the body is: 33 landmarks of the signer in one frame (MediaPipe's BlazePose).

A detector finds a body in the whole picture; then the landmark network looks at the region that
the frame before pointed at, and the detector rests until the body is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.landmarks.anchors import Detector
from models.landmarks.mediapipe import POSE_DETECTION, POSE_LANDMARKS, Member
from models.landmarks.network import Network, sigmoid
from models.landmarks.region import Region, spanning

LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16

_PRESENT = 0.5  # MediaPipe's thresholds for detector and landmark network
_ROOM = 1.25  # a body's region is this much larger than the body
_REACH = 3  # cells of the heat map to each side of a landmark that vote on its place
_USED = np.array([*range(23), 33, 34])  # landmarks that someone reads: no hips, no legs


@dataclass(frozen=True, slots=True)
class Body:
    """`points` (33, 2) pixels, `visible` (33,) in [0, 1], and where to look in the next frame."""

    points: NDArray[np.float32]
    visible: NDArray[np.float32]
    region: Region


class BodyFinder:
    """The detector and the landmark network; keeps nothing between calls."""

    def __init__(self, paths: Mapping[Member, Path], threads: int = 1) -> None:
        detection = Network(
            paths[POSE_DETECTION], ("Identity", "Identity_1"), low=-1.0, threads=threads
        )
        self._detector = Detector(detection, (8, 16, 32, 32, 32))
        self._landmarks = Network(
            paths[POSE_LANDMARKS], ("Identity", "Identity_1", "Identity_3"), threads=threads
        )

    def detect(self, image: NDArray[np.uint8]) -> Region | None:
        """Where a body is, judged from the whole picture."""
        height, width = image.shape[:2]
        whole = Region(width / 2, height / 2, max(width, height))
        found = self._detector(image, whole, cv2.BORDER_CONSTANT, _PRESENT, most=1)
        if not found:
            return None
        hips, reach = found[0].points[:2]
        region = spanning(hips, reach, _ROOM)
        return region if region.usable else None

    def look(self, image: NDArray[np.uint8], region: Region) -> Body | None:
        """The body in `region`, or None when there is none."""
        pixels = self._landmarks.pixels
        crop = region.cut(image, pixels, cv2.BORDER_REPLICATE)
        numbers, present, heat = self._landmarks(crop)
        if float(present[0]) < _PRESENT:
            return None
        marks = numbers.reshape(39, 5)
        points = _refined(marks[:, :2] / np.float32(pixels), heat)
        placed = region.place(points)
        following = spanning(placed[33], placed[34], _ROOM)  # hips, and the reach of the body
        if not (following.usable and np.isfinite(placed).all()):
            return None
        return Body(placed[:33], sigmoid(marks[:33, 3]), following)


def _refined(points: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each point that we use to where its heat nearby is, if it is hot.

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

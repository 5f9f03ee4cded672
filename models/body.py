"""Where the body is: 33 landmarks of the signer in one frame (MediaPipe's BlazePose).

A detector finds a body in the whole picture; then the landmark network looks at the region that
the frame before pointed at, and the detector rests until the body is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.anchors import Detector
from models.mediapipe import POSE_DETECTION, POSE_LANDMARKS, Member
from models.network import Network, sigmoid
from models.region import Region, spanning

LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16

_PRESENT = 0.5  # MediaPipe's thresholds for detector and landmark network
_ROOM = 1.25  # a body's region is this much larger than the body
_REFINE = 7  # cells of the heat map around a landmark that vote on its place


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
    """Move each point (39, 2) to where its heat (rows, columns, 39) nearby is, if it is hot."""
    rows, columns, count = heat.shape
    refined = points.astype(np.float32)
    reach = _REFINE // 2
    for index in range(count):
        x, y = points[index]
        if not (0 <= x < 1 and 0 <= y < 1):
            continue
        column, row = math.floor(x * columns), math.floor(y * rows)
        left, top = max(0, column - reach), max(0, row - reach)
        near = sigmoid(heat[top : row + reach + 1, left : column + reach + 1, index])
        if near.max() >= 0.5:
            total = float(near.sum())
            refined[index, 0] = (near.sum(0) @ np.arange(left, left + near.shape[1])) / total
            refined[index, 0] /= columns
            refined[index, 1] = (near.sum(1) @ np.arange(top, top + near.shape[0])) / total / rows
    return refined

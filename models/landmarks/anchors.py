"""Detectors' common half: MediaPipe's single-shot detectors score a fixed grid of anchors.

Used by the body and the palm detector: raw boxes and scores in, the best detections out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.landmarks.network import Network, sigmoid
from models.landmarks.region import Region

_OVERLAP = 0.3  # boxes that overlap more are one detection (MediaPipe's min_suppression_threshold)


@dataclass(frozen=True, slots=True)
class Detection:
    """`points` (n, 2) in pixels of the picture, `side` of the box in pixels, box centre first."""

    score: float
    centre: NDArray[np.float32]
    side: float
    points: NDArray[np.float32]


def anchor_centres(pixels: int, strides: Sequence[int]) -> NDArray[np.float32]:
    """(n, 2) in [0, 1]: two anchors a cell and layer; layers of one stride share their cells."""
    centres = []
    for stride in dict.fromkeys(strides):
        cells = (np.arange(pixels // stride) + 0.5) * stride / pixels
        y, x = np.meshgrid(cells, cells, indexing="ij")
        grid = np.stack([x.ravel(), y.ravel()], axis=1)
        centres.append(np.repeat(grid, 2 * strides.count(stride), axis=0))
    return np.concatenate(centres).astype(np.float32)


class Detector:
    """A detection network with its anchors."""

    def __init__(self, network: Network, strides: Sequence[int]) -> None:
        self._network = network
        self._anchors = anchor_centres(network.pixels, strides)

    def __call__(
        self, image: NDArray[np.uint8], region: Region, border: int, threshold: float, most: int
    ) -> list[Detection]:
        """The `most` best detections in `region` of `image`, best first."""
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

"""Regions: rotated squares of a picture, the input of the landmark networks.

    picture -> [Region.cut] -> square input of a network; its points -> [Region.place] -> picture

Units are pixels of the picture, x right, y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # (n, 2) or (n, 3)


@dataclass(frozen=True, slots=True)
class Region:
    """A square: centre (`x`, `y`), length of a side, clockwise turn in radians.

    `flipped` mirrors its picture: with left hands flipped a network gets right hands only, and a
    mirrored video gives mirrored points.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0
    flipped: bool = False

    @property
    def usable(self) -> bool:
        """False when it is too small, too large, or has a NaN or infinity."""
        return all(map(math.isfinite, (self.x, self.y, self.side, self.turn))) and (
            4.0 <= self.side <= 20000.0 and max(abs(self.x), abs(self.y)) <= 40000.0
        )

    def grown(self, scale: float, down: float = 0.0) -> Region:
        """Scaled, after a shift by `down` sides along its own y axis."""
        return replace(
            self,
            x=self.x - down * self.side * math.sin(self.turn),
            y=self.y + down * self.side * math.cos(self.turn),
            side=self.side * scale,
        )

    def _matrix(self) -> NDArray[np.float64]:
        """(2, 3) The affine map from the unit square to the picture."""
        cos, sin = math.cos(self.turn) * self.side, math.sin(self.turn) * self.side
        across = -1.0 if self.flipped else 1.0
        matrix = np.array([[cos * across, -sin, 0.0], [sin * across, cos, 0.0]])
        matrix[:, 2] = (self.x, self.y) - matrix[:, :2] @ (0.5, 0.5)
        return matrix

    def cut(self, image: NDArray[np.uint8], pixels: int, border: int) -> NDArray[np.uint8]:
        """(pixels, pixels, 3): the region's picture; `border` is OpenCV's border type."""
        matrix = self._matrix()
        step = matrix[:, :2] / pixels
        offset = matrix[:, 2] + step @ (0.5, 0.5) - 0.5  # pixel centres
        cut = cv2.warpAffine(
            image,
            np.column_stack([step, offset]),
            (pixels, pixels),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )
        return np.asarray(cut, np.uint8)

    def place(self, points: Points) -> Points:
        """Map points in units of the region's side ([0, 1] inside) to the picture.

        A third coordinate, depth, is scaled like x.
        """
        matrix = self._matrix().astype(np.float32)
        placed = np.empty_like(points, dtype=np.float32)
        placed[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        placed[:, 2:] = points[:, 2:] * self.side
        return placed


def turn_of(start: Points, end: Points, target: float = math.pi / 2) -> float:
    """The turn of a region in which `end` lies at angle `target` from `start` (pi/2: above it)."""
    turn = target - math.atan2(-float(end[1] - start[1]), float(end[0] - start[0]))
    return turn - 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))


def spanning(centre: Points, edge: Points, scale: float, target: float = math.pi / 2) -> Region:
    """The region around `centre` that reaches to `edge`, scaled, with `edge` at angle `target`."""
    reach = float(np.hypot(*(edge[:2] - centre[:2])))
    return Region(
        float(centre[0]), float(centre[1]), 2 * reach * scale, turn_of(centre, edge, target)
    )

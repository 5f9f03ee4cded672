"""Points in a picture -> landmark rows, as `layout.py` defines them.

    points in pixels: body, hands -> [rows] -> (DIM,) rows

The live encoder's `Track` and the reader of landmark files that others made
(`offline.encoding.landmark_files`) both build their rows here, so a row means the same from either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout

_ORIGIN_TAU_S = 0.5  # origin and shoulder width follow the body with this time constant
_LEAST_UNIT = 4.0  # pixels: a narrower body is taken to be this wide
_LEFT_SHOULDER = layout.BODY_POINTS.index("left_shoulder")
_RIGHT_SHOULDER = layout.BODY_POINTS.index("right_shoulder")


class RowBuilder:
    """Builds the rows of one signer, frame after frame: `follow`, then `row`."""

    def __init__(self) -> None:
        self._origin = np.zeros(2, np.float32)
        self._unit = 0.0  # 0: no body yet
        self._followed_s = 0.0
        self._points = np.zeros((2, layout.HAND_POINTS, 3), np.float32)  # as last found
        self._seen_s = [-math.inf, -math.inf]

    @property
    def unit(self) -> float:
        """The smoothed shoulder width, pixels."""
        return self._unit

    def follow(self, body: NDArray[np.float32], media_s: float) -> None:
        """Take origin and unit from body points (13, 2), pixels, in the order of `BODY_POINTS`."""
        left, right = body[_LEFT_SHOULDER], body[_RIGHT_SHOULDER]
        origin = (left + right) / 2
        unit = max(float(np.hypot(*(left - right))), _LEAST_UNIT)
        if not self._unit:
            self._origin, self._unit = origin, unit
        else:
            elapsed_s = max(media_s - self._followed_s, 0.0)
            keep = np.float32(math.exp(-elapsed_s / _ORIGIN_TAU_S))
            self._origin = keep * self._origin + (1 - keep) * origin
            self._unit = float(keep * self._unit + (1 - keep) * unit)
        self._followed_s = media_s

    def row(
        self,
        body: NDArray[np.float32],
        hands: Sequence[NDArray[np.float32] | None],
        media_s: float,
    ) -> NDArray[np.float32]:
        """(DIM,) The row of a frame.

        Args:
            body: (13, 2) pixels, as given to `follow`; NaN for a point that is not known.
            hands: the signer's left and right hand, (21, 3) pixels each; None: not found.
        """
        row = np.zeros(layout.DIM, np.float32)
        row[layout.BODY] = np.nan_to_num(self._scaled(body)).ravel()
        for side, points in enumerate(hands):
            if points is not None:
                self._points[side] = self._scaled(points)
                self._points[side, :, 2] -= self._points[side, 0, 2]
                self._seen_s[side] = media_s
                row[layout.LEFT_SEEN + side] = 1
            if media_s - self._seen_s[side] <= layout.HOLD_S:
                row[layout.HANDS[side]] = self._points[side].ravel()
        return row

    def _scaled(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (n, 2 or 3) in the body's coordinates."""
        moved = pixels / np.float32(self._unit)
        moved[:, :2] -= self._origin / np.float32(self._unit)
        return np.asarray(moved, np.float32)

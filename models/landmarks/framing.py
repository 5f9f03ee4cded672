"""Where the signer is in the picture: a body and its hands in pixels -> `Seen` in its fractions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.landmarks.body import (
    LEFT_ELBOW,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Body,
)
from models.landmarks.hands import Hand
from models.schema import Box, Pair, Seen, Signer

_EYES, _EARS, _MOUTH = (2, 5), (7, 8), (9, 10)  # BlazePose's numbers
# A head in units of the way from its eyes to its mouth: rough proportions of grown-ups.
_CROWN, _CHIN, _HALF = 1.7, 0.8, 1.15


def seen(image: NDArray[np.uint8], body: Body | None, hands: Sequence[Hand | None]) -> Seen:
    """What was seen in `image` (H, W, 3): `body`, and its left and right hand."""
    height, width = image.shape[:2]
    if body is None:
        return Seen(aspect=width / height, signer=None)
    size = np.array([width, height], np.float32)
    points = body.points / size

    def pair(left: int, right: int) -> Pair:
        (x, y), (u, v) = points[left].tolist(), points[right].tolist()
        return (x, y), (u, v)

    left, right = (None if hand is None else _box(hand.points[:, :2] / size) for hand in hands)
    return Seen(
        aspect=width / height,
        signer=Signer(
            head=_box(_head(body.points) / size),
            shoulders=pair(LEFT_SHOULDER, RIGHT_SHOULDER),
            elbows=pair(LEFT_ELBOW, RIGHT_ELBOW),
            wrists=pair(LEFT_WRIST, RIGHT_WRIST),
            hands=(left, right),
        ),
    )


def _head(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(6, 2) Points that bound the head, pixels."""
    eyes, mouth = points[list(_EYES)].mean(axis=0), points[list(_MOUTH)].mean(axis=0)
    up = eyes - mouth
    across = np.array([_HALF * float(np.hypot(*up)), 0], np.float32)
    middle = points[list(_EARS)].mean(axis=0) / 2 + (eyes + mouth) / 4
    corners = (eyes + _CROWN * up, mouth - _CHIN * up, middle - across, middle + across)
    return np.stack([*corners, *points[list(_EARS)]])


def _box(points: NDArray[np.float32]) -> Box:
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return left, top, right, bottom

"""What the numbers of a landmark row mean: the contract between the landmark encoder and its heads.

A row describes one frame: `DIM` float32, in the body's own coordinates. The origin is the middle of
the shoulders, the unit is the shoulder width (both smoothed over time), x points to the right of
the picture, y down; pixels are square whatever the picture's shape. Left and right are the
signer's own.

    BODY         13 points (x, y): the names in `BODY_POINTS`
    LEFT_HAND    21 points (x, y, z), MediaPipe's order (`FINGERTIPS`); z relative to the wrist
    RIGHT_HAND   likewise
    SEEN         two flags: 1 if the left / right hand was seen in this frame

A lost hand keeps its last points for `HOLD_S` (flag 0); then they are zeros. Without a body the
whole row is zeros. Only numpy is imported here, so that a head can use it without any network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BODY_POINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
HAND_POINTS = 21
HAND_WRIST = 0
FINGERTIPS = (4, 8, 12, 16, 20)  # thumb, index, middle, ring, little finger

BODY = slice(0, 26)
LEFT_HAND = slice(26, 89)
RIGHT_HAND = slice(89, 152)
SEEN = slice(152, 154)
LEFT_SEEN, RIGHT_SEEN = 152, 153
DIM = 154

HOLD_S = 0.25  # how long the points of a lost hand are kept

_MIRRORED_BODY = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11]  # left and right exchanged


def mirror_index() -> NDArray[np.int64]:
    """(DIM,) Where each number of a mirrored row comes from: left and right are exchanged."""
    index = np.arange(DIM)
    index[BODY] = index[BODY].reshape(-1, 2)[_MIRRORED_BODY].ravel()
    index[LEFT_HAND], index[RIGHT_HAND] = index[RIGHT_HAND].copy(), index[LEFT_HAND].copy()
    index[SEEN] = index[SEEN][::-1]
    return index


def mirror_sign() -> NDArray[np.float32]:
    """(DIM,) -1 where a number is an x, whose sign a mirror changes, else 1."""
    sign = np.ones(DIM, np.float32)
    sign[BODY].reshape(-1, 2)[:, 0] = -1
    sign[LEFT_HAND].reshape(-1, 3)[:, 0] = -1
    sign[RIGHT_HAND].reshape(-1, 3)[:, 0] = -1
    return sign


def mirrored(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., DIM) The rows of the mirrored video."""
    flipped: NDArray[np.float32] = rows[..., mirror_index()] * mirror_sign()
    return flipped

"""What the numbers of a landmark row mean, and whether the hands are at rest at a window's end.

    rows of a window -> [at_rest] -> `Embedding.resting` -> the sign decoder

The contract between the landmark encoder and its heads.

A row describes one frame: `DIM` float32, in the body's own coordinates. The origin is the middle of
the shoulders, the unit is the shoulder width (both smoothed over time), x points to the right of
the picture, y down; pixels are square whatever the picture's shape. Left and right are the
signer's own.

    BODY         13 points (x, y): the names in `BODY_POINTS`
    LEFT_HAND    21 points (x, y, z), MediaPipe's order (`FINGERTIPS`); z relative to the wrist
    RIGHT_HAND   likewise
    SEEN         two flags: 1 if the left / right hand was seen in this frame

A lost hand keeps its last points for `HOLD_S` (flag 0); then they are zeros. Without a body the
whole row is zeros. A body point that is not known, as in landmarks that others made, is (0, 0). By
`at_rest` the decoder learns that a sign is over although the window still shows it; `raised` finds
signs in stored clips. Only numpy is imported here, so that a head can use it without any network.
"""

from __future__ import annotations

import math

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
HANDS = (LEFT_HAND, RIGHT_HAND)
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


LOW = 0.95  # shoulder widths below the shoulders: hands lower than this are not raised
# Hands rest when none was raised for this long: some signs dip below the chest for a moment...
_LOWERED_S = 0.25
# ... or when each raised one stayed in one place for this long: many signs hold still midway, and
# some people rest with their hands before the chest. See docs/reports/time-to-decision.md.
_STILL_S = 0.8
# Shoulder widths: the diagonal of that place. In a still picture, a wrist detected anew in each
# frame covers 0.04 (median of 49 clips; 95th percentile 0.10), but jumps at up to 1.5 a second: by
# speed, this jitter would look like signing.
_STILL = 0.1

_FIRST = 2 * BODY_POINTS.index("left_wrist")
_WRISTS = slice(_FIRST, _FIRST + 4)  # of the body: x, y of the left and of the right one


def raised(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, 2) True where the left / right hand of rows (T, D) is seen and not hanging down."""
    wrists_y = np.stack([rows[:, hand.start + 1] for hand in HANDS], axis=1)
    up: NDArray[np.bool_] = (rows[:, SEEN] > 0.5) & (wrists_y < LOW)
    return up


def at_rest(rows: NDArray[np.float32], fps: float) -> bool:
    """True if the hands rest at the end of rows (T, D), `fps` rows a second."""
    up = raised(rows)
    if not up[-_ticks(_LOWERED_S, fps) :].any():
        return True
    lately = slice(-_ticks(_STILL_S, fps), None)
    wrists = rows[lately, _WRISTS].reshape(-1, 2, 2)  # T, side, x and y
    return all(_spread(wrists[up[lately, side], side]) <= _STILL for side in (0, 1))


def _spread(points: NDArray[np.float32]) -> float:
    """The diagonal of the bounding box of points (N, 2); 0 without points."""
    return float(np.hypot(*np.ptp(points, axis=0))) if len(points) else 0.0


def _ticks(seconds: float, fps: float) -> int:
    return max(1, math.ceil(seconds * fps - 1e-6))

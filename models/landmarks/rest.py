"""Whether the hands are at rest at the end of a window.

    landmark rows of a window -> [rest] -> `Embedding.resting` -> the sign decoder

By it the decoder knows that a sign is over although the window still shows it.
`offline.training.augment` finds signs in clips by `raised`. Only numpy is imported here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout

_LOW = 0.95  # shoulder widths below the shoulders: hands lower than this are not raised
# Hands rest when none was raised for this long: some signs dip below the chest for a moment...
_LOWERED_S = 0.25
# ... or when each raised one stayed in one place for this long: many signs hold still midway, and
# some people rest with their hands before the chest. See docs/reports/time-to-decision.md.
_STILL_S = 0.8
# Shoulder widths: the diagonal of that place. In a still picture, a wrist detected anew in each
# frame covers 0.04 (median of 49 clips; 95th percentile 0.10), but jumps at up to 1.5 a second: by
# speed, this jitter would look like signing.
_STILL = 0.1

_HANDS = (layout.LEFT_HAND, layout.RIGHT_HAND)
_FIRST = 2 * layout.BODY_POINTS.index("left_wrist")
_WRISTS = slice(_FIRST, _FIRST + 4)  # of the body: x, y of the left and of the right one


def raised(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, 2) True where the left / right hand of rows (T, D) is seen and not hanging down."""
    wrists_y = np.stack([rows[:, hand.start + 1] for hand in _HANDS], axis=1)
    up: NDArray[np.bool_] = (rows[:, layout.SEEN] > 0.5) & (wrists_y < _LOW)
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

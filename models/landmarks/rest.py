"""Whether the hands rest: landmark rows of a window -> one answer for its end.

Behind `Embedding.resting`, by which the decoder knows that a sign is over before the window has
lost it. `offline.augment` finds signs in clips by `raised`. Only numpy is imported here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout

_LOW = 0.95  # shoulder widths below the shoulders: the hands of a person at rest are lower
_SPEED = 0.7  # shoulder widths a second; held hands tremble with 0.1 to 0.4, signs move with 2 to 9
# Rest is that no hand was raised for so long: some signs dip below the chest for a moment...
_LOWERED_S = 0.25
# ... or that none of the raised ones moved for so long: many signs hold still in their middle, and
# some people rest with their hands before the chest. See docs/promptness.md.
_STILL_S = 0.8

_HANDS = (layout.LEFT_HAND, layout.RIGHT_HAND)
_FIRST = 2 * layout.BODY_POINTS.index("left_wrist")
_WRISTS = slice(_FIRST, _FIRST + 4)  # of the body: x, y of the left and of the right one


def raised(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, 2) Where the left / right hand of rows (T, D) is seen, and not hanging down."""
    wrists_y = np.stack([rows[:, hand.start + 1] for hand in _HANDS], axis=1)
    up: NDArray[np.bool_] = (rows[:, layout.SEEN] > 0.5) & (wrists_y < _LOW)
    return up


def at_rest(rows: NDArray[np.float32], fps: float) -> bool:
    """Whether the hands rest at the end of rows (T, D), a row a tick of `fps`."""
    up = raised(rows)
    if not up[-_ticks(_LOWERED_S, fps) :].any():
        return True
    wrists = rows[:, _WRISTS].reshape(-1, 2, 2)
    step = np.diff(wrists, axis=0, prepend=wrists[:1])
    moving = up & (np.hypot(step[..., 0], step[..., 1]) * fps > _SPEED)
    return not moving[-_ticks(_STILL_S, fps) :].any()


def _ticks(seconds: float, fps: float) -> int:
    return max(1, math.ceil(seconds * fps - 1e-6))

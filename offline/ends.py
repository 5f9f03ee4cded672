"""Where the sign of a clip ends, by MediaPipe Holistic's landmarks of it.

    landmarks/CLIP.npz -> [ends] -> offline.promptness

Other networks than ours have looked, and no recogniser is asked: an end can't move with an answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.encoding.store import UNREADABLE

_SHOULDERS, _WRISTS = [11, 12], [15, 16]  # BlazePose's numbers: left, right
_LOW = 0.95  # shoulder widths below the shoulders: hands at rest hang lower
_SPEED = 0.7  # shoulder widths a second: held hands tremble with 0.1 to 0.4, signs move with 2 to 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEnd:
    """Moments of a clip in seconds from its first picture."""

    moved_s: float  # the last at which a raised wrist moved: by this the sign's end is meant
    lowering_s: float  # where the movement that ends there began to go down: no later
    clip_s: float  # the last picture


def sign_end(times: NDArray[np.floating], wrists: NDArray[np.floating]) -> SignEnd:
    """The end of the sign in wrists (T, 2, 2) at `times` (T,), s.

    Wrists are x, y of left and right in shoulder widths from the middle of the shoulders, y down;
    not a number where nobody is seen. A clip in which no raised wrist moves ends with its last
    raised wrist, or where the clip does.

    Raises:
        ValueError: there is no moment.
    """
    if not len(times):
        raise ValueError("no landmarks")
    clip_s = float(times[-1])
    up = wrists[..., 1] < _LOW  # T, 2; false for what is no number
    speed = np.zeros((len(times), 2, 2))
    speed[1:] = np.nan_to_num(np.diff(wrists, axis=0) / np.diff(times)[:, None, None])
    moving = up & (np.hypot(speed[..., 0], speed[..., 1]) > _SPEED)
    for there in (moving, up):
        steps = np.flatnonzero(there.any(1))
        if len(steps):
            last = began = int(steps[-1])
            while began > 0 and (speed[began, :, 1] * up[began]).max() > _SPEED:
                began -= 1
            return SignEnd(
                moved_s=float(times[last]), lowering_s=float(times[began]), clip_s=clip_s
            )
    return SignEnd(moved_s=clip_s, lowering_s=clip_s, clip_s=clip_s)


def read_end(path: str | os.PathLike[str], aspect: float) -> SignEnd:
    """The end of the sign by the .npz at `path`: `t` (T,), s, and `pose` (T, 33, 4) in fractions of
    a picture `aspect` times as wide as high.

    Raises:
        ValueError: one line that names the file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            times = stored["t"].astype(np.float64)
            points = stored["pose"][..., :2].astype(np.float64) * (aspect, 1.0)
    except (*UNREADABLE, IndexError) as exc:
        raise ValueError(f"{os.fspath(path)}: no landmarks to read: {exc}") from exc
    left, right = points[:, _SHOULDERS[0]], points[:, _SHOULDERS[1]]
    seen = np.isfinite(left[:, 0])
    if not seen.any():
        raise ValueError(f"{os.fspath(path)}: shows nobody")
    middle = np.median(((left + right) / 2)[seen], axis=0)
    unit = np.median(np.hypot(*(left - right)[seen].T))
    return sign_end(times, (points[:, _WRISTS] - middle) / max(float(unit), 1e-6))

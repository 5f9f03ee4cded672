"""Token thrift: which tubelets of a clip an encoder need not look at, since nothing moved there.

    pictures -> [thrift] -> which tubelets are kept, and who stands for the others

A tubelet that looks as the last one kept at its place is dropped, and that one stands for it: a run
of still tubelets becomes one token (the idea of run-length tokenization, Choudhury et al. 2024,
"Don't Look Twice"). It is held against the one that stands for it, not against its neighbour, so
slow change adds up and is seen. Plain numpy; `models.vjepa2.thrifty_encoder` runs what is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kept_tubelets(
    pictures: NDArray[np.uint8], patch: int, tubelet: int, level: float
) -> NDArray[np.bool_]:
    """(T/`tubelet`, H/`patch`, W/`patch`) Which tubelets of pictures (T, H, W, C) are kept.

    Dropped: those whose values differ by at most `level` of 255 levels, on average, from the last
    kept tubelet at their place. The first ones are kept, all of them.

    Raises:
        ValueError: the pictures are no whole number of tubelets, or `level` is below 0.
    """
    check_level(level)
    times, height, width, channels = pictures.shape
    if pictures.dtype != np.uint8 or times % tubelet or height % patch or width % patch:
        raise ValueError(
            f"pictures {pictures.shape} {pictures.dtype} make no tubelets of {tubelet} frames "
            f"and {patch} px"
        )
    cut = pictures.reshape(-1, tubelet, height // patch, patch, width // patch, patch, channels)
    tubelets = cut.transpose(0, 2, 4, 1, 3, 5, 6).reshape(len(cut), *cut.shape[2:5:2], -1)
    levels = tubelets.astype(np.int16)  # differences of uint8 would wrap
    keep = np.ones(levels.shape[:3], np.bool_)
    standing = levels[0].copy()  # h, w, values: the last kept ones
    for time in range(1, len(levels)):
        keep[time] = np.abs(levels[time] - standing).mean(-1) > level
        standing[keep[time]] = levels[time][keep[time]]
    return keep


def stand_ins(keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) Which of the kept tokens, counted among them alone, stands for each of all N."""
    numbers = np.arange(keep.size).reshape(keep.shape)
    latest = np.maximum.accumulate(np.where(keep, numbers, 0), axis=0)  # time comes first
    order = np.cumsum(keep.ravel()) - 1
    standing: NDArray[np.int64] = order[latest.ravel()]
    return standing


def check_level(level: float) -> None:
    """Raise ValueError when `level` is no difference of picture levels."""
    if not 0 <= level <= 255:
        raise ValueError(f"a thrift of {level} levels: give 0 (exact repeats alone) to 255")

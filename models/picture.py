"""A decoded picture in, an RGB array out: one conversion for cameras, files and streams.

    video decoder -> PyAV's VideoFrame -> [picture] -> RGB array of a `Frame`

A model gets the same input live as in training, in FFmpeg's default colours. Two rules make a
picture small. "fast": FFmpeg scales by area while it converts colours; V-JEPA 2's own rule then
changes little. "exact": colours are converted at full size, and V-JEPA 2's rule alone makes the
picture small, as transformers does (`models.resize`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.resize import resized
from models.schema import Resize

Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class PictureScaler:
    """Scales the pictures of one video. Called from one thread at a time."""

    def __init__(self, short_side: int, resize: Resize = "fast") -> None:
        self._short_side = short_side
        self._resize = resize
        self._reformatter = VideoReformatter()

    def rgb(
        self, picture: Any, aspect: float = 1.0, upright: Turn | None = None
    ) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of a `VideoFrame` with a short side of at most `short_side` px.

        `aspect` is a pixel's width divided by its height; the array's pixels are square. `upright`
        turns or mirrors it: before it is resized, since the rule goes across and then down.
        """
        width, height = picture.width * aspect, picture.height
        exact = self._resize == "exact"
        scale = 1.0 if exact else min(1.0, self._short_side / min(width, height))
        small = self._reformatter.reformat(
            picture,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation="AREA",
            threads=1,  # by default every scaler keeps one thread a core
        )
        image = np.asarray(small.to_ndarray(), dtype=np.uint8)
        if upright is not None:
            image = np.ascontiguousarray(upright(image))
        if exact and min(image.shape[:2]) > self._short_side:
            image = resized(image, self._short_side)
        return image

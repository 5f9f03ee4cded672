"""A decoded picture in, an RGB array out: one conversion for cameras, files and streams.

    video decoder -> PyAV's VideoFrame -> [picture] -> RGB array of a `Frame`

Area scaling and FFmpeg's default colours, so that a model gets the same input live as in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class PictureScaler:
    """Scales the pictures of one video. Called from one thread at a time."""

    def __init__(self, short_side: int) -> None:
        self._short_side = short_side
        self._reformatter = VideoReformatter()

    def rgb(self, picture: Any, aspect: float = 1.0) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of a `VideoFrame` with a short side of at most `short_side` px.

        `aspect` is a pixel's width divided by its height; the array's pixels are square.
        """
        width, height = picture.width * aspect, picture.height
        scale = min(1.0, self._short_side / min(width, height))
        small = self._reformatter.reformat(
            picture,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation="AREA",
            threads=1,  # by default every scaler keeps one thread a core
        )
        return np.asarray(small.to_ndarray(), dtype=np.uint8)

"""A decoder's picture in, an RGB array out: the one conversion behind camera, file and stream.

Area scaling, FFmpeg's default colours: what a model met in training it meets live.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class PictureScaler:
    """For the pictures of one video, on one thread at a time."""

    def __init__(self, short_side: int) -> None:
        self._short_side = short_side
        self._reformatter = VideoReformatter()

    def rgb(self, picture: Any, aspect: float = 1.0) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of a `VideoFrame` with a short side of at most `short_side` px.

        `aspect` is the width of a pixel against its height; the array's are square.
        """
        width, height = picture.width * aspect, picture.height
        scale = min(1.0, self._short_side / min(width, height))
        small = self._reformatter.reformat(
            picture,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation="AREA",
            threads=1,  # the default, one a core, is kept by every scaler
        )
        return np.asarray(small.to_ndarray(), dtype=np.uint8)

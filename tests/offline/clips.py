"""Makes small real video files with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def picture(index: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """(H, W, 3) A grey level that tells `index`, and a red quarter at the top left."""
    image = np.full((height, width, 3), 40 + 10 * (index % 20), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    return image


def write_clip(
    path: Path,
    times_s: Sequence[float] | int = 10,
    *,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    rotation: int = 0,
    aspect: Fraction | None = None,
    **options: Any,
) -> Path:
    """A video whose pictures are shown at `times_s` (or that many, at `fps`)."""
    if isinstance(times_s, int):
        times_s = [i / fps for i in range(times_s)]
    pixels = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    ticks = {"gif": 100, "mpeg1video": fps, "mpeg2video": fps}.get(codec, 1000)
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, ticks)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = round(time_s * ticks)
            frame.time_base = Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path

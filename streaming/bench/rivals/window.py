"""The recogniser as somebody would put it behind another framework: last frames, a lock, a call.

    picture of a session -> [window] -> recogniser -> result

The same model and the same windows (`models.window`) as in our server: only how pictures get in and
results get out differs. A recogniser is one device that computes one call at a time: where a
framework calls from several threads, they wait for each other.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.schema import Frame
from models.window import FrameSampler, WindowCutter
from streaming.bench import barcode
from streaming.runner import RecognizerCore

_device = threading.Lock()


class SessionWindow:
    """The last frames of one session. One thread at a time."""

    def __init__(self, core: RecognizerCore, session: str) -> None:
        self._core = core
        self._short_side = core.bundle.encoder.short_side
        self._sampler = FrameSampler(core.bundle.encoder.fps)
        self._cutter = WindowCutter(session, core.bundle.encoder, core.bundle.hop_s)

    def wants(self, time_s: float) -> bool:
        """Whether a picture of this time belongs into a window. Call it once a picture."""
        return self._sampler.wants(time_s)

    def add(self, image: NDArray[np.uint8], time_s: float) -> dict[str, Any] | None:
        """Keep an (H, W, 3) RGB picture; returns a result where a window is due.

        The result's `picture` is the number in the window's newest picture.
        """
        self._cutter.push(Frame(image=self._scaled(image), media_s=time_s))
        if not self._cutter.due():
            return None
        clip = self._cutter.cut()
        with _device:
            (prediction,) = self._core.recognise([clip])
        best = int(prediction.probabilities.argmax())
        return {
            "picture": barcode.read(clip.frames[-1].image),
            "gloss": self._core.bundle.glosses[best],
            "p": round(float(prediction.probabilities[best]), 3),
        }

    def _scaled(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        scale = self._short_side / min(height, width)
        if scale >= 1:
            return image
        size = round(width * scale), round(height * scale)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

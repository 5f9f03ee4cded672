"""The recogniser as somebody would put it behind another framework: last frames, lock, call.

The same model and the same windows as in our server (`models.window`), so that what differs is how
pictures get there and answers back. A recogniser is one device and answers one call at a time:
where a framework calls from several threads, they wait for each other.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.decoder import top_candidates
from models.schema import Frame
from models.window import FrameSampler, WindowCutter
from streaming.bench import barcode
from streaming.bench.standin import open_model
from streaming.runner import RecognizerCore


class WindowReader:
    """A recogniser that is open and warm."""

    def __init__(self, model: str) -> None:
        """Raises BundleError, ValueError or OSError: see `streaming.bench.standin.open_model`."""
        self.core: RecognizerCore = open_model(model)
        self.core.warm()
        self.lock = threading.Lock()

    def window(self, session: str) -> Window:
        return Window(self, session)

    def close(self) -> None:
        self.core.close()


class Window:
    """The last frames of one session. One thread at a time."""

    def __init__(self, reader: WindowReader, session: str) -> None:
        bundle = reader.core.bundle
        self._reader = reader
        self._short_side = bundle.encoder.short_side
        self._sampler = FrameSampler(bundle.encoder.fps)
        self._cutter = WindowCutter(session, bundle.encoder, bundle.hop_s)

    def wants(self, time_s: float) -> bool:
        """Whether a picture of this time belongs into a window. Asked once a picture."""
        return self._sampler.wants(time_s)

    def look(self, image: NDArray[np.uint8], time_s: float) -> dict[str, Any] | None:
        """Keep an (H, W, 3) RGB picture, and answer when a window is due.

        An answer has `picture`, the number in the pixels of the window's newest one.
        """
        self._cutter.push(Frame(image=self._small(image), media_s=time_s))
        if not self._cutter.due():
            return None
        clip = self._cutter.cut()
        with self._reader.lock:
            (said,) = self._reader.core.recognise([clip])
        (best,) = top_candidates(self._reader.core.bundle.glosses, said.probabilities, 1)
        picture = barcode.read(clip.frames[-1].image)
        return {"picture": picture, "gloss": best.gloss, "p": round(best.p, 3)}

    def _small(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        scale = self._short_side / min(height, width)
        if scale >= 1:
            return image
        size = round(width * scale), round(height * scale)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

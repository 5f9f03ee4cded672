"""The recogniser of a benchmark: one of fixed cost, or a real one; and which pictures it was given.

batcher -> runner -> [stand-in, or a watched recogniser] -> predictions
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.few_shot import EmbeddingSpace, unit_length
from models.fusion import open_recognizer
from models.schema import Clip, EncoderSpec, Frame, Prediction
from streaming.bench import barcode
from streaming.runner import RecognizerCore
from streaming.settings import RecognizerSettings

_SPEC = EncoderSpec(
    kind="standin", source="none", revision="0", dim=1, frames=32, fps=15.0, short_side=240
)
_LEVELS = np.array([0, 85, 170, 255], np.float32)  # grey; an embedding is its distance to each


def embedding(level: float) -> NDArray[np.float32]:
    """(4,) Embedding of a picture by its mean grey level: similar levels have similar ones."""
    return unit_length(np.exp(-(((_LEVELS - level) / 40) ** 2)))


_BACKGROUND = np.stack([embedding(12), embedding(250)])


class StandIn:
    """Predicts "bright" or "dark" from the newest picture's mean grey level, else idle.

    Other levels can be taught as signs: their embeddings differ.

    Args:
        cost_s: what a batch takes, whatever its size.
        each_s: what each window adds to it.
        inspect: called with each clip's newest frame on the worker's thread, before the prediction.
    """

    device: str = "cpu"
    prepare = None

    def __init__(
        self,
        cost_s: float = 0.0,
        *,
        each_s: float = 0.0,
        inspect: Callable[[Frame], None] | None = None,
    ) -> None:
        self._cost_s = cost_s
        self._each_s = each_s
        self._inspect = inspect
        self._closed = threading.Event()
        self.bundle = Bundle(
            path=Path(),
            name=f"standin:{round(cost_s * 1000)}",
            glosses=("dark", "bright"),
            encoder=_SPEC,
            hop_s=0.1,
            idle=True,
            temperature=1.0,
            threshold=0.5,
            card={"name": "standin", "licence": "MIT"},
            head_path=None,
            space=EmbeddingSpace(id="standin", dim=len(_LEVELS), background=_BACKGROUND),
        )

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        began = time.perf_counter()
        cost_s = self._cost_s + len(clips) * self._each_s
        predictions = [self._predict(clip, cost_s) for clip in clips]
        # Computing them is part of the cost, not on top of it: a batch takes what was asked for.
        self._closed.wait(max(0.0, cost_s - (time.perf_counter() - began)))
        return predictions

    def _predict(self, clip: Clip, took_s: float) -> Prediction:
        newest = clip.frames[-1]
        if self._inspect is not None:
            self._inspect(newest)
        level = float(newest.image[::4, ::4].mean())  # every fourth pixel is enough
        dark, bright = (0.9 if level < 50 else 0.02), (0.9 if level > 200 else 0.02)
        return Prediction(
            stream=clip.stream,
            probabilities=np.array([dark, bright], np.float32),
            idle=1 - dark - bright,
            attention=np.full(len(clip.frames), 1 / len(clip.frames), np.float32),
            start_s=clip.start_s,
            end_s=clip.end_s,
            embedding=embedding(level),
            stages_s={"encode": took_s, "classify": 0.0},
        )

    def warm(self, size: int = 1) -> None:
        self._closed.wait(self._cost_s + size * self._each_s)

    def forget(self, stream: str) -> None:
        """Nothing is kept of a stream."""

    def close(self) -> None:
        self._closed.set()


NewestPictures = dict[tuple[str, int], tuple[int | None, float]]
# (stream, RTP timestamp) of each window's newest frame -> the number in its picture (None: it can't
# be read), and when its last packet arrived (monotonic, s)


class WatchedRecognizer:
    """A recogniser that also notes which picture each window ended with."""

    def __init__(self, core: RecognizerCore) -> None:
        self.newest: NewestPictures = {}
        self._core = core
        self.bundle, self.device = core.bundle, core.device
        self.prepare, self.forget, self.close = core.prepare, core.forget, core.close

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        predictions = self._core.recognise(clips)
        for clip in clips:
            frame = clip.frames[-1]
            self.newest[clip.stream, frame.rtp] = (barcode.read(frame.image), frame.arrival_s)
        return predictions

    def warm(self, size: int = 1) -> None:
        self._core.warm(size)
        self.newest.clear()


def open_model(model: str, device: str = "auto") -> RecognizerCore:
    """A recogniser: of a bundle's folder, of "builtin", or a `StandIn` for "standin:MS[+EACH]".

    MS is the milliseconds that a batch takes, EACH what each window adds.

    Raises:
        BundleError, ValueError, OSError: it can't be opened; the message says what to do.
    """
    kind, _, cost = model.partition(":")
    if kind == "standin":
        batch_ms, _, each_ms = cost.partition("+")
        if not batch_ms.isdigit() or not (each_ms or "0").isdigit():
            form = "standin:MS or standin:MS+EACH: ms a batch, ms a window"
            raise ValueError(f"write the stand-in as {form}")
        return StandIn(int(batch_ms) / 1000, each_s=int(each_ms or 0) / 1000)
    return open_recognizer(model, device, max_new_frames=RecognizerSettings().max_new_frames)

"""The recogniser of a benchmark, and the picture that each of its windows ended with."""

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


class Watched:
    """A recogniser that also notes which picture each window ended with."""

    def __init__(self, core: RecognizerCore) -> None:
        self._core = core
        self.seen: dict[tuple[str, int], tuple[int | None, float]] = {}  # see bench_report.Seen

    @property
    def spec(self) -> EncoderSpec:
        return self._core.bundle.encoder

    @property
    def bundle(self) -> Bundle:
        return self._core.bundle

    @property
    def device(self) -> str:
        return self._core.device

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        predictions = self._core.recognise(clips)
        for clip in clips:
            newest = clip.frames[-1]
            number = barcode.read(newest.image)
            self.seen[clip.stream, newest.rtp] = (number, newest.arrival_s)
        return predictions

    def warm(self, size: int = 1) -> None:
        self._core.warm(size)
        self.seen.clear()

    def forget(self, stream: str) -> None:
        self._core.forget(stream)

    def close(self) -> None:
        self._core.close()


def open_model(model: str, device: str = "auto") -> RecognizerCore:
    """`model` is a bundle's folder, "builtin", or "standin:MS[+EACH]": so many milliseconds a
    batch, and for each window in it.

    Raises:
        BundleError, ValueError, OSError: it can't be had; the message says what to do.
    """
    kind, _, cost = model.partition(":")
    if kind == "standin":
        batch_ms, _, each_ms = cost.partition("+")
        if not batch_ms.isdigit() or not (each_ms or "0").isdigit():
            raise ValueError(
                "write the stand-in as standin:MS or standin:MS+EACH: ms a batch, a window"
            )
        return StandIn(int(batch_ms) / 1000, each_s=int(each_ms or 0) / 1000)
    return open_recognizer(model, device, max_new_frames=RecognizerSettings().max_new_frames)


# MERGED from streaming.standin: A recogniser of fixed cost that knows no sign: to test and time
# everything around it.

_SPEC = EncoderSpec(
    kind="standin", source="none", revision="0", dim=1, frames=32, fps=15.0, short_side=240
)
GLOSSES = ("dark", "bright")
_LEVELS = np.array([0, 85, 170, 255], np.float32)  # an embedding: how near the mean is to each


def embedding(level: float) -> NDArray[np.float32]:
    """(4,) Where a picture of a mean level lies: near levels near, far ones apart."""
    return unit_length(np.exp(-(((_LEVELS - level) / 40) ** 2)))


_SPACE = EmbeddingSpace(
    id="standin",
    dim=len(_LEVELS),
    background=np.stack([embedding(12), embedding(250)]),
)


class StandIn:
    """Answers "bright" or "dark" by the newest picture's mean level, idle in between.

    Other levels can be taught it: its embedding tells some of them apart.

    `cost_s` is what a batch takes, whatever its size, and `each_s` what each window adds. `look` is
    called with each clip's newest frame on the worker's thread, before the answer: a benchmark
    reads its bar code there.
    """

    device: str = "cpu"

    def __init__(
        self,
        cost_s: float = 0.0,
        *,
        each_s: float = 0.0,
        hop_s: float = 0.1,
        look: Callable[[Frame], None] | None = None,
    ) -> None:
        self._cost_s = cost_s
        self._each_s = each_s
        self._look = look
        self._closed = threading.Event()
        self.bundle = Bundle(
            path=Path(),
            name=f"standin:{round(cost_s * 1000)}",
            glosses=GLOSSES,
            encoder=_SPEC,
            hop_s=hop_s,
            idle=True,
            temperature=1.0,
            threshold=0.5,
            card={"name": "standin", "licence": "MIT"},
            head_path=None,
            space=_SPACE,
        )

    @property
    def spec(self) -> EncoderSpec:
        return self.bundle.encoder

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        began = time.perf_counter()
        cost_s = self._cost(len(clips))
        answers = [self._answer(clip, cost_s) for clip in clips]
        # Looking is part of the cost, not on top of it: a batch takes what was asked for.
        self._closed.wait(max(0.0, cost_s - (time.perf_counter() - began)))
        return answers

    def _cost(self, windows: int) -> float:
        return self._cost_s + windows * self._each_s

    def _answer(self, clip: Clip, took_s: float) -> Prediction:
        newest = clip.frames[-1]
        if self._look is not None:
            self._look(newest)
        level = float(newest.image[::4, ::4].mean())  # enough, and next to no work
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
        self._closed.wait(self._cost(size))

    def forget(self, stream: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        self._closed.set()

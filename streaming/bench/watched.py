"""The recogniser of a benchmark, and the picture that each of its windows ended with."""

from __future__ import annotations

from collections.abc import Sequence

from models.bundle import Bundle
from models.fused import open_recognizer
from models.schema import Clip, EncoderSpec, Prediction
from streaming.bench import barcode
from streaming.recognizer import RecognizerCore
from streaming.settings import RecognizerSettings
from streaming.standin import StandIn


class Watched:
    """A recogniser that also notes which picture each window ended with."""

    def __init__(self, core: RecognizerCore) -> None:
        self._core = core
        self.seen: dict[tuple[str, int], tuple[int | None, float]] = {}  # see bench_report.Seen

    @property
    def spec(self) -> EncoderSpec:
        return self._core.spec

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

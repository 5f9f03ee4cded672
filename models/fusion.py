"""Several recognisers on the same windows as one: landmarks beside V-JEPA 2, for example.

    clips -> each part's own window of each clip -> its [recognizer] -> [fusion] -> predictions

A clip is as long as the longest window of the parts, at their highest frame rate. Each part gets
the window that `models.window` would have cut for it out of those frames, as in its training, and
all clips of a batch at once. The fused probabilities are the softmax of a weighted sum of the
parts' log-probabilities. A weight says how much a part counts and how sure it may make the result
(it is a temperature too). `offline.fuse` learns the weights from clips that no part was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, open_bundle
from models.classifier import softmax
from models.faults import NotANumber
from models.recognizer import Recognizer, warm_up
from models.schema import Clip, EncoderSpec, Prediction
from models.window import FrameSampler, WindowCutter

_LEAST = 1e-6  # a part cannot rule a class out alone


def open_recognizer(
    model: Bundle | str | Path = "builtin",
    device: str = "auto",
    *,
    max_new_frames: int | None = None,
) -> Recognizer | FusedRecognizer:
    """The recogniser of a bundle, fused or not. Arguments and errors: see `Recognizer.open`."""
    bundle = model if isinstance(model, Bundle) else open_bundle(model)

    def open_part(part: Bundle) -> Recognizer:
        return Recognizer.open(part, device, max_new_frames=max_new_frames)

    return FusedRecognizer.open(bundle, open_part) if bundle.parts else open_part(bundle)


class FusedRecognizer:
    """A bundle of several parts at work, with the methods of `Recognizer`.

    `embedding` comes from the first part; `seen` and `resting` from the first part that has them.
    """

    def __init__(self, bundle: Bundle, parts: Sequence[Recognizer]) -> None:
        self.bundle = bundle
        self._parts = tuple(parts)
        self._weights = [part.weight for part in bundle.parts]

    @classmethod
    def open(cls, bundle: Bundle, open_part: Callable[[Bundle], Recognizer]) -> FusedRecognizer:
        """Open the parts one after the other; if one fails, the others are closed."""
        opened: list[Recognizer] = []
        try:
            for part in bundle.parts:
                opened.append(open_part(part.bundle))
        except BaseException:
            for recognizer in opened:
                recognizer.close()
            raise
        return cls(bundle, opened)

    @property
    def spec(self) -> EncoderSpec:
        return self.bundle.encoder

    @property
    def device(self) -> str:
        """Where the parts compute, each device once: "cpu", "cpu and cuda:0"."""
        return " and ".join(dict.fromkeys(part.device for part in self._parts))

    @property
    def prepare(self) -> Callable[[Sequence[Clip]], None] | None:
        """As of `Recognizer`: None if no part can."""
        return self._prepare if any(part.prepare for part in self._parts) else None

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """A prediction for each clip, in order. It is the same for a clip alone or in any batch.

        Raises:
            NotANumber, RecognitionError: as soon as a part raises it, see `Recognizer`.
        """
        if not clips:
            return []
        by_part = [_predict(part, [cut(clip, part.spec) for clip in clips]) for part in self._parts]
        predictions = [
            self._fused(clip, [p for p in of_clip if p is not None]) if all(of_clip) else None
            for clip, *of_clip in zip(clips, *by_part, strict=True)
        ]
        complete = [prediction for prediction in predictions if prediction is not None]
        if len(complete) < len(predictions):
            raise NotANumber(predictions)
        return complete

    def _prepare(self, clips: Sequence[Clip]) -> None:
        for part in self._parts:
            if part.prepare is not None:
                part.prepare([cut(clip, part.spec) for clip in clips])

    def _fused(self, clip: Clip, predictions: Sequence[Prediction]) -> Prediction:
        """One prediction from those of the parts."""
        classes = [np.append(p.probabilities, p.idle) for p in predictions]
        if not self.bundle.idle:
            classes = [row[:-1] for row in classes]
        probabilities = fuse(classes, self._weights)
        count = len(self.bundle.glosses)
        stages = {stage for p in predictions for stage in p.stages_s}
        return Prediction(
            stream=clip.stream,
            probabilities=probabilities[:count],
            idle=float(probabilities[count]) if self.bundle.idle else 0.0,
            attention=self._attention(predictions),
            start_s=clip.start_s,
            end_s=clip.end_s,
            embedding=predictions[0].embedding,
            seen=next((p.seen for p in predictions if p.seen is not None), None),
            resting=next((p.resting for p in predictions if p.resting is not None), None),
            stages_s={s: sum(p.stages_s.get(s, 0.0) for p in predictions) for s in stages},
        )

    def _attention(self, predictions: Sequence[Prediction]) -> NDArray[np.float32]:
        """(T,) Mean of the parts' attention, each spread over the ticks of its own window."""
        ages_s = np.arange(self.spec.frames)[::-1] / self.spec.fps  # of each tick at the end
        total = np.zeros(self.spec.frames)
        for part, prediction in zip(self._parts, predictions, strict=True):
            steps = len(prediction.attention)
            step = steps - 1 - np.floor(ages_s / part.spec.window_s * steps).astype(int)
            spread = np.where(step >= 0, prediction.attention[step.clip(min=0)], 0.0)
            total += spread / spread.sum() / len(predictions)
        return total.astype(np.float32)

    def warm(self, size: int = 1) -> None:
        """As `Recognizer.warm`."""
        warm_up(self.spec, size, self.recognise, self.forget)

    def forget(self, stream: str) -> None:
        for part in self._parts:
            part.forget(stream)

    def close(self) -> None:
        for part in self._parts:
            part.close()


def cut(clip: Clip, spec: EncoderSpec) -> Clip:
    """The window of `spec` that ends with `clip`, out of the frames that it would have sampled."""
    sampler = FrameSampler(spec.fps)
    cutter = WindowCutter(clip.stream, spec, spec.window_s)
    for frame in clip.frames:
        if sampler.wants(frame.media_s):
            cutter.push(frame)
    return cutter.cut()


def _predict(part: Recognizer, clips: Sequence[Clip]) -> Sequence[Prediction | None]:
    try:
        return part.recognise(clips)
    except NotANumber as error:
        return error.predictions


def fuse(
    probabilities: Sequence[NDArray[np.floating]], weights: Sequence[float]
) -> NDArray[np.float32]:
    """(…, K) from the parts' probabilities, (…, K) each, and one weight a part."""
    parts = zip(probabilities, weights, strict=True)
    logits = np.sum([weight * log_probabilities(part) for part, weight in parts], axis=0)
    return softmax(np.asarray(logits, np.float32))


def log_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Their logarithms; none is below that of one in a million."""
    logs: NDArray[np.float32] = np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)
    return logs

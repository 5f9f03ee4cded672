"""Several recognisers on the same windows, their answers fused: landmarks beside V-JEPA 2, say.

    clips -> each part's own window of each clip -> its [recognizer] -> [fusion] -> predictions

A clip is as long as the longest window of the parts and as dense as their highest rate. Each part
gets what `models.window` would have cut for it out of those frames, so it meets what it was trained
on, and all of a batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, open_bundle
from models.classifier import softmax
from models.faults import NotANumber
from models.recognizer import Recognizer, grey_clips
from models.schema import Clip, EncoderSpec, Prediction
from models.window import FrameSampler, WindowCutter


def open_recognizer(
    model: Bundle | str | Path = "builtin",
    device: str = "auto",
    *,
    max_new_frames: int | None = None,
) -> Recognizer | FusedRecognizer:
    """The recogniser of a bundle, be it one or several. Arguments and errors: `Recognizer.open`."""
    bundle = model if isinstance(model, Bundle) else open_bundle(model)

    def open_part(part: Bundle) -> Recognizer:
        return Recognizer.open(part, device, max_new_frames=max_new_frames)

    return FusedRecognizer.of(bundle, open_part) if bundle.parts else open_part(bundle)


class FusedRecognizer:
    """A bundle of several parts at work: called, and answering, as `Recognizer` is and does.

    What is said beside the glosses, the embedding and what was seen, comes from the first part that
    says it.
    """

    def __init__(self, bundle: Bundle, parts: Sequence[Recognizer]) -> None:
        self.bundle = bundle
        self._parts = tuple(parts)
        self._weights = [part.weight for part in bundle.parts]

    @classmethod
    def of(cls, bundle: Bundle, open_part: Callable[[Bundle], Recognizer]) -> FusedRecognizer:
        """Open the parts one after the other; all of them, or none stays open."""
        opened: list[Recognizer] = []
        try:
            for part in bundle.parts:
                opened.append(open_part(part.bundle))
        except BaseException:
            for one in opened:
                one.close()
            raise
        return cls(bundle, opened)

    @property
    def spec(self) -> EncoderSpec:
        return self.bundle.encoder

    @property
    def device(self) -> str:
        """Where the parts compute, each place once: "cpu", "cpu and cuda:0"."""
        return " and ".join(dict.fromkeys(part.device for part in self._parts))

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Answer each clip, in order. A clip's answer is the same alone and in any batch.

        Raises:
            NotANumber, RecognitionError: as `Recognizer` does, as soon as a part does.
        """
        if not clips:
            return []
        said = [_answers(part, [cut(clip, part.spec) for clip in clips]) for part in self._parts]
        answers = [
            self._fused(clip, [one for one in of_clip if one is not None]) if all(of_clip) else None
            for clip, *of_clip in zip(clips, *said, strict=True)
        ]
        whole = [answer for answer in answers if answer is not None]
        if len(whole) < len(answers):
            raise NotANumber(answers)
        return whole

    def _fused(self, clip: Clip, said: Sequence[Prediction]) -> Prediction:
        first = said[0]
        classes = [np.append(one.probabilities, one.idle) for one in said]
        if not self.bundle.idle:
            classes = [one[:-1] for one in classes]
        probabilities = fuse(classes, self._weights)
        count = len(self.bundle.glosses)
        seen = (one.seen for one in said if one.seen is not None)
        resting = (one.resting for one in said if one.resting is not None)
        stages = {stage for one in said for stage in one.stages_s}
        return Prediction(
            stream=clip.stream,
            probabilities=probabilities[:count],
            idle=float(probabilities[count]) if self.bundle.idle else 0.0,
            attention=self._attention(said),
            start_s=clip.start_s,
            end_s=clip.end_s,
            embedding=first.embedding,
            seen=next(seen, None),
            resting=next(resting, None),
            stages_s={one: sum(part.stages_s.get(one, 0.0) for part in said) for one in stages},
        )

    def _attention(self, said: Sequence[Prediction]) -> NDArray[np.float32]:
        """(T,) The parts' attention, each spread over the ticks of its window, and their mean."""
        ages_s = np.arange(self.spec.frames)[::-1] / self.spec.fps  # of each tick at the end
        total = np.zeros(self.spec.frames)
        for part, one in zip(self._parts, said, strict=True):
            steps = len(one.attention)
            step = steps - 1 - np.floor(ages_s / part.spec.window_s * steps).astype(int)
            spread = np.where(step >= 0, one.attention[step.clip(min=0)], 0.0)
            total += spread / spread.sum() / len(said)
        return total.astype(np.float32)

    def warm(self, size: int = 1) -> None:
        """Run every network on `size` windows of grey, so that the first signers don't wait."""
        clips = grey_clips(self.spec, size)
        self.recognise(clips)
        for clip in clips:
            self.forget(clip.stream)

    def forget(self, stream: str) -> None:
        """Drop what the parts keep for a stream that ended."""
        for part in self._parts:
            part.forget(stream)

    def close(self) -> None:
        for part in self._parts:
            part.close()


def cut(clip: Clip, spec: EncoderSpec) -> Clip:
    """The window for `spec` at the end of `clip`, of those of its frames that it would have had."""
    sampler = FrameSampler(spec.fps)
    cutter = WindowCutter(clip.stream, spec, spec.window_s)
    for frame in clip.frames:
        if sampler.wants(frame.media_s):
            cutter.push(frame)
    return cutter.cut()


def _answers(part: Recognizer, clips: Sequence[Clip]) -> Sequence[Prediction | None]:
    try:
        return part.recognise(clips)
    except NotANumber as error:
        return error.predictions


# MERGED from models.fusion: Two recognisers' answers as one: a mean of their log-probabilities,
# weighted. probabilities of each part -> sum of weight * log p -> softmax -> probabilities A
# weight says how much a part counts and how sure it may make the answer (it is a temperature
# too). They are learnt from clips that no part was trained on, see `offline.fuse`. Pure.

_LEAST = 1e-6  # a part that rules a class out does not do so alone, whatever the others say


def log_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Their logarithms, never below that of one in a million."""
    logs: NDArray[np.float32] = np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)
    return logs


def fuse(
    probabilities: Sequence[NDArray[np.floating]], weights: Sequence[float]
) -> NDArray[np.float32]:
    """(…, K) from what each part says, (…, K) each."""
    parts = zip(probabilities, weights, strict=True)
    logits = np.sum([weight * log_probabilities(one) for one, weight in parts], axis=0)
    return softmax(np.asarray(logits, np.float32))

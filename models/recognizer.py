"""Encoder and head together: the clips of many sessions in, one prediction a clip out.

Plain and synchronous, so that the live server (on a worker thread) and the offline commands run the
very same code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, open_bundle
from models.classifier import Classified, Classifier
from models.encoders import graph_variants, open_encoder
from models.faults import NotANumber
from models.few_shot import pooled
from models.schema import (
    Clip,
    DeviceEncoder,
    Embedding,
    Encoder,
    EncoderSpec,
    Frame,
    Prediction,
    Seen,
)

# What the head says, vectors in the bundle's space (B, E), what was seen of each signer and whether
# the hands rest, when features were there.
_Answer = tuple[Classified, NDArray[np.float32], Sequence[tuple[Seen | None, bool | None]], float]


class Recognizer:
    """A bundle at work. Called from one thread at a time.

    Raises (from `recognise`):
        NotANumber: for some clips; it brings the other clips' answers.
        RecognitionError: see `models.faults`.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, classifier: Classifier | None) -> None:
        if encoder.spec.dim != bundle.encoder.dim:
            raise ValueError(
                f"the head of '{bundle.name}' takes {bundle.encoder.dim} features a step, "
                f"the encoder gives {encoder.spec.dim}"
            )
        self.bundle = bundle
        self._encoder = encoder
        self._classifier = classifier
        # Features stay where they are, unless head or space want them here.
        self._on_device: tuple[DeviceEncoder, Classifier] | None = None
        if (
            isinstance(encoder, DeviceEncoder)
            and classifier is not None
            and classifier.device == encoder.device
            and classifier.gives_embeddings
            and len(bundle.space.background)
        ):
            self._on_device = encoder, classifier

    @classmethod
    def open(
        cls,
        model: Bundle | str | Path = "builtin",
        device: str = "auto",
        *,
        max_new_frames: int | None = None,
    ) -> Recognizer:
        """Open a bundle on `device` ("auto", "cpu", "cuda", "cuda:N").

        `model`: the folder of the bundle, "builtin" for the one that comes with livegloss, or a
        bundle that is open already, so that it is checked once for several devices.
        `max_new_frames`: see `models.encoders.open_encoder`.

        Raises:
            BundleError: the bundle is broken; the message names the file.
            ValueError, OSError: the encoder can't be opened; the message says what to do.
        """
        bundle = model if isinstance(model, Bundle) else open_bundle(model)
        encoder = open_encoder(
            bundle.encoder,
            device,
            graphs=graph_variants(bundle),
            max_new_frames=max_new_frames,
        )
        try:
            # The head computes where the features are: alone it gains nothing from a GPU.
            head = Classifier(bundle, encoder.device) if bundle.head_path else None
            return cls(bundle, encoder, head)
        except BaseException:
            encoder.close()
            raise

    @property
    def spec(self) -> EncoderSpec:
        return self.bundle.encoder

    @property
    def device(self) -> str:
        """Where the encoder computes: "cpu", "cuda:0"."""
        return self._encoder.device

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Answer each clip, in order. A clip's answer is the same alone and in any batch."""
        if not clips:
            return []
        began = time.perf_counter()
        with np.errstate(invalid="ignore"):  # what is not a number is told below
            said, in_space, seen, encoded = self._answer_on_device(clips) or self._answer(clips)
        stages = {"encode": encoded - began, "classify": time.perf_counter() - encoded}
        count = len(self.bundle.glosses)
        answers = [
            Prediction(
                stream=clip.stream,
                probabilities=row[:count],
                idle=float(row[count]) if self.bundle.idle else 0.0,
                attention=weights,
                start_s=clip.start_s,
                end_s=clip.end_s,
                embedding=vector,
                seen=saw,
                resting=resting,
                stages_s=dict(stages),
            )
            for clip, (saw, resting), row, weights, vector in zip(
                clips, seen, said.probabilities, said.attention, in_space, strict=True
            )
        ]
        finite = np.isfinite(np.concatenate([said.probabilities, in_space], axis=1)).all(axis=1)
        if not finite.all():
            raise NotANumber([one if finite[n] else None for n, one in enumerate(answers)])
        return answers

    def _answer(self, clips: Sequence[Clip]) -> _Answer:
        embeddings = self._encoder.encode(clips)
        encoded = time.perf_counter()
        said = self._classify(embeddings)
        in_space = said.embeddings
        if in_space is None or not len(self.bundle.space.background):
            in_space = np.stack([pooled(one.features) for one in embeddings])
        return said, in_space, [(one.seen, one.resting) for one in embeddings], encoded

    def _answer_on_device(self, clips: Sequence[Clip]) -> _Answer | None:
        """The same, the features left where they are; None where they can't stay there."""
        if self._on_device is None:
            return None
        encoder, head = self._on_device
        features = encoder.encode_on_device(clips)
        encoded = time.perf_counter()
        said = head.classify_on_device(features)
        assert said.embeddings is not None
        return said, said.embeddings, [(None, None)] * len(clips), encoded

    def _classify(self, embeddings: Sequence[Embedding]) -> Classified:
        """The head's answer; without a head, that nobody signs anything that it knows."""
        if self._classifier is not None:
            return self._classifier.classify(embeddings)
        lengths = [len(one.features) for one in embeddings]
        return Classified(
            probabilities=np.ones((len(embeddings), 1), np.float32),
            attention=[np.full(n, 1 / n, np.float32) for n in lengths],
            embeddings=None,
        )

    def warm(self, size: int = 1) -> None:
        """Run every network on `size` windows of grey, so that the first signers don't wait."""
        clips = grey_clips(self.spec, size)
        self.recognise(clips)
        for clip in clips:
            self.forget(clip.stream)

    def forget(self, stream: str) -> None:
        """Drop what the encoder keeps for a stream that ended."""
        self._encoder.forget(stream)

    def close(self) -> None:
        self._encoder.close()


def grey_clips(spec: EncoderSpec, count: int) -> list[Clip]:
    """`count` windows of other streams each that show nothing, to warm a recogniser up with."""
    side = spec.short_side
    grey = np.full((side, side * 4 // 3, 3), 128, np.uint8)
    return [
        Clip(
            stream=f"warm-up {number}",
            frames=(Frame(image=grey, media_s=0.0),) * spec.frames,
            start_s=-spec.window_s,
            end_s=0.0,
        )
        for number in range(count)
    ]

"""Encoder and head together: the clips of many sessions in, one prediction a clip out.

    [window] -> clips -> [recognizer]: encoder -> features -> classifier -> predictions -> [decoder]

Plain and synchronous: the live server (on a worker thread) and the offline commands run this same
code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
    FrameEncoder,
    Prediction,
    Seen,
)


class Recognizer:
    """A bundle at work. Called from one thread at a time.

    `prepare` takes clips of streams whose windows are not due yet and computes what those will need
    of them; None if the encoder can't. Predictions are the same with and without.

    Raises (from `recognise`):
        NotANumber: for some clips; it carries the other clips' predictions.
        RecognitionError: see `models.faults`.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, classifier: Classifier | None) -> None:
        if encoder.spec.dim != bundle.encoder.dim:
            raise ValueError(
                f"the head of '{bundle.name}' takes {bundle.encoder.dim} features a step, "
                f"the encoder returns {encoder.spec.dim}"
            )
        self.bundle = bundle
        self.prepare = encoder.prepare if isinstance(encoder, FrameEncoder) else None
        self._encoder = encoder
        self._classifier = classifier
        # Features stay on the encoder's device unless the head or the embedding space needs them
        # on the host.
        self._on_device: tuple[DeviceEncoder, Classifier] | None = None
        if (
            isinstance(encoder, DeviceEncoder)
            and classifier is not None
            and classifier.device == encoder.device
            and classifier.has_embeddings
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
            # The head computes where the features are; it alone gains nothing from a GPU.
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
        """A prediction for each clip, in order. It is the same for a clip alone or in any batch."""
        if not clips:
            return []
        began = time.perf_counter()
        with np.errstate(invalid="ignore"):  # NaN is reported below
            if self._on_device is not None:
                encoder, head = self._on_device
                features = encoder.encode_on_device(clips)
                encoded = time.perf_counter()
                output = head.classify_on_device(features)
                vectors = output.embeddings
                assert vectors is not None
                observed: list[tuple[Seen | None, bool | None]] = [(None, None)] * len(clips)
            else:
                embeddings = self._encoder.encode(clips)
                encoded = time.perf_counter()
                output = self._classify(embeddings)
                vectors = output.embeddings
                if vectors is None or not len(self.bundle.space.background):
                    vectors = np.stack([pooled(embedding.features) for embedding in embeddings])
                observed = [(embedding.seen, embedding.resting) for embedding in embeddings]
        stages = {"encode": encoded - began, "classify": time.perf_counter() - encoded}
        count = len(self.bundle.glosses)
        predictions = [
            Prediction(
                stream=clip.stream,
                probabilities=row[:count],
                idle=float(row[count]) if self.bundle.idle else 0.0,
                attention=_of_time_steps(attention, self.spec),
                start_s=clip.start_s,
                end_s=clip.end_s,
                embedding=vector,
                seen=seen,
                resting=resting,
                stages_s=dict(stages),
            )
            for clip, (seen, resting), row, attention, vector in zip(
                clips, observed, output.probabilities, output.attention, vectors, strict=True
            )
        ]
        finite = np.isfinite(np.concatenate([output.probabilities, vectors], axis=1)).all(axis=1)
        if not finite.all():
            raise NotANumber([p if finite[n] else None for n, p in enumerate(predictions)])
        return predictions

    def _classify(self, embeddings: Sequence[Embedding]) -> Classified:
        """The head's output; without a head, idle for certain."""
        if self._classifier is not None:
            return self._classifier.classify(embeddings)
        lengths = [len(embedding.features) for embedding in embeddings]
        return Classified(
            probabilities=np.ones((len(embeddings), 1), np.float32),
            attention=[np.full(n, 1 / n, np.float32) for n in lengths],
            embeddings=None,
        )

    def warm(self, size: int = 1) -> None:
        """Run every network on `size` grey windows, so that the first signers don't wait."""
        warm_up(self.spec, size, self.recognise, self.forget)

    def forget(self, stream: str) -> None:
        """Drop what the encoder keeps for a stream that ended."""
        self._encoder.forget(stream)

    def close(self) -> None:
        self._encoder.close()


def _of_time_steps(attention: NDArray[np.float32], spec: EncoderSpec) -> NDArray[np.float32]:
    """A head's `attention` as a weight for each time step, where it has one for each patch."""
    steps = max(1, spec.frames // 2)
    if spec.kind != "vjepa2-tokens" or len(attention) % steps:
        return attention
    by_step: NDArray[np.float32] = attention.reshape(steps, -1).sum(1)  # they are ordered by time
    return by_step


def warm_up(
    spec: EncoderSpec,
    size: int,
    recognise: Callable[[Sequence[Clip]], object],
    forget: Callable[[str], None],
) -> None:
    """Call `recognise` with `size` grey windows, each of its own stream, then forget them."""
    side = spec.short_side
    grey = np.full((side, side * 4 // 3, 3), 128, np.uint8)
    clips = [
        Clip(
            stream=f"warm-up {number}",
            frames=(Frame(image=grey, media_s=0.0),) * spec.frames,
            start_s=-spec.window_s,
            end_s=0.0,
        )
        for number in range(size)
    ]
    recognise(clips)
    for clip in clips:
        forget(clip.stream)

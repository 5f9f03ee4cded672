"""Encoder and head together: the clips of many sessions in, one prediction a clip out.

Plain and synchronous, so that the live server (on a worker thread) and the offline commands run the
very same code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundle import Bundle, open_bundle
from models.classifier import Classified, Classifier
from models.encoders import open_encoder
from models.schema import Clip, Embedding, Encoder, EncoderSpec, Frame, Prediction
from models.space import pooled


class Recognizer:
    """A bundle at work. Called from one thread at a time.

    Raises (from `recognise`):
        ArithmeticError: the model answered with something that is not a number.
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

    @classmethod
    def open(
        cls,
        path: str | Path = "builtin",
        device: str = "auto",
        *,
        max_new_frames: int | None = None,
    ) -> Recognizer:
        """Open the bundle at `path` ("builtin" for our own) on `device` (auto, cpu, cuda, cuda:N).

        `max_new_frames`: see `models.encoders.open_encoder`.

        Raises:
            BundleError: the bundle is broken; the message names the file.
            ValueError, OSError: the encoder can't be had; the message says what to do.
        """
        bundle = open_bundle(path)
        encoder = open_encoder(bundle.encoder, device, max_new_frames=max_new_frames)
        try:
            return cls(bundle, encoder, Classifier(bundle, device) if bundle.head_path else None)
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
        embeddings = self._encoder.encode(clips)
        encoded = time.perf_counter()
        said = self._classify(embeddings)
        if not np.isfinite(said.probabilities).all():
            raise ArithmeticError("the model answered with something that is not a number")
        in_space = said.embeddings
        if in_space is None or not len(self.bundle.space.background):
            in_space = np.stack([pooled(one.features) for one in embeddings])
        stages = {"encode": encoded - began, "classify": time.perf_counter() - encoded}
        count = len(self.bundle.glosses)
        return [
            Prediction(
                stream=clip.stream,
                probabilities=row[:count],
                idle=float(row[count]) if self.bundle.idle else 0.0,
                attention=weights,
                start_s=clip.start_s,
                end_s=clip.end_s,
                embedding=vector,
                seen=one.seen,
                resting=one.resting,
                stages_s=dict(stages),
            )
            for clip, one, row, weights, vector in zip(
                clips, embeddings, said.probabilities, said.attention, in_space, strict=True
            )
        ]

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

    def warm(self) -> None:
        """Run every network once on a grey picture, so that the first signer doesn't wait."""
        size = self.spec.short_side
        grey = np.full((size, size * 4 // 3, 3), 128, np.uint8)
        frame = Frame(image=grey, media_s=0.0)
        clip = Clip(
            stream="warm-up",
            frames=(frame,) * self.spec.frames,
            start_s=-self.spec.window_s,
            end_s=0.0,
        )
        self.recognise([clip])
        self.forget("warm-up")

    def forget(self, stream: str) -> None:
        """Drop what the encoder keeps for a stream that ended."""
        self._encoder.forget(stream)

    def close(self) -> None:
        self._encoder.close()

"""Encoder and head together, with an encoder whose features the test chooses, and with V-JEPA 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, write_bundle
from models.card import spec_as_card
from models.classifier import Classifier
from models.faults import NotANumber
from models.recognizer import Recognizer
from models.schema import Clip, Embedding, EncoderSpec, Frame
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.encoder import VJEPA2Encoder
from tests.models.bundles import SPEC, npy, small_bundle, small_card
from tests.models.heads_onnx import mean_head
from tests.models.tiny_vjepa2 import make_checkpoint


class Encoder:
    """Returns rows of the number that a clip's stream is named by."""

    spec = SPEC
    device = "cpu"

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        return [
            Embedding(
                features=np.full((4, SPEC.dim), float(clip.stream), np.float32),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def forget(self, stream: str) -> None: ...
    def close(self) -> None: ...


def clips(*streams: str) -> list[Clip]:
    return [Clip(stream=stream, frames=(), start_s=0.0, end_s=1.0) for stream in streams]


@pytest.mark.parametrize("head", [True, False])
def test_a_nan_in_one_clip_leaves_the_other_s_prediction(tmp_path: Path, head: bool) -> None:
    bundle = small_bundle(tmp_path / "small")
    if not head:
        bundle = dataclasses.replace(bundle, glosses=(), head_path=None)
    recognizer = Recognizer(bundle, Encoder(), Classifier(bundle, "cpu") if head else None)
    with pytest.raises(NotANumber) as caught:
        recognizer.recognise(clips("1", "nan", "2", "inf"))
    first, *nothing = caught.value.predictions
    (alone,) = recognizer.recognise(clips("1"))
    assert first is not None
    np.testing.assert_array_equal(first.probabilities, alone.probabilities)
    assert [one.stream if one else None for one in nothing] == [None, "2", None]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Of tokens, 32 features: the head's logits are the mean of the first three."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    spec = vjepa2_spec(str(checkpoint), kind="vjepa2-tokens", frames=4)
    head = mean_head(np.eye(32, 3, dtype=np.float32), embedding=True)
    return write_bundle(
        tmp_path / "bundle",
        card=small_card(encoder=spec_as_card(spec), window_s=spec.window_s),
        glosses=["a", "b"],
        files={"head.onnx": head, "background.npy": npy(np.eye(2, 32, dtype=np.float32))},
    )


def clip(seed: int) -> Clip:
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (36, 50, 3), np.uint8) for _ in range(4)]
    frames = tuple(Frame(image=image, media_s=i / 8) for i, image in enumerate(images))
    return Clip(stream="s", frames=frames, start_s=0.0, end_s=0.5)


class HostEncoder:
    """The same encoder without `encode_on_device`."""

    def __init__(self, encoder: VJEPA2Encoder) -> None:
        self._encoder = encoder

    @property
    def spec(self) -> EncoderSpec:
        return self._encoder.spec

    @property
    def device(self) -> str:
        return self._encoder.device

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        return self._encoder.encode(clips)

    def forget(self, stream: str) -> None: ...

    def close(self) -> None: ...


def test_features_that_stay_on_the_device_give_the_same_predictions(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, classifier = VJEPA2Encoder.open(bundle.encoder, "cpu"), Classifier(bundle, "cpu")
    clips = [clip(seed) for seed in range(3)]
    want = Recognizer(bundle, HostEncoder(encoder), classifier).recognise(clips)

    def forbidden(self: VJEPA2Encoder, clips: Sequence[Clip]) -> list[Embedding]:
        raise AssertionError("features were asked for on the host")

    monkeypatch.setattr(VJEPA2Encoder, "encode", forbidden)
    got = Recognizer(bundle, encoder, classifier).recognise(clips)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(one.attention, other.attention)
        np.testing.assert_array_equal(one.embedding, other.embedding)
        assert (one.idle, one.seen, one.start_s) == (other.idle, other.seen, other.start_s)
    assert not np.array_equal(got[0].probabilities, got[1].probabilities)


def test_the_head_computes_where_the_encoder_does(bundle: Bundle) -> None:
    recognizer = Recognizer.open(bundle.path)
    try:
        assert recognizer._classifier is not None
        assert recognizer.device == recognizer._classifier.device
    finally:
        recognizer.close()

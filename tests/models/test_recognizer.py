"""Encoder and head together, with an encoder that says what the test wants."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.classifier import Classifier
from models.faults import NotANumber
from models.recognizer import Recognizer
from models.schema import Clip, Embedding
from tests.models.bundles import SPEC, small_bundle


class Said:
    """Gives every clip rows of the number that its stream is named by."""

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
def test_a_clip_without_a_number_takes_no_other_s_answer(tmp_path: Path, head: bool) -> None:
    bundle = small_bundle(tmp_path / "small")
    if not head:
        bundle = dataclasses.replace(bundle, glosses=(), head_path=None)
    recognizer = Recognizer(bundle, Said(), Classifier(bundle, "cpu") if head else None)
    with pytest.raises(NotANumber) as told:
        recognizer.recognise(clips("1", "nan", "2", "inf"))
    first, *nothing = told.value.predictions
    (alone,) = recognizer.recognise(clips("1"))
    assert first is not None
    np.testing.assert_array_equal(first.probabilities, alone.probabilities)
    assert [one.stream if one else None for one in nothing] == [None, "2", None]

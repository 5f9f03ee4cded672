"""Takes: what is kept of a recording, and what ends it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.schema import Prediction
from streaming.pipeline import TakeError, TakeRecorder, pack, unpack


def prediction(end_s: float, embedding: NDArray[np.float32] | None) -> Prediction:
    nothing = np.zeros(0, np.float32)
    return Prediction(
        stream="a",
        probabilities=nothing,
        idle=1.0,
        attention=nothing,
        start_s=end_s - 2.0,
        end_s=end_s,
        embedding=embedding,
    )


REST, SIGN = np.array([1, 0], np.float32), np.array([0, 1], np.float32)


def test_a_take_is_read_from_the_last_half_second_of_a_window_from_its_beginning() -> None:
    recorder = TakeRecorder(2.0, "space")
    assert recorder.update(prediction(9.9, SIGN)) is None  # no take was started
    recorder.start("one", 10.0)
    assert all(recorder.update(prediction(10 + i / 10, REST)) is None for i in range(15))
    assert all(recorder.update(prediction(11.5 + i / 10, SIGN)) is None for i in range(5))
    take = recorder.update(prediction(12.0, SIGN))
    assert take is not None
    assert (take.id, take.start_s, take.end_s) == ("one", 10.0, 12.0)
    assert take.space == "space"
    np.testing.assert_allclose(unpack(take.embedding, 2), SIGN)
    assert recorder.update(prediction(12.1, SIGN)) is None


def test_a_second_take_replaces_the_one_under_way() -> None:
    recorder = TakeRecorder(2.0, "space")
    recorder.start("one", 10.0)
    recorder.start("two", 11.0)
    assert recorder.update(prediction(12.5, SIGN)) is None
    take = recorder.update(prediction(13.0, SIGN))
    assert take is not None and take.id == "two"


@pytest.mark.parametrize("end_s", [1.0, 14.5], ids=["went back", "gap"])
def test_video_that_jumps_ends_a_take_with_a_reason(end_s: float) -> None:
    recorder = TakeRecorder(2.0, "space")
    recorder.start("one", 10.0)
    with pytest.raises(TakeError, match="stopped"):
        recorder.update(prediction(end_s, SIGN))
    assert recorder.update(prediction(12.0, SIGN)) is None


def test_a_model_without_embeddings_says_so() -> None:
    recorder = TakeRecorder(2.0, "space")
    recorder.start("one", 10.0)
    with pytest.raises(TakeError, match="model"):
        recorder.update(prediction(12.0, None))


def test_packed_takes_are_read_and_nothing_else() -> None:
    vector = np.array([0.5, -0.25, 1.0], np.float32)
    np.testing.assert_array_equal(unpack(pack(vector), 3), vector)
    for text in ("", "AAAA", "not base64!", pack(np.ones(4, np.float32)), "é" * 8):
        with pytest.raises(ValueError, match="take"):
            unpack(text, 3)

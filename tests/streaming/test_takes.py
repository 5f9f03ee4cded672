"""Takes: what of a recording is kept, and what ends it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.schema import Prediction
from streaming.takes import NoTake, TakeRecorder, pack, unpack


def heard(end_s: float, embedding: NDArray[np.float32] | None) -> Prediction:
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
    recorder = TakeRecorder(2.0)
    assert recorder.hear(heard(9.9, SIGN)) is None  # nobody has asked
    recorder.begin("one", 10.0)
    assert all(recorder.hear(heard(10 + i / 10, REST)) is None for i in range(15))
    assert all(recorder.hear(heard(11.5 + i / 10, SIGN)) is None for i in range(5))
    take = recorder.hear(heard(12.0, SIGN))
    assert take is not None
    assert (take.id, take.start_s, take.end_s) == ("one", 10.0, 12.0)
    np.testing.assert_allclose(take.embedding, SIGN)
    assert recorder.hear(heard(12.1, SIGN)) is None


def test_a_second_take_replaces_the_one_under_way() -> None:
    recorder = TakeRecorder(2.0)
    recorder.begin("one", 10.0)
    recorder.begin("two", 11.0)
    assert recorder.hear(heard(12.5, SIGN)) is None
    take = recorder.hear(heard(13.0, SIGN))
    assert take is not None and take.id == "two"


@pytest.mark.parametrize("end_s", [1.0, 14.5], ids=["went back", "gap"])
def test_video_that_jumps_ends_a_take_in_words(end_s: float) -> None:
    recorder = TakeRecorder(2.0)
    recorder.begin("one", 10.0)
    with pytest.raises(NoTake, match="stopped"):
        recorder.hear(heard(end_s, SIGN))
    assert recorder.hear(heard(12.0, SIGN)) is None


def test_a_model_without_embeddings_says_so() -> None:
    recorder = TakeRecorder(2.0)
    recorder.begin("one", 10.0)
    with pytest.raises(NoTake, match="model"):
        recorder.hear(heard(12.0, None))


def test_what_is_packed_comes_out_again_and_nothing_else_does() -> None:
    vector = np.array([0.5, -0.25, 1.0], np.float32)
    np.testing.assert_array_equal(unpack(pack(vector), 3), vector)
    for text in ("", "AAAA", "not base64!", pack(np.ones(4, np.float32)), "é" * 8):
        with pytest.raises(ValueError, match="take"):
            unpack(text, 3)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.landmarks import layout
from models.schema import EncoderSpec
from offline.distillation.teacher import check_teacher, mirrored_targets, tick_targets
from offline.encoding.embedder import middle_window, ticks
from tests.offline.clips import write_clip

LANDMARKS = EncoderSpec(
    kind="landmarks", source="s", revision="r", dim=layout.DIM, frames=32, fps=15, short_side=320
)
WINDOWS = EncoderSpec(
    kind="vjepa2", source="s", revision="r", dim=1, frames=4, fps=8, short_side=32
)


def landmark_rows(steps: int) -> np.ndarray:
    return np.repeat(np.arange(1, steps + 1, dtype=np.float32)[:, None], layout.DIM, axis=1)


def test_rows_a_frame_are_read_at_the_times_of_the_ticks() -> None:
    targets = tick_targets(landmark_rows(15), LANDMARKS, 8, fps=8)  # a second of both
    assert targets.shape == (8, layout.DIM) and targets.dtype == np.float32
    np.testing.assert_allclose(targets[:, 0], 1 + np.arange(8) * 15 / 8, rtol=1e-6)
    late = tick_targets(landmark_rows(15), LANDMARKS, 12, fps=8)  # the teacher ended before
    assert np.isfinite(late[:8]).all() and np.isnan(late[8:]).all()


def test_a_hand_that_was_not_seen_teaches_only_that() -> None:
    rows = landmark_rows(16)
    rows[4:7, layout.LEFT_HAND] = 0
    rows[4:7, layout.LEFT_SEEN] = 0
    targets = tick_targets(rows, replace(LANDMARKS, fps=8), 16, fps=8)
    lost = np.isnan(targets[:, layout.LEFT_HAND]).all(1)
    assert np.flatnonzero(lost).tolist() == [4, 5, 6]
    assert (targets[4:7, layout.LEFT_SEEN] == 0).all()
    assert np.isfinite(targets[:, layout.RIGHT_HAND]).all()
    between = tick_targets(rows, LANDMARKS, 8, fps=8)  # neither from nor to a lost hand
    assert np.isnan(between[2:4, layout.LEFT_HAND]).all()


def test_mirrored_pictures_have_mirrored_targets() -> None:
    targets = tick_targets(landmark_rows(16), replace(LANDMARKS, fps=8), 16, fps=8)
    flipped = mirrored_targets(targets, LANDMARKS)
    assert flipped is not None
    np.testing.assert_array_equal(flipped, layout.mirrored(targets))
    assert mirrored_targets(targets, WINDOWS) is None


@pytest.mark.parametrize("length", [2, 4, 7, 12])
def test_rows_of_a_window_lie_where_encode_took_it(tmp_path: Path, length: int) -> None:
    video = write_clip(tmp_path / "v.mp4", length, fps=8)
    shown = list(ticks(video, WINDOWS))
    # A teacher that tells the mean time of the pictures of a step.
    window = [frame.media_s for frame in middle_window(video, WINDOWS)]
    rows = np.array(window, np.float32).reshape(2, 2).mean(1, keepdims=True)
    targets = tick_targets(rows, WINDOWS, len(shown), fps=8)
    told = np.isfinite(targets[:, 0])
    assert told.sum() == min(length, 4)
    assert {shown[i].media_s for i in np.flatnonzero(told)} == set(window)
    steps = targets[told, 0].reshape(-1, 2).mean(1) if length % 2 == 0 else None
    if steps is not None and length >= 4:
        assert steps[0] < steps[1]


def test_single_tokens_are_no_teacher() -> None:
    with pytest.raises(ValueError, match="vjepa2:PATH"):
        check_teacher(replace(WINDOWS, kind="vjepa2-tokens"))
    check_teacher(WINDOWS)

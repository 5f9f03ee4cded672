"""The layout of a landmark row, and its mirror image."""

from __future__ import annotations

import numpy as np

from models.landmarks import layout


def test_parts_fill_the_row_without_overlap() -> None:
    row = np.zeros(layout.DIM)
    for part in (layout.BODY, layout.LEFT_HAND, layout.RIGHT_HAND, layout.SEEN):
        row[part] += 1
    assert (row == 1).all()
    assert layout.BODY.stop == 2 * len(layout.BODY_POINTS)
    assert layout.LEFT_HAND.stop - layout.LEFT_HAND.start == 3 * layout.HAND_POINTS


def test_mirror_turns_x_round_and_swaps_the_sides() -> None:
    row = np.zeros(layout.DIM, np.float32)
    row[layout.BODY].reshape(-1, 2)[layout.BODY_POINTS.index("left_wrist")] = (1.5, 2.0)
    row[layout.LEFT_HAND].reshape(-1, 3)[8] = (1.0, 2.0, 3.0)
    row[layout.LEFT_SEEN] = 1
    flipped = layout.mirrored(row)
    wrist = flipped[layout.BODY].reshape(-1, 2)[layout.BODY_POINTS.index("right_wrist")]
    assert wrist.tolist() == [-1.5, 2.0]
    assert flipped[layout.RIGHT_HAND].reshape(-1, 3)[8].tolist() == [-1.0, 2.0, 3.0]
    assert flipped[layout.SEEN].tolist() == [0.0, 1.0]
    assert not flipped[layout.LEFT_HAND].any()


def test_mirror_twice_is_the_same_row() -> None:
    rows = np.random.default_rng(0).normal(size=(5, layout.DIM)).astype(np.float32)
    assert np.array_equal(layout.mirrored(layout.mirrored(rows)), rows)

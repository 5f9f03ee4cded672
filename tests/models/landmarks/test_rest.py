"""When hands rest: rows of a made-up signer whose right hand is moved about."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks import layout
from models.landmarks.layout import at_rest, raised

FPS = 15.0
_WRIST = layout.BODY.start + 2 * layout.BODY_POINTS.index("right_wrist")


def rows_of(*pieces: tuple[float, float, float]) -> NDArray[np.float32]:
    """Rows from (seconds, height of the right hand below the shoulders, its speed) pieces.

    The hand goes to and fro sideways with that speed; one below 1 is out of sight.
    """
    rows = []
    for seconds, y, speed in pieces:
        for step in range(round(seconds * FPS)):
            row = np.zeros(layout.DIM, np.float32)
            row[layout.BODY] = 0.5
            x = -0.3 + (step % 2) * speed / FPS
            row[_WRIST : _WRIST + 2] = x, y
            if y < 1:
                row[layout.RIGHT_HAND] = np.tile([x, y, 0], layout.HAND_POINTS)
                row[layout.RIGHT_SEEN] = 1
            rows.append(row)
    return np.stack(rows)


def test_a_hand_is_raised_while_it_is_seen_before_the_body() -> None:
    up = raised(rows_of((0.2, 0.3, 0), (0.2, 1.3, 0)))
    assert up.tolist() == [[False, True]] * 3 + [[False, False]] * 3


@pytest.mark.parametrize(
    ("pieces", "rests"),
    [
        ([(2, 1.3, 0)], True),  # hanging down
        ([(1, 0.3, 3), (0.13, 1.3, 0)], False),  # down for a moment
        ([(1, 0.3, 3), (0.27, 1.3, 0)], True),
        ([(2, 0.3, 3)], False),  # signing
        ([(1, 0.3, 3), (0.6, 0.3, 0.2)], False),  # held, as in the middle of a sign
        ([(1, 0.3, 3), (0.87, 0.3, 0.2)], True),  # resting before the chest, trembling
        ([(1, 0.3, 3), (0.87, 0.3, 1.2)], True),  # as fast as networks make a held hand tremble
    ],
)
def test_rest_is_hands_down_or_still_for_a_while(
    pieces: list[tuple[float, float, float]], rests: bool
) -> None:
    assert at_rest(rows_of(*pieces), FPS) is rests


def test_a_hand_that_moves_on_slowly_does_not_rest() -> None:
    rows = rows_of((2, 0.3, 0))
    rows[:, _WRIST] += np.linspace(0, 0.6, len(rows))
    assert not at_rest(rows, FPS)


def test_where_nobody_is_seen_nothing_moves() -> None:
    assert at_rest(np.zeros((32, layout.DIM), np.float32), FPS)


def test_one_row_is_enough() -> None:
    assert at_rest(rows_of((0.07, 0.3, 0)), FPS)


def test_the_mirrored_signer_rests_at_the_same_moments() -> None:
    rows = rows_of((1, 0.3, 3), (0.4, 1.3, 0), (0.4, 0.3, 3))
    for end in range(1, len(rows) + 1):
        assert at_rest(rows[:end], FPS) == at_rest(layout.mirrored(rows[:end]), FPS)

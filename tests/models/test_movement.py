"""Windows taken together."""

from __future__ import annotations

import numpy as np
import pytest

from models.decoder import Movement
from models.schema import Prediction


def window(end_s: float, idle: float, *p: float) -> Prediction:
    return Prediction(
        stream="a",
        probabilities=np.array(p, np.float32),
        idle=idle,
        attention=np.ones(1, np.float32),
        start_s=end_s - 2,
        end_s=end_s,
    )


def together(*windows: Prediction) -> Movement:
    movement = Movement(2)
    for one in windows:
        movement.add(one)
    return movement


def test_it_is_the_geometric_mean_of_what_windows_show_given_that_someone_signs() -> None:
    movement = together(window(1.0, 0.2, 0.72, 0.08), window(1.1, 0.2, 0.4, 0.4))
    assert movement.probabilities == pytest.approx([0.75, 0.25], abs=0.01)
    assert movement.signing == pytest.approx(0.8)
    assert movement.start_s == 1.0


def test_windows_without_signing_hardly_count() -> None:
    signing, still = window(1.0, 0.1, 0.1, 0.8), [window(1 + n, 0.99, 0.01, 0.0) for n in range(9)]
    movement = together(signing, *still)
    assert movement.probabilities.argmax() == 1
    assert movement.signing == pytest.approx(0.9)


def test_one_window_rules_nothing_out() -> None:
    movement = together(window(1.0, 0.0, 1.0, 0.0), *[window(1.1, 0.0, 0.1, 0.9)] * 5)
    assert movement.probabilities.argmax() == 1


def test_windows_that_agree_are_as_sure_of_one_gloss_of_2000_as_of_one_of_2() -> None:
    few, many = Movement(2), Movement(2000)
    for end_s in (1.0, 1.1, 1.2):
        few.add(window(end_s, 0.1, 0.88, 0.02))
        many.add(window(end_s, 0.1, 0.88, 0.02, *[0.0] * 1998))
    assert many.probabilities[0] == pytest.approx(few.probabilities[0], abs=0.02)
    assert many.probabilities.sum() == pytest.approx(1)


def test_nothing_seen_is_no_movement() -> None:
    movement = Movement(2)
    assert not movement
    with pytest.raises(ValueError, match="window"):
        _ = movement.probabilities

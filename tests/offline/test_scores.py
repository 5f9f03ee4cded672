"""Figures: right on answers whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from offline.scores import calibration_error, confusion, ranks, share_within

_P = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5]], np.float32)
_LABELS = np.array([0, 2, 1, 2])


def test_ranks_count_what_stands_before_the_right_class() -> None:
    assert ranks(_P, _LABELS).tolist() == [0, 1, 1, 0]


def test_a_share_lies_in_its_interval_and_more_clips_narrow_it() -> None:
    few = np.array([0, 1] * 10)
    share, (low, high) = share_within(few, 1)
    assert share == 0.5 and low < 0.5 < high
    _, (low_many, high_many) = share_within(np.array([0, 1] * 1000), 1)
    assert high_many - low_many < (high - low) / 5
    assert share_within(few, 2) == (1.0, (1.0, 1.0))


def test_calibration_error_is_zero_where_certainty_and_truth_agree() -> None:
    p = np.tile(np.array([[0.75, 0.25]], np.float32), (4, 1))
    assert calibration_error(p, np.array([0, 0, 0, 1])) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(p, np.array([1, 1, 1, 1])) == pytest.approx(0.75)


def test_confusions_are_counted_by_true_class_and_answer() -> None:
    table = confusion(_P, _LABELS)
    assert table.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]

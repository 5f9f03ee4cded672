"""Metrics of predictions whose metrics are known."""

from __future__ import annotations

import numpy as np
import pytest

from offline.scoring.metrics import (
    calibration_error,
    class_share,
    clip_share,
    confusions,
    edits_between,
    intervals,
    mcnemar,
    ranks,
    reliability,
    risk_area,
    risk_coverage,
    share_within,
)

_P = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5]], np.float32)
_LABELS = np.array([0, 2, 1, 2])
_RIGHT = np.array([True, True, False, False])
_CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6])


def test_ranks_count_what_stands_before_the_right_class() -> None:
    assert ranks(_P, _LABELS).tolist() == [0, 1, 1, 0]


def test_a_head_with_equal_probabilities_is_right_by_chance_only() -> None:
    alike = np.full((3, 3), 1 / 3, np.float32)
    assert ranks(alike, np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_a_share_lies_in_its_interval_and_more_clips_narrow_it() -> None:
    few = np.array([0, 1] * 10)
    part, (low, high) = share_within(few, 1)
    assert part == 0.5 and low < 0.5 < high
    _, (low_many, high_many) = share_within(np.array([0, 1] * 1000), 1)
    assert high_many - low_many < (high - low) / 5
    assert share_within(few, 2) == (1.0, (1.0, 1.0))


def test_clips_of_one_signer_are_drawn_together() -> None:
    """Ten signers, always right or never: ten clips of each tell no more than one."""
    right = np.repeat([True, False] * 5, 10)
    of_signers = np.repeat(np.arange(10), 10).astype(str)
    figure = {"top1": clip_share(right)}
    low, high = intervals(figure, of_signers.tolist())["top1"]
    alone_low, alone_high = intervals(figure, np.arange(100).astype(str).tolist())["top1"]
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 10) ** 0.5, abs=0.08)
    assert alone_high - alone_low == pytest.approx(2 * 1.96 * (0.25 / 100) ** 0.5, abs=0.03)


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    labels, right = np.array([0, 0, 0, 1]), np.array([True, True, True, False])
    every = np.ones(4)
    assert clip_share(right)(every) == 0.75
    assert class_share(right, labels)(every) == 0.5
    assert class_share(right, labels)(np.array([1.0, 1, 1, 0])) == 1.0  # one class was not drawn


def test_calibration_error_is_zero_where_certainty_and_truth_agree() -> None:
    confidence = np.full(4, 0.75)
    assert calibration_error(confidence, np.array([1, 1, 1, 0], bool)) == pytest.approx(
        0.0, abs=1e-6
    )
    assert calibration_error(confidence, np.zeros(4, bool)) == pytest.approx(0.75)


def test_reliability_bins_hold_every_clip() -> None:
    bins = reliability(np.array([0.0, 0.55, 0.52, 1.0]), np.array([False, True, False, True]))
    assert [(b["from"], b["clips"], b["right"]) for b in bins] == [
        (0.0, 1, 0.0), (0.5, 2, 0.5), (0.9, 1, 1.0),
    ]  # fmt: skip


def test_risk_is_of_the_most_confident_first() -> None:
    points = risk_coverage(_CONFIDENCE, _RIGHT, points=4)
    assert [(p["coverage"], p["risk"]) for p in points] == [
        (0.25, 0.0), (0.5, 0.0), (0.75, 0.3333), (1.0, 0.5),
    ]  # fmt: skip
    assert points[1]["p"] == 0.8
    area = risk_area(_CONFIDENCE, _RIGHT)
    assert area(np.ones(4)) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    doubled = risk_area(np.repeat(_CONFIDENCE, 2), np.repeat(_RIGHT, 2))(np.ones(8))
    assert area(np.full(4, 2.0)) == pytest.approx(doubled, abs=0.06)  # a clip that counts twice
    assert area(np.array([1.0, 1, 0, 0])) == 0.0


def test_wrong_predictions_are_counted_by_true_and_predicted_class() -> None:
    assert confusions(np.array([2, 1, 2, 0]), np.array([1, 0, 1, 0])) == [(2, 1, 2), (1, 0, 1)]
    assert confusions(np.array([0]), np.array([0])) == []


@pytest.mark.parametrize(
    ("signed", "decoded", "edits"),
    [
        ("abc", "abc", (3, 0, 0, 0)),
        ("abc", "axc", (2, 1, 0, 0)),
        ("abc", "ac", (2, 0, 1, 0)),
        ("abc", "abbc", (3, 0, 0, 1)),
        ("abc", "", (0, 0, 3, 0)),
        ("", "ab", (0, 0, 0, 2)),
        ("abcd", "bcxde", (3, 0, 1, 2)),
        ("ab", "ba", (1, 0, 1, 1)),  # two substitutions are as few, but nothing would be right
    ],
)
def test_sentences_differ_by_the_fewest_edits(
    signed: str, decoded: str, edits: tuple[int, int, int, int]
) -> None:
    assert edits_between(signed, decoded) == edits


def test_mcnemars_p_value_is_that_of_a_fair_coin() -> None:
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar(900, 1300) < 1e-10

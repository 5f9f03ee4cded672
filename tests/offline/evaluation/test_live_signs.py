"""Decoded signs: thresholds chosen in other folds, exact scores, and word errors of sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.decoder import DecoderSettings
from models.landmarks import layout
from offline.data.examples import Example
from offline.evaluation.live_signs import (
    THRESHOLDS,
    DecodedClips,
    decode_clips,
    sampled,
    sign_figures,
)
from offline.scoring.clip_predictions import ClipLogits, predictions
from offline.scoring.sentences import MARGINS_S, Sentence, SentenceLogits
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan
from tests.offline.indexes import example, landmark_rows
from tests.offline.made_up import plan

_GLOSSES = ("a", "b", "c")


def _plan() -> TrainingPlan:
    made = plan([], _GLOSSES, layout.DIM)
    return replace(made, spec=replace(made.spec, frames=16, fps=15.0), hop_s=1 / 15)


def _clip(gloss: str, video_id: str = "1", split: str = "") -> Example:
    rows = landmark_rows("up", np.random.default_rng(0))
    return replace(example(video_id, f"signer {video_id}", gloss), stored=rows, split=split)


def _logits(*parts: tuple[int, int]) -> NDArray[np.float32]:
    """Windows that are sure of a class each: (class, how many)."""
    classes = np.repeat([c for c, _ in parts], [n for _, n in parts])
    return np.asarray(8 * np.eye(len(_GLOSSES) + 1)[classes], np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_decoded_as_if_each_were_alone(seed: int) -> None:
    draw = np.random.default_rng(seed)
    walk = np.cumsum(draw.normal(0, 1.0, (30, len(_GLOSSES) + 1)), 0).astype(np.float32)
    clip, made = _clip("a"), _plan()
    found = decode_clips([ClipLogits(example=clip, fold=0, logits=walk)], made, 1.3)
    windows = predictions(walk, len(_GLOSSES), made.spec, made.hop_s, 1.3, clip.rows)
    for column, threshold in enumerate(THRESHOLDS):
        signs = signs_of(_GLOSSES, windows, DecoderSettings(threshold=threshold))
        others = [sign for sign in signs if sign.gloss != "a"]
        assert found.signs[0, column] == len(signs)
        assert found.false[0, column] == len(others)
        assert found.right[0, column] == (len(others) < len(signs))


def _decoded() -> DecodedClips:
    """Two thresholds. The low one is right in fold 0, but false in fold 1; the high one is silent.

    In each fold a known sign, another one, and half a minute in which nobody signs.
    """
    silent = 0
    return DecodedClips(
        thresholds=(0.3, 0.6),
        kind=np.array([0, 1, 2, 0, 1, 2]),
        fold=np.array([0, 0, 0, 1, 1, 1]),
        groups=("ann", "ann", "idle/1", "ben", "ben", "idle/2"),
        sources=("here",) * 6,
        minutes=np.full(6, 0.5),
        right=np.array([[1, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]], bool),
        signs=np.array([[2, silent], [0, 0], [0, 0], [1, silent], [1, silent], [2, silent]]),
        false=np.array([[1, silent], [0, 0], [0, 0], [1, silent], [1, silent], [2, silent]]),
    )


def test_the_score_counts_right_signs_less_what_false_ones_cost() -> None:
    decoded = _decoded()
    everything = np.ones(6, bool)
    # Right in 1 of 2; false: 2 of 2 known, a quarter of 1 in 2 others, a tenth of 2 a minute.
    low = 1 / 2 - (2 / 2 + 0.25 * 1 / 2 + 0.1 * 2)
    np.testing.assert_allclose(decoded.score(1.0, everything), [low, 0])
    np.testing.assert_allclose(decoded.score(0.0, everything), [1 / 2, 0])
    np.testing.assert_allclose(decoded.score(0.5, decoded.fold == 0), [1 - 0.5 * 1, 0])
    assert decoded.best(1.0, everything) == 1 and decoded.best(0.0, everything) == 0


def test_a_fold_has_the_threshold_that_is_best_in_the_others() -> None:
    decoded = _decoded()
    assert decoded.best(0.5, decoded.fold == 0) == 0 and decoded.best(0.5, decoded.fold == 1) == 1
    column_of = decoded.best_elsewhere(0.5)
    assert column_of == {0: 1, 1: 0}  # the other way round: the worst for both
    figures = decoded.figures(column_of)
    assert figures["known_signs_named"] == 0
    assert figures["known_signs_misnamed"] == figures["known_signs_missed"] == 0.5
    assert figures["taken_for_a_known_sign"] == 0.5
    assert figures["false_signs_per_min"] == 2
    assert (figures["coverage"], figures["risk"], figures["risk_with_others"]) == (0.5, 1, 1)
    low, high = figures["known_signs_misnamed_interval95"]
    assert low == 0 and high == 1


def test_what_was_not_measured_is_none_and_costs_nothing() -> None:
    known = np.array([0, 3])
    decoded = _decoded()
    alone = DecodedClips(
        thresholds=decoded.thresholds,
        kind=decoded.kind[known],
        fold=decoded.fold[known],
        groups=("ann", "ben"),
        sources=("here",) * 2,
        minutes=decoded.minutes[known],
        right=decoded.right[known],
        signs=decoded.signs[known],
        false=decoded.false[known],
    )
    figures = alone.figures({0: 0, 1: 0})
    assert figures["false_signs_per_min"] is figures["taken_for_a_known_sign"] is None
    np.testing.assert_allclose(alone.score(1.0, np.ones(2, bool)), [0.5 - 1, 0])


def test_other_signs_are_sampled_and_captioned_clips_left_out() -> None:
    others = [[_clip(f"other {n}", f"{fold}-{n}") for n in range(5)] for fold in (0, 1)]
    known = [_clip("a", "10"), _clip("idle", "11"), _clip("b", "12", "extra")]
    first, second = sampled([[*known, *others[0]], others[1]], _GLOSSES, 4, seed=0)
    assert first[:2] == known[:2] and len(first) - 2 + len(second) == 4
    again = sampled([[*known, *others[0]], others[1]], _GLOSSES, 4, seed=0)
    assert again == [first, second]
    assert sampled([others[0]], _GLOSSES, 99, seed=0) == [others[0]]


def test_sentences_are_decoded_at_the_threshold_of_their_fold() -> None:
    """One is read as it was signed; of the other, the sign in the middle is not."""
    made = _plan()
    sentence = Sentence(clips=(_clip("a", "1"), _clip("b", "2"), _clip("c", "3")))
    rows = np.tile(_clip("a").rows[10:11], (90, 1))
    rows[:, layout.BODY] += np.linspace(0, 9, 90)[:, None]  # nothing rests
    parts = [[(0, 30), (1, 30), (2, 30)], [(0, 30), (3, 30), (2, 30)]]
    joined = [
        SentenceLogits(sentence=sentence, margin_s=m, fold=f, rows=rows, logits=_logits(*part))
        for m in MARGINS_S
        for f, part in enumerate(parts)
    ]
    clips = [
        ClipLogits(example=_clip("a", str(fold)), fold=fold, logits=_logits((0, 30)))
        for fold in (0, 1)
    ]
    threshold, report = sign_figures(clips, joined, made, 1.0, 1.0, None)
    assert threshold in THRESHOLDS and len(report["decoder"]["thresholds"]) == 2
    assert [row["margin_s"] for row in report["sentences"]] == list(MARGINS_S)
    for row in report["sentences"]:
        assert (row["sentences"], row["signs"], row["of_one_signer"]) == (2, 6, 0)
        assert row["right"] == round(5 / 6, 4)
        assert row["word_error_rate"] == row["deleted"] == round(1 / 6, 4)
        assert row["substituted"] == row["inserted"] == 0
        assert row["word_error_rate_interval95"] == [0, round(1 / 3, 4)]


def test_a_heads_own_threshold_is_reported_as_it_is() -> None:
    clips = [ClipLogits(example=_clip("a"), fold=0, logits=_logits((0, 30)))]
    threshold, report = sign_figures(clips, [], _plan(), 1.0, 1.0, 0.444)
    assert threshold == 0.444 and report["decoder"]["thresholds"] == [0.444]
    assert report["decoder"]["known_signs_named"] == 1 and report["decoder"]["by_cost"] == []
    assert 0.444 in [row["threshold"] for row in report["live"]] and report["sentences"] == []

"""Made-up sentences: who signs what in them, and that nothing jumps where two clips are joined."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from models.landmarks import layout
from offline.data.examples import Example
from offline.scoring.sentences import Sentence, draw_sentences, rows_between, sentence_rows
from offline.scoring.takes import sign_span
from tests.offline.indexes import example, landmark_rows

_FPS = 15.0
_HAND = slice(layout.RIGHT_HAND.start, layout.RIGHT_HAND.start + 2)  # x, y of its wrist


def _clip(name: str, signer: str, gloss: str) -> Example:
    draw = np.random.default_rng(len(name) + ord(name[-1]))
    rows = landmark_rows("up" if ord(gloss[0]) % 2 else "down", draw)
    return replace(example(name, signer, gloss), stored=rows)


@pytest.fixture
def clips() -> list[Example]:
    """`ann` signs six glosses, `ben` two, and a clip of his shows no hand."""
    found = [_clip(f"ann {gloss}", "ann", gloss) for gloss in "abcdef"]
    found += [_clip("ben a", "ben", "a"), _clip("ben g", "ben", "g")]
    still = replace(example("ben still", "ben", "h"), stored=landmark_rows("idle", _rng()))
    return [*found, still]


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_sentence_has_different_glosses_of_one_signer_where_there_are_enough(
    clips: list[Example],
) -> None:
    sentences = draw_sentences(clips, 16, seed=1)
    assert len(sentences) == 16
    for sentence in sentences:
        assert 3 <= len(sentence.glosses) == len(set(sentence.glosses)) <= 6
        assert "h" not in sentence.glosses  # no hand is raised in it
    mixed = [sentence for sentence in sentences if not sentence.one_signer]
    assert len(mixed) == 4  # each of 8 clips begins two choices, and ben's two can't go on alone
    assert all(any(clip.group == "ben" for clip in sentence.clips) for sentence in mixed)
    again = draw_sentences(clips[::-1], 16, seed=1)
    assert [s.clips for s in again] == [s.clips for s in sentences]
    assert [s.clips for s in draw_sentences(clips, 16, seed=2)] != [s.clips for s in sentences]


def test_two_glosses_make_no_sentence(clips: list[Example]) -> None:
    assert draw_sentences(clips[:2], 5, seed=0) == []


def test_a_sentence_keeps_a_second_at_its_ends_and_the_margin_between_signs(
    clips: list[Example],
) -> None:
    chosen = Sentence(clips=tuple(clips[:3]))
    spans = [sign_span(clip.rows) for clip in chosen.clips]
    signs = sum(last - first for first, last in spans)
    lead = min(spans[0][0], 15)
    for margin_s, ticks in ((0.0, 0), (0.2, 3)):
        rows = sentence_rows(chosen, margin_s, _FPS)
        joints = len(rows) - (lead + signs + 15 + 4 * ticks)
        assert 2 * 2 <= joints <= 2 * 4
        np.testing.assert_array_equal(
            rows[:lead], chosen.clips[0].rows[spans[0][0] - lead :][:lead]
        )
        np.testing.assert_array_equal(rows[-1], chosen.clips[-1].rows[-1])  # held


def test_hand_to_hand_no_hand_rests_and_no_point_jumps(clips: list[Example]) -> None:
    rows = sentence_rows(Sentence(clips=tuple(clips[:6])), 0.0, _FPS)
    seen = np.flatnonzero(rows[:, layout.RIGHT_SEEN])
    assert (np.diff(seen) == 1).all()  # from the first sign to the last
    ways = np.hypot(*np.diff(rows[seen][:, _HAND], axis=0).T)
    assert ways.max() <= 0.3  # shoulder widths a tick; a cut would jump by 0.7
    steps = np.abs(np.diff(rows[:, layout.BODY], axis=0)).max()
    cuts = [abs(a.rows - b.rows)[:, layout.BODY].max() for a, b in pairwise(clips[:6])]
    assert 0 < steps <= max(cuts) / 3 + 1e-6


@pytest.mark.parametrize(("way", "ticks"), [(0.0, 2), (0.6, 2), (0.75, 3), (5.0, 4)])
def test_hands_go_straight_and_take_longer_for_a_longer_way(way: float, ticks: int) -> None:
    a = np.ones(layout.DIM, np.float32)
    b = a.copy()
    b[_HAND] += (way, 0)
    rows = rows_between(a, b)
    assert rows.shape == (ticks, layout.DIM)
    np.testing.assert_allclose(
        rows[:, _HAND.start], 1 + way * np.arange(1, ticks + 1) / (ticks + 1), rtol=1e-6
    )
    np.testing.assert_array_equal(rows[:, _HAND.start + 1], 1)


def test_a_hand_of_one_clip_alone_comes_halfway() -> None:
    a, b = np.ones((2, layout.DIM), np.float32)
    a[layout.LEFT_HAND] = a[layout.LEFT_SEEN] = 0
    rows = rows_between(a, b)
    assert rows[:, layout.LEFT_SEEN].tolist() == [0, 1]
    assert rows[:, layout.LEFT_HAND].max(1).tolist() == [0, 1]

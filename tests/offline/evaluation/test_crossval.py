"""Cross-validation: leaks are refused before any training, and vocabularies of several sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from offline.data.examples import Example
from offline.data.splits import split_fold
from offline.evaluation.crossval import vocabularies, vocabulary_curve
from offline.training.selection import TrainingPlan
from tests.offline.made_up import plan


def _example(video_id: str, group: str, duplicate_of: str = "", gloss: str = "tree") -> Example:
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss=gloss,
        group=group,
        split="extra" if gloss == "e" else "",
        variant="original",
        stored=np.zeros((2, 3), np.float32),
        duplicate_of=duplicate_of,
    )


def test_a_recording_on_both_sides_of_a_fold_is_refused_and_named() -> None:
    examples = [_example("1", "ann", duplicate_of="1"), _example("2", "ben", duplicate_of="1")]
    fold_of = {"ann": 0, "ben": 1}
    with pytest.raises(ValueError, match=r"one recording under two ids.*2 \(.*ben\) and 1 \(.*ann"):
        split_fold(examples, fold_of, 0)
    assert split_fold(examples, fold_of, 0, refuse_duplicates=False) == (examples[1:], examples[:1])


def _clips() -> list[Example]:
    """Five clips of `a`, four of `b` and `c`, two of `d`; captioned ones don't count."""
    clips = [*"aaaaa", *"bbbb", *"cccc", *"dd", *"eeeeee"]
    return [
        _example(str(number), f"signer {number}", gloss=gloss) for number, gloss in enumerate(clips)
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,3", ["a", "abc"]),
        ("2", ["ab"]),  # of as many clips the first by name
        ("4+, 2+", ["abc", "abcd"]),
        ("3,4+", ["abc"]),
    ],
)
def test_sizes_and_clip_counts_choose_vocabularies(text: str, found: list[str]) -> None:
    assert ["".join(glosses) for glosses in vocabularies(text, _clips())] == found


def test_duplicates_change_no_vocabulary() -> None:
    """The head that `--min-clips` makes stays a point of the curve."""
    examples = [
        replace(e, duplicate_of="0") if e.gloss == "a" else e for e in _clips()
    ]  # one recording
    assert vocabularies("2,4+", examples) == vocabularies("2,4+", _clips())


@pytest.mark.parametrize(
    ("text", "says"), [("5", "only 4 glosses"), ("many", "'many'"), ("0", "'0'"), ("9+", "9 clips")]
)
def test_an_impossible_vocabulary_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        vocabularies(text, _clips())


def test_each_size_is_evaluated_once_and_the_known_one_not_again() -> None:
    evaluated = []

    def measure(changed: TrainingPlan) -> dict[str, Any]:
        evaluated.append(changed.glosses)
        return {"clips": 9, "top1": 0.5, "top1_interval95": [0.4, 0.6]}

    known = {"clips": 13, "top1": 0.8, "top1_interval95": [0.7, 0.9]}
    curve = vocabulary_curve(
        plan(_clips(), ("c", "a", "b"), 3), vocabularies("3,4", _clips()), known, measure
    )
    assert evaluated == [("a", "b", "c", "d")]
    assert [(p["glosses"], p["least_clips"], p["clips"], p["top1"]) for p in curve] == [
        (3, 4, 13, 0.8),
        (4, 2, 9, 0.5),
    ]
    assert curve[1]["chance"] == 0.25

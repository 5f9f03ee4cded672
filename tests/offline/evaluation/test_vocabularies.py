"""Vocabularies: the glosses with the most clips first, and a figure for each size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.schema import EncoderSpec
from offline.data.examples import Example
from offline.evaluation.crossval import TrainingPlan
from offline.evaluation.vocabularies import curve, vocabularies
from offline.training.config import TrainSettings


def _examples() -> list[Example]:
    """Five clips of `a`, four of `b` and `c`, two of `d`; captioned ones don't count."""
    clips = [*"aaaaa", *"bbbb", *"cccc", *"dd", *"eeeeee"]
    return [
        Example(
            video_id=str(number),
            video=f"{number}.mp4",
            gloss=gloss,
            group=f"signer {number}",
            split="extra" if gloss == "e" else "",
            variant="original",
            stored=np.zeros((2, 3), np.float32),
        )
        for number, gloss in enumerate(clips)
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
def test_sizes_and_clips_name_vocabularies(text: str, found: list[str]) -> None:
    assert ["".join(glosses) for glosses in vocabularies(text, _examples())] == found


def test_copies_change_no_vocabulary() -> None:
    """The head that `--min-clips` makes is a point of the curve, whatever is found to be a copy."""
    examples = [
        replace(e, duplicate_of="0") if e.gloss == "a" else e for e in _examples()
    ]  # one recording
    assert vocabularies("2,4+", examples) == vocabularies("2,4+", _examples())


@pytest.mark.parametrize(
    ("text", "says"), [("5", "only 4 glosses"), ("many", "'many'"), ("0", "'0'"), ("9+", "9 clips")]
)
def test_what_can_not_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        vocabularies(text, _examples())


def test_each_size_is_judged_once_and_the_known_one_not_again() -> None:
    judged = []

    def judge(plan: TrainingPlan) -> dict[str, Any]:
        judged.append(plan.glosses)
        return {"clips": 9, "top1": 0.5, "top1_interval95": [0.4, 0.6]}

    spec = EncoderSpec(
        kind="vjepa2", source="", revision="", dim=3, frames=16, fps=15.0, short_side=320
    )
    plan = TrainingPlan(
        examples=_examples(),
        glosses=("c", "a", "b"),
        spec=spec,
        hop_s=0.1,
        open_set=False,
        settings=TrainSettings(),
    )
    known = {"clips": 13, "top1": 0.8, "top1_interval95": [0.7, 0.9]}
    points = curve(plan, vocabularies("3,4", _examples()), known, judge)
    assert judged == [("a", "b", "c", "d")]
    assert [(p["glosses"], p["least_clips"], p["clips"], p["top1"]) for p in points] == [
        (3, 4, 13, 0.8),
        (4, 2, 9, 0.5),
    ]
    assert points[1]["chance"] == 0.25

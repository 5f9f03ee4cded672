"""Folds of a cross-validation: leaks are refused before any training."""

from __future__ import annotations

import numpy as np
import pytest

from offline.data.examples import Example
from offline.evaluation.crossval import split_fold


def _example(video_id: str, group: str, copy_of: str = "") -> Example:
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss="tree",
        group=group,
        split="",
        variant="original",
        stored=np.zeros((2, 3), np.float32),
        copy_of=copy_of,
    )


def test_a_recording_on_both_sides_of_a_fold_is_refused_and_named() -> None:
    examples = [_example("1", "ann", copy_of="1"), _example("2", "ben", copy_of="1")]
    fold_of = {"ann": 0, "ben": 1}
    with pytest.raises(ValueError, match=r"one recording under two ids.*2 \(.*ben\) and 1 \(.*ann"):
        split_fold(examples, fold_of, 0)
    assert split_fold(examples, fold_of, 0, copies=False) == (examples[1:], examples[:1])

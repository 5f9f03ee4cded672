"""Leaks, planted one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offline.data.examples import Example
from offline.data.splits import refuse_leaks


def _example(video_id: str, signer: str = "", variant: str = "original") -> Example:
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss="tree",
        group=signer or f"video:{video_id}",
        split="",
        variant=variant,
        stored=np.zeros((2, 3), np.float32),
    )


def test_a_variant_on_the_other_side_is_named() -> None:
    with pytest.raises(ValueError, match=r"one video in both.*7 \(bw.*7 \(original"):
        refuse_leaks([_example("7", variant="bw"), _example("8")], [_example("7")])


def test_a_signer_on_the_other_side_is_named_where_signers_are_grouped() -> None:
    train, test = [_example("1", "ann"), _example("2", "ben")], [_example("3", "ben")]
    with pytest.raises(ValueError, match=r"one signer group.*2 \(original.*ben\) and 3 "):
        refuse_leaks(train, test)
    refuse_leaks(train, test, grouped=False)  # as WLASL's own split
    refuse_leaks(train[:1], test)


def test_a_copy_on_the_other_side_is_named() -> None:
    train, test = [_example("1")], [replace(_example("2"), duplicate_of="1")]
    with pytest.raises(ValueError, match=r"one recording under two ids.*1 \(original.* and 2 \("):
        refuse_leaks(train, test)
    refuse_leaks(train, test, duplicates=False)

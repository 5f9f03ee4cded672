"""Folds: no signer on both sides, and glosses spread evenly. Leaks, planted one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from offline.data.splits import grouped_folds, refuse_leaks
from tests.offline.indexes import example

_GLOSSES = ["a", "b", "c"] * 20
_GROUPS = [f"signer {i // 4}" for i in range(60)]


def test_a_group_is_tested_in_one_fold_only() -> None:
    folds = grouped_folds(_GLOSSES, _GROUPS)
    assert set(folds) == {0, 1, 2, 3, 4}
    for group in set(_GROUPS):
        assert len({f for f, g in zip(folds, _GROUPS, strict=True) if g == group}) == 1


def test_every_fold_has_about_as_many_of_each_gloss() -> None:
    folds = grouped_folds(_GLOSSES, _GROUPS)
    counts = Counter(zip(folds, _GLOSSES, strict=True))
    assert all(2 <= counts[fold, gloss] <= 6 for fold in range(5) for gloss in "abc")


def test_the_same_seed_makes_the_same_folds() -> None:
    assert grouped_folds(_GLOSSES, _GROUPS, seed=3) == grouped_folds(_GLOSSES, _GROUPS, seed=3)


def test_a_group_larger_than_a_fold_stays_whole() -> None:
    groups = ["large"] * 40 + [f"small {i}" for i in range(20)]
    folds = grouped_folds(_GLOSSES, groups)
    assert len(set(folds[:40])) == 1
    assert set(folds) == {0, 1, 2, 3, 4}


def test_glosses_with_fewer_clips_than_folds_are_split_too() -> None:
    folds = grouped_folds(["a", "a", "b", "c"], ["ann", "ben", "cy", "dee"], 4)
    assert sorted(folds) == [0, 1, 2, 3]


@pytest.mark.parametrize("groups", [["one"] * 60, ["too", "short"]])
def test_what_can_not_be_split_is_refused(groups: list[str]) -> None:
    with pytest.raises(ValueError, match="groups"):
        grouped_folds(_GLOSSES, groups)


def test_a_variant_on_the_other_side_is_named() -> None:
    with pytest.raises(ValueError, match=r"one video in both.*7 \(bw.*7 \(original"):
        refuse_leaks([replace(example("7"), variant="bw"), example("8")], [example("7")])


def test_a_signer_on_the_other_side_is_named_where_signers_are_grouped() -> None:
    train, test = [example("1", "ann"), example("2", "ben")], [example("3", "ben")]
    with pytest.raises(ValueError, match=r"one signer group.*2 \(original.*ben\) and 3 "):
        refuse_leaks(train, test)
    refuse_leaks(train, test, grouped=False)  # as WLASL's own split
    refuse_leaks(train[:1], test)


def test_a_duplicate_on_the_other_side_is_named() -> None:
    train, test = [example("1")], [replace(example("2"), duplicate_of="1")]
    with pytest.raises(ValueError, match=r"one recording under two ids.*1 \(original.* and 2 \("):
        refuse_leaks(train, test)
    refuse_leaks(train, test, duplicates=False)

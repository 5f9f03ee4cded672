"""Which clips test and which train, so that no signer and no recording stands on both sides.

examples -> [splits] -> folds -> crossval, selection, fuse
train and test examples -> [splits] -> refused if they share something -> train, evaluate
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from models.few_shot import IDLE
from offline.data.examples import Example, scored

_LABEL_HINT = "mend split or signer in the labels"
_DUPLICATE_HINT = "--duplicates leave-out: train without its duplicates"
_NAMED = 5  # rows that an error names

ExamplePair = tuple[Example, Example]  # one to train on, and one to test with


def grouped_folds(
    glosses: Sequence[str], groups: Sequence[str], folds: int = 5, seed: int = 0
) -> list[int]:
    """The fold in which each clip is tested: all clips of a group in one, glosses spread evenly.

    Raises:
        ValueError: there are fewer groups than folds, or lengths differ.
    """
    if len(glosses) != len(groups):
        raise ValueError(f"{len(glosses)} glosses, but {len(groups)} groups")
    if folds < 2 or len(set(groups)) < folds:
        raise ValueError(f"{len(set(groups))} signer groups can't make {folds} folds")
    # scikit-learn refuses glosses that all have fewer clips than there are folds. If each clip is
    # repeated as often, the shares of glosses, and so the folds, stay as they are.
    times = -(-folds // max(Counter(glosses).values()))
    clips = np.repeat(np.arange(len(glosses)), times)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold_of = np.zeros(len(glosses), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of glosses with few clips: many have few
        parts = list(splitter.split(clips, np.array(glosses)[clips], np.array(groups)[clips]))
    for fold, (_, test) in enumerate(parts):
        fold_of[clips[test]] = fold
    return fold_of.tolist()


def fold_of_groups(
    examples: Sequence[Example], glosses: Sequence[str], folds: int, seed: int
) -> dict[str, int]:
    """The fold in which each signer group is tested. Groups without a clip to score are in none.

    Idle clips are groups of their own, put into the folds in the order of their names.
    """
    test = [e for e in scored(examples) if e.gloss in glosses]
    chosen = grouped_folds([e.gloss for e in test], [e.group for e in test], folds, seed)
    fold_of = {e.group: fold for e, fold in zip(test, chosen, strict=True)}
    idle = sorted({e.group for e in examples if e.gloss == IDLE} - fold_of.keys())
    return fold_of | {group: i % folds for i, group in enumerate(idle)}


def split_fold(
    examples: Sequence[Example], fold_of: dict[str, int], fold: int, refuse_duplicates: bool = True
) -> tuple[list[Example], list[Example]]:
    """The clips that a fold trains on, and those it is tested on: all of its signer groups.

    Raises:
        ValueError: something is on both sides; for a recording under two ids only if
            `refuse_duplicates`.
    """
    train = [e for e in examples if fold_of.get(e.group) != fold]
    test = [e for e in examples if fold_of.get(e.group) == fold]
    refuse_leaks(train, test, duplicates=refuse_duplicates)
    return train, test


def refuse_leaks(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    grouped: bool = True,
    duplicates: bool = True,
) -> None:
    """Raise ValueError, naming the rows, when something stands on both sides.

    grouped: signers must not either. duplicates: nor may a recording under two ids.
    """
    _refuse("one video", _shared(train, test, lambda e: e.video_id), _LABEL_HINT)
    if grouped:
        _refuse("one signer group", _shared(train, test, lambda e: e.group), _LABEL_HINT)
    if duplicates:
        _refuse("one recording under two ids", shared_recordings(train, test), _DUPLICATE_HINT)


def shared_recordings(train: Sequence[Example], test: Sequence[Example]) -> list[ExamplePair]:
    """For each recording on both sides, a row of each."""
    return _shared(train, test, lambda e: e.recording)


def row_name(example: Example) -> str:
    """How errors and reports name a row: id, variant, gloss and signer."""
    return f"{example.video_id} ({example.variant}, {example.gloss}, {example.group})"


def _shared(
    train: Sequence[Example], test: Sequence[Example], key: Callable[[Example], str]
) -> list[ExamplePair]:
    """For each key on both sides, a row of each."""
    to_train = {key(e): e for e in reversed(train)}
    to_test = {key(e): e for e in reversed(test)}
    return [(to_train[k], to_test[k]) for k in sorted(to_train.keys() & to_test.keys())]


def _refuse(what: str, pairs: Sequence[ExamplePair], advice: str) -> None:
    if pairs:
        named = "; ".join(f"{row_name(a)} and {row_name(b)}" for a, b in pairs[:_NAMED])
        more = f"; {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        raise ValueError(
            f"{what} in both train and test, so scores would lie: {named}{more}. {advice}"
        )

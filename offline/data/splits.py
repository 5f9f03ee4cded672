"""Which clips test and which train, so that no signer stands on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from offline.data.examples import Example


def grouped_folds(
    glosses: Sequence[str], groups: Sequence[str], folds: int = 5, seed: int = 0
) -> list[int]:
    """The fold in which each clip is tested: all clips of a group in one, glosses spread evenly.

    Groups are dealt largest first, each to the fold where it evens out the glosses best.

    Raises:
        ValueError: there are fewer groups than folds, or lengths differ.
    """
    if len(glosses) != len(groups):
        raise ValueError(f"{len(glosses)} glosses, but {len(groups)} groups")
    names = sorted(set(groups))
    if folds < 2 or len(names) < folds:
        raise ValueError(f"{len(names)} signer groups can't make {folds} folds")
    classes = {gloss: i for i, gloss in enumerate(sorted(set(glosses)))}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for gloss, group in zip(glosses, groups, strict=True):
        counts[group][classes[gloss]] += 1
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda name: -counts[name].std())
    total = np.maximum(sum(counts.values()), 1)
    filled = np.zeros((folds, len(classes)))
    fold_of: dict[str, int] = {}
    for name in order:
        costs = []
        for fold in range(folds):
            filled[fold] += counts[name]
            costs.append(((filled / total).std(0).mean(), filled[fold].sum()))
            filled[fold] -= counts[name]
        best = min(range(folds), key=lambda fold: costs[fold])
        fold_of[name] = best
        filled[best] += counts[name]
    return [fold_of[group] for group in groups]


# MERGED from offline.splitting.leaks: Refuses what would make scores lie: a recording, or a
# signer, on both sides of a split. examples, copies told -> folds or splits -> [leaks] -> train,
# evaluate Three leaks are looked for: rows of one video (its variants), rows of one signer group,
# and one recording under two ids, as `offline.data.duplicates` found them.

LABEL_HINT = "mend split or signer in the labels"
COPY_HINT = "--copies leave-out: train without its copies"
_NAMED = 5  # rows that an error names

ExamplePair = tuple[Example, Example]  # one to train on, and one to test with


def refuse_leaks(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    grouped: bool = True,
    copies: bool = True,
) -> None:
    """Raise ValueError, naming the rows, when something stands on both sides.

    grouped: signers must not either. copies: nor may a recording under two ids.
    """
    _refuse("one video", _shared(train, test, lambda e: e.video_id))
    if grouped:
        _refuse("one signer group", _shared(train, test, lambda e: e.group))
    if copies:
        _refuse("one recording under two ids", copied(train, test), COPY_HINT)


def copied(train: Sequence[Example], test: Sequence[Example]) -> list[ExamplePair]:
    """For each recording on both sides, a row of each."""
    return _shared(train, test, lambda e: e.recording)


def row_name(example: Example) -> str:
    """How errors and reports name a row: id, variant, gloss and signer."""
    return f"{example.video_id} ({example.variant}, {example.gloss}, {example.group})"


def _shared(
    train: Sequence[Example], test: Sequence[Example], key: Callable[[Example], str]
) -> list[ExamplePair]:
    """For each key on both sides, a row of each."""
    ours = {key(e): e for e in reversed(train)}
    theirs = {key(e): e for e in reversed(test)}
    return [(ours[k], theirs[k]) for k in sorted(ours.keys() & theirs.keys())]


def _refuse(what: str, pairs: Sequence[ExamplePair], advice: str = LABEL_HINT) -> None:
    if pairs:
        named = "; ".join(f"{row_name(a)} and {row_name(b)}" for a, b in pairs[:_NAMED])
        more = f"; {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        raise ValueError(
            f"{what} in both train and test, so scores would lie: {named}{more}. {advice}"
        )

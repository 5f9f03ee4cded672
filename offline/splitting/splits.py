"""Which clips test and which train, so that no signer stands on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


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

"""Heads that have seen neither some glosses nor some people: what teaching by takes is measured on.

    Plan -> sets of glosses x folds of signers -> a head trained without either -> Crossing

A crossing has what such a head says of the fold's clips, and each clip of the new glosses as a
take.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.answers import WindowAnswers, window_answers
from offline.evaluation.crossval import Plan, fold_of_groups, in_workers, split_fold, train_head
from offline.examples import Example, scored
from offline.teaching.takes import background, take


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossing:
    """One set of glosses and one fold of signers, and what a head that saw neither says of them."""

    new: tuple[str, ...]  # glosses that the head has no clip of
    known: tuple[str, ...]  # in the order of its logits
    background: NDArray[np.float32]  # (M, E)
    takes: dict[str, NDArray[np.float32]]  # video_id -> (E,), of the new glosses, anybody's
    said: dict[str, WindowAnswers]  # video_id -> its windows, of the fold's clips


def pool(examples: Sequence[Example], takes: int) -> tuple[str, ...]:
    """The glosses that can be held back: with a clip to read beside `takes` takes, or beside a
    take by the same person."""
    fair = scored(examples)
    count = Counter(e.gloss for e in fair)
    twice = {gloss for (gloss, _), n in Counter((e.gloss, e.group) for e in fair).items() if n > 1}
    return tuple(sorted(gloss for gloss, n in count.items() if n > takes or gloss in twice))


def cross(
    plan: Plan,
    *,
    takes: int,
    sets: int,
    folds: int,
    seed: int,
    jobs: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Crossing]:
    """A head for each set of glosses and fold of signers, trained without either.

    Raises:
        ValueError: there are too few glosses or signers.
    """
    held = list(pool(plan.examples, takes))
    random.Random(seed).shuffle(held)
    fold_of = fold_of_groups(plan.examples, tuple(sorted({*plan.glosses, *held})), folds, seed)
    work = [
        (plan, tuple(sorted(held[i::sets])), *split_fold(plan.examples, fold_of, fold))
        for i in range(sets)
        for fold in range(folds)
    ]
    crossings = []
    for done in in_workers(_cross, work, jobs):
        crossings.append(done)
        progress(f"head {len(crossings)} of {len(work)}: {len(done.said)} clips to read")
    return crossings


def _cross(
    plan: Plan, new: tuple[str, ...], train: Sequence[Example], test: Sequence[Example]
) -> Crossing:
    known = tuple(gloss for gloss in plan.glosses if gloss not in new)
    seen = [e for e in train if e.gloss not in new]
    head, words = train_head(plan, seen, known)
    said = {
        e.video_id: window_answers(head, e.rows, plan.spec, plan.hop_s)
        for e in {*test, *(e for e in plan.examples if e.gloss in new)}
    }
    takes = {
        e.video_id: take(e.rows, said[e.video_id], plan.spec)
        for e in plan.examples
        if e.gloss in new
    }
    return Crossing(
        new=new,
        known=known,
        background=background(head, seen, words, plan.spec, plan.hop_s),
        takes=takes,
        said={e.video_id: said[e.video_id] for e in test},
    )

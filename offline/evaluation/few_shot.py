"""How well signs are recognised that were taught by a few takes, and what that costs the others.

    plan -> sets of glosses x folds of signers -> heads trained without -> episodes -> figures

In an episode some new glosses are taught by takes, and a clip of one of them is read. The head was
trained on no clip of these and on none of the person who signs; the takes are of other people.
Clips are read as they are served: by the session's `FewShotClassifier`, window by window. The only
random choice is that of glosses and takes; `seed` fixes it.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings, clip_probabilities
from models.few_shot import IDLE, FewShotClassifier, trained_space
from models.schema import Prediction
from offline.data.examples import Example, scored
from offline.data.labels import EXTRA
from offline.data.splits import fold_of_groups, split_fold
from offline.evaluation import EpisodeSettings
from offline.evaluation.crossval import in_workers
from offline.evaluation.figures import mean_of, per_minute
from offline.scoring.clip_predictions import (
    WindowOutputs,
    by_windows,
    predictions,
    window_outputs,
)
from offline.scoring.takes import background, take
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan, learn

_EPISODES = 5  # for each clip that is read
_Read = tuple[FewShotClassifier, list[Prediction]]  # a clip's windows as the classifier reads them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossing:
    """One set of glosses and one fold of signers, with the outputs of a head trained without."""

    new: tuple[str, ...]  # glosses that the head was not trained on
    known: tuple[str, ...]  # in the order of its logits
    background: NDArray[np.float32]  # (M, E)
    takes: dict[str, NDArray[np.float32]]  # video_id -> (E,), of the new glosses, of all signers
    outputs: dict[str, WindowOutputs]  # video_id -> its windows, of the fold's clips


def cross(plan: TrainingPlan, settings: EpisodeSettings, seed: int, jobs: int) -> list[Crossing]:
    """Train a head for each set of glosses and fold of signers, without either.

    Raises:
        ValueError: there are too few glosses or signers.
    """
    sets, folds = settings.sets, settings.folds
    new = list(teachable(plan.examples, max(settings.takes)))
    random.Random(seed).shuffle(new)
    fold_of = fold_of_groups(plan.examples, tuple(sorted({*plan.glosses, *new})), folds, seed)
    work = [
        (plan, tuple(sorted(new[i::sets])), *split_fold(plan.examples, fold_of, fold))
        for i in range(sets)
        for fold in range(folds)
    ][: settings.crossings]
    crossings = []
    for done in in_workers(_cross, work, jobs):
        crossings.append(done)
        clips = len(done.outputs)
        print(f"head {len(crossings)} of {len(work)}: {clips} clips to read", flush=True)
    return crossings


def teachable(examples: Sequence[Example], takes: int) -> tuple[str, ...]:
    """The glosses with more than `takes` clips: a clip to read beside the takes."""
    count = Counter(e.gloss for e in scored(examples))
    return tuple(sorted(gloss for gloss, n in count.items() if n > takes))


def _cross(
    plan: TrainingPlan, new: tuple[str, ...], train: Sequence[Example], test: Sequence[Example]
) -> Crossing:
    train = [e for e in train if e.gloss not in new]
    there = {e.gloss for e in train}
    known = tuple(gloss for gloss in plan.glosses if gloss in there)
    trained = learn(replace(plan, glosses=known), train)
    taught = [e for e in plan.examples if e.gloss in new]
    outputs = {
        e.video_id: window_outputs(trained.head, e.rows, plan.spec, plan.hop_s, e.windows)
        for e in {*test, *taught}
    }
    return Crossing(
        new=new,
        known=known,
        background=background(trained.head, train, trained.vocabulary, plan.spec, plan.hop_s),
        takes={e.video_id: take(e.rows, outputs[e.video_id], plan.spec) for e in taught},
        outputs={e.video_id: outputs[e.video_id] for e in test},
    )


def score(
    crossings: Sequence[Crossing], plan: TrainingPlan, settings: EpisodeSettings, seed: int
) -> dict[str, Any]:
    """The accuracy of new glosses, among those taught and among all glosses, and what teaching them
    costs: known glosses and idle clips before and after; for each number of takes and of signs."""
    return {
        "heads": len(crossings),
        "new_glosses": sum(len(new) for new in {c.new for c in crossings}),
        "known_glosses": sorted({len(c.known) for c in crossings}),
        "taught": [
            {"ways": ways, "takes": takes, **_score(crossings, plan, settings, ways, takes, seed)}
            for ways, takes in product(settings.ways, settings.takes)
        ],
    }


def _score(
    crossings: Sequence[Crossing],
    plan: TrainingPlan,
    settings: EpisodeSettings,
    ways: int,
    takes: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of episodes in which so many signs are taught, by so many takes each."""
    among_taught, among_all, before, after = (list[float]() for _ in range(4))
    idle_s, idle_signs = {"before": 0.0, "after": 0.0}, Counter[str]()
    decoder = DecoderSettings(threshold=settings.threshold)
    draw = random.Random(seed)
    for crossing in crossings:
        for example, windows, read in _episodes(crossing, plan, settings, ways, takes, draw):
            if example.gloss == IDLE:
                seconds = example.windows * plan.spec.window_s
                if by_windows(plan.spec):
                    seconds = len(example.rows) / plan.spec.fps
                idle_s["before"] += seconds
                idle_s["after"] += seconds * len(read)
                idle_signs["before"] += len(signs_of(crossing.known, windows, decoder))
                idle_signs["after"] += sum(len(signs_of(c.glosses, w, decoder)) for c, w in read)
            elif example.gloss in crossing.known:
                plain = crossing.known[int(clip_probabilities(windows).argmax())]
                before.append(float(plain == example.gloss))
                after.append(_accuracy(example, read))
            elif read:
                among_all.append(_accuracy(example, read))
                among_taught.append(_accuracy(example, read, only_taught=True))
    return {
        "across_signers": _figures(among_taught),
        "across_signers_among_all": _figures(among_all),
        "known_before": _figures(before),
        "known_after": _figures(after),
        "false_signs_per_min_before": per_minute(idle_signs["before"], idle_s["before"]),
        "false_signs_per_min_after": per_minute(idle_signs["after"], idle_s["after"]),
    }


def _episodes(
    crossing: Crossing,
    plan: TrainingPlan,
    settings: EpisodeSettings,
    ways: int,
    wanted: int,
    draw: random.Random,
) -> Iterator[tuple[Example, list[Prediction], list[_Read]]]:
    """The fold's clips of new and known glosses that may be scored, and its idle clips: each with
    the head's prediction for each window, and as classifiers read it that were taught `ways` signs
    by `wanted` takes before."""
    glosses = {*crossing.new, *crossing.known}
    fair = {e for e in scored(plan.examples) if e.gloss in glosses}
    teaching = [e for e in scored(plan.examples) if e.gloss in crossing.new]
    space = trained_space(["measured"], crossing.background)

    def taught(example: Example) -> Iterator[FewShotClassifier]:
        """Taught by signers of other groups. To read a new gloss, it is one of those taught, and
        each has all its takes; there is no classifier where there are too few clips for that."""
        takes: dict[str, list[str]] = defaultdict(list)
        for clip in teaching:
            if clip.group != example.group:
                takes[clip.gloss].append(clip.video_id)
        fixed = []
        if example.gloss in crossing.new:
            takes = {g: ids for g, ids in takes.items() if len(ids) >= wanted}
            if example.gloss not in takes or len(takes) < ways:
                return
            fixed = [example.gloss]
        others = sorted(takes.keys() - fixed)
        count = min(ways - len(fixed), len(others))
        for _ in range(_EPISODES):
            classifier = FewShotClassifier(crossing.known, space)
            for gloss in [*fixed, *draw.sample(others, count)]:
                ids = draw.sample(takes[gloss], min(wanted, len(takes[gloss])))
                classifier.teach(gloss, np.stack([crossing.takes[id] for id in ids]))
            yield classifier

    for example in plan.examples:
        may_be_read = example in fair or (example.gloss == IDLE and example.split != EXTRA)
        outputs = crossing.outputs.get(example.video_id)
        if outputs is None or not may_be_read:
            continue
        known, temperature = len(crossing.known), settings.head_temperature
        plain = predictions(outputs.logits, known, plan.spec, plan.hop_s, temperature, example.rows)
        pairs = zip(plain, outputs.embeddings, strict=True)
        windows = [replace(prediction, embedding=row) for prediction, row in pairs]
        yield example, windows, [(c, [c.apply(p) for p in windows]) for c in taught(example)]


def _accuracy(example: Example, read: Sequence[_Read], only_taught: bool = False) -> float:
    """The share of a clip's episodes in which its gloss is the likeliest, of all or taught ones."""
    right = []
    for classifier, windows in read:
        p = dict(zip(classifier.glosses, clip_probabilities(windows).tolist(), strict=True))
        among = classifier.taught if only_taught else classifier.glosses
        right.append(max(among, key=p.__getitem__) == example.gloss)
    return float(np.mean(right))


def _figures(shares: Sequence[float]) -> dict[str, Any]:
    """The mean over clips and its 95 % interval; of a clip, the share of its episodes is given."""
    if not shares:
        return {"clips": 0}
    mean = mean_of(shares)
    return {"clips": len(shares), "right": mean["share"], "interval95": mean["interval95"]}

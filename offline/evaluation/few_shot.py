"""How well signs are recognised that were taught by a few takes, and what that costs the others.

    plan -> sets of glosses x folds of signers -> heads trained without -> episodes -> figures

In an episode five new glosses are taught by takes, and a clip of one of them is read. The head was
trained on no clip of the five and on none of the person who signs; the takes are of other people.
Clips are read as they are served: by the session's `FewShotClassifier`, window by window. The only
random choice is that of glosses and takes; `seed` fixes it.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings, clip_probabilities
from models.few_shot import FewShotClassifier, trained_space
from models.schema import Prediction
from offline.data.examples import Example, scored
from offline.data.labels import EXTRA, IDLE
from offline.evaluation.crossval import fold_of_groups, in_workers, split_fold
from offline.scoring.clip_predictions import WindowOutputs, predictions, window_outputs
from offline.scoring.metrics import mean_of
from offline.scoring.takes import background, take
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan, learn

_EPISODES = 5  # for each clip that is read


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """What is taught in an episode, and how clips are read."""

    ways: int = 5  # new glosses
    takes: int = 5  # of each, at most
    seed: int = 0
    head_temperature: float = 1.0  # the model's calibration
    threshold: float = 0.5  # of the sign decoder


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossing:
    """One set of glosses and one fold of signers, with the outputs of a head trained without."""

    new: tuple[str, ...]  # glosses that the head was not trained on
    known: tuple[str, ...]  # in the order of its logits
    background: NDArray[np.float32]  # (M, E)
    takes: dict[str, NDArray[np.float32]]  # video_id -> (E,), of the new glosses, of all signers
    outputs: dict[str, WindowOutputs]  # video_id -> its windows, of the fold's clips


def cross(
    plan: TrainingPlan,
    *,
    takes: int,
    sets: int,
    folds: int,
    seed: int,
    jobs: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Crossing]:
    """Train a head for each set of glosses and fold of signers, without either.

    Raises:
        ValueError: there are too few glosses or signers.
    """
    new = list(teachable(plan.examples, takes))
    random.Random(seed).shuffle(new)
    fold_of = fold_of_groups(plan.examples, tuple(sorted({*plan.glosses, *new})), folds, seed)
    work = [
        (plan, tuple(sorted(new[i::sets])), *split_fold(plan.examples, fold_of, fold))
        for i in range(sets)
        for fold in range(folds)
    ]
    crossings = []
    for done in in_workers(_cross, work, jobs):
        crossings.append(done)
        progress(f"head {len(crossings)} of {len(work)}: {len(done.outputs)} clips to read")
    return crossings


def teachable(examples: Sequence[Example], takes: int) -> tuple[str, ...]:
    """The glosses with more than `takes` clips: a clip to read beside the takes."""
    count = Counter(e.gloss for e in scored(examples))
    return tuple(sorted(gloss for gloss, n in count.items() if n > takes))


def _cross(
    plan: TrainingPlan, new: tuple[str, ...], train: Sequence[Example], test: Sequence[Example]
) -> Crossing:
    known = tuple(gloss for gloss in plan.glosses if gloss not in new)
    train = [e for e in train if e.gloss not in new]
    trained = learn(plan, train, known)
    taught = [e for e in plan.examples if e.gloss in new]
    outputs = {
        e.video_id: window_outputs(trained.head, e.rows, plan.spec, plan.hop_s)
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
    crossings: Sequence[Crossing], plan: TrainingPlan, settings: EpisodeSettings
) -> dict[str, Any]:
    """The accuracy of new glosses, among those taught and among all glosses, and what teaching them
    costs: known glosses and idle clips before and after."""
    among_taught, among_all, before, after = (list[float]() for _ in range(4))
    idle_s, idle_signs = {"before": 0.0, "after": 0.0}, {"before": 0, "after": 0}
    decoder = DecoderSettings(threshold=settings.threshold)
    draw = random.Random(settings.seed)
    for crossing in crossings:
        episodes = _Episodes(crossing, plan, settings, draw)
        for example in episodes.to_read():
            windows = episodes.predictions(example)
            if example.gloss == IDLE:
                seconds = len(example.rows) / plan.spec.fps
                idle_s["before"] += seconds
                idle_signs["before"] += len(signs_of(crossing.known, windows, decoder))
                for classifier in episodes.of_others(example):
                    read = [classifier.read(one) for one in windows]
                    idle_s["after"] += seconds
                    idle_signs["after"] += len(signs_of(classifier.glosses, read, decoder))
            elif example.gloss in crossing.new:
                read_by = [(c.taught, _read(c, windows)) for c in episodes.of(example)]
                if read_by:
                    among_taught.append(_share(example, [_best(p, names) for names, p in read_by]))
                    among_all.append(_share(example, [_best(p, p) for _, p in read_by]))
            else:
                plain = crossing.known[int(clip_probabilities(windows).argmax())]
                before.append(_share(example, [plain]))
                read_all = [_read(c, windows) for c in episodes.of_others(example)]
                after.append(_share(example, [_best(p, p) for p in read_all]))
    return {
        "ways": settings.ways,
        "takes": settings.takes,
        "new_glosses": sum(len(new) for new in {c.new for c in crossings}),
        "across_signers": _figures(among_taught),
        "across_signers_among_all": _figures(among_all),
        "known_before": _figures(before),
        "known_after": _figures(after),
        **{
            f"false_signs_per_min_{when}": round(60 * idle_signs[when] / idle_s[when], 2)
            if idle_s[when]
            else None
            for when in ("before", "after")
        },
    }


class _Episodes:
    """The episodes of one crossing: for a clip, classifiers that were taught before it is read."""

    def __init__(
        self,
        crossing: Crossing,
        plan: TrainingPlan,
        settings: EpisodeSettings,
        draw: random.Random,
    ) -> None:
        self._crossing = crossing
        fair = scored(plan.examples)
        self._fair = [e for e in fair if e.gloss in {*crossing.new, *crossing.known}]
        self._plan = plan
        self._settings = settings
        self._draw = draw
        self._space = trained_space(["measured"], crossing.background)

    def to_read(self) -> list[Example]:
        """The fold's clips of new and known glosses that may be scored, and its idle clips."""
        fair = set(self._fair)
        return [
            e
            for e in self._plan.examples
            if e.video_id in self._crossing.outputs
            and (e in fair or (e.gloss == IDLE and e.split != EXTRA))
        ]

    def predictions(self, example: Example) -> list[Prediction]:
        """The head's prediction for each window of a clip, with its embedding."""
        outputs = self._crossing.outputs[example.video_id]
        windows = predictions(
            outputs.logits,
            len(self._crossing.known),
            self._plan.spec,
            self._plan.hop_s,
            self._settings.head_temperature,
            example.rows,
        )
        return [
            dataclasses.replace(one, embedding=row)
            for one, row in zip(windows, outputs.embeddings, strict=True)
        ]

    def of(self, example: Example) -> Iterator[FewShotClassifier]:
        """The gloss of `example` and others are taught; nothing where there are too few clips."""
        takes = self._takes(example)
        ready = {g: ids for g, ids in takes.items() if len(ids) >= self._settings.takes}
        others = sorted(gloss for gloss in ready if gloss != example.gloss)
        if example.gloss not in ready or len(others) < self._settings.ways - 1:
            return
        for _ in range(_EPISODES):
            chosen = [example.gloss, *self._draw.sample(others, self._settings.ways - 1)]
            yield self._taught(ready, chosen)

    def of_others(self, example: Example) -> Iterator[FewShotClassifier]:
        """Any of the new glosses are taught."""
        takes = self._takes(example)
        for _ in range(_EPISODES):
            chosen = self._draw.sample(sorted(takes), min(self._settings.ways, len(takes)))
            yield self._taught(takes, chosen)

    def _takes(self, example: Example) -> dict[str, list[str]]:
        """gloss -> video_ids of other signer groups than that of `example`."""
        takes: dict[str, list[str]] = defaultdict(list)
        for clip in self._fair:
            if clip.gloss in self._crossing.new and clip.group != example.group:
                takes[clip.gloss].append(clip.video_id)
        return takes

    def _taught(
        self, takes: Mapping[str, Sequence[str]], glosses: Iterable[str]
    ) -> FewShotClassifier:
        classifier = FewShotClassifier(self._crossing.known, self._space)
        for gloss in glosses:
            count = min(self._settings.takes, len(takes[gloss]))
            chosen = self._draw.sample(takes[gloss], count)
            classifier.teach(gloss, np.stack([self._crossing.takes[one] for one in chosen]))
        return classifier


def _read(classifier: FewShotClassifier, windows: Iterable[Prediction]) -> dict[str, float]:
    """The probability of each gloss of the classifier, for a whole clip."""
    p = clip_probabilities([classifier.read(one) for one in windows])
    return dict(zip(classifier.glosses, p.tolist(), strict=True))


def _best(probabilities: Mapping[str, float], among: Iterable[str]) -> str:
    return max(among, key=probabilities.__getitem__)


def _share(example: Example, predicted: Sequence[str]) -> float:
    """The share of a clip's episodes in which the prediction was right."""
    return float(np.mean([gloss == example.gloss for gloss in predicted]))


def _figures(shares: Sequence[float]) -> dict[str, Any]:
    """The mean over clips and its 95 % interval."""
    if not shares:
        return {"clips": 0}
    right, interval = mean_of(np.array(shares))
    return {
        "clips": len(shares),
        "right": round(right, 4),
        "interval95": [round(x, 4) for x in interval],
    }

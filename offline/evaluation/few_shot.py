"""How well signs are told apart that were taught by a few takes, and what that costs the others.

    crossings -> episodes (five new glosses, taught by takes; a clip of one of them) -> figures

In an episode the head has seen no clip of the five glosses and none of the person who signs. Clips
are read as served: the session's `FewShotClassifier` over the head's answers, window by window.
Only the choice of glosses and takes is random; `seed` fixes it.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings, SignDecoder, clip_probabilities
from models.few_shot import FLOOR, IDLE, TEMPERATURE, FewShotClassifier, trained_space
from models.schema import Prediction
from offline.data.examples import Example, scored
from offline.data.labels import EXTRA
from offline.evaluation.crossval import (
    TrainingPlan,
    fold_of_groups,
    in_workers,
    split_fold,
    train_head,
)
from offline.scoring.clip_predictions import WindowAnswers, predictions, window_answers
from offline.scoring.metrics import mean_of
from offline.scoring.takes import background, take


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """What is taught in an episode, and how the answers are read."""

    ways: int = 5  # glosses taught
    takes: int = 5  # of each, at most
    rounds: int = 5  # episodes for each clip that is read
    seed: int = 0
    head_temperature: float = 1.0  # the model's calibration
    threshold: float = 0.5
    temperature: float = TEMPERATURE  # of likenesses, see `models.few_shot`
    floor: float = FLOOR


@dataclass(slots=True)
class _Hits:
    """For each clip that was read, the share of its episodes in which it was right."""

    shares: list[float] = field(default_factory=list)

    def add(self, right: Sequence[bool]) -> None:
        """A clip's episodes; none, and the clip does not count."""
        if right:
            self.shares.append(float(np.mean(right)))

    def figures(self) -> dict[str, Any]:
        """The mean over clips and its 95 % interval."""
        if not self.shares:
            return {"clips": 0}
        right, interval = mean_of(np.array(self.shares))
        return {
            "clips": len(self.shares),
            "right": round(right, 4),
            "interval95": [round(x, 4) for x in interval],
        }


@dataclass(slots=True)
class _Rest:
    """Signs told while nobody signed."""

    seconds: float = 0.0
    signs: int = 0

    def add(self, seconds: float, signs: int) -> None:
        self.seconds += seconds
        self.signs += signs

    def per_minute(self) -> float | None:
        return round(60 * self.signs / self.seconds, 2) if self.seconds else None


def score(
    crossings: Sequence[Crossing], plan: TrainingPlan, settings: EpisodeSettings
) -> dict[str, Any]:
    """The figures: new glosses by other people's takes and by the same signer group's, and the cost
    to the glosses that the head knows and to rest."""
    alone = {"across": _Hits(), "same": _Hits()}
    served = {"across": _Hits(), "same": _Hits()}
    before, after = _Hits(), _Hits()
    rest_before, rest_after = _Rest(), _Rest()
    fair = scored(plan.examples)
    draw = random.Random(settings.seed)
    for crossing in crossings:
        lessons = _Lessons(crossing, fair, plan, settings, draw)
        for example in lessons.to_read():
            told = lessons.told(example)
            if example.gloss == IDLE:
                seconds = len(example.rows) / plan.spec.fps
                rest_before.add(seconds, _signs(told, crossing.known, settings))
                for lexicon in lessons.of_others(example):
                    read = [lexicon.apply(one) for one in told]
                    rest_after.add(seconds, _signs(read, lexicon.glosses, settings))
            elif example.gloss in crossing.new:
                for kind in alone:
                    answers = [
                        (lexicon.taught, _answer(lexicon, told))
                        for lexicon in lessons.of(example, kind)
                    ]
                    alone[kind].add(
                        [_likeliest(p, taught) == example.gloss for taught, p in answers]
                    )
                    served[kind].add([_likeliest(p, p) == example.gloss for _, p in answers])
            else:
                plain = crossing.known[int(clip_probabilities(told).argmax())]
                before.add([plain == example.gloss])
                answers_after = [_answer(lexicon, told) for lexicon in lessons.of_others(example)]
                after.add([_likeliest(p, p) == example.gloss for p in answers_after])
    return {
        "ways": settings.ways,
        "takes": settings.takes,
        "new_glosses": sum(len(new) for new in {c.new for c in crossings}),
        "across_signers": alone["across"].figures(),
        "same_signer_group": alone["same"].figures(),
        "across_signers_among_all": served["across"].figures(),
        "same_signer_group_among_all": served["same"].figures(),
        "known_before": before.figures(),
        "known_after": after.figures(),
        "false_signs_per_min_before": rest_before.per_minute(),
        "false_signs_per_min_after": rest_after.per_minute(),
    }


class _Lessons:
    """The episodes of one crossing: for a clip, what was taught before it is read."""

    def __init__(
        self,
        crossing: Crossing,
        fair: Sequence[Example],
        plan: TrainingPlan,
        settings: EpisodeSettings,
        draw: random.Random,
    ) -> None:
        self._crossing = crossing
        self._fair = [e for e in fair if e.gloss in {*crossing.new, *crossing.known}]
        self._clips = [e for e in self._fair if e.gloss in crossing.new]
        self._plan = plan
        self._settings = settings
        self._draw = draw
        self._space = trained_space(
            ["measured"], crossing.background, settings.temperature, settings.floor
        )

    def to_read(self) -> list[Example]:
        """The fold's clips of new and known glosses that may be scored, and of rest."""
        fair = set(self._fair)
        return [
            e
            for e in self._plan.examples
            if e.video_id in self._crossing.said
            and (e in fair or (e.gloss == IDLE and e.split != EXTRA))
        ]

    def told(self, example: Example) -> list[Prediction]:
        """What the head says of each window of a clip, with its embedding."""
        said = self._crossing.said[example.video_id]
        told = predictions(
            said.logits,
            len(self._crossing.known),
            self._plan.spec,
            self._plan.hop_s,
            self._settings.head_temperature,
            example.rows,
        )
        return [
            dataclasses.replace(one, embedding=row)
            for one, row in zip(told, said.embeddings, strict=True)
        ]

    def of(self, example: Example, kind: str) -> Iterator[FewShotClassifier]:
        """`example`'s gloss and others, taught; nothing where the data are too few.

        `across`: by other signer groups than the one who signs. `same`: all by that one.
        """
        least = self._settings.takes if kind == "across" else 1
        takes = self._takes(example, same=kind == "same")
        ready = {gloss: ids for gloss, ids in takes.items() if len(ids) >= least}
        others = sorted(gloss for gloss in ready if gloss != example.gloss)
        if example.gloss not in ready or len(others) < self._settings.ways - 1:
            return
        for _ in range(self._settings.rounds):
            ways = [example.gloss, *self._draw.sample(others, self._settings.ways - 1)]
            yield self._taught(ready, ways)

    def of_others(self, example: Example) -> Iterator[FewShotClassifier]:
        """Any of the new glosses, taught by others than the one who signs in `example`."""
        takes = self._takes(example, same=False)
        for _ in range(self._settings.rounds):
            ways = self._draw.sample(sorted(takes), min(self._settings.ways, len(takes)))
            yield self._taught(takes, ways)

    def _takes(self, example: Example, *, same: bool) -> dict[str, list[str]]:
        """gloss -> video_ids, by the signer group of `example` or by all others."""
        takes: dict[str, list[str]] = defaultdict(list)
        for clip in self._clips:
            if clip is not example and (clip.group == example.group) == same:
                takes[clip.gloss].append(clip.video_id)
        return takes

    def _taught(self, takes: Mapping[str, Sequence[str]], ways: Iterable[str]) -> FewShotClassifier:
        lexicon = FewShotClassifier(self._crossing.known, self._space)
        for gloss in ways:
            count = min(self._settings.takes, len(takes[gloss]))
            chosen = self._draw.sample(takes[gloss], count)
            lexicon.teach(gloss, np.stack([self._crossing.takes[take] for take in chosen]))
        return lexicon


def _answer(lexicon: FewShotClassifier, told: Iterable[Prediction]) -> dict[str, float]:
    """The probability of each gloss that the session knows, for a whole clip."""
    p = clip_probabilities([lexicon.apply(one) for one in told])
    return dict(zip(lexicon.glosses, p.tolist(), strict=True))


def _likeliest(answer: Mapping[str, float], among: Iterable[str]) -> str:
    return max(among, key=answer.__getitem__)


def _signs(told: Iterable[Prediction], glosses: Sequence[str], settings: EpisodeSettings) -> int:
    """How many signs a session would have been told."""
    decoder = SignDecoder(glosses, DecoderSettings(threshold=settings.threshold))
    ids = {sign.id for one in told for sign in decoder.update(one)}
    return len(ids | {sign.id for sign in decoder.flush()})


# MERGED from offline.teaching.crossing: Heads that have seen neither some glosses nor some
# people: what teaching by takes is measured on. TrainingPlan -> sets of glosses x folds of
# signers -> a head trained without either -> Crossing A crossing has what such a head says of the
# fold's clips, and each clip of the new glosses as a take.


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
    plan: TrainingPlan,
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
    plan: TrainingPlan, new: tuple[str, ...], train: Sequence[Example], test: Sequence[Example]
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

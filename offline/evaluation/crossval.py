"""Grouped cross-validation: every clip answered by heads that never saw its signers.

Examples -> folds by signer group -> [trainer] -> [answers] -> what to report, and how to calibrate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models.decoder import DecoderSettings, SignDecoder
from models.few_shot import IDLE
from models.heads import HeadEnsemble
from models.schema import EncoderSpec, Prediction
from offline.data.examples import Example, Vocabulary, scored, vocabulary
from offline.data.index import ORIGINAL
from offline.data.labels import EXTRA
from offline.data.splits import ExamplePair, grouped_folds, refuse_leaks, shared_recordings
from offline.scoring.clip_predictions import Answered, clip_answer, clip_logits, predictions
from offline.training.config import TrainSettings
from offline.training.selection import learn

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Everything one fold needs to know."""

    examples: Sequence[Example]
    glosses: tuple[str, ...]
    spec: EncoderSpec
    hop_s: float
    open_set: bool
    settings: TrainSettings
    threads: int = 1


def fold_of_groups(
    examples: Sequence[Example], glosses: Sequence[str], folds: int, seed: int
) -> dict[str, int]:
    """The fold in which each signer group is tested. Groups without a clip to score are in none.

    Clips of nobody signing are groups of their own: dealt to the folds in the order of their names.
    """
    test = [e for e in scored(examples) if e.gloss in glosses]
    dealt = grouped_folds([e.gloss for e in test], [e.group for e in test], folds, seed)
    fold_of = {e.group: fold for e, fold in zip(test, dealt, strict=True)}
    resting = sorted({e.group for e in examples if e.gloss == IDLE} - fold_of.keys())
    return fold_of | {group: i % folds for i, group in enumerate(resting)}


def split_fold(
    examples: Sequence[Example], fold_of: dict[str, int], fold: int, copies: bool = True
) -> tuple[list[Example], list[Example]]:
    """What a fold trains on, and what it is tested on: all clips of its signer groups.

    Raises:
        ValueError: something is on both sides; a recording under two ids only with `copies`.
    """
    train = [e for e in examples if fold_of.get(e.group) != fold]
    test = [e for e in examples if fold_of.get(e.group) == fold]
    refuse_leaks(train, test, duplicates=copies)
    return train, test


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """What came of a cross-validation."""

    answers: list[Answered]  # captioned clips, other signs and nobody signing too
    copies: list[ExamplePair]  # recordings on both sides of a fold, where that was allowed


def cross_validate(
    plan: TrainingPlan,
    folds: int,
    seed: int,
    *,
    allow_copies: bool = False,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> Validated:
    """Answers to every clip of every group that is tested, in its original variant.

    Raises:
        ValueError: something stands on both sides of a fold, or there are too few groups.
    """
    fold_of = fold_of_groups(plan.examples, plan.glosses, folds, seed)
    splits = [split_fold(plan.examples, fold_of, k, not allow_copies) for k in range(folds)]
    pairs = [pair for train, test in splits for pair in shared_recordings(train, test)]
    splits = [(train, [e for e in test if e.variant == ORIGINAL]) for train, test in splits]
    answers: list[Answered] = []
    said = in_workers(_run_fold, [(plan, *split) for split in splits], jobs)
    for fold, (logits, (train, test)) in enumerate(zip(said, splits, strict=True)):
        progress(f"fold {fold + 1} of {folds}: {len(train)} clips trained, {len(test)} tested")
        answers += [
            Answered(example=e, fold=fold, logits=x) for e, x in zip(test, logits, strict=True)
        ]
    return Validated(answers=answers, copies=pairs)


def in_workers(
    function: Callable[..., _T], work: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[_T]:
    """What `function` makes of each piece of `work`, in order; `jobs` processes share it."""
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=get_context("spawn")) as workers:
        yield from workers.map(function, *zip(*work, strict=True))


def train_head(
    plan: TrainingPlan, train: Sequence[Example], glosses: tuple[str, ...]
) -> tuple[HeadEnsemble, Vocabulary]:
    """A head for `glosses`, trained on `train` as the plan says, in evaluation mode."""
    torch.set_num_threads(plan.threads)
    words = vocabulary(train, glosses, plan.open_set)
    fitted = learn(train, words, plan.spec, plan.hop_s, plan.settings)
    return HeadEnsemble([one.head for one in fitted], len(glosses), words.classes).eval(), words


def _run_fold(
    plan: TrainingPlan, train: Sequence[Example], test: Sequence[Example]
) -> list[NDArray[np.float32]]:
    head, _ = train_head(plan, train, plan.glosses)
    return [clip_logits(head, e.rows, plan.spec, plan.hop_s) for e in test]


def calibrate(answers: Sequence[Answered], plan: TrainingPlan) -> float:
    """The temperature at which the right glosses of whole clips are likeliest: 0.25 to 4.

    On clips whose signers the heads had not seen, by the clip's answer as it is served.
    """
    test = to_score(answers, plan.glosses)
    count = len(plan.glosses)
    place = {gloss: i for i, gloss in enumerate(plan.glosses)}

    def surprise(temperature: float) -> float:
        total = 0.0
        for one in test:
            p = clip_answer(one.logits, count, plan.spec, plan.hop_s, temperature)
            total -= float(np.log(p[place[one.example.gloss]] + 1e-9))
        return total

    return float(min(np.geomspace(0.25, 4.0, 41), key=surprise))


def to_score(answers: Sequence[Answered], glosses: Sequence[str]) -> list[Answered]:
    """The answers that figures may be made of."""
    fair = set(scored([a.example for a in answers]))
    return [a for a in answers if a.example in fair and a.example.gloss in glosses]


def calm_threshold(live: Sequence[dict[str, Any]]) -> float:
    """The lowest threshold (of `rejections`) at which the transcript stays calm, or the highest.

    Calm: at most one false sign a minute where nobody signs, and at most three in ten of the
    signs outside the vocabulary taken for one inside it. What was not measured counts as calm.
    """
    for row in live:
        if (row["false_signs_per_min"] or 0) <= 1 and (row["taken_for_a_known_sign"] or 0) <= 0.3:
            return float(row["threshold"])
    return float(live[-1]["threshold"])


@dataclass(slots=True)
class _Live:
    """What the sign decoder told with one threshold."""

    threshold: float
    idle_signs: int = 0
    foreign_signs: int = 0  # clips of other signs of which something was told
    right: int = 0
    wrong: int = 0

    def hear(self, gloss: str, told: Sequence[Prediction], glosses: Sequence[str]) -> None:
        """A clip of `gloss`, of which the windows `told` so much."""
        decoder = SignDecoder(glosses, DecoderSettings(threshold=self.threshold))
        signs = {s.id: s for p in told for s in decoder.update(p)}
        signs |= {s.id: s for s in decoder.flush()}
        if gloss == IDLE:
            self.idle_signs += len(signs)
        elif gloss not in glosses:
            self.foreign_signs += bool(signs)
        elif any(s.gloss == gloss for s in signs.values()):
            self.right += 1
        elif signs:
            self.wrong += 1


def rejections(
    answers: Sequence[Answered], plan: TrainingPlan, temperature: float, thresholds: Sequence[float]
) -> list[dict[str, Any]]:
    """How calm the answers are where nobody signs a known gloss, and how soon they come elsewhere.

    By the sign decoder with each threshold, on clips of groups that the heads did not see.
    """
    lives = [_Live(threshold) for threshold in thresholds]
    idle_s, foreign, known = 0.0, 0, 0
    for answer in answers:
        example = answer.example
        if example.split == EXTRA:
            continue
        told = predictions(
            answer.logits, len(plan.glosses), plan.spec, plan.hop_s, temperature, example.rows
        )
        for live in lives:
            live.hear(example.gloss, told, plan.glosses)
        if example.gloss == IDLE:
            idle_s += len(example.rows) / plan.spec.fps
        elif example.gloss in plan.glosses:
            known += 1
        else:
            foreign += 1
    of = max(1, known)
    return [
        {
            "threshold": live.threshold,
            "idle_s": round(idle_s, 1),
            "false_signs_per_min": round(60 * live.idle_signs / idle_s, 2) if idle_s else None,
            "clips_of_other_signs": foreign,
            "taken_for_a_known_sign": round(live.foreign_signs / foreign, 3) if foreign else None,
            "known_signs_named": round(live.right / of, 3),
            "known_signs_misnamed": round(live.wrong / of, 3),
            "known_signs_missed": round((known - live.right - live.wrong) / of, 3),
        }
        for live in lives
    ]

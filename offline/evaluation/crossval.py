"""Grouped cross-validation: each clip is predicted by heads that were not trained on its signer.

examples -> folds by signer group -> [trainer] -> logits -> figures, temperature, threshold
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings
from offline.data.examples import ORIGINAL, Example, scored
from offline.data.labels import EXTRA, IDLE
from offline.data.splits import ExamplePair, copied, grouped_folds, refuse_leaks
from offline.scoring.clip_predictions import ClipLogits, predict_clip, predictions, window_outputs
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan, learn

T = TypeVar("T")


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
    examples: Sequence[Example], fold_of: dict[str, int], fold: int, copies: bool = True
) -> tuple[list[Example], list[Example]]:
    """The clips that a fold trains on, and those it is tested on: all of its signer groups.

    Raises:
        ValueError: something is on both sides; for a recording under two ids only with `copies`.
    """
    train = [e for e in examples if fold_of.get(e.group) != fold]
    test = [e for e in examples if fold_of.get(e.group) == fold]
    refuse_leaks(train, test, copies=copies)
    return train, test


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """The result of a cross-validation."""

    clips: list[ClipLogits]  # those that are not scored too: captioned, other signs, idle
    duplicates: list[ExamplePair]  # recordings on both sides of a fold, where that was allowed


def cross_validate(
    plan: TrainingPlan,
    folds: int,
    seed: int,
    *,
    allow_duplicates: bool = False,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> CrossValidation:
    """Predict each clip of each group that is tested, in its original variant.

    Raises:
        ValueError: something is on both sides of a fold, or there are too few groups.
    """
    fold_of = fold_of_groups(plan.examples, plan.glosses, folds, seed)
    splits = [split_fold(plan.examples, fold_of, k, not allow_duplicates) for k in range(folds)]
    pairs = [pair for train, test in splits for pair in copied(train, test)]
    splits = [(train, [e for e in test if e.variant == ORIGINAL]) for train, test in splits]
    clips: list[ClipLogits] = []
    results = in_workers(_run_fold, [(plan, *split) for split in splits], jobs)
    for fold, (logits, (train, test)) in enumerate(zip(results, splits, strict=True)):
        progress(f"fold {fold + 1} of {folds}: {len(train)} clips trained, {len(test)} tested")
        clips += [
            ClipLogits(example=e, fold=fold, logits=x) for e, x in zip(test, logits, strict=True)
        ]
    return CrossValidation(clips=clips, duplicates=pairs)


def in_workers(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[T]:
    """The results of `function` for each tuple of arguments, in order, from `jobs` processes."""
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=get_context("spawn")) as workers:
        yield from workers.map(function, *zip(*work, strict=True))


def _run_fold(
    plan: TrainingPlan, train: Sequence[Example], test: Sequence[Example]
) -> list[NDArray[np.float32]]:
    head = learn(plan, train, plan.glosses).head
    return [window_outputs(head, e.rows, plan.spec, plan.hop_s).logits for e in test]


def scorable(clips: Sequence[ClipLogits], glosses: Sequence[str]) -> list[ClipLogits]:
    """The clips that figures may be computed from."""
    fair = set(scored([clip.example for clip in clips]))
    return [c for c in clips if c.example in fair and c.example.gloss in glosses]


def fit_temperature(clips: Sequence[ClipLogits], plan: TrainingPlan) -> float:
    """The temperature, 0.25 to 4, with the highest likelihood of the right glosses of whole clips.

    On clips of signers whom the heads were not trained on, predicted as they are served.
    """
    test = scorable(clips, plan.glosses)
    place = {gloss: i for i, gloss in enumerate(plan.glosses)}

    def loss(temperature: float) -> float:
        total = 0.0
        for clip in test:
            p = predict_clip(clip.logits, len(place), plan.spec, plan.hop_s, temperature)
            total -= float(np.log(p[place[clip.example.gloss]] + 1e-9))
        return total

    return float(min(np.geomspace(0.25, 4.0, 41), key=loss))


def live_figures(
    clips: Sequence[ClipLogits], plan: TrainingPlan, temperature: float, thresholds: Sequence[float]
) -> list[dict[str, Any]]:
    """What the sign decoder makes of known signs, other signs and idle clips at each threshold."""
    clips = [clip for clip in clips if clip.example.split != EXTRA]
    idle_s = sum(len(c.example.rows) for c in clips if c.example.gloss == IDLE) / plan.spec.fps
    known = sum(clip.example.gloss in plan.glosses for clip in clips)
    other = sum(clip.example.gloss not in (*plan.glosses, IDLE) for clip in clips)
    counts = {threshold: Counter[str]() for threshold in thresholds}
    for clip in clips:
        gloss, rows = clip.example.gloss, clip.example.rows
        windows = predictions(
            clip.logits, len(plan.glosses), plan.spec, plan.hop_s, temperature, rows
        )
        for threshold, count in counts.items():
            signs = signs_of(plan.glosses, windows, DecoderSettings(threshold=threshold))
            if gloss == IDLE:
                count["idle"] += len(signs)
            elif gloss not in plan.glosses:
                count["other"] += bool(signs)
            elif any(sign.gloss == gloss for sign in signs):
                count["right"] += 1
            else:
                count["wrong"] += bool(signs)
    return [
        {
            "threshold": threshold,
            "idle_s": round(idle_s, 1),
            "false_signs_per_min": round(60 * n["idle"] / idle_s, 2) if idle_s else None,
            "clips_of_other_signs": other,
            "taken_for_a_known_sign": round(n["other"] / other, 3) if other else None,
            "known_signs_named": round(n["right"] / max(1, known), 3),
            "known_signs_misnamed": round(n["wrong"] / max(1, known), 3),
            "known_signs_missed": round((known - n["right"] - n["wrong"]) / max(1, known), 3),
        }
        for threshold, n in counts.items()
    ]


def choose_threshold(live: Sequence[dict[str, Any]]) -> float:
    """The lowest threshold of `live_figures` with few false signs, or the highest of all.

    Few: at most one a minute of idle, and at most three in ten of the clips of other signs taken
    for a known sign. A figure that was not measured is no limit.
    """
    for row in live:
        if (row["false_signs_per_min"] or 0) <= 1 and (row["taken_for_a_known_sign"] or 0) <= 0.3:
            return float(row["threshold"])
    return float(live[-1]["threshold"])

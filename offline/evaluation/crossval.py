"""Grouped cross-validation: each clip is predicted by heads that were not trained on its signer.

examples -> folds by signer group -> [trainer] -> logits -> figures, temperature, threshold
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings
from models.few_shot import IDLE
from offline.data.examples import Example, clip_counts, common_glosses, scored
from offline.data.index import ORIGINAL
from offline.data.labels import EXTRA
from offline.data.splits import (
    ExamplePair,
    grouped_folds,
    refuse_leaks,
    row_name,
    shared_recordings,
)
from offline.evaluation.figures import TOPS, details, figures_of, per_minute
from offline.scoring.clip_predictions import ClipLogits, predict_clip, predictions, window_outputs
from offline.scoring.outcomes import Outcomes, clip_rows, outcomes_of
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan, learn

T = TypeVar("T")
_THRESHOLDS = tuple(percent / 100 for percent in range(30, 72, 2))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredClips:
    """The predictions for clips of a plan."""

    plan: TrainingPlan
    clips: Sequence[ClipLogits]  # those that are not scored too: captioned, other signs, idle
    temperature: float
    outcomes: Outcomes

    def report(self) -> dict[str, Any]:
        """The fields that each report has; for an open set, with the live figures of `clips`.

        The threshold is the lowest with few false signs, or the highest of all. Few: at most one a
        minute of idle, and at most three in ten of the clips of other signs taken for a known sign.
        A figure that was not measured is no limit.
        """
        plan, outcomes = self.plan, self.outcomes
        live = _live_figures(self.clips, plan, self.temperature) if plan.open_set else []
        few = [
            row["threshold"]
            for row in live
            if (row["false_signs_per_min"] or 0) <= 1
            and (row["taken_for_a_known_sign"] or 0) <= 0.3
        ]
        threshold = min(few, default=_THRESHOLDS[-1]) if live else 0.5
        return {
            "scores": figures_of(outcomes),
            "calibration": {"temperature": round(self.temperature, 4), "threshold": threshold},
            **details(outcomes),
            "live": live,
            "encoder": ": ".join(filter(None, (plan.spec.kind, plan.spec.source))),
            "glosses": list(plan.glosses),
            "clips": clip_rows(outcomes),
        }


def cross_validate(
    plan: TrainingPlan, folds: int, seed: int, allow_duplicates: bool, jobs: int
) -> tuple[ScoredClips, list[ExamplePair]]:
    """Predict each clip of each group that is tested, in its original variant.

    Returns also the recordings on both sides of a fold, where `allow_duplicates` lets them be.

    Raises:
        ValueError: something is on both sides of a fold, or there are too few groups.
    """
    print(f"{folds} folds, {len(plan.glosses)} glosses; {plan.settings}")
    fold_of = fold_of_groups(plan.examples, plan.glosses, folds, seed)
    splits = [split_fold(plan.examples, fold_of, k, not allow_duplicates) for k in range(folds)]
    pairs = [pair for train, test in splits for pair in shared_recordings(train, test)]
    splits = [(train, [e for e in test if e.variant == ORIGINAL]) for train, test in splits]
    clips: list[ClipLogits] = []
    results = in_workers(_run_fold, [(plan, *split) for split in splits], jobs)
    for fold, (logits, (train, test)) in enumerate(zip(results, splits, strict=True)):
        counts = f"{len(train)} clips trained, {len(test)} tested"
        print(f"fold {fold + 1} of {folds}: {counts}", flush=True)
        clips += [
            ClipLogits(example=e, fold=fold, logits=x) for e, x in zip(test, logits, strict=True)
        ]
    temperature = fit_temperature(clips, plan)
    fair = scorable(clips, plan.glosses)
    outcomes = outcomes_of(fair, plan.glosses, plan.spec, plan.hop_s, temperature)
    return ScoredClips(plan=plan, clips=clips, temperature=temperature, outcomes=outcomes), pairs


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
    head = learn(plan, train).head
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


def _live_figures(
    clips: Sequence[ClipLogits], plan: TrainingPlan, temperature: float
) -> list[dict[str, Any]]:
    """What the sign decoder makes of known signs, other signs and idle clips at each threshold."""
    clips = [clip for clip in clips if clip.example.split != EXTRA]
    idle_s = sum(len(c.example.rows) for c in clips if c.example.gloss == IDLE) / plan.spec.fps
    known = sum(clip.example.gloss in plan.glosses for clip in clips)
    other = sum(clip.example.gloss not in (*plan.glosses, IDLE) for clip in clips)
    counts = {threshold: Counter[str]() for threshold in _THRESHOLDS}
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
            "false_signs_per_min": per_minute(n["idle"], idle_s),
            "clips_of_other_signs": other,
            "taken_for_a_known_sign": round(n["other"] / other, 3) if other else None,
            "known_signs_named": round(n["right"] / max(1, known), 3),
            "known_signs_misnamed": round(n["wrong"] / max(1, known), 3),
            "known_signs_missed": round((known - n["right"] - n["wrong"]) / max(1, known), 3),
        }
        for threshold, n in counts.items()
    ]


def cross_validation_report(
    plan: TrainingPlan,
    folds: int,
    seed: int,
    allow_duplicates: bool,
    jobs: int,
    vocabulary: str | None,
) -> dict[str, Any]:
    """The report of a cross-validation, and accuracy against the sizes in `vocabulary`.

    With `allow_duplicates` signers stay as labelled, and the report lists the recordings that are
    on both sides of a fold under two ids.
    """
    sizes = vocabularies(vocabulary, plan.examples) if vocabulary else []
    if allow_duplicates:
        as_labelled = [replace(e, group=e.signer or e.group) for e in plan.examples]
        plan = replace(plan, examples=as_labelled)

    def validate(plan: TrainingPlan) -> tuple[ScoredClips, list[ExamplePair]]:
        return cross_validate(plan, folds, seed, allow_duplicates, jobs)

    found, duplicates = validate(plan)
    report = found.report()
    if duplicates:
        ids = {tested.video_id for _, tested in duplicates}
        pairs = {frozenset((a.video_id, b.video_id)): (a, b) for a, b in duplicates}
        rest = tuple(clip for clip in found.outcomes.clips if clip.video_id not in ids)
        others = Outcomes(glosses=plan.glosses, clips=rest)
        report["duplicates"] = {
            "pairs": [[row_name(a), row_name(b)] for a, b in pairs.values()],
            "clips": len(found.outcomes) - len(rest),
            "scores_without": figures_of(others) if rest else None,
        }
    report["vocabulary"] = vocabulary_curve(
        plan, sizes, report["scores"], lambda other: figures_of(validate(other)[0].outcomes)
    )
    return report


def vocabularies(text: str, examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """The vocabularies of a list such as `23,32,49` or `5+,4+,3+`, smallest first.

    `23`: the 23 glosses with the most clips to score, equal ones by name; `5+`: all glosses with
    at least five. So each vocabulary holds the smaller ones.

    Raises:
        ValueError: an item is none of these, or there are not so many glosses.
    """
    counts = clip_counts(examples)
    order = sorted(counts, key=lambda gloss: (-counts[gloss], gloss))
    found = set()
    for item in (item.strip() for item in text.split(",")):
        number = item.removesuffix("+")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--vocabulary: {item!r} is neither a size (23) nor clips (5+)")
        if item.endswith("+"):
            found.add(common_glosses(examples, int(number)))
        elif int(number) > len(order):
            raise ValueError(f"--vocabulary {number}: only {len(order)} glosses can be scored")
        else:
            found.add(tuple(sorted(order[: int(number)])))
    return sorted(found, key=len)


def vocabulary_curve(
    plan: TrainingPlan,
    sizes: Sequence[tuple[str, ...]],
    known: dict[str, Any],
    evaluate: Callable[[TrainingPlan], dict[str, Any]],
) -> list[dict[str, Any]]:
    """One object a vocabulary: its size, the clips of its rarest gloss, and its figures.

    `known` are the figures of the plan's own vocabulary. Each other one is trained and tested by
    `evaluate`, with folds of its own, as it would be served.
    """
    counts = Counter(e.gloss for e in scored(plan.examples))
    points = []
    for glosses in sizes:
        same = set(glosses) == set(plan.glosses)
        scores = known if same else evaluate(replace(plan, glosses=glosses))
        tops = [f"top{top}" for top in TOPS if f"top{top}" in scores]
        points.append(
            {
                "glosses": len(glosses),
                "least_clips": min(counts[gloss] for gloss in glosses),
                "clips": scores["clips"],
                "chance": round(1 / len(glosses), 4),
                **{key: scores[key] for top in tops for key in (top, f"{top}_interval95")},
            }
        )
    return points

"""Grouped cross-validation: each clip is predicted by heads that were not trained on its signer.

examples -> folds by signer group -> [trainer] -> logits -> figures, temperature, threshold
"""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from offline.data.examples import Example, clip_counts, common_glosses, scored
from offline.data.index import ORIGINAL
from offline.data.labels import holds_landmarks
from offline.data.splits import (
    ExamplePair,
    fold_of_groups,
    row_name,
    shared_recordings,
    split_fold,
)
from offline.evaluation import SignSettings
from offline.evaluation.figures import TOPS, details, figures_by_source, figures_of
from offline.evaluation.live_signs import sampled, sign_figures
from offline.scoring.clip_predictions import ClipLogits, by_windows, clip_logits, predict_clip
from offline.scoring.outcomes import Outcomes, clip_rows, outcomes_of
from offline.scoring.sentences import (
    MARGINS_S,
    Sentence,
    SentenceLogits,
    draw_sentences,
    read_sentences,
)
from offline.training.progress import Progress
from offline.training.selection import TrainingPlan, learn

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredClips:
    """The predictions for clips of a plan."""

    plan: TrainingPlan
    clips: Sequence[ClipLogits]  # those that are not scored too: other signs, idle
    sentences: Sequence[SentenceLogits]  # made up of the clips
    temperature: float
    outcomes: Outcomes
    false_cost: float = 1.0  # see `offline.evaluation.live_signs`
    threshold: float | None = None  # the head's own; None: to be chosen

    def report(self) -> dict[str, Any]:
        """The fields that each report has; for an open set, with the figures of decoded signs."""
        plan, outcomes = self.plan, self.outcomes
        threshold, signs = self.threshold or 0.5, dict[str, Any](live=[])
        if plan.open_set:
            threshold, signs = sign_figures(
                self.clips, self.sentences, plan, self.temperature, self.false_cost, self.threshold
            )
        return {
            "scores": figures_of(outcomes),
            "scores_by_source": figures_by_source(outcomes),
            "calibration": {"temperature": round(self.temperature, 4), "threshold": threshold},
            **details(outcomes),
            **signs,
            "encoder": ": ".join(filter(None, (plan.spec.kind, plan.spec.source))),
            "glosses": list(plan.glosses),
            "clips": clip_rows(outcomes),
        }


def cross_validate(
    plan: TrainingPlan,
    folds: int,
    seed: int,
    allow_duplicates: bool,
    jobs: int,
    signs: SignSettings,
) -> tuple[ScoredClips, list[ExamplePair]]:
    """Predict each clip of each group that is tested, in its original variant.

    Returns also the recordings on both sides of a fold, where `allow_duplicates` lets them be.

    Raises:
        ValueError: something is on both sides of a fold, or there are too few groups.
    """
    print(f"{folds} folds, {len(plan.glosses)} glosses; {plan.settings}", flush=True)
    fold_of = fold_of_groups(plan.examples, plan.glosses, folds, seed)
    splits = [split_fold(plan.examples, fold_of, k, not allow_duplicates) for k in range(folds)]
    pairs = [pair for train, test in splits for pair in shared_recordings(train, test)]
    tests = [[e for e in test if e.variant == ORIGINAL] for _, test in splits]
    heads = [partial(_train_head, plan, train) for train, _ in splits]
    return read_folds(heads, tests, plan, seed, jobs, signs), pairs


def _train_head(plan: TrainingPlan, train: Sequence[Example]) -> nn.Module:
    print(f"{len(train)} clips to train on", flush=True)
    return learn(plan, train, progress=Progress(heads=plan.settings.heads)).head


def read_folds(
    heads: Sequence[Callable[[], nn.Module]],
    tests: Sequence[Sequence[Example]],
    plan: TrainingPlan,
    seed: int,
    jobs: int,
    signs: SignSettings,
    temperature: float | None = None,
    threshold: float | None = None,
) -> ScoredClips:
    """Run the head of each fold on its test clips, and on sentences made up of them.

    heads: train or load a fold's head, in the process that runs it. temperature and threshold are
    fitted and chosen unless they are given.

    Raises:
        ValueError: there is no clip to score.
    """
    tests = sampled(tests, plan.glosses, signs.other_clips, seed)
    drawn: list[list[Sentence]] = [[] for _ in tests]
    if plan.open_set and by_windows(plan.spec):
        for fold, test in enumerate(tests):
            known = [e for e in scored(test) if e.gloss in plan.glosses]
            known = [e for e in known if not (e.path and holds_landmarks(e.path))] or known
            count = signs.sentences // len(tests) + (fold < signs.sentences % len(tests))
            drawn[fold] = draw_sentences(known, count, seed + fold)
    clips: list[ClipLogits] = []
    sentences: list[SentenceLogits] = []
    work = [
        (head, plan, fold, *clips)
        for fold, (head, *clips) in enumerate(zip(heads, tests, drawn, strict=True))
    ]
    for fold, (tested, joined) in enumerate(in_workers(_read_fold, work, jobs)):
        print(f"fold {fold + 1} of {len(tests)}: {len(tests[fold])} clips tested", flush=True)
        clips += tested
        sentences += [
            SentenceLogits(sentence=s, margin_s=margin_s, fold=fold, rows=rows, logits=x)
            for (s, margin_s), (rows, x) in zip(
                product(drawn[fold], MARGINS_S), joined, strict=True
            )
        ]
    temperature = temperature or fit_temperature(clips, plan)
    fair = scorable(clips, plan.glosses)
    outcomes = outcomes_of(fair, plan.glosses, plan.spec, plan.hop_s, temperature)
    return ScoredClips(
        plan=plan,
        clips=clips,
        sentences=sentences,
        temperature=temperature,
        outcomes=outcomes,
        false_cost=signs.false_cost,
        threshold=threshold,
    )


def _read_fold(
    head_of: Callable[[], nn.Module],
    plan: TrainingPlan,
    fold: int,
    test: Sequence[Example],
    sentences: Sequence[Sentence],
) -> tuple[list[ClipLogits], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """A fold's clips with their logits; rows and logits of its sentences."""
    head = head_of()
    torch.set_num_threads(plan.threads)
    clips = [clip_logits(head, e, fold, plan.spec, plan.hop_s) for e in test]
    return clips, read_sentences(head, sentences, plan.spec, plan.hop_s)


def in_workers(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[T]:
    """The results of `function` for each tuple of arguments, in order, from `jobs` processes.

    A single one is made in this process.
    """
    if len(work) == 1:
        yield function(*work[0])
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(
        min(jobs, len(work)), get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as workers:
        try:
            yield from workers.map(function, *zip(*work, strict=True))
        except KeyboardInterrupt:
            for process in active_children():  # else they would end their folds first
                process.kill()
            raise


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

    def loss(log: float) -> float:
        total = 0.0
        for clip in test:
            p = predict_clip(clip.logits, len(place), plan.spec, plan.hop_s, math.exp(log))
            total -= float(np.log(p[place[clip.example.gloss]] + 1e-9))
        return total

    bounds = math.log(0.25), math.log(4.0)
    # About ten evaluations, each of which reads all windows.
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 0.02})
    return math.exp(found.x)


def cross_validation_report(
    plan: TrainingPlan,
    folds: int,
    seed: int,
    allow_duplicates: bool,
    jobs: int,
    vocabulary: str | None,
    signs: SignSettings,
) -> tuple[dict[str, Any], Outcomes]:
    """The report and outcomes of a cross-validation; accuracy against the sizes in `vocabulary`.

    With `allow_duplicates` signers stay as labelled, and the report lists the recordings that are
    on both sides of a fold under two ids.
    """
    sizes = vocabularies(vocabulary, plan.examples) if vocabulary else []
    if allow_duplicates:
        as_labelled = [replace(e, group=e.signer or e.group) for e in plan.examples]
        plan = replace(plan, examples=as_labelled)

    def validate(plan: TrainingPlan) -> dict[str, Any]:
        accuracy = SignSettings(sentences=0, other_clips=0)
        found, _ = cross_validate(plan, folds, seed, allow_duplicates, jobs, accuracy)
        return figures_of(found.outcomes)

    found, duplicates = cross_validate(plan, folds, seed, allow_duplicates, jobs, signs)
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
    report["vocabulary"] = vocabulary_curve(plan, sizes, report["scores"], validate)
    return report, found.outcomes


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

"""A trained head, asked the clips that the options of `offline.evaluate` pick.

head.pt + index.csv (+ an official split) -> [examination] -> outcomes
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from offline.data.duplicates import read_recordings
from offline.data.examples import Example, read_spec, scored
from offline.data.index import ORIGINAL
from offline.evaluation.crossval import TrainingPlan, to_score
from offline.evaluation.official import OfficialSplit, read_official
from offline.options import named_groups, without_cards
from offline.scoring.clip_predictions import Answered, clip_logits
from offline.scoring.outcomes import Outcomes, outcomes_of
from offline.training.checkpoint import Checkpoint, load_checkpoint
from offline.training.config import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a head made of clips."""

    plan: TrainingPlan  # its examples are the clips that were picked
    official: OfficialSplit | None
    answers: list[Answered]  # of an open set, for what is told live; else none, to save memory
    outcomes: Outcomes
    temperature: float
    not_kept_out: int  # clips that the card does not list as kept out of training


def examine(model: str, args: argparse.Namespace) -> Examination:
    """The head in the file `model` on the clips that `args` picks.

    Raises:
        ValueError: index and head don't belong together, or there is nothing to score.
    """
    trained = load_checkpoint(model)
    chosen, official = _chosen(args)
    plan = _plan(args, trained, chosen)
    temperature = trained.card["calibration"]["temperature"]
    answers: list[Answered] = []
    if plan.open_set:
        answers = list(_answers(trained, plan, plan.examples))
        outcomes = plan_outcomes(to_score(answers, plan.glosses), plan, temperature)
    else:
        known = set(plan.glosses)
        fair = [e for e in scored(plan.examples) if e.gloss in known]
        outcomes = plan_outcomes(_answers(trained, plan, fair), plan, temperature)
    listed = {(c["video"], c["gloss"]) for c in trained.card["data"].get("held_out_clips", [])}
    asked = zip(outcomes.videos, outcomes.labels.tolist(), strict=True)
    return Examination(
        plan=plan,
        official=official,
        answers=answers,
        outcomes=outcomes,
        temperature=temperature,
        not_kept_out=sum((video, plan.glosses[label]) not in listed for video, label in asked),
    )


def plan_outcomes(answers: Iterable[Answered], plan: TrainingPlan, temperature: float) -> Outcomes:
    """The outcomes of answers to those of a plan's clips that may be scored."""
    return outcomes_of(answers, plan.glosses, plan.spec, plan.hop_s, temperature)


def _chosen(args: argparse.Namespace) -> tuple[list[Example], OfficialSplit | None]:
    """The clips that `--official`, `--split` and `--groups` pick, in their original variant."""
    if not args.index:
        raise ValueError("give --index: the clips to score the head on")
    official = read_official(args.official, args.split or "test") if args.official else None
    examples = chosen = without_cards(read_recordings(args.index, variant=ORIGINAL), args)
    if official:
        chosen = official.chosen(chosen)
    elif args.split is not None:
        chosen = [e for e in chosen if e.split == args.split]
    if args.groups:
        groups = named_groups(args.groups, examples, "--groups")
        chosen = [e for e in chosen if e.group in groups]
    return chosen, official


def _plan(args: argparse.Namespace, trained: Checkpoint, chosen: Sequence[Example]) -> TrainingPlan:
    spec, card = read_spec(args.index), trained.card
    if spec.dim != card["encoder"]["dim"] or spec.kind != card["encoder"]["kind"]:
        raise ValueError(f"{args.index}: its encoder is not the one that the head was made for")
    torch.set_num_threads(args.threads)
    return TrainingPlan(
        examples=chosen,
        glosses=tuple(card["glosses"]),
        spec=spec,
        hop_s=card["hop_s"],
        open_set=card["head"]["idle"],
        settings=TrainSettings(),
    )


def _answers(
    trained: Checkpoint, plan: TrainingPlan, clips: Sequence[Example]
) -> Iterator[Answered]:
    for e in tqdm(clips, unit="clip", disable=None):
        logits = clip_logits(trained.head, e.rows, plan.spec, plan.hop_s)
        yield Answered(example=e, fold=0, logits=logits)

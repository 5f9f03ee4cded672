"""Trained heads on clips of an index: one on those of a split, of some signers, of WLASL's split;
or the heads of a cross-validation, each on the signers that it was not trained on.

    head.pt + index.csv (+ an official split) -> [trained_head] -> outcomes, coverage
    a head.pt for each fold + index.csv       -> [trained_head] -> outcomes

WLASL's videos vanish from the web. A figure on those that are left compares with a published one
only if they are most of the split, so a report on an official split has its coverage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from models.card import spec_from
from offline.data.examples import Example, read_spec, scored
from offline.data.index import ORIGINAL
from offline.data.labels import read_labels
from offline.data.spellings import split_named
from offline.evaluation import SignSettings
from offline.evaluation.crossval import ScoredClips, read_folds
from offline.scoring.clip_predictions import ClipLogits, clip_logits
from offline.scoring.outcomes import ClipOutcome, Outcomes, outcomes_of
from offline.training.checkpoint import Checkpoint, keep_glosses, load_checkpoint
from offline.training.config import DataSettings, TrainSettings
from offline.training.selection import TrainingPlan, named_groups, read_clips, read_glosses

_NAMED = 5  # clips that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadScores:
    """The predictions of a head for the chosen clips."""

    found: ScoredClips  # its plan's examples are the chosen clips
    official: tuple[str, str, dict[str, str]] | None  # labels file, split, gloss by video id
    not_kept_out: int  # clips that the card does not list as kept out of training

    def report(self) -> dict[str, Any]:
        report, outcomes = self.found.report(), self.found.outcomes
        clips = self.found.plan.examples
        report["coverage"] = round(len(outcomes) / len(scored(clips)), 4)
        if self.official:
            report["official"] = _coverage(*self.official, clips, outcomes)
        return report


def score_head(
    model: str,
    data: DataSettings,
    signs: SignSettings,
    split: str | None,
    groups: str | None,
    official: str | None,
) -> HeadScores:
    """Run the head in the file `model` on the clips of a split, of signers, or both.

    `groups` names signers, separated by commas. With `official`, a labels file (nslt_300.json,
    WLASL_v0.3.json or a CSV), the clips are the instances of its split (test by default). Without
    any of these they are those that the head's card lists as kept out of training. Variants other
    than the original are left out.

    Raises:
        ValueError: index and head do not belong together, or there is nothing to score.
    """
    trained = _load(model, data)
    examples = chosen = _read_clips(data)
    instances = None
    kept_out = _KeptOut(trained.card)
    if official:
        name = split_named(split or "test")
        instances = (official, name, _read_official(official, name))
        chosen = _instances(*instances, examples)
    elif split is not None:
        chosen = [e for e in chosen if e.split == split_named(split)]
    if groups:
        wanted = named_groups(groups, examples, "--groups")
        chosen = [e for e in chosen if e.group in wanted]
    if not (official or split is not None or groups):
        chosen = [e for e in examples if kept_out.lists(e) or kept_out.of_its_signers(e)]
        if not any(kept_out.lists(e) for e in chosen):
            raise ValueError(
                f"{model}: its card lists no clip of {data.index} as kept out of training: give "
                "--split, --groups or --official to say which clips it did not learn from"
            )
    plan = _plan(trained.card, data, chosen)
    calibration = trained.card["calibration"]
    temperature, threshold = calibration["temperature"], calibration["threshold"]
    if plan.open_set:
        head = [partial(_load_head, model, data)]
        found = read_folds(head, [chosen], plan, data.fold_seed, 1, signs, temperature, threshold)
    else:  # logits are not kept, to save memory
        known = [e for e in scored(chosen) if e.gloss in set(plan.glosses)]
        found = ScoredClips(
            plan=plan,
            clips=[],
            sentences=[],
            temperature=temperature,
            outcomes=outcomes_of(
                _run(trained, plan, known), plan.glosses, plan.spec, plan.hop_s, temperature
            ),
            threshold=threshold,
        )
    return HeadScores(
        found=found,
        official=instances,
        not_kept_out=sum(not kept_out.lists(clip) for clip in found.outcomes.clips),
    )


class _KeptOut:
    """What a card says was kept out of training."""

    def __init__(self, card: dict[str, Any]) -> None:
        clips = card["data"].get("held_out_clips", [])
        self._ids = {(c["video_id"], c["gloss"]) for c in clips if "video_id" in c}
        self._files = {(c["video"], c["gloss"]) for c in clips if "video_id" not in c}
        self._signers = set(card["data"].get("held_out_groups", []))

    def lists(self, clip: Example | ClipOutcome) -> bool:
        """True for a clip that the card lists, by its video id (older cards: its file name)."""
        return (clip.video_id, clip.gloss) in self._ids or (clip.video, clip.gloss) in self._files

    def of_its_signers(self, example: Example) -> bool:
        """True for clips of other signs, and of nobody signing, by signers who were kept out."""
        return example.signer in self._signers


def score_folds(
    models: Sequence[str], data: DataSettings, signs: SignSettings, jobs: int
) -> ScoredClips:
    """Run each of the heads in the files `models` on the signers that its card lists as held out.

    Clips that several heads held out are shared among these; those that none did are left out.

    Raises:
        ValueError: the heads are not of one vocabulary, encoder and hop, or the index is not of
            that encoder; there is nothing to score.
    """
    cards = [_load(model, data).card for model in models]
    for model, card in zip(models, cards, strict=True):
        for key in ("glosses", "hop_s", "encoder"):
            if card[key] != cards[0][key]:
                raise ValueError(f"{model}: has another {key} than {models[0]}")
    held_by = defaultdict(list)
    for fold, card in enumerate(cards):
        for signer in card["data"].get("held_out_groups", []):
            held_by[signer].append(fold)
    tests: list[list[Example]] = [[] for _ in models]
    examples = _read_clips(data)
    for group in sorted({e.group for e in examples}):
        clips = [e for e in examples if e.group == group]
        folds = set.intersection(*({*held_by[e.signer]} for e in clips))
        if folds:
            tests[min(folds, key=lambda fold: (len(tests[fold]), fold))] += clips
    plan = _plan(cards[0], data, examples)
    heads = [partial(_load_head, model, data) for model in models]
    return read_folds(heads, tests, plan, data.fold_seed, jobs, signs)


def _read_clips(data: DataSettings) -> list[Example]:
    if not data.index:
        raise ValueError("give --index: the clips to score heads on")
    return read_clips(data, ORIGINAL)


def _plan(card: dict[str, Any], data: DataSettings, clips: Sequence[Example]) -> TrainingPlan:
    """What a head says of itself, as the plan to read `clips`."""
    spec = read_spec(data.index)
    made_for = spec_from(card["encoder"])
    if (spec.kind, spec.dim, spec.resize) != (made_for.kind, made_for.dim, made_for.resize):
        raise ValueError(
            f"{data.index}: its encoder is not the one that the head was made for: "
            f"{spec.kind}, {spec.dim} numbers, --resize {spec.resize}; the head: "
            f"{made_for.kind}, {made_for.dim}, {made_for.resize}"
        )
    torch.set_num_threads(data.torch_threads(spec.kind))
    return TrainingPlan(
        examples=clips,
        glosses=tuple(card["glosses"]),
        spec=spec,
        hop_s=card["hop_s"],
        open_set=card["head"]["idle"],
        settings=TrainSettings(),
        threads=data.torch_threads(spec.kind),
    )


def _load(model: str, data: DataSettings) -> Checkpoint:
    """The heads of a file; with `--glosses` as if they knew only these."""
    trained = load_checkpoint(model)
    if data.glosses is None:
        return trained
    try:
        return keep_glosses(trained, read_glosses(data.glosses))
    except ValueError as exc:
        raise ValueError(f"{model} with --glosses {data.glosses}: {exc}") from exc


def _load_head(model: str, data: DataSettings) -> nn.Module:
    return _load(model, data).head


def _run(trained: Checkpoint, plan: TrainingPlan, clips: Sequence[Example]) -> Iterator[ClipLogits]:
    for e in tqdm(clips, unit="clip", disable=None):
        yield clip_logits(trained.head, e, 0, plan.spec, plan.hop_s)


def _read_official(file: str, split: str) -> dict[str, str]:
    """The gloss of each instance of the split (test, val, train) of a labels file, by video id."""
    labelled = read_labels(file, Path(file).parent)
    gloss_of = {video.video_id: video.gloss for video in labelled if video.split == split}
    if not gloss_of:
        known = ", ".join(sorted({video.split for video in labelled} - {""})) or "none"
        raise ValueError(f"{file}: has no instance in the split {split} (it has: {known})")
    return gloss_of


def _instances(
    file: str, split: str, gloss_of: dict[str, str], examples: Sequence[Example]
) -> list[Example]:
    """The examples that are instances of an official split, with its glosses."""
    found = [e for e in examples if e.video_id in gloss_of]
    if not found:
        raise ValueError(
            f"{file}: none of its {len(gloss_of)} {split} instances is in the index (by video_id)"
        )
    other = [e for e in found if e.gloss.lower() != gloss_of[e.video_id].lower()]
    if other:
        named = "; ".join(
            f"{e.video_id} is {e.gloss} in the index, {gloss_of[e.video_id]} here"
            for e in other[:_NAMED]
        )
        raise ValueError(f"{file}: {len(other)} clips have another gloss: {named}")
    return found


def _coverage(
    file: str, split: str, gloss_of: dict[str, str], found: Sequence[Example], outcomes: Outcomes
) -> dict[str, Any]:
    """How much of the split was available and scored, and the bounds of its top-1: with all other
    instances wrong, and with all of them right."""
    ids = {e.video_id for e in found}
    total, right = len(gloss_of), int((outcomes.ranks == 0).sum())
    most = right + total - len(outcomes)
    return {
        "file": Path(file).name,
        "split": split,
        "instances": total,
        "available": len(ids),
        "scored": len(outcomes),
        "glosses": len(set(gloss_of.values())),
        "glosses_scored": len({clip.gloss for clip in outcomes.clips}),
        "top1_bounds": [round(right / total, 4), round(most / total, 4)],
        "missing": sorted(gloss_of.keys() - ids),
    }

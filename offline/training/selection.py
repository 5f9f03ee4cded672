"""From options to a trained head: reads the clips, trains candidates, keeps the best one.

    index.csv + config -> [selection] -> batches -> trainer -> logit adjustment -> an ensemble

Where there are several candidates, clips of some signers are held back to choose by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.heads import Head, HeadEnsemble, last_layer
from models.schema import EncoderSpec
from offline.data.duplicates import read_recordings
from offline.data.examples import Example, Vocabulary, common_glosses, read_spec, scored, vocabulary
from offline.data.splits import grouped_folds
from offline.scoring.clip_predictions import predict_clip, window_outputs
from offline.training.batches import TrainClips, batches_of
from offline.training.config import DataSettings, TrainSettings
from offline.training.trainer import FittedHead, OnProgress, Resume, Score, fit

_FOLDS = 5  # one of them is held back; of fewer signer groups, one group


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The clips and the settings of a training: what one fold of a cross-validation needs."""

    examples: Sequence[Example]
    glosses: tuple[str, ...]
    spec: EncoderSpec
    hop_s: float
    open_set: bool
    settings: TrainSettings
    threads: int = 1


def read_plan(data: DataSettings, settings: TrainSettings) -> TrainingPlan:
    """The training that the options describe, with its index read.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    device = _device(settings.device)
    examples = read_clips(data)
    return TrainingPlan(
        examples=examples,
        glosses=_glosses(data, examples),
        spec=read_spec(data.index),
        hop_s=data.hop_s,
        open_set=data.open_set,
        settings=replace(settings, device=device),
        threads=data.threads,
    )


def read_clips(data: DataSettings, variant: str | None = None) -> list[Example]:
    """The clips of the index that `--cards` lets in; only those of one variant if it is given."""
    examples = read_recordings(data.index, variant=variant)
    return [e for e in examples if data.cards == "keep" or not e.title_card]


def named_groups(names: str | None, examples: Sequence[Example], option: str) -> set[str]:
    """The signer groups of the signers that `option` names, separated by commas.

    Raises:
        ValueError: one of them has no clip.
    """
    wanted = set(names.split(",")) if names else set()
    unknown = wanted - {name for e in examples for name in (e.signer, e.group)}
    if unknown:
        raise ValueError(f"{option}: no clip of {', '.join(sorted(unknown))}")
    return {e.group for e in examples if wanted & {e.signer, e.group}}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """Heads trained on some clips."""

    head: HeadEnsemble  # in evaluation mode
    vocabulary: Vocabulary
    fitted: list[FittedHead]  # those in `head`, one a seed


def learn(
    plan: TrainingPlan,
    train: Sequence[Example],
    resume: Path | None = None,
    progress: OnProgress | None = None,
) -> Trained:
    """Train the plan's heads on `train`; to choose among candidates, on 4/5 of its signers.

    The heads differ by their seeds. Each resumes from the state in `RESUME.NUMBER`.

    Raises:
        ValueError: there are too few clips or signer groups; `resume` is of another training.
    """
    torch.set_num_threads(plan.threads)
    glosses, settings = plan.glosses, plan.settings
    classes = vocabulary(train, glosses, plan.open_set)
    held: list[Example] = []
    if settings.chooses:
        train, held = hold_back(train, glosses, settings.seed)

    def validate(head: nn.Module) -> Score:
        right, loss = 0, 0.0
        for example in held:
            rows, windows = example.rows, example.windows
            logits = window_outputs(head, rows, plan.spec, plan.hop_s, windows).logits
            p = predict_clip(logits, classes.classes, plan.spec, plan.hop_s, 1.0)
            label = classes.label(example.gloss)
            right += int(p.argmax()) == label
            loss -= float(np.log(p[label] + 1e-9))
        return right / len(held), -loss / len(held)

    clips = batches_of(train, classes, plan.spec, settings)
    fitted = []
    for i in range(settings.heads):
        fitted.append(
            fit(
                clips,
                replace(settings, seed=settings.seed + i),
                validate=validate if held else None,
                resume=Resume(resume.with_name(f"{resume.name}.{i}")) if resume else None,
                progress=progress,
            )
        )
        adjust_logits(fitted[-1].head, clips, len(glosses))
    ensemble = HeadEnsemble([found.head for found in fitted], len(glosses), classes.classes)
    ensemble = ensemble.eval().to(settings.device)  # a CPU takes seconds for all tokens of a clip
    return Trained(head=ensemble, vocabulary=classes, fitted=fitted)


def hold_back(
    train: Sequence[Example], glosses: Sequence[str], seed: int
) -> tuple[list[Example], list[Example]]:
    """The clips to train on, and clips to choose by: no signer group is in both.

    Raises:
        ValueError: there are fewer than two signer groups.
    """
    fair = [e for e in scored(train) if e.gloss in glosses]
    groups = [e.group for e in fair]
    try:
        folds = grouped_folds([e.gloss for e in fair], groups, min(_FOLDS, len(set(groups))), seed)
    except ValueError as exc:
        raise ValueError(f"no clips can be held back to choose a head by: {exc}") from exc
    held = [e for e, fold in zip(fair, folds, strict=True) if fold == 0]
    held_groups = {e.group for e in held}
    return [e for e in train if e.group not in held_groups], held


@torch.no_grad()
def adjust_logits(head: Head, clips: TrainClips, glosses: int) -> None:
    """Take out of the logits of the first `glosses` classes how often each was drawn.

    A gloss with two clips beside one with thirty is drawn seldom, and the head learns to predict it
    seldom. Logit adjustment (Menon et al. 2021) with tau = 1, so there is nothing to tune;
    docs/training.md has what it gains. The sum over glosses stays, so that the other classes
    (other signs, idle) weigh as much as before. A gloss without a clip is left alone.
    """
    drawn = np.bincount(clips.labels, clips.weights, minlength=clips.classes)[:glosses]
    there = np.flatnonzero(drawn)
    shift = np.log(drawn[there].mean() / drawn[there])
    last_layer(head).bias[torch.from_numpy(there)] += torch.from_numpy(shift).float()


def _glosses(data: DataSettings, examples: Sequence[Example]) -> tuple[str, ...]:
    """The glosses that `--glosses` lists, one a line, or those with `--min-clips` clips."""
    if not data.glosses:
        return common_glosses(examples, data.min_clips)
    try:
        lines = Path(data.glosses).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise ValueError(f"{data.glosses}: can't be read: {exc.strerror}") from exc
    names = [line.strip() for line in lines if line.strip()]
    missing = set(names) - {e.gloss for e in examples}
    if missing or len(set(names)) < len(names) or not names:
        wrong = f"no clip of {sorted(missing)[:5]}" if missing else "glosses twice, or none at all"
        raise ValueError(f"{data.glosses}: {wrong}")
    return tuple(names)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as exc:  # torch asserts that it was built with CUDA
        raise ValueError(f"--device {name}: not on this machine; take auto or cpu") from exc
    return name

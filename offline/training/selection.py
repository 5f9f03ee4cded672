"""From options to a trained head: reads the clips, trains candidates, keeps the best one.

    index.csv + config -> [selection] -> batches -> trainer -> logit adjustment -> an ensemble

Clips of some signers are held back to choose the best epoch by, and the best of several candidates.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.heads import Head, HeadEnsemble, last_layer
from models.schema import EncoderSpec
from offline.data.duplicates import read_recordings
from offline.data.examples import Example, Vocabulary, common_glosses, read_spec, scored, vocabulary
from offline.data.splits import grouped_folds
from offline.scoring.clip_predictions import by_windows, predict_clip, window_outputs
from offline.training.batches import TrainClips, batches_of
from offline.training.config import DataSettings, TrainChoices, TrainSettings
from offline.training.trainer import (
    FittedHead,
    OnProgress,
    Resume,
    Score,
    Validation,
    fit,
    score_of,
)

_MANY = 1000  # clips, of which a tenth is enough to choose by
_LEAST = 5  # clips to choose the best epoch by
_SCORED = 200  # of the clips held back at most, so that scoring them takes little time
_LEARNING = 3  # times as long takes a window to learn as to compute


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
    skipped: tuple[str, ...] = ()  # rows of the index that could not be read, and why


def read_plan(data: DataSettings, choices: TrainChoices) -> TrainingPlan:
    """The training that the options describe, with its index read.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    device = _device(choices.device)
    spec = read_spec(data.index)
    if choices.head == "landmarks" and spec.kind != "landmarks":
        raise ValueError(f"{data.index}: its rows are of {spec.kind}: not for --head landmarks")
    skipped = list[str]()
    examples = read_clips(data, skipped=skipped)
    glosses = _glosses(data, examples)
    if len(glosses) < 2 and not data.open_set:
        raise ValueError(
            f"{data.index}: nothing to tell apart: only the gloss {glosses[0]}; with videos of "
            "other signs or of nobody signing, give --open-set"
        )
    return TrainingPlan(
        examples=examples,
        glosses=glosses,
        spec=spec,
        hop_s=data.hop_s,
        open_set=data.open_set,
        settings=replace(choices.resolved(spec.kind, len(glosses)), device=device),
        threads=data.torch_threads(spec.kind),
        skipped=tuple(skipped),
    )


def read_clips(
    data: DataSettings, variant: str | None = None, skipped: list[str] | None = None
) -> list[Example]:
    """The clips of the index that `--cards` lets in; only those of one variant if it is given.

    `skipped` gets a line for each row whose file has no rows of numbers.
    """
    examples = read_recordings(data.index, variant=variant, skipped=skipped)
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
    train: Sequence[Example]  # that they were trained on ...
    clips: TrainClips  # ... and as they were drawn
    validation: Sequence[Example]  # that their epochs were chosen by; none: the last was kept


def learn(
    plan: TrainingPlan,
    train: Sequence[Example],
    resume: Path | None = None,
    progress: OnProgress | None = None,
    validation: Sequence[Example] = (),
) -> Trained:
    """Train the plan's heads on `train`, and keep each as it was after its best epoch.

    The epoch, and one of several candidates, is chosen on `validation`; without it on clips of some
    signers of `train`, who are not trained on, unless `--validation none`. The heads differ by
    their seeds; their states lie in one file, `resume`.

    Raises:
        ValueError: there are too few clips or signer groups; `resume` is of another training.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    torch.set_num_threads(plan.threads)
    glosses, settings = plan.glosses, plan.settings
    classes = vocabulary(train, glosses, plan.open_set)
    if settings.validation == "none":
        held = list[Example]()
    else:
        train, held = to_choose_by(
            train, validation, glosses, settings.seed, needed=settings.chooses
        )
    clips = batches_of(train, classes, plan.spec, settings)
    fitted = []
    for i in range(settings.heads):
        fitted.append(
            fit(
                clips,
                replace(settings, seed=settings.seed + i),
                validation=_validation(held, plan, classes) if held else None,
                resume=Resume(resume, part=i) if resume else None,
                progress=progress and partial(progress, head=i + 1),
            )
        )
        adjust_logits(fitted[-1].head, clips, len(glosses))
    ensemble = HeadEnsemble([found.head for found in fitted], len(glosses), classes.classes)
    ensemble = ensemble.eval().to(settings.device)  # a CPU takes seconds for all tokens of a clip
    return Trained(
        head=ensemble,
        vocabulary=classes,
        fitted=fitted,
        train=train,
        clips=clips,
        validation=held,
    )


def _validation(held: Sequence[Example], plan: TrainingPlan, classes: Vocabulary) -> Validation:
    """Scores of a head on the clips `held`, by windows further apart than they are served."""
    hop_s = max(plan.hop_s, plan.spec.window_s / 4)

    def read(head: nn.Module, example: Example) -> tuple[NDArray[np.float32], int]:
        rows, windows, label = example.rows, example.windows, classes.label(example.gloss)
        assert label is not None  # held back are clips of the glosses
        logits = window_outputs(head, rows, plan.spec, hop_s, windows).logits
        return predict_clip(logits, classes.classes, plan.spec, hop_s, 1.0), label

    def score(head: nn.Module) -> Score:
        return score_of([read(head, example) for example in held])

    windows = float(sum(e.windows for e in held))
    if by_windows(plan.spec):  # a landmark head reads each window twice, once mirrored
        windows = sum(2 * e.stored.shape[0] / (hop_s * plan.spec.fps) for e in held)
    return Validation(score=score, clips=len(held), windows=windows / _LEARNING)


def to_choose_by(
    train: Sequence[Example],
    validation: Sequence[Example],
    glosses: Sequence[str],
    seed: int,
    *,
    needed: bool = False,
) -> tuple[list[Example], list[Example]]:
    """The clips to train on, and at most `_SCORED` to choose by.

    The latter are of `validation`; without any, of signers that are held back of `train`.

    Raises:
        ValueError: as `hold_back`.
    """
    held = [e for e in scored(validation) if e.gloss in glosses]
    if not held:
        train, held = hold_back(train, glosses, seed, needed=needed)
    return list(train), random.Random(seed).sample(held, _SCORED) if len(held) > _SCORED else held


def hold_back(
    train: Sequence[Example], glosses: Sequence[str], seed: int, *, needed: bool = True
) -> tuple[list[Example], list[Example]]:
    """The clips to train on, and clips to choose by: no signer group is in both.

    The latter are a fifth of the clips, of many a tenth; each gloss keeps a clip to learn from.
    Where too few would be left to choose by, a line says so and there are none.

    Raises:
        ValueError: they are `needed`, and there are fewer than two signer groups.
    """
    fair = [e for e in scored(train) if e.gloss in glosses]
    groups = [e.group for e in fair]
    folds = 10 if len(fair) > _MANY else 5
    if needed:
        folds = min(folds, len(set(groups)))
    try:
        fold_of = grouped_folds([e.gloss for e in fair], groups, folds, seed)
    except ValueError as exc:
        if needed:
            raise ValueError(f"no clips can be held back to choose a head by: {exc}") from exc
        print(f"no clips are held back to choose the best epoch by, the last is kept: {exc}")
        return list(train), []
    chosen = {group for group, fold in zip(groups, fold_of, strict=True) if fold == 0}
    for group in sorted(chosen):
        left = {e.gloss for e in train if e.group not in chosen}
        if any(e.group == group and e.gloss not in left for e in fair):
            chosen.discard(group)  # nobody else shows one of its glosses
    held = [e for e in fair if e.group in chosen]
    if len(held) < (1 if needed else _LEAST):
        if needed:
            raise ValueError(
                "no clips can be held back to choose a head by: too few glosses are shown by "
                "several signers"
            )
        print(f"no clips are held back to choose the best epoch by, the last is kept: {len(held)} "
              "clips of signers whose glosses others show too are too few")  # fmt: skip
        return list(train), []
    print(
        f"{len(held)} clips of {len(chosen)} signer groups are held back to choose the best epoch"
    )
    return [e for e in train if e.group not in chosen], held


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
    names = read_glosses(data.glosses)
    if missing := set(names) - {e.gloss for e in examples}:
        raise ValueError(f"{data.glosses}: no clip of {sorted(missing)[:5]}")
    return names


def read_glosses(file: str) -> tuple[str, ...]:
    """The glosses that a file lists, one a line.

    Raises:
        ValueError: it can't be read, lists none, or lists one twice.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{file}: can't be read: {getattr(exc, 'strerror', exc)}") from exc
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"{file}: glosses twice, or none at all")
    return names


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as exc:  # torch asserts that it was built with CUDA
        raise ValueError(f"--device {name}: not on this machine; take auto or cpu") from exc
    return name

"""Chooses among heads by clips held back from training, whose signers no head has seen.

examples -> [selection] -> lessons -> trainer -> priors
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from models.schema import EncoderSpec
from offline.evaluation.answers import clip_answer, clip_logits
from offline.examples import Example, Vocabulary, scored
from offline.splitting.splits import grouped_folds
from offline.training.lessons import lessons
from offline.training.priors import even_out
from offline.training.recipe import TrainSettings
from offline.training.trainer import Fitted, Progress, Score, fit_heads

_FOLDS = 5  # one of them is held back; of fewer signer groups, one group


def learn(
    train: Sequence[Example],
    words: Vocabulary,
    spec: EncoderSpec,
    hop_s: float,
    settings: TrainSettings,
    *,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> list[Fitted]:
    """Heads trained on `train`; where there is a choice, on four fifths of its signer groups.

    Raises:
        ValueError: there are too few clips or signer groups; `resume` is of another training.
    """
    held: list[Example] = []
    if settings.chooses:
        train, held = hold_back(train, words.glosses, settings.seed)

    def validate(head: nn.Module) -> Score:
        right, loss = 0, 0.0
        for example in held:
            logits = clip_logits(head, example.rows, spec, hop_s)
            p = clip_answer(logits, words.classes, spec, hop_s, 1.0)
            label = words.label(example.gloss)
            right += int(p.argmax()) == label
            loss -= float(np.log(p[label] + 1e-9))
        return right / len(held), -loss / len(held)

    clips = lessons(train, words, spec, settings)
    fitted = fit_heads(
        clips,
        settings,
        validate=validate if held else None,
        resume=resume,
        progress=progress,
    )
    for one in fitted:
        even_out(one.head, clips, len(words.glosses))
    return fitted


def hold_back(
    train: Sequence[Example], glosses: Sequence[str], seed: int
) -> tuple[list[Example], list[Example]]:
    """What is left to learn from, and clips to choose by: no signer group is in both.

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
    away = {e.group for e in held}
    return [e for e in train if e.group not in away], held

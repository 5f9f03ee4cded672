"""Chooses among heads by clips held back from training, whose signers no head has seen.

examples -> [selection] -> lessons -> trainer -> priors
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.heads import Head, last_layer
from models.schema import EncoderSpec
from offline.data.examples import Example, Vocabulary, scored
from offline.data.splits import grouped_folds
from offline.scoring.clip_predictions import clip_answer, clip_logits
from offline.training.batches import TrainClips, batches_of
from offline.training.config import TrainSettings
from offline.training.trainer import Fitted, OnProgress, Score, fit_heads

_FOLDS = 5  # one of them is held back; of fewer signer groups, one group


def learn(
    train: Sequence[Example],
    words: Vocabulary,
    spec: EncoderSpec,
    hop_s: float,
    settings: TrainSettings,
    *,
    resume: Path | None = None,
    progress: OnProgress | None = None,
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

    clips = batches_of(train, words, spec, settings)
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


# MERGED from offline.training.priors: Takes back what a head learnt of how often each gloss was
# shown to it: that is chance, no sign. lessons + a trained head -> [priors] -> a head to which
# all glosses are alike beforehand A gloss with two clips beside one with thirty is drawn seldom
# in training, and the head learns to say it seldom. Its share of the windows is taken out of its
# logit: logit adjustment (Menon et al. 2021), with their tau of 1, so there is nothing to tune.
# docs/training.md has what it gains.


@torch.no_grad()
def even_out(head: Head, clips: TrainClips, glosses: int) -> None:
    """Let the first `glosses` classes of `head`, trained on `clips`, be alike beforehand.

    What all of them had together stays, so that the other classes (other signs, no sign) weigh as
    much as before. A gloss without a clip is left alone.
    """
    drawn = np.bincount(clips.labels, clips.weights, minlength=clips.classes)[:glosses]
    there = np.flatnonzero(drawn)
    shift = np.log(drawn[there].mean() / drawn[there])
    last_layer(head).bias[torch.from_numpy(there)] += torch.from_numpy(shift).float()

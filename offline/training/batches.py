"""Examples -> batches to train on: how often a clip is drawn, and how it is cut, changed and mixed.

    examples -> [batches] -> trainer

All random numbers of a batch come from one generator, so that a resumed training gets the batches
that it would have had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.few_shot import IDLE
from models.heads import Head, LandmarkClassifier
from models.schema import EncoderSpec
from offline.data.examples import Example, Vocabulary
from offline.data.index import StoredRows
from offline.training.augment import AugmentSettings, WindowSource, augment
from offline.training.config import TrainSettings

Rows = NDArray[np.floating] | StoredRows  # (T, D)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainClips:
    """The clips that a head is trained on. Class `idle` (None: there is none) is 'no sign'."""

    rows: Sequence[Rows]
    labels: list[int]
    weights: list[float]  # how often a clip is drawn
    classes: int
    idle: int | None
    frames: int
    fps: float


def batches_of(
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    spec: EncoderSpec,
    settings: TrainSettings,
) -> TrainClips:
    """The examples that have a class in `vocabulary`, each with how often it is drawn.

    `settings.shares` are the shares of windows of glosses to recognise, of other glosses with a
    class each, of further glosses, and of idle.
    """
    labelled = [(e, label) for e in examples if (label := vocabulary.label(e.gloss)) is not None]
    labels = np.array([label for _, label in labelled], np.int64)
    known = len(vocabulary.glosses)
    edges = [known, known + len(vocabulary.others), vocabulary.classes - vocabulary.nothing]
    kind = np.digitize(labels, edges)
    # The takes of one signer count as one: some have forty of a sign, all much alike.
    takes = Counter((e.group, e.gloss) for e, _ in labelled if e.gloss != IDLE)
    alone = np.array([1 / max(1, takes[e.group, e.gloss]) for e, _ in labelled])
    signers = np.bincount(labels, alone, minlength=vocabulary.classes)
    weights = alone / signers[labels] ** settings.balance
    for k, share in enumerate(settings.shares):
        if (kind == k).any():
            weights[kind == k] *= share / weights[kind == k].sum()
    return TrainClips(
        rows=[e.stored for e, _ in labelled],
        labels=labels.tolist(),
        weights=weights.tolist(),
        classes=vocabulary.classes,
        idle=vocabulary.idle,
        frames=spec.frames,
        fps=spec.fps,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The input of one step, and the generator's state after it was drawn."""

    features: Tensor  # B, T, D
    mask: Tensor  # B, T
    target: Tensor  # B, K; sums to 1
    drawn: Tensor


class Batches:
    """Draws one batch of `clips` after another with the generator `draw`.

    For a landmark head all rows are read, its scale is fitted to them, and they are cut into random
    windows. Other embeddings are read batch by batch, one ahead, and are taken whole.
    """

    def __init__(
        self, clips: TrainClips, settings: TrainSettings, draw: torch.Generator, head: Head
    ) -> None:
        self._clips, self._settings, self._draw = clips, settings, draw
        self._changes = AugmentSettings()
        self._labels, self._weights = torch.tensor(clips.labels), torch.tensor(clips.weights)
        self._source: WindowSource | None = None
        if isinstance(head, LandmarkClassifier):
            rows = [np.asarray(r, np.float32) for r in clips.rows]
            head.fit_scale(torch.from_numpy(np.concatenate(rows)))
            self._source = WindowSource(rows, clips.frames, clips.fps)

    def take(self, steps: int) -> Iterator[Batch]:
        """`steps` batches; those that are read from disk are made on a thread, one ahead."""
        if self._source is not None:
            yield from (self._make() for _ in range(steps))
            return
        with ThreadPoolExecutor(1, "batches") as thread:
            coming = thread.submit(self._make) if steps else None
            while coming is not None:
                batch, steps = coming.result(), steps - 1
                coming = thread.submit(self._make) if steps else None
                yield batch

    def _make(self) -> Batch:
        clips, settings, draw = self._clips, self._settings, self._draw
        # torch.multinomial is what WeightedRandomSampler draws with, there for a whole epoch.
        chosen = torch.multinomial(self._weights, settings.batch, replacement=True, generator=draw)
        if self._source is not None:
            features, seen, instead = self._source.windows(chosen, self._changes, draw)
            features = self._source.rest_a_hand(features, self._changes, draw)
            features = augment(features, self._changes, draw)
            mask = torch.ones(features.shape[:2], dtype=torch.bool)
        else:
            features, mask = pad([clips.rows[i] for i in chosen.tolist()])
            seen, instead = torch.ones(len(chosen)), torch.full((len(chosen),), -1)
        target = F.one_hot(self._labels[chosen], clips.classes).float()
        if clips.idle is not None:
            rest = torch.where(instead >= 0, self._labels[instead], clips.idle)
            rest = F.one_hot(rest, clips.classes).float()
            target = seen[:, None] * target + (1 - seen)[:, None] * rest
        target = (1 - settings.smoothing) * target + settings.smoothing / clips.classes
        if float(torch.rand(1, generator=draw)) < settings.mixup:
            share = 0.5 + 0.5 * float(torch.rand(1, generator=draw))
            share = 1 - (1 - share) * 0.8
            other = torch.randperm(len(chosen), generator=draw)
            features = share * features + (1 - share) * features[other]
            target = share * target + (1 - share) * target[other]
            mask = mask | mask[other]
        return Batch(features=features, mask=mask, target=target, drawn=draw.get_state())


def pad(clips: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """Rows (T, D) each -> features (B, longest T, D) and the mask of the real ones (B, T)."""
    longest = max(rows.shape[0] for rows in clips)
    features = torch.zeros(len(clips), longest, clips[0].shape[1])
    mask = torch.zeros(len(clips), longest, dtype=torch.bool)
    for i, rows in enumerate(clips):
        features[i, : rows.shape[0]] = torch.from_numpy(np.asarray(rows, np.float32))
        mask[i, : rows.shape[0]] = True
    return features, mask

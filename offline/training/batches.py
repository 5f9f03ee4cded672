"""Examples -> batches to train on: how often a clip is drawn, and how it is cut, changed and mixed.

    examples -> [batches] -> trainer

All random numbers of a batch come from one generator, so that a resumed training gets the batches
that it would have had. All tokens of a clip are megabytes: they are read by threads while the last
batch is learnt from, one window of each clip, and stay float16 until they are on the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
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
_READERS = 4  # threads: one reads 1 GB/s or less, a GPU may learn from three


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
    windows: Sequence[int] = ()  # in each clip's rows; of one a step draws one. Empty: 1 in all


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
        windows=[e.windows for e, _ in labelled] if any(e.windows > 1 for e, _ in labelled) else (),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The input of one step, and the generator's state after it was drawn."""

    features: Tensor  # B, T, D; float32, or float16 until it is `ready`
    mask: Tensor  # B, T
    target: Tensor  # B, K; sums to 1
    drawn: Tensor
    mix: tuple[float, Tensor] | None = None  # each clip's share, and its partner (B)

    def ready(self, device: str) -> Batch:
        """On the device, in float32, and mixed."""
        features = self.features.to(device, non_blocking=True).float()
        mask, target = self.mask, self.target
        if self.mix is not None:
            share, other = self.mix
            features = share * features + (1 - share) * features[other.to(device)]
            target = share * target + (1 - share) * target[other]
            mask = mask | mask[other]
        return Batch(
            features=features, mask=mask.to(device), target=target.to(device), drawn=self.drawn
        )


class Batches:
    """Draws one batch of `clips` after another with the generator `draw`.

    For a landmark head all rows are read, its scale is fitted to them, and they are cut into random
    windows. Other embeddings are read batch by batch, one ahead: a window of each clip, whole.
    """

    def __init__(
        self, clips: TrainClips, settings: TrainSettings, draw: torch.Generator, head: Head
    ) -> None:
        self._clips, self._settings, self._draw = clips, settings, draw
        self._changes = AugmentSettings()
        self._labels, self._weights = torch.tensor(clips.labels), torch.tensor(clips.weights)
        self._windows = torch.tensor(clips.windows)
        self._source: WindowSource | None = None
        if isinstance(head, LandmarkClassifier):
            rows = [np.asarray(r, np.float32) for r in clips.rows]
            head.fit_scale(torch.from_numpy(np.concatenate(rows)))
            self._source = WindowSource(rows, clips.frames, clips.fps)

    def take(self, steps: int) -> Iterator[Batch]:
        """`steps` batches; those that are read from disk are made on threads, one ahead."""
        device = self._settings.device
        if self._source is not None:
            yield from (self._make().ready(device) for _ in range(steps))
            return
        with ThreadPoolExecutor(1, "batches") as thread, ThreadPoolExecutor(_READERS) as readers:
            coming = thread.submit(self._make, readers) if steps else None
            while coming is not None:
                batch, steps = coming.result(), steps - 1
                coming = thread.submit(self._make, readers) if steps else None
                yield batch.ready(device)

    def _make(self, readers: Executor | None = None) -> Batch:
        clips, settings, draw = self._clips, self._settings, self._draw
        # torch.multinomial is what WeightedRandomSampler draws with, there for a whole epoch.
        chosen = torch.multinomial(self._weights, settings.batch, replacement=True, generator=draw)
        if self._source is not None:
            features, seen, instead = self._source.windows(chosen, self._changes, draw)
            features = self._source.rest_a_hand(features, self._changes, draw)
            features = augment(features, self._changes, draw)
            mask = torch.ones(features.shape[:2], dtype=torch.bool)
        else:
            windows = []
            if len(self._windows):
                counts = self._windows[chosen]
                numbers = (torch.rand(len(chosen), generator=draw) * counts).long()
                windows = list(zip(numbers.tolist(), counts.tolist(), strict=True))
            features, mask = pad([clips.rows[i] for i in chosen.tolist()], windows, readers)
            seen, instead = torch.ones(len(chosen)), torch.full((len(chosen),), -1)
        target = F.one_hot(self._labels[chosen], clips.classes).float()
        if clips.idle is not None:
            rest = torch.where(instead >= 0, self._labels[instead], clips.idle)
            rest = F.one_hot(rest, clips.classes).float()
            target = seen[:, None] * target + (1 - seen)[:, None] * rest
        target = (1 - settings.smoothing) * target + settings.smoothing / clips.classes
        mix = None
        if float(torch.rand(1, generator=draw)) < settings.mixup:
            share = 0.5 + 0.5 * float(torch.rand(1, generator=draw))
            share = 1 - (1 - share) * 0.8
            mix = share, torch.randperm(len(chosen), generator=draw)
        return Batch(features=features, mask=mask, target=target, drawn=draw.get_state(), mix=mix)


def pad(
    clips: Sequence[Rows],
    windows: Sequence[tuple[int, int]] = (),
    readers: Executor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows (T, D) each -> features (B, longest T, D) and the mask of the real ones (B, T).

    windows: which window of how many to take of each clip; empty: all rows. The features are
    float16 if all rows are stored so. On a machine with a GPU they are page-locked.
    """
    windows = windows or [(0, 1)] * len(clips)
    lengths = [rows.shape[0] // count for rows, (_, count) in zip(clips, windows, strict=True)]
    half = all(isinstance(rows, StoredRows) and rows.half for rows in clips)
    features = torch.zeros(
        (len(clips), max(lengths), clips[0].shape[1]),
        dtype=torch.float16 if half else torch.float32,
        pin_memory=torch.cuda.is_available(),
    )

    def read(i: int) -> None:
        first, length = windows[i][0] * lengths[i], lengths[i]
        rows = clips[i]
        if isinstance(rows, StoredRows):
            part = rows.read(first, length)
        else:
            part = rows[first : first + length]
        features[i, :length] = torch.from_numpy(part)

    list((map if readers is None else readers.map)(read, range(len(clips))))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return features, mask

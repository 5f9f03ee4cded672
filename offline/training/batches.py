"""Examples -> batches to learn from: which clip is drawn how often, cut, changed and mixed how.

    examples -> [lessons] -> trainer

All chance in a batch comes from one generator, so that a training that was cut off goes on with
the batches that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.heads import LandmarkClassifier
from models.schema import EncoderSpec
from offline.data.examples import Example, Vocabulary
from offline.training.augment import AugmentSettings, WindowSource, augment
from offline.training.config import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainClips:
    """What a head learns from. Class `idle` (None: there is none) is 'no sign'."""

    rows: Sequence[NDArray[np.float32]]  # (T, D) each
    labels: Sequence[int]
    weights: Sequence[float]  # how often a clip is drawn
    classes: int
    idle: int | None
    frames: int
    fps: float


class _RowsOf(Sequence[NDArray[np.float32]]):
    """The rows of examples, read when they are asked for."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, at: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[NDArray[np.float32]]: ...
    def __getitem__(self, at: int | slice) -> NDArray[np.float32] | Sequence[NDArray[np.float32]]:
        if isinstance(at, slice):
            return _RowsOf(self._examples[at])
        return self._examples[at].rows


def batches_of(
    examples: Sequence[Example], words: Vocabulary, spec: EncoderSpec, settings: TrainSettings
) -> TrainClips:
    """The examples that `words` has a class for, each with how often it is to be drawn.

    `settings.shares` says how many windows are of glosses to recognise, of other glosses told
    apart, of further glosses, and of nobody signing.
    """
    taken = [(e, label) for e in examples if (label := words.label(e.gloss)) is not None]
    labels = np.array([label for _, label in taken], np.int64)
    edges = [len(words.glosses), len(words.glosses) + len(words.others)]
    kind = np.digitize(labels, [*edges, words.classes - words.nothing])
    counts = np.bincount(labels, minlength=words.classes)
    weights = 1.0 / counts[labels] ** settings.balance
    for k, share in enumerate(settings.shares):
        if (kind == k).any():
            weights[kind == k] *= share / weights[kind == k].sum()
    return TrainClips(
        rows=_RowsOf([e for e, _ in taken]),
        labels=labels.tolist(),
        weights=weights.tolist(),
        classes=words.classes,
        idle=words.idle,
        frames=spec.frames,
        fps=spec.fps,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one step learns from, and the generator's state after it was drawn."""

    features: Tensor  # B, T, D
    mask: Tensor  # B, T
    target: Tensor  # B, K; sums to 1
    drawn: Tensor


class Batches:
    """Draws batches of `clips`, one after the other, from the generator `draw`.

    Landmark rows are in memory and cut into random windows; other embeddings are read batch by
    batch, a batch ahead of the training, and taken whole.
    """

    def __init__(
        self,
        clips: TrainClips,
        settings: TrainSettings,
        changes: AugmentSettings,
        draw: torch.Generator,
    ) -> None:
        self._clips, self._settings, self._changes, self._draw = clips, settings, changes, draw
        self._labels = torch.tensor(list(clips.labels))
        self._weights = torch.tensor(list(clips.weights))
        self._source: WindowSource | None = None

    def prepare(self, head: torch.nn.Module) -> None:
        """Read what `head` wants in memory, and fit its scale to it."""
        if isinstance(head, LandmarkClassifier):
            rows = [np.asarray(r, np.float32) for r in self._clips.rows]
            head.fit_scale(torch.from_numpy(np.concatenate(rows)))
            self._source = WindowSource(rows, self._clips.frames, self._clips.fps)

    def take(self, steps: int) -> Iterator[Batch]:
        """So many batches."""
        if self._source is not None:
            return (self._make() for _ in range(steps))
        return _ahead(self._make, steps)

    def _make(self) -> Batch:
        clips, settings, draw = self._clips, self._settings, self._draw
        # torch.multinomial is what WeightedRandomSampler draws with, there for a whole epoch.
        chosen = torch.multinomial(self._weights, settings.batch, replacement=True, generator=draw)
        if self._source is not None:
            features, seen = self._source.windows(chosen, self._changes, draw)
            features = augment(features, self._changes, draw)
            mask = torch.ones(features.shape[:2], dtype=torch.bool)
        else:
            features, mask = pad([clips.rows[i] for i in chosen.tolist()])
            seen = torch.ones(len(chosen))
        target = F.one_hot(self._labels[chosen], clips.classes).float()
        if clips.idle is not None:
            nothing = F.one_hot(torch.tensor(clips.idle), clips.classes).float()
            target = seen[:, None] * target + (1 - seen)[:, None] * nothing
        target = (1 - settings.smoothing) * target + settings.smoothing / clips.classes
        if float(torch.rand(1, generator=draw)) < settings.mixup:
            share = 0.5 + 0.5 * float(torch.rand(1, generator=draw))
            share = 1 - (1 - share) * 0.8
            other = torch.randperm(len(chosen), generator=draw)
            features = share * features + (1 - share) * features[other]
            target = share * target + (1 - share) * target[other]
            mask = mask | mask[other]
        return Batch(features=features, mask=mask, target=target, drawn=draw.get_state())


def pad(rows: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Rows (T, D) each -> features (B, longest T, D) and the mask of the real ones (B, T)."""
    longest = max(len(r) for r in rows)
    features = torch.zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, r in enumerate(rows):
        features[i, : len(r)] = torch.from_numpy(np.asarray(r, np.float32))
        mask[i, : len(r)] = True
    return features, mask


def _ahead(make: Callable[[], Batch], steps: int) -> Iterator[Batch]:
    """`make`, `steps` times; the next one is made on a thread while this one is used."""
    with ThreadPoolExecutor(1, "batches") as thread:
        coming = thread.submit(make)
        for left in reversed(range(steps)):
            batch = coming.result()
            if left:
                coming = thread.submit(make)
            yield batch

"""Trains a head on labelled rows: the one loop behind `offline.train` and `offline.evaluate`.

In: clips as rows (T, D) with a class each. Out: a head in evaluation mode. The same seed gives
the same head on the same machine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import LandmarkClassifier, make_head
from models.schema import EncoderSpec
from offline.augment import AugmentSettings, WindowSource, augment
from offline.checkpoint import Head
from offline.examples import Example, Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How long and how: `epochs` passes over the clips, in batches."""

    head: str = "landmarks"
    batch: int = 64
    epochs: float = 40
    lr: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    mixup: float = 0.3  # share of batches that are mixed
    warmup: float = 0.05  # share of the steps
    average: float = 0.99  # of the weights, a step
    balance: float = 0.5  # 0: as many windows as clips; 1: as many of each class
    shares: tuple[float, float, float, float] = (0.65, 0.15, 0.1, 0.1)  # of windows: see `lessons`
    heads: int = 1  # trained with seeds `seed`, `seed + 1`, …, to answer together
    seed: int = 0
    extra: dict[str, float] = field(default_factory=dict)  # settings of the head itself


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


def lessons(
    examples: Sequence[Example], words: Vocabulary, spec: EncoderSpec, settings: TrainSettings
) -> TrainClips:
    """The examples that `words` has a class for, each with how often it is to be drawn.

    `settings.shares` says how many windows are of glosses to recognise, of other glosses told
    apart, of further glosses, and of nobody signing.
    """
    taken = [(e.rows, label) for e in examples if (label := words.label(e.gloss)) is not None]
    labels = np.array([label for _, label in taken], np.int64)
    edges = [len(words.glosses), len(words.glosses) + len(words.others)]
    kind = np.digitize(labels, [*edges, words.classes - words.nothing])
    counts = np.bincount(labels, minlength=words.classes)
    weights = 1.0 / counts[labels] ** settings.balance
    for k, share in enumerate(settings.shares):
        if (kind == k).any():
            weights[kind == k] *= share / weights[kind == k].sum()
    return TrainClips(
        rows=[rows for rows, _ in taken],
        labels=labels.tolist(),
        weights=weights.tolist(),
        classes=words.classes,
        idle=words.idle,
        frames=spec.frames,
        fps=spec.fps,
    )


def fit_heads(
    clips: TrainClips,
    settings: TrainSettings,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[Head]:
    """`settings.heads` heads, alike but for their seeds."""
    return [
        fit(clips, replace(settings, seed=settings.seed + i), progress=progress)
        for i in range(settings.heads)
    ]


def fit(
    clips: TrainClips,
    settings: TrainSettings,
    *,
    changes: AugmentSettings = AugmentSettings(),  # noqa: B008 - frozen
    progress: Callable[[int, int, float], None] | None = None,
) -> Head:
    """A trained head in evaluation mode.

    Landmark rows are cut into random windows; other embeddings are taken whole. `progress` hears
    (step, steps, loss).

    Raises:
        ValueError: there is nothing to learn from.
    """
    if len(clips.rows) == 0:
        raise ValueError("no clip to train on")
    torch.manual_seed(settings.seed)
    draw = torch.Generator().manual_seed(settings.seed)
    dim = clips.rows[0].shape[1]
    head = make_head(
        {"kind": settings.head, "dim": dim, "classes": clips.classes, **settings.extra}
    )
    rows = [np.asarray(r, np.float32) for r in clips.rows]
    labels = torch.tensor(list(clips.labels))
    if isinstance(head, LandmarkClassifier):
        head.fit_scale(torch.from_numpy(np.concatenate(rows)))
        source = WindowSource(rows, clips.frames, clips.fps)

    weights = torch.tensor(list(clips.weights))
    steps = max(1, round(settings.epochs * math.ceil(len(rows) / settings.batch)))
    optimizer = torch.optim.AdamW(decayed(head, settings.weight_decay), lr=settings.lr)
    average = copy.deepcopy(head).eval()
    head.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * schedule(step, steps, settings.warmup)
        chosen = torch.multinomial(weights, settings.batch, replacement=True, generator=draw)
        if isinstance(head, LandmarkClassifier):
            features, seen = source.windows(chosen, changes, draw)
            features = augment(features, changes, draw)
            mask = torch.ones(features.shape[:2], dtype=torch.bool)
        else:
            features, mask = pad([rows[i] for i in chosen.tolist()])
            seen = torch.ones(len(chosen))
        target = F.one_hot(labels[chosen], clips.classes).float()
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
        logits = head(features, mask).logits
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 2.0)
        optimizer.step()
        keep = min(settings.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mine, its in zip(average.parameters(), head.parameters(), strict=True):
                mine.lerp_(its, 1 - keep)
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))
    return average


def pad(rows: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Rows (T, D) each -> features (B, longest T, D) and the mask of the real ones (B, T)."""
    longest = max(len(r) for r in rows)
    features = torch.zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, r in enumerate(rows):
        features[i, : len(r)] = torch.from_numpy(np.asarray(r, np.float32))
        mask[i, : len(r)] = True
    return features, mask


def schedule(step: int, steps: int, warmup: float) -> float:
    """Up in a straight line, then down along a cosine."""
    up = max(1.0, warmup * steps)
    if step < up:
        return (step + 1) / up
    return 0.5 * (1 + math.cos(math.pi * (step - up) / max(1.0, steps - up)))


def decayed(head: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices decay, biases and norms don't."""
    matrices = [p for p in head.parameters() if p.ndim > 1]
    others = [p for p in head.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]

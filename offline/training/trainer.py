"""Trains heads on batches: the one loop behind `offline.train` and `offline.evaluate`.

    lessons -> [trainer] -> a head in evaluation mode

The same seed gives the same head on the same machine, cut off and resumed or not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.heads import Head, make_head
from offline.training.augment import AugmentSettings
from offline.training.batches import Batch, Batches, TrainClips
from offline.training.config import TrainSettings

Score = tuple[float, float]  # what is better is larger
OnProgress = Callable[[int, int, float], None]


@dataclass(slots=True, kw_only=True)
class TrainingRun:
    """One learning rate with one weight decay: a head in training, and its averaged weights."""

    lr: float
    weight_decay: float
    head: Head
    average: Head
    optimizer: torch.optim.Optimizer
    score: Score | None = None  # the best so far
    epoch: int = 0  # at which that was
    best: dict[str, Tensor] | None = None  # the averaged weights then

    def state(self) -> dict[str, Any]:
        return {
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "score": self.score,
            "epoch": self.epoch,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.score, self.epoch, self.best = state["score"], state["epoch"], state["best"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A trained head in evaluation mode, and how it came about."""

    head: Head
    losses: list[float]  # of each step, the mean over the candidates
    candidates: list[dict[str, Any]]  # what each scored on the clips held back; none: no choice
    waited: float  # share of the time in which no batch was ready


def fit_heads(
    clips: TrainClips,
    settings: TrainSettings,
    *,
    validate: Callable[[nn.Module], Score] | None = None,
    resume: Path | None = None,
    progress: OnProgress | None = None,
) -> list[Fitted]:
    """`settings.heads` heads, alike but for their seeds; each keeps its state in a file."""
    return [
        fit(
            clips,
            replace(settings, seed=settings.seed + i),
            validate=validate,
            resume=Resume(resume.with_name(f"{resume.name}.{i}")) if resume else None,
            progress=progress,
        )
        for i in range(settings.heads)
    ]


def fit(
    clips: TrainClips,
    settings: TrainSettings,
    *,
    changes: AugmentSettings = AugmentSettings(),  # noqa: B008 - frozen
    validate: Callable[[nn.Module], Score] | None = None,
    resume: Resume | None = None,
    progress: OnProgress | None = None,
) -> Fitted:
    """Train a head for each learning rate and weight decay on the same batches; give the best.

    `validate` scores a head after each epoch. `progress` hears (step, steps, loss).

    Raises:
        ValueError: there is nothing to learn from, or nothing to choose by; `resume` has the state
            of another training.
    """
    if len(clips.rows) == 0:
        raise ValueError("no clip to train on")
    if settings.chooses and validate is None:
        raise ValueError("several --lr or --weight-decay, or --patience, need clips held back")
    draw = torch.Generator().manual_seed(settings.seed)
    batches = Batches(clips, settings, changes, draw)
    candidates = _candidates(clips, settings, batches)
    epoch_steps = math.ceil(len(clips.rows) / settings.batch)
    steps = max(1, round(settings.epochs * epoch_steps))
    done, losses = 0, list[float]()
    if resume is not None and (state := resume.read(clips, settings)) is not None:
        done, losses = state["step"], state["losses"]
        draw.set_state(state["draw"])
        torch.set_rng_state(state["torch"])
        for candidate, its in zip(candidates, state["candidates"], strict=True):
            candidate.restore(its)

    began, waited = time.monotonic(), 0.0
    asked = began
    stale = _stale(candidates, done, epoch_steps, settings)
    for step, batch in enumerate(batches.take(0 if stale else steps - done), done):
        waited += time.monotonic() - asked
        share = schedule(step, steps, settings.warmup)
        batch_losses = [_learn(one, batch, step, share, settings) for one in candidates]
        losses.append(sum(batch_losses) / len(batch_losses))
        if validate is not None and ((step + 1) % epoch_steps == 0 or step + 1 == steps):
            for one in candidates:
                _judge(one, validate, math.ceil((step + 1) / epoch_steps))
        stale = _stale(candidates, step + 1, epoch_steps, settings)
        if resume is not None and (resume.due() or stale or step + 1 == steps):
            resume.write(
                clips,
                settings,
                {
                    "step": step + 1,
                    "losses": losses,
                    "draw": batch.drawn,
                    "torch": torch.get_rng_state(),
                    "candidates": [one.state() for one in candidates],
                },
            )
        if progress is not None:
            progress(step + 1, steps, losses[-1])
        if stale:
            break
        asked = time.monotonic()
    total = time.monotonic() - began
    return Fitted(
        head=_chosen(candidates),
        losses=losses,
        candidates=[_told(one) for one in candidates] if validate is not None else [],
        waited=waited / total if total else 0.0,
    )


def _candidates(clips: TrainClips, settings: TrainSettings, batches: Batches) -> list[TrainingRun]:
    """Heads that start from the same weights."""
    torch.manual_seed(settings.seed)
    dim = clips.rows[0].shape[1]
    head = make_head(
        {"kind": settings.head, "dim": dim, "classes": clips.classes, **settings.extra}
    )
    batches.prepare(head)
    head.to(settings.device)
    candidates = []
    for lr, decay in product(settings.lr, settings.weight_decay):
        its = copy.deepcopy(head).train()
        candidates.append(
            TrainingRun(
                lr=lr,
                weight_decay=decay,
                head=its,
                average=copy.deepcopy(head).eval(),
                optimizer=torch.optim.AdamW(decayed(its, decay), lr=lr),
            )
        )
    return candidates


def _learn(
    one: TrainingRun, batch: Batch, step: int, share: float, settings: TrainSettings
) -> float:
    """One step of `one` at a share of its learning rate; the loss before it."""
    for group in one.optimizer.param_groups:
        group["lr"] = one.lr * share
    device = settings.device
    logits = one.head(batch.features.to(device), batch.mask.to(device)).logits
    loss = -(batch.target.to(device) * logits.log_softmax(1)).sum(1).mean()
    one.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(one.head.parameters(), 2.0)
    one.optimizer.step()
    # Not AveragedModel: its first average is the first step's weights, ours weighs that step too.
    keep = min(settings.average, (step + 1) / (step + 10))
    with torch.no_grad():
        for mine, its in zip(one.average.parameters(), one.head.parameters(), strict=True):
            mine.lerp_(its, 1 - keep)
    return float(loss.detach())


def _judge(one: TrainingRun, validate: Callable[[nn.Module], Score], epoch: int) -> None:
    average = one.average
    score = validate(average if _on_cpu(average) else copy.deepcopy(average).cpu())
    if one.score is None or score > tuple(one.score):
        one.score, one.epoch = score, epoch
        one.best = {name: value.clone() for name, value in average.state_dict().items()}


def _stale(
    candidates: list[TrainingRun], step: int, epoch_steps: int, settings: TrainSettings
) -> bool:
    """True when no candidate got better for `settings.patience` epochs."""
    best = max(one.epoch for one in candidates)
    return settings.patience > 0 and step // epoch_steps - best >= settings.patience


def _chosen(candidates: list[TrainingRun]) -> Head:
    """The averaged weights that scored best; of those that score the same, the first."""
    best = max(candidates, key=lambda one: tuple(one.score or ()))
    if best.best is not None:
        best.average.load_state_dict(best.best)
    return best.average.cpu()


def _told(one: TrainingRun) -> dict[str, Any]:
    assert one.score is not None
    return {
        "lr": one.lr,
        "weight_decay": one.weight_decay,
        "epoch": one.epoch,
        "held_back_top1": round(one.score[0], 4),
        "held_back_loss": round(-one.score[1], 4),
    }


def _on_cpu(head: nn.Module) -> bool:
    return all(weight.device.type == "cpu" for weight in head.parameters())


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


# MERGED from offline.training.resume: The state of a training on disk, so that one that was cut
# off goes on where it was. What goes on ends with the same weights, bit for bit, on the same CPU
# with as many threads. The file is replaced whole: after kill -9 it is the one before or the one
# after.


class Resume:
    """Keeps a training's state in `path`, every `every_s` seconds."""

    def __init__(self, path: Path, every_s: float = 30.0) -> None:
        self.path = path
        self._every_s = every_s
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= self._every_s

    def write(self, clips: TrainClips, settings: TrainSettings, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}.part")
        torch.save({"of": _of(clips, settings), **state}, scratch)
        os.replace(scratch, self.path)
        self._written = time.monotonic()

    def read(self, clips: TrainClips, settings: TrainSettings) -> dict[str, Any] | None:
        """The state to go on from; None when there is none yet.

        Raises:
            ValueError: it is of another training, or no state at all.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            other = state["of"] != _of(clips, settings)
        except (OSError, KeyError, TypeError, RuntimeError, EOFError,
                pickle.UnpicklingError) as exc:  # fmt: skip
            raise ValueError(f"{self.path}: no state to resume from; delete it: {exc}") from exc
        if other:
            raise ValueError(
                f"{self.path}: is the state of another training (options, index or torch differ): "
                "delete it, or give another --resume"
            )
        return state


def _of(clips: TrainClips, settings: TrainSettings) -> str:
    """What makes a training another one."""
    parts = (asdict(settings), clips.classes, clips.idle, clips.labels, clips.weights,
             clips.frames, clips.fps, torch.__version__)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()

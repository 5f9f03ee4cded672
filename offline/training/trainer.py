"""Trains heads on batches: the one loop behind `offline.train`, `evaluate` and `few_shot`.

    batches -> [trainer] -> a head in evaluation mode

The same seed gives the same head on the same machine, resumed or not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.files import replacing
from models.heads import Head, last_layer, make_head
from models.vjepa2.runs import can_compile
from offline.training.batches import Batch, Batches, TrainClips
from offline.training.config import Optimizer, Precision, TrainSettings
from offline.training.early_end import Interrupted, Stop
from offline.training.muon import Muon

Score = tuple[float, float]  # share of clips right, minus their mean loss; larger is better
OnProgress = Callable[..., None]  # step, steps, loss, and the score if there is a new one
_MODULES = ("head", "average")  # of a candidate, in its saved state
_STEPS = 2**13  # rows that go through a head at once: 4 clips of 2,048 tokens, 0.7 GB each


def score_of(clips: Sequence[tuple[NDArray[np.float32], int]]) -> Score:
    """The score of clips, each with its probabilities (K,) and its class."""
    right = sum(int(p.argmax()) == label for p, label in clips)
    likelihood = sum(float(np.log(p[label] + 1e-9)) for p, label in clips)
    return right / len(clips), likelihood / len(clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredStep:
    """A point of the validation curve: the best candidate's averaged weights after `step` steps."""

    step: int
    epoch: float
    top1: float  # share of the clips held back that are right
    loss: float  # mean negative log-probability of their gloss


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How to score a head on clips held back, and what that costs."""

    score: Callable[[nn.Module], Score]
    clips: int = 0
    windows: float = 0.0  # of them, as many to compute as so many windows to learn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedHead:
    """A trained head in evaluation mode, and how it was found."""

    head: Head
    losses: list[float]  # of each step, the mean over the candidates
    curve: list[ScoredStep]  # on clips held back; none: no clip was
    candidates: list[dict[str, Any]]  # their best scores on clips held back
    epoch: float  # after which the weights were kept
    epochs: float  # that were learnt
    waited: float  # share of the time in which no batch was ready
    validated: float  # share of the time in which clips held back were scored


def fit(
    clips: TrainClips,
    settings: TrainSettings,
    *,
    validation: Validation | None = None,
    resume: Resume | None = None,
    progress: OnProgress | None = None,
) -> FittedHead:
    """Train a head for each learning rate and weight decay on the same batches; return the best.

    `validation` scores the heads after each epoch, or after so many that it takes little time (see
    `_epochs_between`), and at the end: each is kept as it was when its score was best. `progress`
    is called after each step.

    Raises:
        ValueError: there is no clip to train on, or none to choose by; `resume` has the state of
            another training.
        Interrupted: after Ctrl-C or SIGTERM, between two steps.
    """
    if len(clips.rows) == 0:
        raise ValueError("no clip to train on")
    if settings.chooses and validation is None:
        raise ValueError(
            "several --lr or --weight-decay, or --patience, need clips held back to choose by: "
            "give one of each, or leave out --validation none"
        )
    draw = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    dim = clips.rows[0].shape[1]
    own = {"dropout": settings.dropout, "width": settings.width}
    given = {name: value for name, value in own.items() if value is not None}
    head = make_head({"kind": settings.head, "dim": dim, "classes": clips.classes, **given})
    batches = Batches(clips, settings, draw, head)
    head.to(settings.device)
    rates = product(settings.lr, settings.weight_decay)
    candidates = [
        CandidateHead.of(head, lr, decay, settings.optimizer, settings.precision)
        for lr, decay in rates
    ]
    if settings.compile and can_compile(torch.device(settings.device)):
        for one in candidates:
            one.head.compile()
    count = len(clips.rows)
    epoch_steps, steps = settings.epoch_steps(count), settings.steps(count)
    between = epoch_steps * _epochs_between(validation, epoch_steps * settings.batch)
    done, losses, curve = 0, list[float](), list[ScoredStep]()
    training = _digest(clips, settings)
    if resume is not None and (state := resume.read(training)) is not None:
        done, losses = state["step"], state["losses"]
        curve = [ScoredStep(**point) for point in state["curve"]]
        draw.set_state(state["draw"])
        torch.set_rng_state(state["torch"])
        for candidate, saved in zip(candidates, state["candidates"], strict=True):
            candidate.restore(saved)

    began = waiting_since = time.monotonic()
    waited = validated = 0.0
    stale = _stale(candidates, done / epoch_steps, settings)
    with Stop() as stop:
        for step, batch in enumerate(batches.take(0 if stale else steps - done), done + 1):
            waited += time.monotonic() - waiting_since
            share = schedule(step - 1, steps, settings.warmup)
            batch_losses = [one.learn(batch, step, share, settings) for one in candidates]
            losses.append(sum(batch_losses) / len(batch_losses))
            score = None
            if validation is not None and (step % between == 0 or step == steps):
                validating_since = time.monotonic()
                epoch = step / epoch_steps
                score = max(one.score_by(validation.score, epoch) for one in candidates)
                curve.append(ScoredStep(step=step, epoch=epoch, top1=score[0], loss=-score[1]))
                validated += time.monotonic() - validating_since
            stale = _stale(candidates, step / epoch_steps, settings)
            ends, stopping = stale or step == steps, stop.wanted
            if resume is not None and (resume.due() or ends or stopping):
                state = {
                    "of": training,
                    "step": step,
                    "losses": losses,
                    "curve": [asdict(point) for point in curve],
                    "draw": batch.drawn,
                    "torch": torch.get_rng_state(),
                    "candidates": [candidate.state() for candidate in candidates],
                }
                resume.write(state)
            if progress is not None:
                progress(step, steps, losses[-1], score)
            if stopping and not ends:
                raise Interrupted(f"interrupted after step {step} of {steps}")
            if stale:
                break
            waiting_since = time.monotonic()
    total = time.monotonic() - began
    best = max(
        candidates, key=lambda candidate: candidate.score or ()
    )  # of equal scores, the first
    if best.best is not None:
        best.average.load_state_dict(best.best)
    learnt = len(losses) / epoch_steps
    return FittedHead(
        head=best.average.cpu(),
        losses=losses,
        curve=curve,
        candidates=[
            {
                "lr": candidate.lr,
                "weight_decay": candidate.weight_decay,
                "epoch": round(candidate.epoch, 2),
                "held_back_top1": round(candidate.score[0], 4),
                "held_back_loss": round(-candidate.score[1], 4),
            }
            for candidate in candidates
            if candidate.score is not None
        ],
        epoch=learnt if best.best is None else best.epoch,
        epochs=learnt,
        waited=waited / total if total else 0.0,
        validated=validated / total if total else 0.0,
    )


def _epochs_between(validation: Validation | None, windows: int) -> int:
    """After how many epochs of so many windows heads are scored: as often as costs 1 in 10.

    Counted in windows, not measured, so that the same seed gives the same head on any machine.
    """
    return max(1, math.ceil(validation.windows / (0.1 * windows))) if validation else 1


@dataclass(slots=True, kw_only=True)
class CandidateHead:
    """A head in training with one learning rate and weight decay, and its averaged weights."""

    lr: float
    weight_decay: float
    head: Head
    average: Head
    optimizers: list[torch.optim.Optimizer]  # of different weights
    score: Score | None = None  # the best so far
    epoch: float = 0  # of the best score
    best: dict[str, Tensor] | None = None  # the averaged weights with the best score

    @classmethod
    def of(
        cls,
        start: Head,
        lr: float,
        weight_decay: float,
        optimizer: Optimizer = "adamw",
        precision: Precision = "float32",
    ) -> CandidateHead:
        """A candidate with the weights of `start`: matrices decay, biases and norms do not.

        Muon takes the matrices between layers, and AdamW all other weights; its steps are scaled so
        that one learning rate fits both (Liu et al. 2025, "Muon is scalable for LLM training"). Its
        products have the `precision` of all others.
        """
        head = copy.deepcopy(start).train()
        between = list[Tensor]()
        if optimizer == "muon":
            layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
            between = [layer.weight for layer in layers if layer is not last_layer(head)]
        theirs = set(map(id, between))
        others = [weight for weight in head.parameters() if id(weight) not in theirs]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, fused=True)]
        if between:
            optimizers.append(
                Muon(between, lr, weight_decay)
                if precision == "float32"
                else torch.optim.Muon(
                    between, lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )
        return cls(
            lr=lr,
            weight_decay=weight_decay,
            head=head,
            average=copy.deepcopy(start).eval(),
            optimizers=optimizers,
        )

    def learn(self, batch: Batch, step: int, share: float, settings: TrainSettings) -> float:
        """Take step number `step` (from 1) at `share` of the learning rate; return the loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * share
            optimizer.zero_grad()
        half = settings.precision == "bfloat16"
        clips, steps = batch.mask.shape
        most = max(1, _STEPS // steps)
        loss = torch.zeros((), device=batch.target.device)
        for first in range(0, clips, most):  # the same gradient as all at once
            part = slice(first, first + most)
            features, mask, target = batch.features[part], batch.mask[part], batch.target[part]
            with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
                logits = self.head(features, mask).logits
            piece = -(target * logits.float().log_softmax(1)).sum(1).mean() * (len(mask) / clips)
            piece.backward()
            loss += piece.detach()
        nn.utils.clip_grad_norm_(self.head.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        # Not AveragedModel: its first average is the first step's weights, ours weighs that too.
        keep = min(settings.average, step / (step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.head.parameters()), 1 - keep
            )
        return float(loss)

    def score_by(self, score: Callable[[nn.Module], Score], epoch: float) -> Score:
        """Score the averaged weights; keep a copy if they are the best so far."""
        found = score(self.average)
        if self.score is None or found > self.score:
            self.score, self.epoch = found, epoch
            self.best = {k: value.clone() for k, value in self.average.state_dict().items()}
        return found

    def state(self) -> dict[str, Any]:
        modules = {name: getattr(self, name).state_dict() for name in _MODULES}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        best = {"score": self.score, "epoch": self.epoch, "best": self.best}
        return modules | {"optimizers": optimizers} | best

    def restore(self, state: dict[str, Any]) -> None:
        for name in _MODULES:
            getattr(self, name).load_state_dict(state[name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.score, self.epoch, self.best = state["score"], state["epoch"], state["best"]


def _stale(candidates: list[CandidateHead], epochs: float, settings: TrainSettings) -> bool:
    """True when after `epochs` no candidate has improved for `settings.patience` epochs."""
    best = max(candidate.epoch for candidate in candidates)
    return settings.patience > 0 and epochs - best >= settings.patience


def schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate at `step` (from 0): a linear rise, then half a cosine."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


class Resume:
    """The state of a training in the file `path`, written every `every_s` seconds.

    Of several trainings one after the other (heads of an ensemble) `part` is the number of this
    one; those before it are done, and their last states stay in the file. A resumed training ends
    with the same weights, bit for bit, on the same CPU with as many threads. The file is replaced
    whole: a kill leaves the state before or the one after.
    """

    def __init__(self, path: Path, every_s: float = 30.0, part: int = 0) -> None:
        self.path = path
        self._every_s = every_s
        self._part = part
        self._before: list[dict[str, Any]] = []
        self._written_s = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written_s >= self._every_s

    def write(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            torch.save({"parts": [*self._before, state]}, file)
        self._written_s = time.monotonic()

    def read(self, training: str) -> dict[str, Any] | None:
        """The state of the training with this digest; None when there is none yet.

        Raises:
            ValueError: the file is no state, or that of another training.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            parts: list[dict[str, Any]] = content["parts"]
            digests = [part["of"] for part in parts]
        except (OSError, KeyError, TypeError, RuntimeError, EOFError, pickle.PickleError) as exc:
            raise ValueError(f"{self.path}: no state to resume from; delete it: {exc}") from exc
        self._before = parts[: self._part]
        if digests[self._part :] and digests[self._part] != training:
            raise ValueError(
                f"{self.path}: is the state of another training (options, index or torch differ): "
                "delete it, or give another --resume"
            )
        return parts[self._part] if parts[self._part :] else None


def _digest(clips: TrainClips, settings: TrainSettings) -> str:
    """Of all that makes a training another one."""
    parts = (asdict(settings), clips.classes, clips.idle, clips.labels, clips.weights,
             clips.frames, clips.fps, clips.windows, torch.__version__)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()

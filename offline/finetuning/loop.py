"""The loop that trains encoder and head on drawn clips, in one process or in several.

    TunedModel + Drawing -> [loop] -> the same model with averaged weights

The same seed gives the same weights on the same CPU with as many threads, resumed or not: what is
drawn, dropout included, depends on the number of the step alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from offline.finetuning.config import FinetuneSettings
from offline.finetuning.drawing import Drawing, StepPart
from offline.finetuning.processes import Processes
from offline.finetuning.tuned_model import TunedModel, copy_weights
from offline.training.early_end import Interrupted, Stop
from offline.training.trainer import OnProgress, Resume, Score, ScoredStep, schedule

_LONGEST_GRADIENT = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class Tuning:
    """A training: what it has learnt so far. Its state goes into the file of `Resume`."""

    model: TunedModel
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]  # of the parameters that learn
    step: int = 0  # steps done
    losses: list[float] = field(default_factory=list)  # of each step
    curve: list[ScoredStep] = field(default_factory=list)  # on clips held back; none: no clip was
    epoch: float = 0  # after which the weights were kept
    epochs: float = 0  # that were learnt
    best: dict[str, Tensor] | None = None  # the averaged weights with the best score
    seconds: float = 0.0  # spent in steps by this run
    done: int = 0  # steps of this run

    @classmethod
    def of(cls, model: TunedModel, settings: FinetuneSettings) -> Tuning:
        return cls(
            model=model,
            optimizer=torch.optim.AdamW(model.groups(settings)),
            average={name: p.detach().clone() for name, p in model.learning().items()},
        )

    def state(self) -> dict[str, Any]:
        learning = self.model.learning()
        return {
            "weights": {name: p.detach() for name, p in learning.items()},
            "optimizer": self.optimizer.state_dict(),
            "curve": [asdict(point) for point in self.curve],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def restore(self, state: dict[str, Any]) -> None:
        copy_weights(state["weights"], self.model.learning())
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [ScoredStep(**point) for point in state["curve"]]
        for name in _PLAIN:
            setattr(self, name, state[name])
        device = next(self.model.parameters()).device
        self.average = {name: value.to(device) for name, value in self.average.items()}


_PLAIN = ("average", "step", "losses", "epoch", "epochs", "best")


def tune(
    model: TunedModel,
    drawing: Drawing,
    settings: FinetuneSettings,
    processes: Processes,
    *,
    epoch_steps: int,
    validate: Callable[[TunedModel], Score] | None = None,
    resume: tuple[Resume, str] | None = None,
    progress: OnProgress | None = None,
) -> Tuning:
    """Train `model`, which ends in evaluation mode with its averaged weights.

    validate: scores the model at the end of each epoch. resume: the file for the state, and the
    digest of the training. Of several processes all call this; the first writes and validates.

    Raises:
        ValueError: the state is that of another training.
        Interrupted: after Ctrl-C or SIGTERM, between two steps.
        torch.OutOfMemoryError, MemoryError: --batch is too large.
    """
    steps = max(1, round(settings.epochs * epoch_steps))
    tuning = Tuning.of(model, settings)
    if resume is not None and (state := resume[0].read(resume[1])) is not None:
        tuning.restore(state)
    device = processes.device
    module: nn.Module = model
    if processes.world > 1:
        module = DistributedDataParallel(model, [device.index] if device.type == "cuda" else None)
    model.train()
    drawn = drawing.steps(tuning.step + 1, steps, processes.rank, processes.world)
    began = time.monotonic()
    with Stop() as stop, contextlib.closing(drawn):  # type: ignore[type-var]
        for parts in drawn:
            step = tuning.step + 1
            # For dropout: the same after a cut as without one, and another in each process.
            torch.manual_seed((settings.seed * 1_000_003 + step) * 1024 + processes.rank)
            for group in tuning.optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step - 1, steps, settings.warmup)
            own = _learn(tuning, module, parts, settings, processes)
            # All stop after the same step, whichever of them got the signal.
            shares = processes.gathered((own, stop.wanted))
            stopping = any(wanted for _, wanted in shares) and step < steps
            tuning.step, tuning.done = step, tuning.done + 1
            tuning.losses.append(sum(share for share, _ in shares))
            tuning.epochs = step / epoch_steps
            tuning.seconds = time.monotonic() - began
            ends, score = step % epoch_steps == 0 or step == steps, None
            if ends and validate is not None:
                score = _score(tuning, validate, processes)
            if resume is not None and processes.first and (ends or stopping or resume[0].due()):
                resume[0].write({"of": resume[1], **tuning.state()})
            if progress is not None:
                progress(step, steps, tuning.losses[-1], score)
            if stopping:
                raise Interrupted(f"interrupted after step {step} of {steps}")
    if tuning.best is None:
        tuning.epoch = tuning.epochs
    copy_weights(tuning.average if tuning.best is None else tuning.best, model.learning())
    model.eval()
    return tuning


def _learn(
    tuning: Tuning,
    module: nn.Module,
    parts: list[StepPart] | Any,
    settings: FinetuneSettings,
    processes: Processes,
) -> float:
    """Take a step on the clips of all processes; this one's share of the mean loss of them."""
    device, total = processes.device, torch.zeros((), device=processes.device)
    half = settings.precision == "bfloat16"
    tuning.optimizer.zero_grad(set_to_none=True)
    for number, part in enumerate(parts, 1):
        # Gradients of several processes are averaged once, with the last part.
        alone = isinstance(module, DistributedDataParallel) and number < len(parts)
        with module.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = module(torch.from_numpy(part.pictures).to(device)).logits
            target = torch.from_numpy(part.target).to(device)
            loss = -(target * logits.float().log_softmax(1)).sum() / settings.batch
            (loss * processes.world).backward()
        total += loss.detach()
    learning = tuning.model.learning()
    nn.utils.clip_grad_norm_(list(learning.values()), _LONGEST_GRADIENT)
    tuning.optimizer.step()
    keep = min(settings.average, (tuning.step + 1) / (tuning.step + 10))  # short at first
    with torch.no_grad():
        for name, parameter in learning.items():
            tuning.average[name].lerp_(parameter, 1 - keep)
    return float(total)


def _score(tuning: Tuning, validate: Callable[[TunedModel], Score], processes: Processes) -> Score:
    """Score the averaged weights; keep a copy of them if they are the best so far."""
    found: Score | None = None
    if processes.first:
        with tuning.model.having(tuning.average):
            tuning.model.eval()
            found = validate(tuning.model)
            tuning.model.train()
    score = processes.gathered(found)[0]
    assert score is not None
    if all(score > (point.top1, -point.loss) for point in tuning.curve):
        tuning.epoch = tuning.epochs
        tuning.best = {name: value.clone() for name, value in tuning.average.items()}
    tuning.curve.append(
        ScoredStep(step=tuning.step, epoch=tuning.epochs, top1=score[0], loss=-score[1])
    )
    return score

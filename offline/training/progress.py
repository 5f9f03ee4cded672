"""Shows a training: loss and validation while it runs, then their curves as PNG and CSV.

trainer -> [progress] -> terminal or log, TensorBoard, PNG, CSV
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from models.files import replacing
from offline.training.trainer import Score, ScoredStep

_LARGEST = 30.0  # inches: room for the names of 100 glosses; beyond that the axes have numbers
_SHOWN = 40  # glosses: with more, counts would not be readable in the squares
_LOG_S = 30.0  # between lines where there is no terminal


class LearntCurve(Protocol):
    """How a training went: of a head (`FittedHead`), or of an encoder and its head."""

    @property
    def losses(self) -> list[float]: ...  # of each step
    @property
    def curve(self) -> list[ScoredStep]: ...  # on clips held back
    @property
    def epoch(self) -> float: ...  # after which the weights were kept
    @property
    def epochs(self) -> float: ...  # that were learnt


class Progress:
    """Shows loss and validation: on a terminal twice a second, else a line every half minute; in
    TensorBoard each step. `heads` are trained one after the other."""

    def __init__(self, tensorboard: str | None = None, heads: int = 1) -> None:
        """Raises ValueError: TensorBoard is not installed, or its folder can't be written."""
        self._board: Any = None
        self._score = ""
        self._heads = heads
        self._head = 0  # its number, from one on
        self._first = (0, 0.0)  # a step of this head, and when it was done
        self._terminal = sys.stderr.isatty()
        self._shown_s = time.monotonic() if not self._terminal else 0.0
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(tensorboard)
            except ImportError as exc:
                raise ValueError("--tensorboard needs a package: pip install tensorboard") from exc
            except OSError as exc:
                raise ValueError(f"{tensorboard}: can't be written: {exc.strerror}") from exc

    def __call__(
        self, step: int, steps: int, loss: float, score: Score | None = None, *, head: int = 1
    ) -> None:
        if head != self._head:
            self._head, self._first, self._score = head, (step, time.monotonic()), ""
        if score is not None:
            self._score = f"  held back: {100 * score[0]:.1f} % right, loss {-score[1]:.3f}"
        if self._board is not None:
            of = f"/{self._head}" if self._heads > 1 else ""
            self._board.add_scalar(f"loss/training{of}", loss, step)
            if score is not None:
                self._board.add_scalar(f"accuracy/held_back{of}", score[0], step)
                self._board.add_scalar(f"loss/held_back{of}", -score[1], step)
        now, often = time.monotonic(), 0.5 if self._terminal else _LOG_S
        if now - self._shown_s > often or step == steps:
            self._shown_s = now
            start, end = ("\r", "" if step < steps else "\n") if self._terminal else ("", "\n")
            of = f"head {self._head}/{self._heads}  " if self._heads > 1 else ""
            line = f"{start}{of}step {step}/{steps}  loss {loss:.3f}{self._score}"
            print(f"{line}{self._left(step, steps, now)} ", end=end, file=sys.stderr, flush=True)

    def _left(self, step: int, steps: int, now: float) -> str:
        """The minutes that are left for all heads, from one on."""
        first, since = self._first
        to_go = steps - step + steps * (self._heads - self._head)
        minutes = to_go * (now - since) / max(1, step - first) / 60
        return f"  {minutes:.0f} min left" if minutes >= 1 else ""

    def close(self) -> None:
        """Write what TensorBoard has not on disk yet."""
        if self._board is not None:
            self._board.close()


def write_curve(fitted: Sequence[LearntCurve], path: Path) -> None:
    """A line a step and head: loss in training, and share right and loss of clips held back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["head", "step", "epoch", "loss", "held_back_top1", "held_back_loss"])
    for number, found in enumerate(fitted):
        scores = {point.step: point for point in found.curve}
        per_step = found.epochs / len(found.losses)
        for step, loss in enumerate(found.losses, 1):
            point = scores.get(step)
            held = (f"{point.top1:.4f}", f"{point.loss:.4f}") if point else ("", "")
            writer.writerow([number, step, f"{step * per_step:.3f}", f"{loss:.4f}", *held])
    with replacing(path) as stream:
        stream.write(text.getvalue().encode())


def draw_curves(fitted: Sequence[LearntCurve], classes: int, path: Path) -> None:
    """The loss of each step, smoothed over 20; loss and share right of clips held back."""
    scored = any(found.curve for found in fitted)
    figure = Figure(figsize=(7, 7 if scored else 4))
    both = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
    chance = math.log(classes)
    both[0].axhline(chance, color="grey", linestyle=":", label=f"guessing: {chance:.2f}")
    for number, found in enumerate(fitted):
        name = f" {number + 1}" if len(fitted) > 1 else ""
        width = min(20, len(found.losses))
        smooth = np.convolve(found.losses, np.ones(width) / width, mode="valid")
        per_step = found.epochs / len(found.losses)
        label = f"training{name}: {smooth[-1]:.2f} at the end"
        both[0].plot((np.arange(len(smooth)) + width) * per_step, smooth, label=label)
        if found.curve:
            epochs = [point.epoch for point in found.curve]
            losses, right = ([getattr(p, key) for p in found.curve] for key in ("loss", "top1"))
            label = f"held back{name}: {min(losses):.2f} at best"
            both[0].plot(epochs, losses, marker=".", label=label)
            kept = min(found.curve, key=lambda point: abs(point.epoch - found.epoch))
            label = f"held back{name}: {100 * kept.top1:.1f} % after epoch {kept.epoch:.0f}, kept"
            both[1].plot(epochs, right, marker=".", label=label)
            both[1].axvline(kept.epoch, color="grey", linewidth=1, linestyle="--")
    both[0].set(ylabel="loss", ylim=(0, None))
    if scored:
        both[1].set(ylabel="right", ylim=(0, 1.02))
        both[1].yaxis.set_major_formatter(PercentFormatter(1, 0))
    both[-1].set(xlabel="epoch", xlim=(0, None))
    for axes in both:
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100, bbox_inches="tight")


def draw_confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], glosses: Sequence[str], path: Path
) -> None:
    """Clips by true gloss (row) and predicted gloss (column)."""
    size = min(max(4.0, 0.3 * len(glosses)), _LARGEST)  # 2,000 names would take 14 GB to draw
    figure = Figure(figsize=(size + 1, size))
    axes = figure.subplots()
    table = np.zeros((len(glosses), len(glosses)), np.int64)
    np.add.at(table, (labels, predicted), 1)
    image = axes.imshow(table, cmap="Blues")
    right = int(table.trace())
    title = f"{right} of {len(labels)} clips right ({100 * right / max(1, len(labels)):.1f} %)"
    axes.set(xlabel="predicted gloss", ylabel="true gloss", title=title)
    scale = figure.colorbar(image, ax=axes, shrink=0.7, label="clips")
    scale.locator = MaxNLocator(integer=True)
    scale.update_ticks()
    if len(glosses) <= _SHOWN:
        for row, column in np.argwhere(table).tolist():
            count = int(table[row, column])
            colour = "white" if count > table.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    if size < _LARGEST:
        ticks = range(len(glosses))
        # A gloss may contain a $, and is no formula.
        axes.set_xticks(ticks, glosses, rotation=90, parse_math=False)
        axes.set_yticks(ticks, glosses, parse_math=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")

"""Shows a training: the loss while it runs, then its curve and the confusion matrix as PNG.

trainer -> [progress] -> terminal, TensorBoard, PNG
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_LARGEST = 30.0  # inches: room for the names of 100 glosses; beyond that the axes have numbers


class Progress:
    """Shows the loss: on a terminal twice a second, in TensorBoard each step."""

    def __init__(self, tensorboard: str | None) -> None:
        self._board: Any = None
        self._shown_s = 0.0
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as exc:
                raise ValueError("--tensorboard needs a package: pip install tensorboard") from exc
            self._board = SummaryWriter(tensorboard)

    def __call__(self, step: int, steps: int, loss: float) -> None:
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
        if sys.stderr.isatty() and (time.monotonic() - self._shown_s > 0.5 or step == steps):
            self._shown_s = time.monotonic()
            end = "\n" if step == steps else ""
            print(f"\rstep {step}/{steps}  loss {loss:.3f} ", end=end, file=sys.stderr, flush=True)


def draw_loss(losses: Sequence[float], path: Path) -> None:
    """The loss of each step, smoothed over 20 steps."""
    width = min(20, len(losses))
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.plot(np.arange(len(smooth)) + width, smooth)
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(path, dpi=100, bbox_inches="tight")


def draw_confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], glosses: Sequence[str], path: Path
) -> None:
    """Clips by true gloss (row) and predicted gloss (column)."""
    size = min(max(4.0, 0.3 * len(glosses)), _LARGEST)  # 2,000 names would take 14 GB to draw
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    table = np.zeros((len(glosses), len(glosses)), np.int64)
    np.add.at(table, (labels, predicted), 1)
    axes.imshow(table, cmap="Blues")
    axes.set(xlabel="predicted gloss", ylabel="true gloss")
    if size < _LARGEST:
        ticks = range(len(glosses))
        # A gloss may contain a $, and is no formula.
        axes.set_xticks(ticks, glosses, rotation=90, parse_math=False)
        axes.set_yticks(ticks, glosses, parse_math=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")

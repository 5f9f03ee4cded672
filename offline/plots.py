"""Pictures of a training: the loss, and which gloss is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt

_LARGEST = 30.0  # inches: room for the names of 100 glosses; of more, numbers stand at the axes


def draw_loss(losses: Sequence[float], path: Path) -> None:
    """The loss of each step, smoothed over 20 steps."""
    width = min(20, len(losses))
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(np.arange(len(smooth)) + width, smooth)
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def draw_confusion(
    labels: NDArray[np.int64],
    answers: NDArray[np.int64],
    glosses: Sequence[str],
    path: Path,
) -> None:
    """Counts of true gloss (a row) and answer (a column)."""
    size = min(max(4.0, 0.3 * len(glosses)), _LARGEST)  # 2,000 names would take 14 GB to draw
    figure, axes = plt.subplots(figsize=(size, size))
    table = np.zeros((len(glosses), len(glosses)), np.int64)
    np.add.at(table, (labels, answers), 1)
    axes.imshow(table, cmap="Blues")
    axes.set(xlabel="answer", ylabel="signed")
    if size < _LARGEST:
        ticks = range(len(glosses))
        # A gloss may have a $ in it, and is no formula.
        axes.set_xticks(ticks, glosses, rotation=90, parse_math=False)
        axes.set_yticks(ticks, glosses, parse_math=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)

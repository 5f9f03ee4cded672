"""How good answers are, and how sure we can be of that. Arrays in, plain numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


def ranks(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes stand before the right one, for each of probabilities (N, G)."""
    right = probabilities[np.arange(len(labels)), labels]
    count: NDArray[np.int64] = (probabilities > right[:, None]).sum(1)
    return count


def share_within(
    rank: NDArray[np.int64], top: int, draws: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """The share of clips with the right class among the first `top`, as `mean_of` gives it."""
    return mean_of((rank < top).astype(np.float64), draws, seed)


def mean_of(
    shares: NDArray[np.float64], draws: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """The mean over clips (N,) and its 95 % interval, from a bootstrap over clips."""
    picks = np.random.default_rng(seed).integers(0, len(shares), (draws, len(shares)))
    low, high = np.percentile(shares[picks].mean(1), [2.5, 97.5])
    return float(shares.mean()), (float(low), float(high))


def quantile_of(
    values: NDArray[np.float64], q: float, draws: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """The quantile `q` (0 to 1) of values (N,) and its 95 % interval, from a bootstrap."""
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(np.quantile(values[picks], q, axis=1), [2.5, 97.5])
    return float(np.quantile(values, q)), (float(low), float(high))


def calibration_error(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 10
) -> float:
    """ECE: how far the likeliest class's probability is from how often it is right."""
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = bin_of == b
        if inside.any():
            error += float(inside.mean() * abs(sure[inside].mean() - right[inside].mean()))
    return error


def confusion(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(G, G) counts: a row a true class, a column an answer."""
    classes = probabilities.shape[1]
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, probabilities.argmax(1)), 1)
    return table

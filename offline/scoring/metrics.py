"""How good answers are, and how sure we can be of that. Arrays in, plain numbers out.

    outcomes -> [scores] -> report

A figure is a function of weights (N,), one a clip: how often the clip counts. Its value is that of
weights of one; its interval comes from weights drawn at random. Where one signer gave several
clips they are drawn together: clips of a person are more alike than clips of two, and intervals
over single clips would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Weights = NDArray[np.float64]  # (N,)
Figure = Callable[[Weights], float]

_DRAWS = 2000
_BINS = 10


def ranks(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes stand before the right one, for each of probabilities (N, G).

    Of classes that are alike the first stands before the others, as `argmax` has it: a head that
    calls all classes alike is not always right.
    """
    right = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    count: NDArray[np.int64] = ((probabilities > right) | (probabilities == right) & earlier).sum(1)
    return count


# --- intervals ------------------------------------------------------------------------------------


def share_within(
    rank: NDArray[np.int64], top: int, draws: int = _DRAWS, seed: int = 0
) -> tuple[float, Interval]:
    """The share of clips with the right class among the first `top`, as `mean_of` gives it."""
    return mean_of((rank < top).astype(np.float64), draws, seed)


def mean_of(
    shares: NDArray[np.float64], draws: int = _DRAWS, seed: int = 0
) -> tuple[float, Interval]:
    """The mean over clips (N,) and its 95 % interval, from a bootstrap over clips."""
    picks = np.random.default_rng(seed).integers(0, len(shares), (draws, len(shares)))
    low, high = np.percentile(shares[picks].mean(1), [2.5, 97.5])
    return float(shares.mean()), (float(low), float(high))


def quantile_of(
    values: NDArray[np.float64], q: float, draws: int = _DRAWS, seed: int = 0
) -> tuple[float, Interval]:
    """The quantile `q` (0 to 1) of values (N,) and its 95 % interval, from a bootstrap."""
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(np.quantile(values[picks], q, axis=1), [2.5, 97.5])
    return float(np.quantile(values, q)), (float(low), float(high))


def intervals(
    figures: Mapping[str, Figure], groups: Sequence[str], draws: int = _DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """The 95 % interval of each figure, all from the same draws of whole groups (N,)."""
    drawn = {name: np.empty(draws) for name in figures}
    for i, weights in enumerate(_resampled(groups, draws, seed)):
        for name, figure in figures.items():
            drawn[name][i] = figure(weights)
    bounds = {name: np.percentile(values, [2.5, 97.5]) for name, values in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _resampled(groups: Sequence[str], draws: int, seed: int) -> Iterator[Weights]:
    """How often each clip (N,) stands in a draw of as many groups as there are. One at a time:
    2,000 draws of 21,083 clips would take 340 MB."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    draw = np.random.default_rng(seed)
    for _ in range(draws):
        picks = draw.integers(0, len(names), len(names))
        yield np.bincount(picks, minlength=len(names))[group_of].astype(np.float64)


# --- figures --------------------------------------------------------------------------------------


def share(right: NDArray[np.bool_]) -> Figure:
    """The share of clips (N,) that are right: each clip counts alike."""
    return lambda weights: float(weights @ right / weights.sum())


def class_share(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> Figure:
    """The mean over classes of the share that is right: each class counts alike.

    Of a class that a draw left out nothing is known; the mean is of the others.
    """

    def figure(weights: Weights) -> float:
        all_of = np.bincount(labels, weights)
        there = all_of > 0
        return float((np.bincount(labels, weights * right)[there] / all_of[there]).mean())

    return figure


def risk_area(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> Figure:
    """The area under the risk-coverage curve of clips (N,): the mean share of errors among the
    surest answers, over all shares of clips that could be answered. 0 is best."""
    order = np.argsort(-sure, kind="stable")
    wrong = ~right[order]

    def figure(weights: Weights) -> float:
        ordered = weights[order]
        answered = ordered.cumsum()
        risk = (ordered * wrong).cumsum() / np.maximum(answered, 1e-12)
        return float(risk @ ordered / answered[-1])

    return figure


def risk_coverage(
    sure: NDArray[np.float64], right: NDArray[np.bool_], points: int = 20
) -> list[dict[str, float]]:
    """The share of errors (risk) when only the surest share of clips (coverage) is answered, and
    the least probability at which that happens."""
    order = np.argsort(-sure, kind="stable")
    wrong = (~right[order]).cumsum()
    counts = np.unique(np.ceil(np.linspace(0, 1, points + 1)[1:] * len(sure)).astype(int))
    return [
        {
            "coverage": round(count / len(sure), 4),
            "risk": round(float(wrong[count - 1] / count), 4),
            "p": round(float(sure[order[count - 1]]), 4),
        }
        for count in counts.tolist()
    ]


def reliability(
    sure: NDArray[np.float64], right: NDArray[np.bool_], bins: int = _BINS
) -> list[dict[str, float]]:
    """Clips by how sure their answer was, in bins of the same width that are not empty: how sure on
    the mean, and how often right."""
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    clips = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bin_of, sure, bins) / clips
        share_right = np.bincount(bin_of, right, bins) / clips
    return [
        {
            "from": round(b / bins, 4),
            "to": round((b + 1) / bins, 4),
            "clips": int(clips[b]),
            "sure": round(float(mean[b]), 4),
            "right": round(float(share_right[b]), 4),
        }
        for b in np.flatnonzero(clips).tolist()
    ]


def calibration_error(
    sure: NDArray[np.float64], right: NDArray[np.bool_], bins: int = _BINS
) -> float:
    """ECE: how far the likeliest class's probability is from how often it is right."""
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, sure - right, bins)
    return float(np.abs(gaps).sum() / len(sure))


def confusions(labels: NDArray[np.int64], answers: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(true class, answer, how often) of wrong answers, most frequent first."""
    wrong = labels != answers
    pairs, times = np.unique(
        np.stack([labels[wrong], answers[wrong]], 1), axis=0, return_counts=True
    )
    order = np.argsort(-times, kind="stable")
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(times[i])) for i in order]


def mcnemar(only_a: int, only_b: int) -> float:
    """The chance that so uneven a count, or a more uneven one, comes from two that are as good.

    only_a, only_b: clips that one of them alone had right. Exact and two-sided; clips count as
    independent.
    """
    trials, fewer = only_a + only_b, min(only_a, only_b)
    if not trials:
        return 1.0
    ways, term = 1, 1
    for k in range(fewer):
        term = term * (trials - k) // (k + 1)
        ways += term
    return min(1.0, float(2 * ways / 2**trials))

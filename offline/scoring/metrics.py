"""Metrics of predictions, and how certain they are. Arrays in, plain numbers out.

    outcomes -> [metrics] -> figures of a report

A `Figure` is a function of weights (N,), one a clip: how often the clip counts. With weights of one
it gives the value; its interval comes from weights drawn at random (bootstrap). All clips of a
signer are drawn together: clips of one person are more alike than clips of two, and an interval
over single clips would be too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = tuple[float, float]
Weights = NDArray[np.float64]  # (N,)
Figure = Callable[[Weights], float]

_DRAWS = 2000
_BINS = 10


def ranks(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the right one, for each of probabilities (N, G).

    Of classes with equal probability the first comes first, as in `argmax`: a head that gives all
    classes the same probability is not always right.
    """
    right = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    count: NDArray[np.int64] = ((probabilities > right) | (probabilities == right) & earlier).sum(1)
    return count


def share_within(rank: NDArray[np.int64], top: int) -> tuple[float, Interval]:
    """The share of clips with the right class among the first `top`, with its interval."""
    return bootstrapped((rank < top).astype(np.float64))


def bootstrapped(
    values: NDArray[np.float64], statistic: Callable[..., Any] = np.mean
) -> tuple[float, Interval]:
    """A statistic of values (N,), one a clip, and its 95 % interval from a bootstrap over clips."""
    value = float(statistic(values, axis=0))
    if len(values) < 2:  # scipy takes no single value
        return value, (value, value)
    draw = np.random.default_rng(0)
    low, high = stats.bootstrap(
        (values,), statistic, n_resamples=_DRAWS, method="percentile", random_state=draw
    ).confidence_interval
    return value, (float(low), float(high))


def intervals(figures: Mapping[str, Figure], groups: Sequence[str]) -> dict[str, Interval]:
    """The 95 % interval of each figure, all from the same draws of whole groups (N,).

    One draw is in memory at a time: 2,000 draws of 21,083 clips would take 340 MB.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    draw = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(_DRAWS):
        picks = draw.integers(0, len(names), len(names))
        weights = np.bincount(picks, minlength=len(names))[group_of].astype(np.float64)
        for name, figure in figures.items():
            drawn[name].append(figure(weights))
    bounds = {name: np.percentile(values, [2.5, 97.5]) for name, values in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def clip_share(right: NDArray[np.bool_]) -> Figure:
    """The share of clips (N,) that are right: each clip counts alike."""
    return lambda weights: float(weights @ right / weights.sum())


def class_share(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> Figure:
    """The mean over classes of the share that is right: each class counts alike.

    A class without a clip in a draw is left out of its mean.
    """

    def figure(weights: Weights) -> float:
        all_of = np.bincount(labels, weights)
        there = all_of > 0
        return float((np.bincount(labels, weights * right)[there] / all_of[there]).mean())

    return figure


def risk_area(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Figure:
    """The area under the risk-coverage curve of clips (N,): the share of errors among the most
    confident predictions, averaged over all coverages. 0 is best."""
    order = np.argsort(-confidence, kind="stable")
    wrong = ~right[order]

    def figure(weights: Weights) -> float:
        ordered = weights[order]
        covered = ordered.cumsum()
        risk = (ordered * wrong).cumsum() / np.maximum(covered, 1e-12)
        return float(risk @ ordered / covered[-1])

    return figure


def risk_coverage(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], points: int = 20
) -> list[dict[str, float]]:
    """The share of errors (risk) when only the most confident share of clips (coverage) is
    predicted, and the least probability `p` among those."""
    order = np.argsort(-confidence, kind="stable")
    wrong = (~right[order]).cumsum()
    counts = np.unique(np.ceil(np.linspace(0, 1, points + 1)[1:] * len(confidence)).astype(int))
    return [
        {
            "coverage": round(count / len(confidence), 4),
            "risk": round(float(wrong[count - 1] / count), 4),
            "p": round(float(confidence[order[count - 1]]), 4),
        }
        for count in counts.tolist()
    ]


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> list[dict[str, float]]:
    """Clips by confidence, in bins of equal width that are not empty: the mean confidence of a bin
    and the share that is right."""
    bin_of = _bin_of(confidence)
    return [
        {
            "from": round(b / _BINS, 4),
            "to": round((b + 1) / _BINS, 4),
            "clips": int((bin_of == b).sum()),
            "confidence": round(float(confidence[bin_of == b].mean()), 4),
            "right": round(float(right[bin_of == b].mean()), 4),
        }
        for b in np.unique(bin_of).tolist()
    ]


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """ECE: the mean distance, over bins of clips, of confidence from the share that is right."""
    gaps = np.bincount(_bin_of(confidence), confidence - right, _BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.minimum(confidence * _BINS, _BINS - 1), np.int64)


def confusions(
    labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[tuple[int, int, int]]:
    """(true class, predicted class, count) of wrong predictions, most frequent first."""
    pairs = sorted(zip(labels.tolist(), predicted.tolist(), strict=True))
    wrong = Counter((label, other) for label, other in pairs if label != other)
    return [(label, other, times) for (label, other), times in wrong.most_common()]


class Edits(NamedTuple):
    """What became of the signs of a sentence: right, and three kinds of word errors."""

    right: int
    substituted: int  # another gloss instead
    deleted: int  # nothing
    inserted: int  # besides


def edits_between(signed: Sequence[str], decoded: Sequence[str]) -> Edits:
    """The fewest edits that make `decoded` of `signed`; of as few, those with the most right."""
    # (edits, -right) of each beginning of `decoded`, for one beginning of `signed` after another
    best = [(n, 0) for n in range(len(decoded) + 1)]
    for done, gloss in enumerate(signed, 1):
        above, best = best, [(done, 0)]
        for n, other in enumerate(decoded):
            same = gloss == other
            best.append(
                min(
                    (above[n][0] + (not same), above[n][1] - same),
                    (above[n + 1][0] + 1, above[n + 1][1]),
                    (best[n][0] + 1, best[n][1]),
                )
            )
    edits, right = best[-1][0], -best[-1][1]
    inserted = edits - (len(signed) - right)
    deleted = edits - (len(decoded) - right)
    return Edits(
        right=right,
        substituted=len(signed) - right - deleted,
        deleted=deleted,
        inserted=inserted,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """The p value of McNemar's exact two-sided test; clips count as independent.

    only_a, only_b: clips that only one of the two recognisers has right.
    """
    if not only_a + only_b:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)

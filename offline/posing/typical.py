"""Which take of a sign is typical: the one that the takes of other signers are nearest to.

    takes of one gloss -> [typical] -> their order, the most typical first

A mean of several takes would blur what fingers do, so one real take is shown: the medoid. Takes are
compared by dynamic time warping over where the wrists are, and the shape and turn of the hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout
from offline.posing.completing import SignedHands, signed_hands

_STEPS = 24  # of a take, whatever its length
_BAND = 7  # steps that two takes may be apart in time
_SHAPE = 0.45  # weight of a hand's shape, in hand sizes, against shoulder widths of its place
_RESTING = (0.9, 1.3)  # where a hand that takes no part counts to be: outward, down
_COPY = 0.02  # takes this near to each other are copies of one recording
_SLOW = 0.35  # weight of the logarithm of how much longer or shorter than the median a take is


@dataclass(frozen=True, kw_only=True, eq=False)
class Take:
    """One take with a hand raised, as of a signer who leads with the right hand."""

    name: str
    signer: str
    rows: NDArray[np.float32]  # (T, D)

    @cached_property
    def hands(self) -> SignedHands:
        return signed_hands(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A take and how far it is from the nearer half of the other signers; lost hands, jerks and
    an odd speed add to it.
    """

    take: Take
    distance: float


def rank_takes(takes: Sequence[Take]) -> list[Ranked]:
    """The takes, the most typical first; each has a hand raised.

    Where most takes have two hands, those with one are left out: a hand was not found in them. And
    the other way round.

    Raises:
        ValueError: they are of one signer, or fewer.
    """
    both = [all(take.hands.part) for take in takes]
    two = 2 * sum(both) >= len(takes)
    takes = [take for take, has in zip(takes, both, strict=True) if has == two]
    if len({take.signer for take in takes}) < 2:
        raise ValueError("takes of one signer cannot be compared")
    paths = np.stack([_path(take.hands) for take in takes])
    apart = _warped(paths)
    lengths = [take.hands.last - take.hands.first for take in takes]
    usual = float(np.median(lengths))
    ranked = []
    for i, take in enumerate(takes):
        nearest: dict[str, float] = {}
        for j, other in enumerate(takes):
            if other.signer != take.signer and apart[i, j] > _COPY:
                nearest[other.signer] = min(nearest.get(other.signer, np.inf), apart[i, j])
        ways = sorted(nearest.values())
        mean = float(np.mean(ways[: (len(ways) + 1) // 2])) if ways else np.inf  # only copies
        odd = _SLOW * abs(np.log(lengths[i] / usual)) * mean
        ranked.append(Ranked(take=take, distance=mean + odd + _lost(take.hands)))
    return sorted(ranked, key=lambda one: (one.distance, one.take.name))


def _lost(hands: SignedHands) -> float:
    """The share of pictures in which a hand that takes part is not seen, twice, and its jerks."""
    first, last, part = hands.first, hands.last, hands.part
    points, seen = hands.points[:, first:last], hands.seen[:, first:last]
    shares = [1 - seen[side].mean() for side in (0, 1) if part[side]]
    jerks = []
    for side in (0, 1):
        if part[side] and seen[side].sum() > 4:
            shape = points[side, seen[side]]
            shape = shape - shape[:, :1]
            jerks.append(float(np.abs(np.diff(shape, 2, axis=0)).mean()))
    return 0.4 * float(np.mean(shares)) + 1.5 * float(np.mean(jerks or [0.0]))


def _path(hands: SignedHands) -> NDArray[np.float32]:
    """(steps, F) Where the hands are and how they are held, all through the sign."""
    first, last, part = hands.first, hands.last, hands.part
    points, seen = hands.points[:, first:last], hands.seen[:, first:last]
    at = np.linspace(0, last - first - 1, _STEPS)
    features = []
    for side, outward in ((0, 1), (1, -1)):
        if not part[side]:
            rest = np.zeros((_STEPS, 2 + 2 * (layout.HAND_POINTS - 1)), np.float32)
            rest[:, :2] = outward * _RESTING[0], _RESTING[1]
            features.append(rest)
            continue
        steps = np.flatnonzero(seen[side])  # not empty: a hand takes part where it is seen
        hand = points[side, steps].reshape(len(steps), -1)
        hand = np.stack([np.interp(at, steps, one) for one in hand.T], axis=1)
        hand = hand.reshape(_STEPS, layout.HAND_POINTS, 2)
        shape = hand[:, 1:] - hand[:, :1]
        size = np.median(np.hypot(*(hand[:, 9] - hand[:, 0]).T)) + 0.05
        weight = _SHAPE / size / np.sqrt(layout.HAND_POINTS - 1)
        features.append(np.concatenate([hand[:, 0], weight * shape.reshape(_STEPS, -1)], axis=1))
    return np.concatenate(features, axis=1).astype(np.float32)


def _warped(paths: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, N) Distances a step between paths (N, steps, F), by dynamic time warping."""
    count = len(paths)
    a, b = np.triu_indices(count, 1)
    apart = np.zeros((count, count), np.float32)
    if not len(a):
        return apart
    squares = (paths**2).sum(axis=2)
    cost = squares[a][:, :, None] + squares[b][:, None, :]
    cost -= 2 * np.einsum("pif,pjf->pij", paths[a], paths[b])
    cost = np.sqrt(np.maximum(cost, 0))
    total = np.full((len(a), _STEPS + 1, _STEPS + 1), np.inf, np.float32)
    total[:, 0, 0] = 0
    for i in range(1, _STEPS + 1):
        for j in range(max(1, i - _BAND), min(_STEPS, i + _BAND) + 1):
            before = np.minimum(total[:, i - 1, j - 1], total[:, i - 1, j])
            total[:, i, j] = cost[:, i - 1, j - 1] + np.minimum(before, total[:, i, j - 1])
    apart[a, b] = apart[b, a] = total[:, -1, -1] / _STEPS
    return apart

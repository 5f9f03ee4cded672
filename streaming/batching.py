"""Which of the waiting windows make the next batch, and what a batch costs: time is passed in.

    the runner: warm-up, each batch that ends -> [CostModel] -> seconds of a batch by its size
    deadlines of the waiting windows, now, the cost of a batch -> [next_batch] -> the next batch

All windows cost the same, so only their deadlines matter. How many deadlines can one device keep,
from now on and with the windows that wait now? If some k windows can be on time, the k with the
latest deadlines can; and they can leave in the order of their deadlines, in batches of neighbours.
`latest_starts` tries all of those. Of the first batches after which all k can still be on time, the
one is taken after which all windows together wait the least. A batch that takes as long as its
windows one by one is therefore not made: the first window would wait for the last.

Windows that can't be on time any more leave after those that can. That may not go on: once a window
is late by `PATIENCE_S`, all leave in the order of their deadlines until it has left. As newer
windows keep coming, this is no optimum (no rule is, without knowing what comes): in
tests/streaming/test_batching.py it keeps 96 % of the deadlines that one who knew would keep, and
taking all windows that wait keeps 86 %.

A free device never waits for more windows. With n windows here and the next one expected in t
seconds, all n + 1 together would have waited less only if (n + 1) * (t + cost(n + 1) - cost(n)) <
cost(1): the next window would have to cost less than half of the first even if it came at once.
Landmarks are detected window by window on a CPU, and V-JEPA 2 fills a GPU with one window; neither
has such a fixed part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_MAX_CHANGE = 2.0  # a batch counts as at most so many times slower or faster than expected
_OWN = 0.2  # how far an estimate follows a batch of its size, in the logarithm
_OTHERS = 0.05  # and a batch of another size: a device that slows down does so for all
_LEAST_S = 1e-5  # below the resolution of the measurement


class CostModel:
    """Estimates that follow the device but not a single slow batch: one batch moves its own size
    by at most 15 % (`_MAX_CHANGE ** _OWN`), the others by 4 %.

    Bound: one number for each size that ever ran.
    """

    def __init__(self) -> None:
        self._known: dict[int, float] = {}  # size -> seconds

    def learn(self, size: int, seconds: float) -> None:
        """A batch of `size` windows took `seconds`."""
        seconds = max(seconds, _LEAST_S)
        if not self._known:
            self._known[size] = seconds
            return
        expected = self._known.setdefault(size, self(size))
        change = min(max(seconds / expected, 1 / _MAX_CHANGE), _MAX_CHANGE)
        for known in self._known:
            self._known[known] *= change ** (_OWN if known == size else _OTHERS)

    def warm(self, size: int, seconds: float) -> None:
        """A batch of `size` windows took `seconds` while nobody else used the device."""
        self._known[size] = max(seconds, _LEAST_S)

    def __call__(self, size: int) -> float:
        """Seconds that a batch of `size` windows takes: never less than a smaller one.

        Above the largest known size each window costs as much as it did there. 0 as long as nothing
        is known.
        """
        below, below_s = 0, 0.0
        for known in sorted(self._known):
            above_s = max(below_s, self._known[known])
            if known >= size:
                share = (size - below) / (known - below) if below else 1.0
                return below_s + share * (above_s - below_s)
            below, below_s = known, above_s
        return below_s * size / below if below else 0.0


PATIENCE_S = 0.3  # as long again as the goal for a window's prediction


def next_batch(
    deadlines_s: Sequence[float], now_s: float, cost: Callable[[int], float], max_batch: int
) -> list[int]:
    """Indices into `deadlines_s` of the windows to run now: at least one if any waits.

    `cost` returns the seconds of a batch by its size, and never less for a larger one.
    """
    count = len(deadlines_s)
    costs = [cost(size) for size in range(1, min(max_batch, count) + 1)]
    order = sorted(range(count), key=lambda i: deadlines_s[i])
    by_deadline = [deadlines_s[i] for i in order]
    sizes = list(range(1, len(costs) + 1))
    if count and now_s - by_deadline[0] <= PATIENCE_S:
        latest = latest_starts(by_deadline, costs)
        late = next(i for i in range(count + 1) if latest[i] >= now_s)
        order = order[late:] + order[:late]
        if late < count:
            rest = [latest[min(late + size, count)] for size in sizes]
            keeps = [min(by_deadline[late], at) - costs[m] >= now_s for m, at in enumerate(rest)]
            sizes = [size for size in sizes if keeps[size - 1]]
    waits = least_waits(count, costs)
    size = min(sizes, key=lambda m: (costs[m - 1] * count + waits[count - m], -m), default=0)
    return order[:size]


def latest_starts(by_deadline: Sequence[float], costs: Sequence[float]) -> list[float]:
    """The latest times to start on the windows from the i-th on and keep all their deadlines.

    One longer than `by_deadline`, which is sorted; costs[m - 1] is what m windows take.
    """
    count = len(by_deadline)
    latest = [math.inf] * (count + 1)
    for i in reversed(range(count)):
        latest[i] = max(
            min(by_deadline[i], latest[i + size]) - costs[size - 1]
            for size in range(1, min(len(costs), count - i) + 1)
        )
    return latest


def least_waits(count: int, costs: Sequence[float]) -> list[float]:
    """The least total of seconds that n windows wait, for n from 0 to `count`."""
    waits = [0.0]
    for n in range(1, count + 1):
        sizes = range(1, min(len(costs), n) + 1)
        waits.append(min(costs[size - 1] * n + waits[n - size] for size in sizes))
    return waits

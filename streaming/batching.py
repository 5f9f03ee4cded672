"""Which of the waiting windows make the next batch: a pure decision, with the time passed in.

deadlines that wait, now, what a batch costs -> [schedule] -> the windows that leave now

Windows cost the same each, so what matters is their deadlines. Those that are kept by one device,
from now on and with what waits now, are as many as any order and any batches could keep: if some k
can be kept, the k latest can; they may leave by deadline, in batches of neighbours; and
`latest_starts` tries all of those. The first batch is then one that still keeps them all, and of
these the one after which all windows have waited the least in sum. A batch whose windows cost a
device as much together as one by one is therefore not made: the first would wait for the last.

What can't be kept any more goes behind what can. That may not last: a window that is late by
`PATIENCE_S` ends it, and all leave by deadline until it has. With newer windows coming this is no
optimum (no rule is, without knowing what comes): in tests/streaming/test_schedule.py it keeps 96 %
of what one who knew would keep, where taking all that wait keeps 86 %.

A free device never waits for company. With n windows here and the next one expected in t seconds,
all n + 1 would have waited less for it in sum only if (n + 1) * (t + cost(n + 1) - cost(n)) <
cost(1): the next window would have to cost less than half of the first even if it came at once.
Hands and faces on a CPU are looked for window by window, and a V-JEPA 2 fills a GPU with one
window; neither has such a fixed part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

PATIENCE_S = 0.3  # as long again as a window may take in the first place


def next_batch(
    deadlines_s: Sequence[float], now_s: float, cost: Callable[[int], float], max_batch: int
) -> list[int]:
    """Indices into `deadlines_s` of the windows to answer now: at least one of those that wait.

    `cost` gives the seconds of a batch by its size, and never less for a larger one.
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
    """Until when a device may start on the windows from the i-th on and keep all their deadlines.

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
    """The seconds that n windows wait in sum at the least, for n from 0 to `count`."""
    waits = [0.0]
    for n in range(1, count + 1):
        sizes = range(1, min(len(costs), n) + 1)
        waits.append(min(costs[size - 1] * n + waits[n - size] for size in sizes))
    return waits

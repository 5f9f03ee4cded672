"""How clips are dealt to the batch sizes that an engine has ready: plain arithmetic.

    number of clips -> [buckets] -> sizes of the runs, the last one padded if need be

It knows neither device nor model.
"""

from __future__ import annotations

from collections.abc import Mapping


class Buckets:
    """Batch sizes and what a run of each costs, in any unit, all of the same."""

    def __init__(self, costs: Mapping[int, float]) -> None:
        """`costs`: size (clips) -> cost of a run, however many of its places are filled.

        Raises:
            ValueError: there is no size, or one below 1.
        """
        if not costs or min(costs) < 1:
            raise ValueError(f"batch sizes must be at least 1, not {sorted(costs)}")
        self.costs = dict(sorted(costs.items()))

    @property
    def largest(self) -> int:
        return max(self.costs)

    def split(self, count: int) -> list[int]:
        """The sizes of the cheapest runs that hold `count` clips, large ones first.

        At the same cost fewer runs are taken. Only the last run may have empty places.
        """
        # best[n]: cost and number of runs for n clips, and the size of one of them
        best = [(0.0, 0, 0)]
        for clips in range(1, count + 1):
            ways = (
                (best[max(0, clips - size)][0] + cost, best[max(0, clips - size)][1] + 1, size)
                for size, cost in self.costs.items()
            )
            best.append(min(ways))
        sizes: list[int] = []
        while count > 0:
            sizes.append(best[count][2])
            count -= sizes[-1]
        return sorted(sizes, reverse=True)

    def without_largest(self) -> Buckets:
        """The smaller sizes; the same again where there is but one."""
        smaller = {size: cost for size, cost in self.costs.items() if size != self.largest}
        return Buckets(smaller) if smaller else self

"""What a batch costs on one device: seconds by the number of its windows, as measured.

    the runner: warm-up, each batch that ends -> [cost] -> batching, capacity

Measured sizes are kept; between them the cost is linear. No clock: whoever runs a batch times it.
"""

from __future__ import annotations

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

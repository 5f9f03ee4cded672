"""What a batch costs on one device: seconds by the number of its windows, as measured.

warm-up and each batch that ends -> [cost] -> schedule

Learnt sizes are kept, those between are drawn straight. No clock: whoever runs a batch times it.
"""

from __future__ import annotations

_STEP = 2.0  # a batch counts as at most so many times as slow or as fast as was thought
_OWN = 0.2  # how far an estimate follows a batch of its size, in the logarithm
_OTHERS = 0.05  # and the other sizes along: a device that slows down does so for all
_LEAST_S = 1e-5  # below the resolution of what is measured


class CostModel:
    """Estimates that follow the device and shrug at a hiccup: one batch moves its own size by at
    most 15 % (`_STEP ** _OWN`), the others by 4 %.

    Bound: one number for each size that ever ran.
    """

    def __init__(self) -> None:
        self._learnt: dict[int, float] = {}  # size -> seconds

    def learn(self, size: int, seconds: float) -> None:
        """A batch of `size` windows took `seconds`."""
        seconds = max(seconds, _LEAST_S)
        if not self._learnt:
            self._learnt[size] = seconds
            return
        thought = self._learnt.setdefault(size, self(size))
        off = min(max(seconds / thought, 1 / _STEP), _STEP)
        for known in self._learnt:
            self._learnt[known] *= off ** (_OWN if known == size else _OTHERS)

    def warm(self, size: int, seconds: float) -> None:
        """A batch of `size` windows took `seconds` while nobody else used the device."""
        self._learnt[size] = max(seconds, _LEAST_S)

    def __call__(self, size: int) -> float:
        """Seconds that a batch of `size` windows takes: never less than a smaller one.

        Above the largest size that was learnt each window costs as much as it did there. 0 as long
        as nothing was learnt.
        """
        below, seconds = 0, 0.0
        for known in sorted(self._learnt):
            above_s = max(seconds, self._learnt[known])
            if known >= size:
                share = (size - below) / (known - below) if below else 1.0
                return seconds + share * (above_s - seconds)
            below, seconds = known, above_s
        return seconds * size / below if below else 0.0

"""What the windows of one movement, or of one clip, show together.

predictions -> [movement] -> the glosses' probabilities
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.schema import Prediction

_FLOOR = 1e-3  # no single window rules a gloss out


class Movement:
    """The geometric mean of windows, each weighted by how sure it is that someone signs.

    Bound: it keeps sums, no windows.
    """

    def __init__(self, glosses: int) -> None:
        self._logs = np.zeros(glosses)  # (G,) which gloss, given that there is one; weighted
        self._weight = 0.0
        self.signing = 0.0  # probability that a known gloss is signed, of the surest window
        self.began_s = math.inf  # end of the first window, media time

    def add(self, prediction: Prediction) -> None:
        p = prediction.probabilities + _FLOOR
        weight = 1 - prediction.idle + _FLOOR
        self._logs += weight * np.log(p / p.sum())
        self._weight += weight
        self.signing = max(self.signing, 1 - prediction.idle)
        self.began_s = min(self.began_s, prediction.end_s)

    def __bool__(self) -> bool:
        return self._weight > 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(G,) Given that a known gloss is signed: they sum to 1.

        Raises:
            ValueError: there is no window.
        """
        if not self:
            raise ValueError("a movement without a window has no answer")
        mean = self._logs / self._weight
        likelihood = np.exp(mean - mean.max())
        result: NDArray[np.float64] = likelihood / likelihood.sum()
        return result

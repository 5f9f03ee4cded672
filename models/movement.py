"""What the windows of one movement, or of one clip, show together.

predictions -> [movement] -> the glosses' probabilities
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.schema import Prediction

# Of what a window says so much is taken for noise, shared out over the glosses: no single window
# rules one out, and however many there are, a clip can be sure of its answer.
_DOUBT = 0.02
_LEAST = 1e-3  # weight of a window that shows no signing at all


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
        p = prediction.probabilities + _DOUBT / len(self._logs)
        weight = 1 - prediction.idle + _LEAST
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

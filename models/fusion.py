"""Two recognisers' answers as one: a mean of their log-probabilities, weighted.

    probabilities of each part -> sum of weight * log p -> softmax -> probabilities

A weight says how much a part counts and how sure it may make the answer (it is a temperature too).
They are learnt from clips that no part was trained on, see `offline.fuse`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.classifier import softmax

_LEAST = 1e-6  # a part that rules a class out does not do so alone, whatever the others say


def log_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Their logarithms, never below that of one in a million."""
    logs: NDArray[np.float32] = np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)
    return logs


def fuse(
    probabilities: Sequence[NDArray[np.floating]], weights: Sequence[float]
) -> NDArray[np.float32]:
    """(…, K) from what each part says, (…, K) each."""
    parts = zip(probabilities, weights, strict=True)
    logits = np.sum([weight * log_probabilities(one) for one, weight in parts], axis=0)
    return softmax(np.asarray(logits, np.float32))

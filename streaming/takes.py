"""Records takes: one sign shown to the camera, as an embedding to teach the sign with.

    predictions -> [takes] -> the message `take`

Plain synchronous code; media time comes with the predictions.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque

import numpy as np
from numpy.typing import NDArray

from models.few_shot import unit_length
from models.schema import Prediction
from streaming.messages import TakeMessage

_AVERAGED_S = 0.5  # a take is the mean of the windows that end in its last so many seconds
_MAX_WINDOWS = 32  # of them


class TakeError(Exception):
    """Nothing usable was recorded; the text says why."""


class TakeRecorder:
    """Records one take at a time, a window long; starting another drops the one under way."""

    def __init__(self, window_s: float, space: str) -> None:
        self._window_s = window_s
        self._space = space  # id of the embedding space
        self._id: str | None = None
        self._start_s = 0.0
        self._embeddings: deque[NDArray[np.float32]] = deque(maxlen=_MAX_WINDOWS)

    def start(self, id: str, now_s: float) -> None:
        """The sign begins about now, in media time."""
        self._id, self._start_s = id, now_s
        self._embeddings.clear()

    def update(self, prediction: Prediction) -> TakeMessage | None:
        """The take, once `prediction` completes it.

        Raises:
            TakeError: it can't be completed any more; the next one can start.
        """
        if self._id is None:
            return None
        end_s = self._start_s + self._window_s
        if not self._start_s - self._window_s <= prediction.end_s <= end_s + self._window_s:
            self._id = None
            raise TakeError("The video stopped during the take. Record it again.")
        if prediction.embedding is not None and prediction.end_s >= end_s - _AVERAGED_S:
            self._embeddings.append(prediction.embedding)
        if prediction.end_s < end_s:
            return None
        id, self._id = self._id, None
        if not self._embeddings:
            raise TakeError("This model has no embeddings, so it can't learn new signs.")
        return TakeMessage(
            id=id,
            space=self._space,
            embedding=pack(unit_length(np.mean(self._embeddings, axis=0))),
            start_s=round(self._start_s, 3),
            end_s=round(prediction.end_s, 3),
        )


def pack(vector: NDArray[np.float32]) -> str:
    """(E,) as the base64 of float16, little-endian."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def unpack(text: str, dim: int) -> NDArray[np.float32]:
    """(dim,) of what `pack` made.

    Raises:
        ValueError: it is something else, or of another length.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a take is not base64") from error
    if len(raw) != 2 * dim:
        raise ValueError(f"a take has {len(raw)} bytes, not the {2 * dim} of {dim} float16")
    return np.frombuffer(raw, "<f2").astype(np.float32)

"""A take on its way: from the moment the signer is told to begin to what the page gets of it.

predictions -> [takes] -> protocol. Plain synchronous code; media time comes with the predictions.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.few_shot import unit
from models.schema import Prediction

_READ_S = 0.5  # a take is read from the windows that end in the last so many seconds of it
_WINDOWS = 32  # of them at most


class NoTake(Exception):
    """Nothing usable was recorded; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Take:
    """What one recording gave."""

    id: str  # the page's own name for it
    embedding: NDArray[np.float32]  # (E,), unit length
    start_s: float  # media time
    end_s: float


class TakeRecorder:
    """Records one take at a time, a window long; beginning another drops the one under way."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._id: str | None = None
        self._start_s = 0.0
        self._heard: deque[NDArray[np.float32]] = deque(maxlen=_WINDOWS)

    def begin(self, id: str, now_s: float) -> None:
        """The sign begins about now, in media time."""
        self._id, self._start_s = id, now_s
        self._heard.clear()

    def hear(self, said: Prediction) -> Take | None:
        """The take, once `said` completes it.

        Raises:
            NoTake: it can't be completed any more; the next one can begin.
        """
        if self._id is None:
            return None
        end_s = self._start_s + self._window_s
        if said.end_s < self._start_s - self._window_s or said.end_s > end_s + self._window_s:
            self._id = None
            raise NoTake("The video stopped during the take. Record it again.")
        if said.embedding is not None and said.end_s >= end_s - _READ_S:
            self._heard.append(said.embedding)
        if said.end_s < end_s:
            return None
        take_id, self._id = self._id, None
        if not self._heard:
            raise NoTake("This model gives nothing to remember a sign by.")
        return Take(
            id=take_id,
            embedding=unit(np.mean(self._heard, axis=0)),
            start_s=self._start_s,
            end_s=said.end_s,
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

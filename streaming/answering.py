"""Who answers a session's windows, seen from the session: in this process, or wherever it may be.

`streaming.batcher` is one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from models.schema import Clip, Prediction


class Replaced(Exception):
    """A newer window of the same stream took this one's place; it will not be answered."""


class Answering(Protocol):
    """At most one window of a stream waits: a newer one replaces it."""

    @property
    def added_hop_s(self) -> float:
        """What streams should add to their hop now, or windows are replaced."""
        ...

    def submit(self, clip: Clip, deadline_s: float) -> asyncio.Future[Prediction]:
        """Ask for an answer, best by `deadline_s` (loop time). Cancel the future to withdraw.

        The future raises `Replaced` when a newer window of the stream came first, or a
        `RecognitionError`.
        """
        ...

    def forget(self, stream: str) -> None:
        """A stream has ended: its waiting window is withdrawn, what was kept of it is dropped."""
        ...

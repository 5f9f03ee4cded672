"""What one listener (a data channel, an event stream) has yet to be told.

Bounded, with a rule for each kind of message: a newer prediction replaces the waiting one, a newer
state of a sign replaces the waiting one of the same `id`, newer `stats` replace older ones, and a
final sign is never dropped: a listener that leaves more messages unread than fit is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streaming.protocol import Message

Make = Callable[[], Message]  # builds the message at the moment it leaves, so its times are true


class OutboxFull(Exception):
    """The listener is too slow: nothing more can be kept for it without losing a sign."""


class Outbox:
    """Messages in the order of their `put`. One taker."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"an outbox holds at least one message, not {capacity}")
        self.capacity = capacity
        self.replaced = 0
        self._waiting: dict[object, Make] = {}
        self._stirred = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, make: Make, *, slot: str | None = None) -> None:
        """Add a message; it replaces a waiting one of the same `slot`. Ignored once closed.

        Raises:
            OutboxFull: the bound is reached.
        """
        if self._closed:
            return
        key: object = object() if slot is None else slot
        if self._waiting.pop(key, None) is not None:
            self.replaced += 1
        elif len(self._waiting) >= self.capacity:
            raise OutboxFull(f"{self.capacity} messages were left unread")
        self._waiting[key] = make
        self._stirred.set()

    async def take(self) -> Message | None:
        """Wait for the oldest message and build it; None once closed and empty.

        Cancelling loses nothing.
        """
        await self._stirred.wait()
        if not self._waiting:
            return None
        make = self._waiting.pop(next(iter(self._waiting)))
        if not self._waiting and not self._closed:
            self._stirred.clear()
        return make()

    def close(self) -> None:
        """Take no more messages; those that wait may still be taken."""
        self._closed = True
        self._stirred.set()

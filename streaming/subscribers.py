"""Who listens to a session: its data channels and its event streams, an outbox for each.

What is said reaches every listener at its own pace; one that is too slow is given up, and disturbs
nobody else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from streaming.messages import Message

RESULTS = "results"  # the data channel that every page opens: reliable, in order
PREDICTIONS = "predictions"  # a second one it may open, unreliable: then predictions go there
MAX_STREAMS = 4  # event streams at most, the data channels not counted


class TooManySubscribers(Exception):
    """The session feeds as many event streams as it may."""


class Subscribers:
    """The listeners of one session. `greeting` builds what each is told first."""

    def __init__(self, greeting: Make, *, outbox: int) -> None:
        self._greeting = greeting
        self._capacity = outbox
        self._outboxes: dict[str, Outbox] = {}  # by the listener's name
        self._numbers = itertools.count(1)
        self._closed = False

    def __len__(self) -> int:
        return len(self._outboxes)

    @property
    def fullest(self) -> int:
        """Messages in the fullest outbox."""
        return max((len(outbox) for outbox in self._outboxes.values()), default=0)

    def join(self, name: str) -> Outbox:
        """A new listener's outbox; it is empty and closed when the session has ended."""
        outbox = self._outboxes[name] = Outbox(self._capacity)
        if name != PREDICTIONS:
            outbox.put(self._greeting)
        if self._closed:
            outbox.close()
        return outbox

    def leave(self, name: str) -> None:
        """The listener is gone; what waited for it is dropped."""
        outbox = self._outboxes.pop(name, None)
        if outbox is not None:
            outbox.close()

    @contextmanager
    def stream(self) -> Iterator[Outbox]:
        """Join as an event stream, for as long as the block lasts.

        Raises:
            TooManySubscribers: there are as many as there may be.
        """
        if len(self._outboxes.keys() - {RESULTS, PREDICTIONS}) >= MAX_STREAMS:
            raise TooManySubscribers(f"{MAX_STREAMS} event streams are open already")
        name = f"events {next(self._numbers)}"
        try:
            yield self.join(name)
        finally:
            self.leave(name)

    def tell(self, make: Make, *, slot: str | None = None) -> None:
        """Say something to everyone; a waiting message of the same `slot` is replaced."""
        self._put(self._outboxes.keys() - {PREDICTIONS}, make, slot)

    def reply(self, make: Make, *, slot: str | None = None) -> None:
        """Say something to the page alone, over the channel on which it speaks."""
        self._put(self._outboxes.keys() & {RESULTS}, make, slot)

    def predict(self, make: Make) -> None:
        """Tell a prediction: a newer one replaces it, and the unreliable channel is preferred."""
        skip = RESULTS if PREDICTIONS in self._outboxes else PREDICTIONS
        self._put(self._outboxes.keys() - {skip}, make, "prediction")

    def close(self) -> None:
        """Nothing more will be said; listeners may still take what waits for them."""
        self._closed = True
        for outbox in self._outboxes.values():
            outbox.close()

    def _put(self, names: Iterable[str], make: Make, slot: str | None) -> None:
        for name in list(names):
            try:
                self._outboxes[name].put(make, slot=slot)
            except OutboxFull:
                self.leave(name)


# MERGED from streaming.outbox: What one listener (a data channel, an event stream) has yet to be
# told. Bounded, with a rule for each kind of message: a newer prediction replaces the waiting
# one, a newer state of a sign replaces the waiting one of the same `id`, newer `stats` replace
# older ones, and a final sign is never dropped: a listener that leaves more messages unread than
# fit is given up.

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

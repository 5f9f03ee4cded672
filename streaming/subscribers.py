"""Who receives a session's messages: its data channels and event streams, an outbox for each.

    pipeline, session -> [subscribers] -> data channels, event streams

Each subscriber takes messages at its own pace. One that is too slow is dropped and disturbs nobody
else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from streaming.messages import ServerMessage, encode

RESULTS = "results"  # the data channel that every page opens: reliable, in order
PREDICTIONS = "predictions"  # a second one it may open, unreliable: then predictions go there
MAX_STREAMS = 4  # event streams of a session at most; the data channels are not counted

Build = Callable[[], ServerMessage]  # called when the message leaves, so that its times are true


class TooManySubscribers(Exception):
    """The session already has as many event streams as it may."""


class Subscribers:
    """The subscribers of one session. `greeting` builds the first message of each.

    Messages of the same `slot` replace each other while they wait.
    """

    def __init__(self, greeting: Build | None, *, outbox: int, streams: int = MAX_STREAMS) -> None:
        self._greeting = greeting
        self._streams = streams  # event streams at most
        self._capacity = outbox  # messages
        self._outboxes: dict[str, Outbox] = {}  # by the subscriber's name
        self._numbers = itertools.count(1)
        self._closed = False

    def __len__(self) -> int:
        return len(self._outboxes)

    @property
    def fullest(self) -> int:
        """Messages in the fullest outbox."""
        return max((len(outbox) for outbox in self._outboxes.values()), default=0)

    def join(self, name: str) -> Outbox:
        """A new subscriber's outbox; closed after the greeting when the session has ended."""
        outbox = self._outboxes[name] = Outbox(self._capacity)
        if name != PREDICTIONS and self._greeting is not None:
            outbox.put(self._greeting)
        if self._closed:
            outbox.close()
        return outbox

    def leave(self, name: str) -> None:
        """The subscriber is gone; its waiting messages are dropped."""
        outbox = self._outboxes.pop(name, None)
        if outbox is not None:
            outbox.close()

    @contextmanager
    def stream(self) -> Iterator[Outbox]:
        """Join as an event stream for as long as the block lasts.

        Raises:
            TooManySubscribers: there are as many as there may be.
        """
        if len(self._outboxes.keys() - {RESULTS, PREDICTIONS}) >= self._streams:
            raise TooManySubscribers(f"{self._streams} event streams are open already")
        name = f"events {next(self._numbers)}"
        try:
            yield self.join(name)
        finally:
            self.leave(name)

    def send(self, build: Build, *, slot: str | None = None) -> None:
        """Send to everyone."""
        self._put(self._outboxes.keys() - {PREDICTIONS}, build, slot)

    def send_page(self, build: Build, *, slot: str | None = None) -> None:
        """Send to the page alone, over the channel on which it sends."""
        self._put(self._outboxes.keys() & {RESULTS}, build, slot)

    def send_prediction(self, build: Build) -> None:
        """Send to everyone; to the page over the unreliable channel if it has opened one."""
        skip = RESULTS if PREDICTIONS in self._outboxes else PREDICTIONS
        self._put(self._outboxes.keys() - {skip}, build, "prediction")

    def close(self) -> None:
        """Send nothing more; subscribers may still take the messages that wait for them."""
        self._closed = True
        for outbox in self._outboxes.values():
            outbox.close()

    def _put(self, names: Iterable[str], build: Build, slot: str | None) -> None:
        for name in list(names):
            try:
                self._outboxes[name].put(build, slot=slot)
            except OutboxFull:
                self.leave(name)


class OutboxFull(Exception):
    """The subscriber is too slow: it can't keep another message without losing a sign."""


class Outbox:
    """The messages that wait for one subscriber, in the order of their `put`. One taker.

    Bound: `capacity` messages. Overflow rule: a newer message replaces the waiting one of its slot
    (predictions, `stats`, states of one sign); nothing else is dropped, so that no final sign is
    lost: `put` raises.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"an outbox holds at least one message, not {capacity}")
        self.capacity = capacity
        self.replaced = 0
        self._waiting: dict[object, Build] = {}
        self._ready = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, build: Build, *, slot: str | None = None) -> None:
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
        self._waiting[key] = build
        self._ready.set()

    async def take(self) -> ServerMessage | None:
        """Wait for the oldest message and build it; None once closed and empty.

        Cancelling loses nothing.
        """
        await self._ready.wait()
        if not self._waiting:
            return None
        build = self._waiting.pop(next(iter(self._waiting)))
        if not self._waiting and not self._closed:
            self._ready.clear()
        return build()

    async def take_text(self) -> str | None:
        """The same, as JSON."""
        message = await self.take()
        return None if message is None else encode(message)

    def close(self) -> None:
        """Accept no more messages; those that wait may still be taken."""
        self._closed = True
        self._ready.set()

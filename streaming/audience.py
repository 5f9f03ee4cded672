"""Who listens to a session: its data channels and its event streams, an outbox for each.

What is said reaches every listener at its own pace; one that is too slow is given up, and disturbs
nobody else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streaming.outbox import Make, Outbox, OutboxFull

RESULTS = "results"  # the data channel that every page opens: reliable, in order
PREDICTIONS = "predictions"  # a second one it may open, unreliable: then predictions go there
MAX_STREAMS = 4  # event streams at most, the data channels not counted


class TooManyListeners(Exception):
    """The session feeds as many event streams as it may."""


class Audience:
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
            TooManyListeners: there are as many as there may be.
        """
        if len(self._outboxes.keys() - {RESULTS, PREDICTIONS}) >= MAX_STREAMS:
            raise TooManyListeners(f"{MAX_STREAMS} event streams are open already")
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

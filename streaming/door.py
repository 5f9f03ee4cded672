"""How fast callers come in: offers are answered one after another, as they came.

admission: who has a place -> [door] -> session

To set a session up keeps the event loop as busy as three seconds of its video do (docs/load.md).
Many at once make those wait who are in; one at a time, with pauses, hardly do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

_PAUSE = 3.0  # after a turn, times what the loop did in it
_LONGEST_S = 0.25  # a turn and its pause; what takes longer waits for the network


class WaitedTooLong(Exception):
    """The caller's turn did not come in time."""


class Door:
    """Whoever has a place awaits its `turn`, and is set up in it.

    After a turn the door stays shut for `_PAUSE` times as long as the loop was busy in it, but for
    `_LONGEST_S` in all at most. So answers take a quarter of a loop's time, and when those peers
    connect, which takes somewhat more, something is left to those who are in.

    Bounds: nobody waits longer than `wait_s`; how many wait is bounded by admission, which gives
    no more places than there are. `busy_s`: how long the loop has been busy.
    """

    def __init__(self, *, wait_s: float, busy_s: Callable[[], float] = time.thread_time) -> None:
        self._wait_s = wait_s
        self._busy_s = busy_s
        self._turns = asyncio.Semaphore(1)  # first come, first served

    async def turn(self) -> AbstractContextManager[None]:
        """Comes back when it is the caller's turn, which lasts until what it gives is left.

        Raises:
            WaitedTooLong: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise WaitedTooLong from None
        return self._shut()

    @contextmanager
    def _shut(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        began_s = self._busy_s()
        opening = loop.call_later(_LONGEST_S, self._turns.release)
        try:
            yield
        finally:
            again_s = loop.time() + _PAUSE * (self._busy_s() - began_s)
            if again_s < opening.when():
                opening.cancel()
                loop.call_at(again_s, self._turns.release)

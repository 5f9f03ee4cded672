"""The first bounded buffer of the receive path: datagrams read from a socket, not yet looked at."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any


class DatagramQueue(asyncio.Queue[Any]):
    """What aioice read from the socket and the loop has not looked at yet.

    Overflow rule: the oldest leave, when there are `max_datagrams` or when they have waited for
    `max_wait_s`. The end mark (None) stays. Remembers when the datagram taken last was read, so
    that time spent here counts as age.
    """

    def __init__(self, max_datagrams: int, max_wait_s: float) -> None:
        super().__init__()
        self.bound = max_datagrams
        self.dropped = 0
        self.read_s = 0.0
        self._max_wait_s = max_wait_s

    def put_nowait(self, item: Any) -> None:
        waiting = self._waiting
        oldest_s = time.monotonic() - self._max_wait_s
        while waiting and waiting[0][1] is not None:
            if len(waiting) < self.bound and waiting[0][0] >= oldest_s:
                break
            waiting.popleft()
            self.dropped += 1
        super().put_nowait(item)

    def _init(self, maxsize: int) -> None:
        self._waiting: deque[tuple[float, Any]] = deque()

    def qsize(self) -> int:
        return len(self._waiting)

    def empty(self) -> bool:
        return not self._waiting

    def _put(self, item: Any) -> None:
        self._waiting.append((time.monotonic(), item))

    def _get(self) -> Any:
        self.read_s, item = self._waiting.popleft()
        return item

"""The bounded ring between a decoder thread and the event loop: the newest frames are kept.

    decoder thread -> [ring] -> the pipeline's task `windows`

Frames that the loop did not take in time are dropped, oldest first, and counted: a slow loop gets
fewer frames, never older ones.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from models.schema import Frame


class FrameRing:
    """At most `capacity` frames. Overflow rule: the oldest leaves, `dropped` counts it."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a ring holds at least one frame, not {capacity}")
        self.capacity = capacity
        self.dropped = 0
        self._frames: deque[Frame] = deque()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: Frame) -> None:
        """Add the newest frame. Safe from any thread; never blocks; nothing after `close`."""
        with self._lock:
            if self._closed:
                return
            if len(self._frames) >= self.capacity:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            if len(self._frames) == 1:  # the taker may wait
                self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self) -> list[Frame]:
        """Wait for frames and take all of them, oldest first. One taker only.

        Cancelling loses nothing.
        """
        await self._filled.wait()
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
            self._filled.clear()
        return frames

    def close(self) -> None:
        """Drop the frames and ignore later pushes, so that the loop may close."""
        with self._lock:
            self._closed = True
            self._frames.clear()

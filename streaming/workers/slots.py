"""Shared memory by which pictures go from one process to another, in slots of a fixed size.

A picture takes as many slots as it needs, in any order. The process that writes knows which are
free; the one that reads copies a picture out and hands its slots back. The memory has no name: the
system takes it back when the last process that maps it ends, however it ends.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class SlotPool:
    """Which of `count` slots are free.

    The one handed back last goes out first: its memory is the likeliest to be in a cache.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"a pool holds at least one slot, not {count}")
        self.count = count
        self._free = list(reversed(range(count)))
        self._out: set[int] = set()

    def __len__(self) -> int:
        """How many are free."""
        return len(self._free)

    def take(self, count: int) -> list[int] | None:
        """`count` slots, or None, and none taken, when fewer are free."""
        if count > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(count)]
        self._out.update(taken)
        return taken

    def give(self, slots: Iterable[int]) -> None:
        """Hand slots back.

        Raises:
            ValueError: one of them is not out.
        """
        for slot in slots:
            if slot not in self._out:
                raise ValueError(f"slot {slot} is not out")
            self._out.remove(slot)
            self._free.append(slot)


class FrameSlots:
    """The memory behind a pool: `count` slots of `slot_bytes`, by the file descriptor `handle`.

    Whoever makes one closes its handle; the memory itself stays mapped until `close`.
    """

    def __init__(self, handle: int, *, count: int, slot_bytes: int) -> None:
        self._map = mmap.mmap(handle, count * slot_bytes)
        self._slots = np.frombuffer(self._map, np.uint8).reshape(count, slot_bytes)

    def needs(self, image: NDArray[np.uint8]) -> int:
        """How many slots a picture takes."""
        return math.ceil(image.nbytes / self._slots.shape[1])

    def write(self, slots: Sequence[int], image: NDArray[np.uint8]) -> None:
        """Put a picture (H, W, 3) into as many slots as it needs."""
        flat = np.ascontiguousarray(image).reshape(-1)
        size = self._slots.shape[1]
        for place, slot in enumerate(slots):
            part = flat[place * size : (place + 1) * size]
            self._slots[slot, : len(part)] = part

    def read(self, slots: Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
        """(H, W, 3) A copy of the picture in `slots`.

        Raises:
            ValueError: these slots hold no picture of that size.
        """
        count, size = self._slots.shape
        length = height * width * 3
        fits = min(height, width) > 0 and math.ceil(length / size) == len(slots)
        if not fits or not all(0 <= slot < count for slot in slots):
            raise ValueError(f"no picture of {width}x{height} in slots {list(slots)[:8]}")
        flat = np.empty(length, np.uint8)
        for place, slot in enumerate(slots):
            part = flat[place * size : (place + 1) * size]
            part[:] = self._slots[slot, : len(part)]
        return flat.reshape(height, width, 3)

    def close(self) -> None:
        """Unmap the memory. A second call is fine."""
        self._slots = self._slots[:0].copy()  # a view would keep it mapped
        self._map.close()


def nameless_memory(size: int) -> int:
    """A file descriptor of `size` bytes that stand under no name; to be closed.

    Raises:
        OSError: there is no room for it.
    """
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("livegloss-frames")
    else:  # macOS: a file that loses its name at once
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    try:
        os.truncate(handle, size)
    except BaseException:
        os.close(handle)
        raise
    return handle

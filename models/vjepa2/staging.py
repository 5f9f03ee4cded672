"""Copies pictures to the device as uint8, through two buffers in turn, and resizes them there.

    pictures of any size -> page-locked buffer -> device -> resize, centre crop -> rows of the batch

While the device unpacks one buffer or encodes, the other is filled and copied. The result equals
that of `models.vjepa2.preprocess.crop_pictures`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.vjepa2.preprocess import crop_pictures, filters, middle

_BUFFER_BYTES = 32 << 20  # holds 170 pictures of 256 px; two of them a batch of 16 frames each
_THREADS = 4  # to fill a buffer: one alone fills it at 5 GB/s (measured), a bus takes 25

_Picture = NDArray[np.uint8]  # (H, W, 3)
_Item = tuple[bool, _Picture]  # whether it is cropped already, and what is copied


class Staging:
    """Copies pictures to `device`. Called from one thread at a time.

    It keeps no memory but its two buffers; a picture too large for one is resized on the host.
    """

    def __init__(self, device: torch.device, crop: int, buffer_bytes: int = _BUFFER_BYTES) -> None:
        """For pictures of `crop` px, at least one of which must fit `buffer_bytes`."""
        self._crop = crop
        self._size = max(buffer_bytes, crop * crop * 3)
        cuda = device.type == "cuda"
        copies = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._slots = itertools.cycle(
            _CudaSlot(self._size, device, copies) if copies is not None else _Slot(self._size)
            for _ in range(2)
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="staging")
        self._filters = lru_cache(maxsize=16)(partial(_filters_on, device, crop))

    def put(self, pictures: Sequence[_Picture], rows: Tensor) -> None:
        """Copy `pictures` to `rows` (n, crop, crop, 3) uint8 on the device, in order.

        Returns when the pictures have been read. Work queued on the current stream after that finds
        `rows` complete.

        Raises:
            ValueError: a picture is not (H, W, 3) uint8.
        """
        row = 0
        for load in self._loads([self._item(image) for image in pictures]):
            slot = next(self._slots)
            slot.wait()
            left = slot.send(self._fill(slot.host, load))
            for (cropped, shape), group in itertools.groupby(load, lambda i: (i[0], i[1].shape)):
                count = len(list(group))
                size = count * math.prod(shape)
                images, left = left[:size].view(count, *shape), left[size:]
                rows[row : row + count] = images if cropped else self._resized(images)
                row += count
            slot.unpacked()

    def close(self) -> None:
        self._threads.shutdown()

    def _item(self, image: _Picture) -> _Item:
        """What to copy of a picture: its centre if it needs no resizing, else all of it."""
        crop = middle(image, self._crop)
        if crop is None and image.size > self._size:
            crop = crop_pictures([image], self._crop)[0]
        return (False, image) if crop is None else (True, crop)

    def _loads(self, items: Sequence[_Item]) -> Iterator[list[_Item]]:
        """`items` in order, as many at once as fit a buffer."""
        load: list[_Item] = []
        free = self._size
        for item in items:
            if item[1].size > free:
                yield load
                load, free = [], self._size
            load.append(item)
            free -= item[1].size
        if load:
            yield load

    def _fill(self, host: Tensor, load: Sequence[_Item]) -> int:
        """Write pictures into a buffer, one after the other. Returns the number of bytes."""
        buffer, end, copies = host.numpy(), 0, []
        for _, image in load:
            begin, end = end, end + image.size
            copies.append((buffer[begin:end].reshape(image.shape), image))
        # Every fourth picture to a thread: one task a picture would take twice as long.
        list(self._threads.map(_copy, (copies[i::_THREADS] for i in range(_THREADS))))
        return end

    def _resized(self, pictures: Tensor) -> Tensor:
        """(n, H, W, 3) to (n, crop, crop, 3) uint8, on the device."""
        rows, columns = self._filters(*pictures.shape[1:3])
        # Channels first, for two large products. Their sums have at most 23 bits (8 of a level, 15
        # of a weight), so float32 is exact in any order; TF32, off by torch's default, is not.
        planes = pictures.permute(0, 3, 1, 2).to(
            torch.float32, memory_format=torch.contiguous_format
        )
        square = _rounded(rows @ _rounded(planes @ columns.T))  # n, 3, crop, crop
        return square.permute(0, 2, 3, 1).to(torch.uint8)


def _filters_on(device: torch.device, crop: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    rows, columns = filters(height, width, crop)
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device)


class _Slot:
    """A buffer for a device that shares the host's memory."""

    def __init__(self, size: int) -> None:
        self.host = torch.empty(size, dtype=torch.uint8)

    def wait(self) -> None:
        """Wait until the last content has been unpacked."""

    def send(self, size: int) -> Tensor:
        """The first `size` bytes on the device, complete for work queued on the current stream."""
        return self.host[:size]

    def unpacked(self) -> None:
        """Say that all work that reads the content is queued on the current stream by now."""


class _CudaSlot(_Slot):
    """A page-locked buffer and its twin on the device; copies run on their own stream."""

    def __init__(self, size: int, device: torch.device, copies: torch.cuda.Stream) -> None:
        self.host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._twin = torch.empty(size, dtype=torch.uint8, device=device)
        self._device = device
        self._copies = copies
        # Waiting for an event that was never recorded returns at once.
        self._arrived, self._unpacked = _event(), _event()

    def wait(self) -> None:
        self._unpacked.synchronize()

    def send(self, size: int) -> Tensor:
        with torch.cuda.stream(self._copies):
            self._twin[:size].copy_(self.host[:size], non_blocking=True)
            self._arrived.record(self._copies)
        torch.cuda.current_stream(self._device).wait_event(self._arrived)
        return self._twin[:size]

    def unpacked(self) -> None:
        # Both the copy from `host` and the reads of `_twin` come before this event.
        self._unpacked.record(torch.cuda.current_stream(self._device))


def _rounded(levels: Tensor) -> Tensor:
    """Round in place to whole 8-bit levels, halves up."""
    return levels.add_(0.5).floor_().clamp_(0, 255)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


def _copy(pictures: Sequence[tuple[_Picture, _Picture]]) -> None:
    for target, image in pictures:
        np.copyto(target, image)  # releases the GIL

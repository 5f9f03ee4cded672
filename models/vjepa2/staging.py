"""Pictures on their way to the device: as uint8, through two buffers that take turns.

    pictures of any size -> page-locked buffer -> device -> middle, resized -> rows of the batch

While the device unpacks or encodes, the other buffer is filled and copied. It gives what
`models.vjepa2.preprocess.crop_pictures` gives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.vjepa2.preprocess import crop_pictures, filters, middle

_BUFFER_BYTES = 32 << 20  # holds 170 pictures of 256 px; two of them a batch of 16 frames each
_HANDS = 4  # threads that fill a buffer: one alone fills it at 5 GB/s (measured), a bus takes 25

Picture = NDArray[np.uint8]  # (H, W, 3)
_Sent = tuple[bool, Picture]  # the picture is cut already: only its middle travels


class Staging:
    """Brings pictures to `device`. Called from one thread at a time.

    The buffers are all the memory that it keeps; a picture too large for one is resized here.
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
        self._hands = ThreadPoolExecutor(_HANDS, thread_name_prefix="staging")
        self._filters = lru_cache(maxsize=16)(_filters_on(device, crop))

    def put(self, pictures: Sequence[Picture], rows: Tensor) -> None:
        """Bring `pictures` to `rows` (n, crop, crop, 3) uint8 on the device, in order.

        Returns when the pictures have been read. `rows` are right for what is queued from now on
        on the current stream.

        Raises:
            ValueError: a picture is not (H, W, 3) uint8.
        """
        row = 0
        for load in self._loads([self._to_send(image) for image in pictures]):
            slot = next(self._slots)
            slot.wait()
            there = slot.send(self._fill(slot.host, load))
            for (cut, shape), group in itertools.groupby(load, lambda one: (one[0], one[1].shape)):
                count = len(list(group))
                size = count * math.prod(shape)
                sent, there = there[:size].view(count, *shape), there[size:]
                rows[row : row + count] = sent if cut else self._resized(sent)
                row += count
            slot.unpacked()

    def close(self) -> None:
        self._hands.shutdown()

    def _to_send(self, image: Picture) -> _Sent:
        """What travels of a picture: its middle where that is all that is wanted."""
        cut = middle(image, self._crop)
        if cut is None and image.size > self._size:
            cut = crop_pictures([image], self._crop)[0]
        return (False, image) if cut is None else (True, cut)

    def _loads(self, pictures: Sequence[_Sent]) -> Iterator[list[_Sent]]:
        """`pictures` in order, as many at once as fit a buffer."""
        load: list[_Sent] = []
        room = self._size
        for one in pictures:
            if one[1].size > room:
                yield load
                load, room = [], self._size
            load.append(one)
            room -= one[1].size
        if load:
            yield load

    def _fill(self, host: Tensor, load: Sequence[_Sent]) -> int:
        """Write pictures into a buffer, one after the other. Returns how many bytes."""
        buffer, end, copies = host.numpy(), 0, []
        for _, image in load:
            begin, end = end, end + image.size
            copies.append((buffer[begin:end].reshape(image.shape), image))
        # Every fourth picture to a thread: a task a picture would cost as much again.
        list(self._hands.map(_copy, (copies[i::_HANDS] for i in range(_HANDS))))
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


class _Slot:
    """A buffer where the device has the memory of the host."""

    def __init__(self, size: int) -> None:
        self.host = torch.empty(size, dtype=torch.uint8)

    def wait(self) -> None:
        """Until what was sent last has been unpacked."""

    def send(self, size: int) -> Tensor:
        """The first `size` bytes, on the device, for what is queued on the current stream."""
        return self.host[:size]

    def unpacked(self) -> None:
        """What was sent has been used by all that is queued on the current stream by now."""


class _CudaSlot(_Slot):
    """A page-locked buffer and its twin on the device; copies run on a stream of their own."""

    def __init__(self, size: int, device: torch.device, copies: torch.cuda.Stream) -> None:
        self.host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._twin = torch.empty(size, dtype=torch.uint8, device=device)
        self._device = device
        self._copies = copies
        # Waiting for an event that was never recorded is no wait.
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
        # Both the copy from `host` and the reading of `_twin` lie before this event.
        self._unpacked.record(torch.cuda.current_stream(self._device))


def _rounded(levels: Tensor) -> Tensor:
    """In place, to whole levels of 8 bits, halves up."""
    return levels.add_(0.5).floor_().clamp_(0, 255)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


def _filters_on(device: torch.device, crop: int) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    def of(height: int, width: int) -> tuple[Tensor, Tensor]:
        rows, columns = filters(height, width, crop)
        return torch.tensor(rows, device=device), torch.tensor(columns, device=device)

    return of


def _copy(pictures: Sequence[tuple[Picture, Picture]]) -> None:
    for target, image in pictures:
        np.copyto(target, image)  # other threads run meanwhile

"""The hand-over between the decoder's thread and the loop."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from models.schema import Frame
from streaming.ring import FrameRing

PICTURE = np.zeros((2, 2, 3), np.uint8)


def frame(n: int) -> Frame:
    return Frame(image=PICTURE, media_s=float(n))


async def test_frames_come_out_in_order() -> None:
    ring = FrameRing(8)
    for n in range(5):
        ring.push(frame(n))
    assert [one.media_s for one in await ring.take()] == [0, 1, 2, 3, 4]
    assert len(ring) == 0


async def test_overflow_drops_the_oldest_and_counts() -> None:
    ring = FrameRing(3)
    for n in range(10):
        ring.push(frame(n))
    assert [one.media_s for one in await ring.take()] == [7, 8, 9]
    assert ring.dropped == 7


async def test_take_waits_for_a_push_from_another_thread() -> None:
    ring = FrameRing(3)
    taking = asyncio.create_task(ring.take())
    await asyncio.sleep(0)
    assert not taking.done()
    thread = threading.Thread(target=ring.push, args=(frame(1),))
    thread.start()
    frames = await asyncio.wait_for(taking, 5)
    thread.join()
    assert [one.media_s for one in frames] == [1]


async def test_every_frame_is_taken_or_counted_under_load() -> None:
    ring = FrameRing(4)
    total = 2000
    done = threading.Event()

    def push() -> None:
        for n in range(total):
            ring.push(frame(n))
        done.set()

    thread = threading.Thread(target=push)
    thread.start()
    seen: list[float] = []
    while not (done.is_set() and len(ring) == 0):
        try:
            seen += [one.media_s for one in await asyncio.wait_for(ring.take(), 0.2)]
        except TimeoutError:
            continue
    thread.join()
    assert len(seen) + ring.dropped == total
    assert seen == sorted(seen)
    assert seen[-1] == total - 1


async def test_a_closed_ring_takes_nothing() -> None:
    ring = FrameRing(3)
    ring.push(frame(1))
    ring.close()
    ring.push(frame(2))
    assert len(ring) == 0


async def test_a_ring_holds_something() -> None:
    with pytest.raises(ValueError):
        FrameRing(0)

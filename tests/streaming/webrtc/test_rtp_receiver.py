"""The datagram queue keeps its bounds; bandwidth estimates are sent in time, but not too often."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from streaming.webrtc.jitter_buffer import ReceiveCounters
from streaming.webrtc.rtp_receiver import DatagramQueue, PacedEstimator


async def test_the_datagram_queue_drops_the_oldest_but_never_the_end_mark() -> None:
    counters = ReceiveCounters()
    queue = DatagramQueue(3, 60, counters)
    before_s = time.monotonic()
    for number in range(5):
        queue.put_nowait(number)
    assert counters.datagrams_dropped == 2 and queue.qsize() == 3
    assert [await queue.get() for _ in range(3)] == [2, 3, 4]
    assert before_s <= queue.read_s <= time.monotonic()
    for item in (None, 1, 2, 3, 4):
        queue.put_nowait(item)
    assert await queue.get() is None
    with pytest.raises(asyncio.QueueEmpty):
        [queue.get_nowait() for _ in range(9)]


async def test_the_datagram_queue_drops_datagrams_that_waited_too_long() -> None:
    counters = ReceiveCounters()
    queue = DatagramQueue(100, 0.02, counters)
    queue.put_nowait("old")
    await asyncio.sleep(0.05)  # the bound itself, not a wait for something
    queue.put_nowait("new")
    assert await queue.get() == "new"
    assert counters.datagrams_dropped == 1


async def test_get_waits_for_a_datagram() -> None:
    queue = DatagramQueue(3, 60, ReceiveCounters())
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(b"x")
    assert await taking == b"x"


def test_an_overused_path_is_reported_five_times_a_second_at_most() -> None:
    estimator = PacedEstimator()
    sent_ms = []
    for number in range(400):  # sent every 10 ms, each 5 ms later than the one before
        arrival_ms = number * 15
        send_time = round(number * 0.010 * (1 << 18)) & 0xFFFFFF
        if estimator.add(arrival_ms, send_time, 1200, 1) is not None:
            sent_ms.append(arrival_ms)
    assert 10 < len(sent_ms) <= 1 + 400 * 15 / 200
    steps = [later - before for before, later in itertools.pairwise(sent_ms)]
    assert min(steps) >= 200

"""A session's frames on their way to the batcher: what is due, and what can begin before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from models.schema import Clip, Frame
from streaming.batcher import Batcher
from streaming.bench.standin import StandIn
from streaming.capacity import Pace
from streaming.pipeline import Pipeline
from streaming.ring import FrameRing
from streaming.settings import SessionSettings
from streaming.subscribers import Subscribers
from tests.streaming.simulated import simulate
from tests.streaming.test_batcher import Device

TICK_S = 1 / 15


async def sent(pace: Pace) -> tuple[list[int], list[int]]:
    """The numbers of 24 frames, a tick apart: with which windows ended, with which some began."""
    device = Device(first_s=0.02, prepares=True)
    batcher = Batcher([device], max_batch=8)
    ring = FrameRing(32)
    pipeline = Pipeline(
        "s",
        bundle=StandIn().bundle,
        ring=ring,
        batcher=batcher,
        subscribers=Subscribers(None, outbox=8),
        settings=SessionSettings(),
        pace=pace,
        dropped_before=lambda: 0,
    )
    tasks = [asyncio.create_task(work) for work in (batcher.run(), pipeline.windows())]
    for number in range(24):
        ring.push(Frame(image=np.zeros((8, 8, 3), np.uint8), media_s=number * TICK_S))
        await asyncio.sleep(TICK_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    def ends(batches: Sequence[Sequence[Clip]]) -> list[int]:
        return [round(clips[0].end_s / TICK_S) for clips in batches]

    return ends(device.batches), ends(device.prepared)


def test_frames_between_two_windows_are_prepared() -> None:
    windows, prepared = simulate(sent(Pace(0.1, 0.5, TICK_S)))
    assert windows == list(range(0, 24, 2))
    assert prepared == list(range(1, 24, 2))


def test_where_windows_are_further_apart_for_the_load_nothing_is() -> None:
    pace = Pace(0.1, 0.5, TICK_S)
    pace.update(full=2.0, now_s=0.0)
    windows, prepared = simulate(sent(pace))
    assert windows == list(range(0, 24, 4))
    assert not prepared

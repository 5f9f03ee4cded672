"""Windows of many sessions -> batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from models.schema import Clip, Prediction
from streaming.batcher import Batcher, Replaced


def clip(stream: str, end_s: float = 0.0) -> Clip:
    return Clip(stream=stream, frames=(), start_s=end_s - 1, end_s=end_s)


def answer(one: Clip) -> Prediction:
    return Prediction(
        stream=one.stream,
        probabilities=np.ones(1, np.float32),
        idle=0.0,
        attention=np.ones(1, np.float32),
        start_s=one.start_s,
        end_s=one.end_s,
    )


class Model:
    """Answers a batch when told to: `batches` shows what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Clip]] = []
        self.called = asyncio.Event()
        self.go = asyncio.Semaphore(0)
        self.fail: Exception | None = None

    async def __call__(self, clips: Sequence[Clip]) -> list[Prediction]:
        self.batches.append(list(clips))
        self.called.set()
        await self.go.acquire()
        if self.fail is not None:
            raise self.fail
        return [answer(one) for one in clips]

    async def next_call(self) -> list[Clip]:
        async with asyncio.timeout(5):
            await self.called.wait()
        self.called.clear()
        return self.batches[-1]

    @property
    def streams(self) -> list[list[str]]:
        return [[one.stream for one in batch] for batch in self.batches]


@asynccontextmanager
async def running(model: Model, max_batch: int = 8) -> AsyncIterator[Batcher]:
    batcher = Batcher(model, max_batch=max_batch)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_windows_that_come_while_a_batch_runs_leave_together() -> None:
    model = Model()
    async with running(model) as batcher:
        first = batcher.submit(clip("a"), 1.0)
        await model.next_call()
        others = [batcher.submit(clip(name), 2.0) for name in "bcd"]
        model.go.release()
        assert (await first).stream == "a"
        await model.next_call()
        model.go.release()
        assert [(await other).stream for other in others] == ["b", "c", "d"]
    assert model.streams == [["a"], ["b", "c", "d"]]


async def test_the_earliest_deadline_leaves_first() -> None:
    model = Model()
    async with running(model, max_batch=2) as batcher:
        batcher.submit(clip("first"), 0.0)
        await model.next_call()
        for name, deadline_s in (("late", 9.0), ("soon", 1.0), ("next", 2.0)):
            batcher.submit(clip(name), deadline_s)
        model.go.release()
        assert [one.stream for one in await model.next_call()] == ["soon", "next"]
        model.go.release()
        assert [one.stream for one in await model.next_call()] == ["late"]


async def test_a_newer_window_replaces_the_waiting_one_and_keeps_its_place() -> None:
    model = Model()
    async with running(model, max_batch=1) as batcher:
        batcher.submit(clip("busy"), 0.0)
        await model.next_call()
        old = batcher.submit(clip("a", 1.0), 1.0)
        batcher.submit(clip("b"), 2.0)
        new = batcher.submit(clip("a", 2.0), 3.0)
        with pytest.raises(Replaced):
            await old
        model.go.release()
        (one,) = await model.next_call()
        assert (one.stream, one.end_s) == ("a", 2.0)
        model.go.release()
        assert (await new).end_s == 2.0
    assert batcher.counts.replaced == 1


async def test_it_never_holds_more_than_a_window_a_stream() -> None:
    model = Model()
    async with running(model, max_batch=1) as batcher:
        batcher.submit(clip("busy"), 0.0)
        await model.next_call()
        for n in range(100):
            batcher.submit(clip("ab"[n % 2], n), float(n))
        assert len(batcher) == 2


async def test_a_failed_batch_is_told_to_its_sessions_and_the_next_one_works() -> None:
    model = Model()
    async with running(model) as batcher:
        model.fail = ArithmeticError("not a number")
        bad = batcher.submit(clip("a"), 1.0)
        await model.next_call()
        model.go.release()
        with pytest.raises(ArithmeticError, match="not a number"):
            await bad
        assert batcher.failures_in_a_row == 1
        model.fail = None
        good = batcher.submit(clip("a"), 2.0)
        await model.next_call()
        model.go.release()
        assert (await good).stream == "a"
    assert batcher.failures_in_a_row == 0
    assert (batcher.counts.done, batcher.counts.failed, batcher.counts.due) == (1, 1, 2)


async def test_a_withdrawn_window_is_not_computed() -> None:
    model = Model()
    async with running(model) as batcher:
        batcher.submit(clip("busy"), 0.0)
        await model.next_call()
        gone = batcher.submit(clip("gone"), 1.0)
        cancelled = batcher.submit(clip("cancelled"), 1.0)
        stays = batcher.submit(clip("stays"), 1.0)
        batcher.withdraw("gone")
        cancelled.cancel()
        model.go.release()
        await model.next_call()
        model.go.release()
        await stays
        assert gone.cancelled()
    assert model.streams == [["busy"], ["stays"]]


async def test_a_session_that_left_in_mid_batch_disturbs_nobody() -> None:
    model = Model()
    async with running(model) as batcher:
        batcher.submit(clip("busy"), 0.0)
        await model.next_call()
        leaver, stayer = batcher.submit(clip("a"), 1.0), batcher.submit(clip("b"), 1.0)
        model.go.release()
        await model.next_call()
        leaver.cancel()
        model.go.release()
        assert (await stayer).stream == "b"


async def test_stopping_cancels_what_waits_and_what_runs() -> None:
    model = Model()
    async with running(model) as batcher:
        running_one = batcher.submit(clip("a"), 1.0)
        await model.next_call()
        waiting = batcher.submit(clip("b"), 1.0)
    assert running_one.cancelled()
    assert waiting.cancelled()


async def test_too_few_answers_fail_the_batch() -> None:
    async def broken(clips: Sequence[Clip]) -> list[Prediction]:
        return []

    batcher = Batcher(broken, max_batch=4)
    task = asyncio.create_task(batcher.run())
    with pytest.raises(RuntimeError, match="0 answers to 1"):
        await batcher.submit(clip("a"), 0.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""The recogniser on its thread, and on several: what it costs, fails at, and how it ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from models.faults import DeviceLost, NotANumber, OutOfMemory, Stuck
from models.schema import Clip, Frame, Prediction
from streaming.batcher import Batcher
from streaming.bench.standin import StandIn
from streaming.runner import RecognizerCore, RecognizerMaker, Runner, open_runners
from streaming.settings import RecognizerSettings
from tests.streaming.faulty import PATIENT_S, Blind, Faulty, Hanging, Small

HASTY = RecognizerSettings(batch_s=0.05)  # for those that hang anyway


def clip(stream: str) -> Clip:
    frame = Frame(image=np.full((8, 8, 3), 250, np.uint8), media_s=0.0)
    return Clip(stream=stream, frames=(frame,), start_s=-1.0, end_s=0.0)


def clips(streams: str) -> list[Clip]:
    return [clip(stream) for stream in streams]


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "recognizer"]


@asynccontextmanager
async def working(
    core: RecognizerCore, settings: RecognizerSettings | None = None
) -> AsyncIterator[Runner]:
    async with Runner(lambda: core, settings or RecognizerSettings()) as worker:
        yield worker
    assert not threads()


async def test_what_batches_cost_is_known_before_the_first() -> None:
    sizes: list[int] = []

    class Counted(StandIn):
        def warm(self, size: int = 1) -> None:
            sizes.append(size)
            super().warm(size)

    async with working(Counted(), RecognizerSettings(max_batch=6)) as worker:
        assert sizes == [1, 1, 2, 2, 4, 4, 6, 6]
        assert 0 < worker.cost(1) <= worker.cost(6)


async def test_warm_up_ends_with_the_first_slow_batch() -> None:
    class Dear(StandIn):
        def warm(self, size: int = 1) -> None:
            self._closed.wait(0.11 * size)

    async with working(Dear()) as worker:
        assert worker.cost(2) > 0.2
        assert worker.cost(16) == pytest.approx(8 * worker.cost(2))


async def test_what_a_window_costs_includes_what_was_prepared_for_it() -> None:
    class Early(StandIn):
        def prepare(self, clips: Sequence[Clip]) -> None:  # type: ignore[override]
            self._closed.wait(0.1)

    async with working(StandIn()) as worker:
        assert not worker.prepares
    async with working(Early(0.01)) as worker:
        assert worker.prepares
        for _ in range(20):
            await worker.prepare(clips("ab"))
            await worker.recognise(clips("a"))
        assert worker.busy_s >= 20 * 0.11
        assert worker.cost(1) > 0.05  # the half of "a", and the window
        assert worker._prepared_s.keys() == {"b"}
        worker.forget("b")
        await worker.recognise(clips("a"))
        assert not worker._prepared_s


async def test_a_batch_without_memory_is_run_in_halves() -> None:
    core = Small(2)
    async with working(core) as worker:
        answers = await worker.recognise(clips("abcdefg"))
        assert [one.stream for one in answers if isinstance(one, Prediction)] == list("abcdefg")
        assert core.sizes == [7, 3, 1, 2, 4, 2, 2]
        core.most = 0
        assert [type(one) for one in await worker.recognise(clips("ab"))] == [OutOfMemory] * 2


async def test_a_clip_that_is_not_a_number_fails_alone() -> None:
    async with working(Blind("b")) as worker:
        answers = await worker.recognise(clips("abc"))
        assert [type(one) for one in answers] == [Prediction, NotANumber, Prediction]


async def test_errors_are_raised_and_the_thread_goes_on() -> None:
    core = Faulty(DeviceLost())
    async with working(core) as worker:
        with pytest.raises(DeviceLost):
            await worker.recognise(clips("a"))
        core.fault = None
        assert len(await worker.recognise(clips("a"))) == 1


async def test_a_batch_that_hangs_is_given_up_and_may_come_back() -> None:
    core = Hanging()
    async with working(core, HASTY) as worker:
        with pytest.raises(Stuck):
            await worker.recognise(clips("a"))
        assert core.entered.is_set()
        back = asyncio.create_task(worker.back())
        await asyncio.sleep(0)
        assert not back.done()
        core.leave.set()
        async with asyncio.timeout(PATIENT_S):
            await back
    async with working(core) as worker:
        assert len(await worker.recognise(clips("a"))) == 1


async def test_leaving_does_not_wait_for_a_batch_that_hangs() -> None:
    core = Hanging()
    worker = Runner(lambda: core, HASTY)
    async with asyncio.timeout(PATIENT_S / 2):
        async with worker:
            with pytest.raises(Stuck):
                await worker.recognise(clips("a"))
    (left,) = threads()
    core.leave.set()
    left.join(PATIENT_S)
    assert not threads()


def test_a_process_ends_in_spite_of_a_batch_that_hangs() -> None:
    script = (
        "import asyncio, threading\n"
        "from streaming.runner import *\n"
        "from streaming.settings import RecognizerSettings\n"
        "from tests.streaming.faulty import Hanging\n"
        "from tests.streaming.test_runner import clips\n"
        "core = Hanging()\n"
        "core.leave.wait = lambda _: threading.Event().wait()\n"
        "async def main():\n"
        "    settings = RecognizerSettings(batch_s=0.05)\n"
        "    async with Runner(lambda: core, settings) as worker:\n"
        "        await worker.recognise(clips('a'))\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except Stuck:\n"
        "    print('stuck')\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, timeout=60, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("stuck\n", 0), done.stderr


async def test_a_model_that_does_not_open_raises_and_leaves_no_thread() -> None:
    def make() -> RecognizerCore:
        raise OSError("no such bundle")

    with pytest.raises(OSError, match="no such bundle"):
        async with Runner(make, RecognizerSettings()):
            pass
    assert not threads()


async def test_if_one_device_can_not_be_opened_the_others_are_closed() -> None:
    closed = threading.Event()

    class First(StandIn):
        def close(self) -> None:
            closed.set()

    def second() -> RecognizerCore:
        raise ValueError("there is no cuda:1 here")

    with pytest.raises(ValueError, match="cuda:1"):
        async with open_runners([First, second], RecognizerSettings()):
            pass
    assert closed.is_set() and not threads()


async def test_two_devices_compute_at_once_and_all_forget() -> None:
    forgot: list[tuple[str, str]] = []
    together = threading.Barrier(2)

    class Paired(StandIn):
        def __init__(self, device: str) -> None:
            super().__init__()
            self.device = device

        def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
            together.wait(PATIENT_S)  # neither gets past this alone
            return super().recognise(clips)

        def forget(self, stream: str) -> None:
            forgot.append((self.device, stream))

    makers: list[RecognizerMaker] = [lambda: Paired("one"), lambda: Paired("two")]
    async with open_runners(makers, RecognizerSettings()) as runners:
        assert [runner.device for runner in runners] == ["one", "two"]
        batcher = Batcher(runners, max_batch=16)
        task = asyncio.create_task(batcher.run())
        answers = await asyncio.gather(*(batcher.submit(one, 0.0) for one in clips("abcd")))
        assert [one.stream for one in answers] == list("abcd")
        batcher.forget("a")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sorted(forgot) == [("one", "a"), ("two", "a")]

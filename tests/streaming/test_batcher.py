"""Windows of many sessions -> batches, on a clock that jumps: devices that fail and hang too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.faults import DeviceLost, NotANumber, RecognitionError, Stuck, WindowResult
from models.schema import Clip, Prediction
from streaming.batcher import Batcher, Replaced
from streaming.batching import PATIENCE_S, CostModel
from tests.streaming.simulated import simulate

Fault = Exception | None  # NotANumber: of the first clip of a batch alone


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


class Device:
    """Takes `first_s + (n - 1) * more_s` for n windows; `faults` strike its first batches."""

    def __init__(
        self,
        first_s: float = 1.0,
        more_s: float = 0.0,
        faults: Sequence[Fault] = (),
        prepares: bool = False,
    ) -> None:
        self.prepares = prepares
        self.prepared: list[list[Clip]] = []
        self.cost = CostModel()
        for size in range(1, 17):
            self.cost.warm(size, first_s + (size - 1) * more_s)
        self.batches: list[list[Clip]] = []
        self.stuck_s = 60.0
        self.checks = 0
        self._faults = list(faults)

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        self.batches.append(list(clips))
        await asyncio.sleep(self.cost(len(clips)))
        fault = self._faults.pop(0) if self._faults else None
        answers: list[WindowResult] = [answer(one) for one in clips]
        if isinstance(fault, NotANumber):
            answers[0] = fault
        elif fault is not None:
            raise fault
        return answers

    async def prepare(self, clips: Sequence[Clip]) -> None:
        self.prepared.append(list(clips))
        await asyncio.sleep(self.cost(len(clips)))
        if self._faults and (fault := self._faults.pop(0)) is not None:
            raise fault

    async def check(self) -> None:
        self.checks += 1
        if self._faults and (fault := self._faults.pop(0)) is not None:
            raise fault

    async def back(self) -> None:
        await asyncio.sleep(self.stuck_s)

    def forget(self, stream: str) -> None:
        """Nothing is kept."""

    @property
    def streams(self) -> list[str]:
        return ["".join(one.stream for one in batch) for batch in self.batches]


@asynccontextmanager
async def running(*devices: Device, max_batch: int = 8) -> AsyncIterator[Batcher]:
    batcher = Batcher(devices, max_batch=max_batch)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_windows_that_come_while_a_batch_runs_leave_together() -> None:
    async def work() -> None:
        device = Device()
        async with running(device) as batcher:
            first = batcher.submit(clip("a"), 10.0)
            await asyncio.sleep(0.5)
            others = [batcher.submit(clip(name), 20.0) for name in "bcd"]
            assert (await first).stream == "a"
            assert [(await other).stream for other in others] == ["b", "c", "d"]
        assert device.streams == ["a", "bcd"]

    simulate(work())


def test_the_earliest_deadline_leaves_first() -> None:
    async def work() -> None:
        device = Device()
        async with running(device, max_batch=2) as batcher:
            batcher.submit(clip("x"), 10.0)
            await asyncio.sleep(0.5)
            late = batcher.submit(clip("l"), 90.0)
            batcher.submit(clip("s"), 10.0)
            batcher.submit(clip("n"), 20.0)
            await late
        assert device.streams == ["x", "sn", "l"]

    simulate(work())


def test_a_newer_window_replaces_the_waiting_one_and_keeps_its_place() -> None:
    async def work() -> None:
        device = Device()
        async with running(device, max_batch=1) as batcher:
            batcher.submit(clip("x"), 10.0)
            await asyncio.sleep(0.5)
            old = batcher.submit(clip("a", 1.0), 11.0)
            batcher.submit(clip("b"), 12.0)
            new = batcher.submit(clip("a", 2.0), 13.0)
            with pytest.raises(Replaced):
                await old
            assert (await new).end_s == 2.0
        assert device.streams[:2] == ["x", "a"]
        assert batcher.counts.replaced == 1

    simulate(work())


def test_two_devices_keep_the_order_of_a_stream_s_windows() -> None:
    async def work() -> None:
        slow, fast = Device(first_s=5.0), Device(first_s=1.0)
        async with running(slow, fast) as batcher:
            old = batcher.submit(clip("a", 1.0), 10.0)
            await asyncio.sleep(0.5)
            new = batcher.submit(clip("a", 2.0), 10.0)
            other = batcher.submit(clip("b"), 10.0)
            await other
            assert not old.done() and not new.done()
            assert (await old).end_s == 1.0
            assert (await new).end_s == 2.0

    simulate(work())


def test_two_free_devices_share_what_waits() -> None:
    async def work() -> None:
        one, two = Device(), Device()
        async with running(one, two) as batcher:
            await asyncio.gather(*(batcher.submit(clip(name), 10.0) for name in "abcd"))
        assert sorted(one.streams + two.streams) == ["ac", "bd"]

    simulate(work())


def test_a_device_with_nothing_else_to_do_begins_with_windows_that_are_not_due() -> None:
    async def work() -> None:
        device = Device(prepares=True)
        async with running(device) as batcher:
            batcher.prepare(clip("a", 1.0))
            await asyncio.sleep(0.5)
            batcher.prepare(clip("b", 1.0))
            batcher.prepare(clip("c", 1.0))
            batcher.prepare(clip("a", 2.0))
            batcher.prepare(clip("a", 3.0))
            assert batcher.early == 3
            due = batcher.submit(clip("d"), 10.0)
            await batcher.submit(clip("b", 2.0), 10.0)
            assert due.done() and device.streams == ["db"]
            await asyncio.sleep(0.5)
            batcher.forget("c")
            await asyncio.sleep(1.0)
        prepared = [[(one.stream, one.end_s) for one in clips] for clips in device.prepared]
        assert prepared == [[("a", 1.0)], [("c", 1.0), ("a", 3.0)]]

    simulate(work())


def test_several_devices_and_those_that_see_windows_whole_prepare_nothing() -> None:
    async def work() -> None:
        two = Device(prepares=True), Device(prepares=True)
        whole = Device()
        for devices in (two, (whole,)):
            async with running(*devices) as batcher:
                batcher.prepare(clip("a"))
                await asyncio.sleep(1.0)
        assert not [one.prepared for one in (*two, whole) if one.prepared]

    simulate(work())


def test_a_device_that_fails_prepares_nothing_before_it_has_predicted_again() -> None:
    async def work() -> None:
        device = Device(faults=[RuntimeError("fault")], prepares=True)
        async with running(device) as batcher:
            batcher.prepare(clip("a", 1.0))
            await asyncio.sleep(2.0)
            batcher.prepare(clip("a", 2.0))
            await asyncio.sleep(2.0)
            assert len(device.prepared) == 1
            await batcher.submit(clip("a", 3.0), 10.0)
            batcher.prepare(clip("a", 4.0))
            await asyncio.sleep(2.0)
        assert [clips[0].end_s for clips in device.prepared] == [1.0, 4.0]

    simulate(work())


def test_a_failed_batch_fails_its_windows_and_the_next_one_works() -> None:
    async def work() -> None:
        async with running(Device(faults=[ValueError("internals")])) as batcher:
            with pytest.raises(RecognitionError) as raised:
                await batcher.submit(clip("a"), 10.0)
            assert "internals" not in str(raised.value)
            assert (await batcher.submit(clip("a"), 10.0)).stream == "a"
        counts = batcher.counts
        assert (counts.done, counts.failed, counts.due) == (1, 1, 2)
        assert counts.failures == {"other": 1}

    simulate(work())


def test_a_clip_that_is_not_a_number_fails_alone() -> None:
    async def work() -> None:
        async with running(Device(faults=[NotANumber()])) as batcher:
            bad, good = (batcher.submit(clip(name), 10.0) for name in "ab")
            with pytest.raises(NotANumber):
                await bad
            assert (await good).stream == "b"
        assert batcher.counts.failures == {"not_a_number": 1}

    simulate(work())


def test_a_broken_device_is_trouble_and_is_checked_while_nobody_calls() -> None:
    async def work() -> None:
        fault = RuntimeError("fault")
        device = Device(faults=[fault] * 4)
        async with running(device) as batcher:
            for failed in range(3):
                assert batcher.trouble is None, failed
                with pytest.raises(RecognitionError):
                    await batcher.submit(clip("a"), 10.0)
            assert batcher.trouble is not None and "log" in batcher.trouble
            await asyncio.sleep(20)
            assert batcher.trouble is None
            assert device.checks == 2  # the first one failed

    simulate(work())


def test_a_broken_device_rests_while_another_works() -> None:
    async def work() -> None:
        broken, sound = Device(0.5, faults=[RuntimeError("fault")] * 3), Device(1.0)
        async with running(broken, sound) as batcher:
            while batcher.in_service == 2:
                ends = [batcher.submit(clip(name), 10.0) for name in "ab"]
                await asyncio.wait(ends)
            assert batcher.trouble is None
            for _ in range(3):
                await asyncio.gather(*(batcher.submit(clip(name), 10.0) for name in "ab"))
            assert len(broken.batches) == 3
            await asyncio.sleep(10)
            assert batcher.in_service == 2

    simulate(work())


def test_a_lost_device_is_out_and_the_other_goes_on() -> None:
    async def work() -> None:
        lost, sound = Device(faults=[DeviceLost()]), Device()
        async with running(lost, sound) as batcher:
            ends = await asyncio.gather(
                *(batcher.submit(clip(name), 10.0) for name in "ab"), return_exceptions=True
            )
            assert {type(end) for end in ends} == {DeviceLost, Prediction}
            for _ in range(3):
                await asyncio.gather(*(batcher.submit(clip(name), 10.0) for name in "ab"))
            assert len(lost.batches) == 1
            assert batcher.trouble is None

    simulate(work())


def test_without_a_device_all_windows_fail_at_once() -> None:
    async def work() -> None:
        async with running(Device(faults=[DeviceLost()])) as batcher:
            first = batcher.submit(clip("a"), 10.0)
            await asyncio.sleep(0.5)
            waiting = batcher.submit(clip("b"), 10.0)
            for end in (first, waiting, batcher.submit(clip("a"), 10.0)):
                with pytest.raises(DeviceLost):
                    await end
            after = batcher.submit(clip("c"), 10.0)
            assert isinstance(after.exception(), DeviceLost)
            assert batcher.trouble == str(DeviceLost())
            assert len(batcher) == 0

    simulate(work())


def test_a_stuck_device_is_in_service_again_when_it_is_back() -> None:
    async def work() -> None:
        async with running(Device(faults=[Stuck()])) as batcher:
            with pytest.raises(Stuck):
                await batcher.submit(clip("a"), 10.0)
            assert batcher.trouble == str(Stuck())
            assert isinstance(batcher.submit(clip("b"), 10.0).exception(), Stuck)
            await asyncio.sleep(61)
            assert batcher.trouble is None
            assert (await batcher.submit(clip("a"), 10.0)).stream == "a"

    simulate(work())


def test_a_withdrawn_window_is_not_computed() -> None:
    async def work() -> None:
        device = Device()
        async with running(device) as batcher:
            batcher.submit(clip("x"), 10.0)
            await asyncio.sleep(0.5)
            gone = batcher.submit(clip("g"), 10.0)
            cancelled = batcher.submit(clip("c"), 10.0)
            stays = batcher.submit(clip("s"), 10.0)
            batcher.withdraw("g")
            cancelled.cancel()
            await stays
            assert gone.cancelled()
        assert device.streams == ["x", "s"]
        assert batcher.counts.withdrawn == 2

    simulate(work())


def test_a_session_that_left_in_mid_batch_disturbs_nobody() -> None:
    async def work() -> None:
        async with running(Device()) as batcher:
            leaver, stayer = batcher.submit(clip("a"), 10.0), batcher.submit(clip("b"), 10.0)
            await asyncio.sleep(0.5)
            leaver.cancel()
            assert (await stayer).stream == "b"
        assert (batcher.counts.done, batcher.counts.withdrawn) == (1, 1)

    simulate(work())


def test_stopping_cancels_waiting_and_running_windows() -> None:
    async def work() -> None:
        async with running(Device()) as batcher:
            under_way = batcher.submit(clip("a"), 10.0)
            await asyncio.sleep(0.5)
            waiting = batcher.submit(clip("b"), 10.0)
        assert under_way.cancelled() and waiting.cancelled()
        assert batcher.counts.withdrawn == 2

    simulate(work())


def test_too_few_predictions_fail_the_batch() -> None:
    class Short(Device):
        async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
            return []

    async def work() -> None:
        async with running(Short()) as batcher:
            with pytest.raises(RecognitionError):
                await batcher.submit(clip("a"), 0.0)

    simulate(work())


STREAMS = "abcde"
FAULTS = st.lists(
    st.sampled_from([None, None, NotANumber(), RuntimeError("fault"), Stuck(), DeviceLost()]),
    max_size=8,
)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 2),  # seconds to the one before it
        st.sampled_from(STREAMS),
        st.sampled_from(["submit", "submit", "submit", "cancel", "withdraw"]),
    ),
    max_size=30,
)


class Witness(Device):
    """Notes batches that hold a window that is not the newest, or two of a stream under way."""

    newest: dict[str, float]
    under_way: set[str]
    wrong: list[Clip]

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        streams = {one.stream for one in clips}
        self.wrong += [one for one in clips if one.end_s != self.newest[one.stream]]
        self.wrong += [one for one in clips if one.stream in self.under_way]
        self.under_way |= streams
        try:
            return await super().recognise(clips)
        finally:
            self.under_way -= streams


@given(STEPS, st.lists(FAULTS, min_size=1, max_size=2), st.integers(1, 3), st.floats(0, 1))
def test_every_window_ends_and_only_the_newest_are_recognised(
    steps: list[tuple[float, str, str]], faults: list[list[Fault]], max_batch: int, more_s: float
) -> None:
    async def work() -> None:
        newest: dict[str, float] = {}
        under_way: set[str] = set()
        devices = [Witness(1.0, more_s, device_faults) for device_faults in faults]
        for device in devices:
            device.newest, device.under_way, device.wrong = newest, under_way, []
        last: dict[str, asyncio.Future[Prediction]] = {}
        ends: list[asyncio.Future[Prediction]] = []
        predicted: dict[str, list[float]] = {stream: [] for stream in STREAMS}

        def receive(end: asyncio.Future[Prediction]) -> None:
            if not end.cancelled() and end.exception() is None:
                predicted[end.result().stream].append(end.result().end_s)

        async with running(*devices, max_batch=max_batch) as batcher:
            for number, (gap_s, stream, act) in enumerate(steps):
                await asyncio.sleep(gap_s)
                if act == "submit":
                    newest[stream] = number
                    now_s = asyncio.get_running_loop().time()
                    last[stream] = batcher.submit(clip(stream, number), now_s + 2.0)
                    last[stream].add_done_callback(receive)
                    ends.append(last[stream])
                elif act == "withdraw":
                    batcher.withdraw(stream)
                elif stream in last:
                    last[stream].cancel()
                assert len(batcher) <= len(STREAMS)
            await asyncio.gather(*ends, return_exceptions=True)
        counts = batcher.counts
        results = [end.cancelled() or end.exception() for end in ends]
        assert len(ends) == counts.due
        assert sum(result is None for result in results) == counts.done
        assert sum(result is True for result in results) == counts.withdrawn
        assert sum(isinstance(result, Replaced) for result in results) == counts.replaced
        assert sum(isinstance(result, RecognitionError) for result in results) == counts.failed
        assert sum(counts.failures.values()) == counts.failed
        assert not [device.wrong for device in devices if device.wrong]
        for ends_s in predicted.values():
            assert ends_s == sorted(ends_s)

    simulate(work())


@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6),  # hop of each stream
    st.floats(0.01, 0.5),
    st.floats(0.0, 0.5),
    st.integers(1, 4),
)
@settings(max_examples=50)
def test_no_stream_starves_whatever_the_load(
    hops_s: list[float], first_s: float, more_s: float, max_batch: int
) -> None:
    """A window, with those that replace it, waits no longer than this."""
    goal_s = 0.3
    batch_s = first_s + (max_batch - 1) * more_s
    most_s = goal_s + PATIENCE_S + (len(hops_s) + 1) * batch_s + 1e-6

    async def stream(batcher: Batcher, name: str, hop_s: float, waits_s: list[float]) -> None:
        loop = asyncio.get_running_loop()
        since: list[float] = []  # the first window since the last answer: one while one waits

        def receive(end: asyncio.Future[Prediction]) -> None:
            if not end.cancelled() and end.exception() is None:
                asked = [at for at in since if at <= end.result().end_s]
                waits_s.append(loop.time() - asked[0])
                since[:] = [at for at in since if at > end.result().end_s]

        while loop.time() < 10.0:
            since.append(loop.time())
            batcher.submit(clip(name, loop.time()), loop.time() + goal_s).add_done_callback(receive)
            await asyncio.sleep(hop_s)
        if since:
            waits_s.append(loop.time() - since[0])

    async def work() -> list[float]:
        waits_s: list[float] = []
        async with running(Device(first_s, more_s), max_batch=max_batch) as batcher:
            async with asyncio.TaskGroup() as tasks:
                for number, hop_s in enumerate(hops_s):
                    work: Any = stream(batcher, str(number), hop_s, waits_s)
                    tasks.create_task(work)
        return waits_s

    assert max(simulate(work())) <= most_s

"""Windows over a link: frames cross once and keep their identity, newest wins, nothing is left."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from models.faults import Stuck
from models.schema import Clip, Frame, Prediction
from models.window import WindowCutter
from streaming.answering import Replaced
from streaming.standin import StandIn
from streaming.workers.link import Link, LinkClosed, Note
from streaming.workers.remote_batcher import RemoteBatcher
from streaming.workers.slots import FrameSlots, SlotPool, nameless_memory
from streaming.workers.window_desk import WindowDesk

CORE = StandIn()
SPEC = CORE.spec
SIDE = 8  # px of the pictures here
SLOT = 3 * SIDE * SIDE


class Asked:
    """Answers nothing by itself; keeps what it was asked. `stir` is called with each thing."""

    def __init__(self, stir: Callable[[], None]) -> None:
        self.added_hop_s = 0.0
        self.clips: list[Clip] = []
        self.answers: list[asyncio.Future[Prediction]] = []
        self.forgotten: list[str] = []
        self._stir = stir

    def submit(self, clip: Clip, deadline_s: float) -> asyncio.Future[Prediction]:
        self.clips.append(clip)
        self.answers.append(asyncio.get_running_loop().create_future())
        self._stir()
        return self.answers[-1]

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)
        self._stir()


class Ends:
    """Both ends of a link, with the frames of one camera."""

    def __init__(self, here: Link, there: Link, memory: int, count: int) -> None:
        self.stirred = asyncio.Event()
        self.asked = Asked(self.stirred.set)
        self.pool = SlotPool(count)
        self.streams = {"0.a", "0.b"}
        self.here, self.there = here, there
        ours, theirs = (FrameSlots(memory, count=count, slot_bytes=SLOT) for _ in range(2))
        self.slots = (ours, theirs)
        self.batcher = RemoteBatcher(here, self.pool, ours)
        self.desk = WindowDesk(there, theirs, self.asked, SPEC, self.streams)
        self.reading = True
        self.unread: list[Note] = []

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not reached():
                self.stirred.clear()
                await self.stirred.wait()

    async def serve(self) -> None:
        """The end of the recogniser. What comes while `reading` is off waits."""
        try:
            while True:
                note = await self.there.receive()
                self.unread.append(note)
                self.stirred.set()
                if self.reading:
                    self.read()
        except LinkClosed:
            self.desk.close()

    def read(self) -> None:
        while self.unread:
            note = self.unread.pop(0)
            if note.kind == "window":
                self.desk.window(note)
            else:
                self.desk.forget(note.fields["stream"])

    async def hear(self) -> None:
        """The end of the worker."""
        try:
            while True:
                note = await self.here.receive()
                if note.kind == "taken":
                    self.batcher.taken(note)
                    self.stirred.set()
                else:
                    self.batcher.answered(note)
        except LinkClosed:
            pass


@asynccontextmanager
async def linked(count: int = 64) -> AsyncIterator[Ends]:
    one, other = socket.socketpair()
    memory = nameless_memory(count * SLOT)
    ends = Ends(await Link.over(one), await Link.over(other), memory, count)
    os.close(memory)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ends.serve())
        tasks.create_task(ends.hear())
        yield ends
        ends.here.close()
        ends.there.close()
    for slots in ends.slots:
        slots.close()


def frame(number: int, side: int = SIDE) -> Frame:
    image = np.full((side, side, 3), number % 256, np.uint8)
    return Frame(image=image, media_s=number / SPEC.fps, arrival_s=1.0 * number, rtp=6000 * number)


def clips(stream: str, *counts: int) -> list[Clip]:
    """Windows of a camera after so many frames each."""
    cutter = WindowCutter(stream, SPEC, 1 / SPEC.fps)
    cut, number = list[Clip](), 0
    for count in counts:
        for _ in range(count):
            cutter.push(frame(number))
            number += 1
        cut.append(cutter.cut())
    return cut


async def test_a_window_arrives_as_it_was_cut_and_its_answer_comes_back() -> None:
    (clip,) = clips("0.a", 5)
    async with linked() as ends:
        ends.asked.added_hop_s = 0.2  # the server is busy
        asking = ends.batcher.submit(clip, asyncio.get_running_loop().time() + 0.3)
        await ends.until(lambda: bool(ends.asked.clips))
        (came,) = ends.asked.clips
        assert (came.stream, came.start_s, came.end_s) == ("0.a", clip.start_s, clip.end_s)
        for theirs, ours in zip(came.frames, clip.frames, strict=True):
            assert (theirs.media_s, theirs.arrival_s) == (ours.media_s, ours.arrival_s)
            assert theirs.rtp == ours.rtp
            np.testing.assert_array_equal(theirs.image, ours.image)
        assert len({id(one) for one in came.frames}) == 5
        (said,) = CORE.recognise([came])
        ends.asked.answers[0].set_result(said)
        back = await asking
        np.testing.assert_array_equal(back.probabilities, said.probabilities)
        assert back.end_s == clip.end_s
        assert ends.batcher.added_hop_s == 0.2


async def test_only_new_frames_cross_and_the_others_stay_the_same_objects() -> None:
    windows = clips("0.a", 40, 3, 2)
    async with linked() as ends:
        ends.reading = False
        for window in windows:
            ends.batcher.submit(window, 0.0)
        await ends.until(lambda: len(ends.unread) == len(windows))
        crossed = [len(note.fields["new"]) for note in ends.unread]
        assert crossed == [SPEC.frames, 3, 2]
        ends.read()
        first, second, third = ends.asked.clips
        assert all(a is b for a, b in zip(first.frames[3:], second.frames, strict=False))
        assert all(a is b for a, b in zip(second.frames[2:], third.frames, strict=False))


async def test_without_slots_the_newest_window_waits_and_the_older_one_is_replaced() -> None:
    first, second, third = clips("0.a", 30, 5, 5)
    async with linked(count=SPEC.frames) as ends:
        ends.reading = False
        begun = ends.batcher.submit(first, 0.0)
        waits = ends.batcher.submit(second, 0.0)
        newest = ends.batcher.submit(third, 0.0)
        with pytest.raises(Replaced):
            await waits
        await ends.until(lambda: bool(ends.unread))
        ends.reading = True
        ends.read()
        await ends.until(lambda: len(ends.asked.clips) == 2)
        assert [one.end_s for one in ends.asked.clips] == [first.end_s, third.end_s]
        for answer, came in zip(ends.asked.answers, ends.asked.clips, strict=True):
            answer.set_result(CORE.recognise([came])[0])
        assert (await begun).end_s == first.end_s and (await newest).end_s == third.end_s
        assert len(ends.pool) == ends.pool.count, "every slot was handed back"


async def test_a_window_that_would_never_fit_sends_its_newest_frames() -> None:
    (clip,) = clips("0.a", SPEC.frames)
    async with linked(count=8) as ends:
        ends.batcher.submit(clip, 0.0)
        await ends.until(lambda: bool(ends.asked.clips))
        rtps = [one.rtp for one in ends.asked.clips[0].frames]
        assert rtps[-8:] == [one.rtp for one in clip.frames[-8:]]
        assert set(rtps[:-8]) == {rtps[-8]}


@pytest.mark.parametrize("fault", [Stuck(), Replaced()])
async def test_why_there_is_no_answer_is_told(fault: Exception) -> None:
    (clip,) = clips("0.a", 1)
    async with linked() as ends:
        asking = ends.batcher.submit(clip, 0.0)
        await ends.until(lambda: bool(ends.asked.answers))
        ends.asked.answers[0].set_exception(fault)
        with pytest.raises(type(fault)):
            await asking


async def test_a_stream_that_ends_is_forgotten_at_both_ends() -> None:
    async with linked() as ends:
        asking = ends.batcher.submit(clips("0.a", 3)[0], 0.0)
        other = ends.batcher.submit(clips("0.b", 3)[0], 0.0)
        await ends.until(lambda: len(ends.asked.clips) == 2)
        ends.batcher.forget("0.a")
        assert asking.cancelled() and not other.done()
        await ends.until(lambda: ends.asked.forgotten == ["0.a"])
        again = clips("0.a", 3)[0]  # a later stream of the name begins anew
        ends.batcher.submit(again, 0.0)
        await ends.until(lambda: len(ends.asked.clips) == 3)
        assert ends.asked.clips[2].frames[0] is not ends.asked.clips[0].frames[0]


async def test_what_a_dead_worker_had_under_way_is_forgotten() -> None:
    async with linked() as ends:
        for stream in ("0.a", "0.b"):
            ends.batcher.submit(clips(stream, 3)[0], 0.0)
        await ends.until(lambda: len(ends.asked.clips) == 2)
        ends.here.close()
        await ends.until(lambda: sorted(ends.asked.forgotten) == ["0.a", "0.b"])
        for answer in ends.asked.answers:
            answer.set_result(CORE.recognise(ends.asked.clips[:1])[0])  # too late: goes nowhere


async def test_a_window_of_a_session_that_has_just_ended_only_hands_its_slots_back() -> None:
    async with linked() as ends:
        ends.streams.clear()
        ends.batcher.submit(clips("0.a", 3)[0], 0.0)
        await ends.until(lambda: len(ends.pool) == ends.pool.count)
        assert ends.asked.clips == []


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [0]},
        {"frames": [99] * SPEC.frames},
        {"new": [{"number": 0, "slots": [0, 1], "size": [SIDE, SIDE]}]},
        {"new": [{"number": 0, "slots": [], "size": [1 << 20, 1 << 20]}]},
        {"new": [{"number": 0, "slots": [0], "size": [SIDE]}]},
        {"new": [{"slots": [0], "size": [SIDE, SIDE]}]},
    ],
)
async def test_what_no_worker_says_is_refused(change: dict[str, object]) -> None:
    sound = {
        "stream": "0.a",
        "window": 1,
        "start_s": 0.0,
        "end_s": 1.0,
        "within_s": 0.3,
        "new": [],
        "frames": [],
    }
    async with linked() as ends:
        with pytest.raises((KeyError, TypeError, ValueError)):
            ends.desk.window(Note("window", {**sound, **change}, {}))
        assert ends.asked.clips == []

"""Windows of many sessions -> batches for the devices: newer replaces older, deadlines decide.

sessions -> [batcher] -> schedule: which windows -> a device that is free -> sessions

Knows no model: a device is whatever answers a batch of clips. Each has one batch under way at a
time; meanwhile the next gathers. No waiting time is added: a device that is free takes what
`streaming.batching` says of the windows that wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.faults import DeviceLost, RecognitionError, Stuck, WindowResult
from models.schema import Clip, Prediction
from streaming.answering import Replaced
from streaming.batching import next_batch
from streaming.cost import CostModel

_FAILURES = 3  # batches failed in a row: the device is taken for broken
_CHECK_S = 5.0  # how often a broken device is tried when no window tries it

_log = logging.getLogger(__name__)


class Device(Protocol):
    """Answers one batch at a time: `streaming.runner.RecognizerWorker`."""

    @property
    def cost(self) -> CostModel: ...

    async def recognise(self, clips: Sequence[Clip]) -> Sequence[WindowResult]: ...
    async def check(self) -> None: ...
    async def back(self) -> None: ...
    def forget(self, stream: str) -> None: ...


@dataclass(slots=True)
class _Waiting:
    clip: Clip
    deadline_s: float
    answer: asyncio.Future[Prediction]


@dataclass(slots=True, eq=False)
class _Lane:
    """A device and how it is doing."""

    device: Device
    free: bool = True
    failures_in_a_row: int = 0  # batches of which nothing was answered
    out: RecognitionError | None = None  # why it is out of service

    @property
    def broken(self) -> bool:
        return self.failures_in_a_row >= _FAILURES


@dataclass(slots=True)
class BatcherCounts:
    """Since the start, for /metrics. Every submitted window ends as one of these four."""

    due: int = 0
    done: int = 0
    replaced: int = 0
    failed: int = 0
    withdrawn: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # kind -> windows
    sizes: dict[int, int] = field(default_factory=dict)  # batch size -> how many


class Batcher:
    """Implements `streaming.answering.Answering`.

    At most one waiting window a stream, so it holds no more windows than there are streams.

    Overflow rule: a stream's newer window replaces its waiting one, and keeps its deadline, so that
    a busy stream is not pushed back by its own news. It waits while an older one of its stream is
    under way, so that answers come in order.

    A device that is lost gets no more batches, one that is stuck gets none until it is back. One
    that keeps failing rests while another works, for it would draw the windows to itself. Without
    any device in service, windows fail at once.
    """

    def __init__(self, devices: Sequence[Device], *, max_batch: int) -> None:
        if max_batch < 1 or not devices:
            raise ValueError(f"nothing to do with {len(devices)} devices, {max_batch} windows each")
        self._lanes = [_Lane(device) for device in devices]
        self.max_batch = max_batch
        self.added_hop_s = 0.0  # what streams should add to their hop now, or windows are replaced
        self._waiting: dict[str, _Waiting] = {}
        self._under_way: set[str] = set()  # streams
        self._changed = asyncio.Event()
        self.counts = BatcherCounts()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def trouble(self) -> str | None:
        """Why windows are not answered now, in words; None while a device answers."""
        if any(lane.out is None and not lane.broken for lane in self._lanes):
            return None
        if not self.in_service and isinstance(out := self._out(), DeviceLost | Stuck):
            return str(out)
        return "The recogniser fails; see the server's log."

    @property
    def in_service(self) -> int:
        """How many devices get batches."""
        return len(self.costs)

    @property
    def costs(self) -> list[CostModel]:
        """Of the devices that get batches."""
        return [lane.device.cost for lane in self._lanes if lane.out is None]

    def submit(self, clip: Clip, deadline_s: float) -> asyncio.Future[Prediction]:
        """See `Answering.submit`."""
        self.counts.due += 1
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        older = self._waiting.pop(clip.stream, None)
        if older is not None:
            deadline_s = min(deadline_s, older.deadline_s)
            self._settle(older, Replaced())
        self._waiting[clip.stream] = _Waiting(clip, deadline_s, answer)
        if self.in_service:
            self._changed.set()
        else:
            self._fail_waiting()
        return answer

    def forget(self, stream: str) -> None:
        """See `Answering.forget`. A device forgets after what it is busy with."""
        self.withdraw(stream)
        for lane in self._lanes:
            lane.device.forget(stream)

    def withdraw(self, stream: str) -> None:
        """Let a stream's waiting window go without an answer."""
        waiting = self._waiting.pop(stream, None)
        if waiting is not None:
            self._settle(waiting, None)

    async def run(self) -> None:
        """Answer batches until cancelled, or no device is left; then nothing waits any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(self._feed(lane), name="batcher of a device")
        finally:
            for stream in list(self._waiting):
                self.withdraw(stream)

    async def _feed(self, lane: _Lane) -> None:
        while not isinstance(lane.out, DeviceLost):
            if lane.out is not None:
                await self._recover(lane)
            elif batch := self._take(lane):
                lane.free = False
                await self._answer(lane, batch)
                lane.free = True
                self._changed.set()  # what came for its streams meanwhile may go to any device
            else:
                await self._idle(lane)

    def _take(self, lane: _Lane) -> list[_Waiting]:
        """The next batch for a free device, out of its share when several are free."""
        for waiting in [w for w in self._waiting.values() if w.answer.cancelled()]:
            self.withdraw(waiting.clip.stream)
        eligible = [w for s, w in self._waiting.items() if s not in self._under_way]
        eligible.sort(key=lambda waiting: waiting.deadline_s)
        share = eligible[:: sum(one.free and one.out is None for one in self._lanes)]
        now_s = asyncio.get_running_loop().time()
        deadlines_s = [waiting.deadline_s for waiting in share]
        chosen = next_batch(deadlines_s, now_s, lane.device.cost, self.max_batch)
        batch = [share[i] for i in chosen]
        for waiting in batch:
            del self._waiting[waiting.clip.stream]
        return batch

    async def _idle(self, lane: _Lane) -> None:
        """Until something changes. A broken device is tried now and then: nobody else may, for a
        server that is not ready gets no sessions."""
        self._changed.clear()
        try:
            async with asyncio.timeout(_CHECK_S if lane.broken else None):
                await self._changed.wait()
        except TimeoutError:
            await self._attempt(lane, lane.device.check)

    async def _recover(self, lane: _Lane) -> None:
        """A device that is out of service is back in it, or has failed to be."""
        if isinstance(lane.out, Stuck):
            await lane.device.back()
        else:
            await asyncio.sleep(_CHECK_S)
            if await self._attempt(lane, lane.device.check) is not None:
                return
        lane.out, lane.failures_in_a_row = None, 0
        _log.warning("a device is back in service")

    async def _answer(self, lane: _Lane, batch: list[_Waiting]) -> None:
        clips = [waiting.clip for waiting in batch]
        self.counts.sizes[len(batch)] = self.counts.sizes.get(len(batch), 0) + 1
        self._under_way.update(clip.stream for clip in clips)
        answers: Sequence[WindowResult] = []

        async def recognise() -> None:
            nonlocal answers
            answers = await lane.device.recognise(clips)
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} windows")
            errors = [one for one in answers if isinstance(one, RecognitionError)]
            if len(errors) == len(answers):
                raise errors[0]

        try:
            error = await self._attempt(lane, recognise)
        except asyncio.CancelledError:
            for waiting in batch:
                self._settle(waiting, None)
            raise
        finally:
            self._under_way.difference_update(clip.stream for clip in clips)
        for waiting, answer in zip(batch, [error] * len(batch) if error else answers, strict=True):
            self._settle(waiting, answer)

    async def _attempt(
        self, lane: _Lane, work: Callable[[], Awaitable[None]]
    ) -> RecognitionError | None:
        """Let a device work. What goes wrong is logged, noted of the device, and given back."""
        try:
            await work()
        except Exception as error:  # the batch fails, told to its sessions; the next one may work
            _log.exception("a device failed")
            lane.failures_in_a_row += 1
            told = error if isinstance(error, RecognitionError) else RecognitionError()
            if isinstance(told, DeviceLost | Stuck):
                lane.out = told
            elif lane.broken and self.in_service > 1:
                lane.out = told
            if not self.in_service:
                self._fail_waiting()
            return told
        lane.failures_in_a_row = 0
        return None

    def _out(self) -> RecognitionError:
        """Why no device is in service: the reason that may pass, if there is one."""
        reasons = [lane.out for lane in self._lanes if lane.out is not None]
        return min(reasons, key=lambda reason: isinstance(reason, DeviceLost))

    def _fail_waiting(self) -> None:
        for stream in list(self._waiting):
            self._settle(self._waiting.pop(stream), self._out())

    def _settle(self, waiting: _Waiting, end: WindowResult | Replaced | None) -> None:
        """A window's end, counted, and told to whoever still waits for it; None: withdrawn."""
        counts = self.counts
        if end is None or waiting.answer.cancelled():
            counts.withdrawn += 1
            waiting.answer.cancel()
        elif isinstance(end, Prediction):
            counts.done += 1
            waiting.answer.set_result(end)
        else:
            if isinstance(end, Replaced):
                counts.replaced += 1
            else:
                counts.failed += 1
                counts.failures[end.kind] = counts.failures.get(end.kind, 0) + 1
            waiting.answer.set_exception(end)
            waiting.answer.exception()  # told or not, nobody must be warned of it

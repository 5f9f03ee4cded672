"""Windows of many sessions -> batches for the devices: newer replaces older, deadlines decide.

    pipelines -> windows -> [batcher] -> batches -> runners -> predictions -> pipelines

Knows no model: a device is anything that recognises a batch of clips. Each runs one batch at a
time; meanwhile the next one gathers. A free device never waits: it takes the batch that
`streaming.batching` chooses among the waiting windows. Where none waits, it begins with those that
are not due yet, if it computes frame by frame.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.faults import DeviceLost, RecognitionError, Stuck, WindowResult
from models.schema import Clip, Prediction
from streaming.batching import CostModel, next_batch

_FAILURES = 3  # failed batches in a row: the device counts as broken
_CHECK_S = 5.0  # how often a broken device is checked while it gets no windows

_log = logging.getLogger(__name__)


class Replaced(Exception):
    """A newer window of the same stream took this one's place; it gets no prediction."""


class Device(Protocol):
    """Recognises one batch at a time: `streaming.runner.Runner`."""

    @property
    def cost(self) -> CostModel: ...

    @property
    def prepares(self) -> bool: ...

    async def recognise(self, clips: Sequence[Clip]) -> Sequence[WindowResult]: ...
    async def prepare(self, clips: Sequence[Clip]) -> None: ...
    async def check(self) -> None: ...
    async def back(self) -> None: ...
    def forget(self, stream: str) -> None: ...


@dataclass(slots=True)
class _Waiting:
    clip: Clip
    deadline_s: float
    prediction: asyncio.Future[Prediction]


@dataclass(slots=True, eq=False)
class _Lane:
    """A device and its state."""

    device: Device
    free: bool = True
    failures_in_a_row: int = 0  # batches without any prediction
    out: RecognitionError | None = None  # why it is out of service

    @property
    def broken(self) -> bool:
        return self.failures_in_a_row >= _FAILURES


@dataclass(slots=True)
class BatcherCounts:
    """Since the start, for /metrics. Every submitted window is `due` and ends as one of the four
    that follow."""

    due: int = 0
    done: int = 0
    replaced: int = 0
    failed: int = 0
    withdrawn: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # windows by kind
    sizes: Counter[int] = field(default_factory=Counter)  # batches by size


class Batcher:
    """Collects windows, forms batches, and gives each session its predictions.

    Bound: one waiting window a stream, and one to begin with early. Overflow rule: a stream's newer
    window replaces its waiting one and keeps its deadline, so that a busy stream loses no time by
    its own newer windows. It waits while an older window of its stream is in a batch, so that
    predictions come in order.

    A lost device gets no more batches, a stuck one none until it is back. A device that keeps
    failing rests while another works, for it would attract the windows. Without any device in
    service, windows fail at once.
    """

    def __init__(self, devices: Sequence[Device], *, max_batch: int) -> None:
        if max_batch < 1 or not devices:
            raise ValueError(f"no batches with {len(devices)} devices, {max_batch} windows each")
        self._lanes = [_Lane(device) for device in devices]
        self.max_batch = max_batch
        self._waiting: dict[str, _Waiting] = {}
        self._early: dict[str, Clip] = {}  # by stream
        self._in_batches: set[str] = set()  # streams
        self._changed = asyncio.Event()
        self.counts = BatcherCounts()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def early(self) -> int:
        """How many windows that are not due wait for a device with nothing else to do."""
        return len(self._early)

    @property
    def trouble(self) -> str | None:
        """Why windows get no predictions now, in words; None while a device works."""
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
        """Ask for a prediction, best by `deadline_s` (loop time). Cancel the future to withdraw.

        The future raises `Replaced` when a newer window of the stream came first, or a
        `RecognitionError`.
        """
        self.counts.due += 1
        prediction: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._early.pop(clip.stream, None)  # the window has its frames
        older = self._waiting.pop(clip.stream, None)
        if older is not None:
            deadline_s = min(deadline_s, older.deadline_s)
            self._settle(older, Replaced())
        self._waiting[clip.stream] = _Waiting(clip, deadline_s, prediction)
        if self.in_service:
            self._changed.set()
        else:
            self._fail_waiting()
        return prediction

    def prepare(self, clip: Clip) -> None:
        """Begin with the frames of a window that is not due yet, when the device has nothing else
        to do. Several devices don't: a stream's frames are computed in their order.
        """
        if len(self._lanes) == 1 and self._lanes[0].device.prepares:
            self._early[clip.stream] = clip
            self._changed.set()

    def forget(self, stream: str) -> None:
        """A stream has ended: withdraw its waiting window, let the devices drop its state."""
        self._early.pop(stream, None)
        self.withdraw(stream)
        for lane in self._lanes:
            lane.device.forget(stream)

    def withdraw(self, stream: str) -> None:
        """Drop a stream's waiting window."""
        waiting = self._waiting.pop(stream, None)
        if waiting is not None:
            self._settle(waiting, None)

    async def run(self) -> None:
        """Run batches until cancelled, or until no device is left; then withdraw what waits."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(self._feed(lane), name="device of the batcher")
        finally:
            for stream in list(self._waiting):
                self.withdraw(stream)

    async def _feed(self, lane: _Lane) -> None:
        while not isinstance(lane.out, DeviceLost):
            if lane.out is not None:
                await self._recover(lane)
            elif batch := self._take(lane):
                lane.free = False
                await self._recognise(lane, batch)
                lane.free = True
                self._changed.set()  # newer windows of its streams may go to any device now
            elif self._early and not lane.failures_in_a_row:
                clips = list(self._early.values())
                self._early.clear()
                await self._attempt(lane, functools.partial(lane.device.prepare, clips))
            else:
                await self._idle(lane)

    def _take(self, lane: _Lane) -> list[_Waiting]:
        """The next batch for a free device: of its share of the windows, if several are free."""
        for waiting in [w for w in self._waiting.values() if w.prediction.cancelled()]:
            self.withdraw(waiting.clip.stream)
        eligible = [w for s, w in self._waiting.items() if s not in self._in_batches]
        eligible.sort(key=lambda waiting: waiting.deadline_s)
        share = eligible[:: sum(other.free and other.out is None for other in self._lanes)]
        now_s = asyncio.get_running_loop().time()
        deadlines_s = [waiting.deadline_s for waiting in share]
        chosen = next_batch(deadlines_s, now_s, lane.device.cost, self.max_batch)
        batch = [share[i] for i in chosen]
        for waiting in batch:
            del self._waiting[waiting.clip.stream]
        return batch

    async def _idle(self, lane: _Lane) -> None:
        """Wait until something changes. A broken device is checked now and then: a server that is
        not ready gets no sessions, whose windows would try it."""
        self._changed.clear()
        try:
            async with asyncio.timeout(_CHECK_S if lane.broken else None):
                await self._changed.wait()
        except TimeoutError:
            await self._attempt(lane, lane.device.check)

    async def _recover(self, lane: _Lane) -> None:
        """Wait for a device that is out of service, and try to bring it back."""
        if isinstance(lane.out, Stuck):
            await lane.device.back()
        else:
            await asyncio.sleep(_CHECK_S)
            if await self._attempt(lane, lane.device.check) is not None:
                return
        lane.out, lane.failures_in_a_row = None, 0
        _log.warning("a device is back in service")

    async def _recognise(self, lane: _Lane, batch: list[_Waiting]) -> None:
        clips = [waiting.clip for waiting in batch]
        self.counts.sizes[len(batch)] += 1
        self._in_batches.update(clip.stream for clip in clips)
        results: Sequence[WindowResult] = []

        async def recognise() -> None:
            nonlocal results
            results = await lane.device.recognise(clips)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} predictions for {len(batch)} windows")
            errors = [result for result in results if isinstance(result, RecognitionError)]
            if len(errors) == len(results):
                raise errors[0]

        try:
            error = await self._attempt(lane, recognise)
        except asyncio.CancelledError:
            for waiting in batch:
                self._settle(waiting, None)
            raise
        finally:
            self._in_batches.difference_update(clip.stream for clip in clips)
        for waiting, result in zip(batch, [error] * len(batch) if error else results, strict=True):
            self._settle(waiting, result)

    async def _attempt(
        self, lane: _Lane, work: Callable[[], Awaitable[None]]
    ) -> RecognitionError | None:
        """Let a device work. A failure is logged, counted against the device, and returned."""
        try:
            await work()
        except Exception as error:  # the batch fails; the next one may work
            _log.exception("a device failed")
            lane.failures_in_a_row += 1
            failure = error if isinstance(error, RecognitionError) else RecognitionError()
            if isinstance(failure, DeviceLost | Stuck) or (lane.broken and self.in_service > 1):
                lane.out = failure
            if not self.in_service:
                self._fail_waiting()
            return failure
        lane.failures_in_a_row = 0
        return None

    def _out(self) -> RecognitionError:
        """Why no device is in service: preferably a reason that may pass."""
        reasons = [lane.out for lane in self._lanes if lane.out is not None]
        return min(reasons, key=lambda reason: isinstance(reason, DeviceLost))

    def _fail_waiting(self) -> None:
        for stream in list(self._waiting):
            self._settle(self._waiting.pop(stream), self._out())

    def _settle(self, waiting: _Waiting, result: WindowResult | Replaced | None) -> None:
        """Count a window's end and set its future. None: it is withdrawn."""
        counts, prediction = self.counts, waiting.prediction
        if result is None or prediction.cancelled():
            counts.withdrawn += 1
            prediction.cancel()
        elif isinstance(result, Prediction):
            counts.done += 1
            prediction.set_result(result)
        else:
            if isinstance(result, Replaced):
                counts.replaced += 1
            else:
                counts.failed += 1
                counts.failures[result.kind] += 1
            prediction.set_exception(result)
            prediction.exception()  # so that asyncio does not warn if nobody reads it

"""The recogniser of one device on its worker thread: the event loop awaits, the thread computes.

batcher -> [recognizer] -> `models.recognizer` on its thread -> answers

Nothing else touches the model. Opened and warmed before the server is ready, closed with it. A
thread can't be stopped from outside, so a call that does not come back is given up on, and its
thread left behind when the server ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from models.bundle import Bundle, open_bundle
from models.encoders import devices
from models.faults import NotANumber, OutOfMemory, Stuck, WindowResult
from models.fusion import recognizer_on
from models.schema import Clip, EncoderSpec, Prediction
from streaming.cost import CostModel
from streaming.settings import RecognizerSettings

P = ParamSpec("P")
R = TypeVar("R")

_DEAR_S = 0.2  # a warm-up batch that takes longer is the largest that is tried
_CLOSE_S = 5.0  # for the thread to end; the process may be about to be killed

_log = logging.getLogger(__name__)


class RecognizerCore(Protocol):
    """What the worker drives: `models.recognizer.Recognizer`, or a stand-in with a fixed cost."""

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def bundle(self) -> Bundle: ...

    @property
    def device(self) -> str: ...

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]: ...
    def warm(self, size: int = 1) -> None: ...
    def forget(self, stream: str) -> None: ...
    def close(self) -> None: ...


class Runner:
    """`async with` opens and warms the recogniser on the worker thread; leaving closes it there.

    Errors of `make` and of the warm-up come out of `__aenter__`. `cost` knows after it what batches
    up to `max_batch` take. A call that takes longer than `batch_s` is `Stuck`.
    """

    def __init__(self, make: Callable[[], RecognizerCore], settings: RecognizerSettings) -> None:
        self.cost = CostModel()
        self.busy_s = 0.0  # time spent computing, for /metrics
        self._make = make
        self._max_batch = settings.max_batch
        self._batch_s = settings.batch_s
        self._thread = CallThread("recognizer")
        self._core: RecognizerCore | None = None
        self._stuck: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._thread.call(self._open))
        except BaseException:
            await self._shut()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._shut()

    @property
    def bundle(self) -> Bundle:
        return self._opened().bundle

    @property
    def spec(self) -> EncoderSpec:
        return self._opened().spec

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        return self._opened().device

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        """WindowResult a batch: for each clip a prediction, or why there is none.

        Cancelling leaves the thread to finish the batch it is on.

        Raises:
            Stuck: no answer within `batch_s`; `back` returns once the device is free again.
            Exception: whatever else the recogniser raises.
        """
        answers, seconds = await self._bounded(self._timed, clips)
        if all(isinstance(answer, Prediction) for answer in answers):
            self.cost.learn(len(clips), seconds)
        return answers

    async def check(self) -> None:
        """Let the device answer nobody, to see whether it can. Raises as `recognise` does."""
        await self._bounded(self._opened().warm)

    async def back(self) -> None:
        """Wait for the call that was `Stuck` to come back, whatever it says."""
        if self._stuck is not None:
            await asyncio.wait([self._stuck])
            self._stuck.exception()  # nobody waits for it any more
            self._stuck = None

    def forget(self, stream: str) -> None:
        """Drop a stream's state, after whatever the thread is busy with."""
        self._thread.call(self._opened().forget, stream)

    async def _bounded(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        answer = asyncio.wrap_future(self._thread.call(function, *args, **kwargs))
        try:
            done, _ = await asyncio.wait([answer], timeout=self._batch_s)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not done:
            self._stuck = answer
            raise Stuck
        return answer.result()

    # On the thread

    def _opened(self) -> RecognizerCore:
        if self._core is None:
            raise RuntimeError("the recogniser is not open")
        return self._core

    def _open(self) -> None:
        self._core = self._make()
        size = 1
        while True:
            self._core.warm(size)  # the first one also compiles and allocates
            began = time.perf_counter()
            self._core.warm(size)
            seconds = time.perf_counter() - began
            self.cost.warm(size, seconds)
            if size == self._max_batch or seconds > _DEAR_S:
                break
            size = min(2 * size, self._max_batch)

    def _timed(self, clips: Sequence[Clip]) -> tuple[list[WindowResult], float]:
        began = time.perf_counter()
        try:
            answers = self._answer(clips)
        finally:
            seconds = time.perf_counter() - began
            self.busy_s += seconds
        return answers, seconds

    def _answer(self, clips: Sequence[Clip]) -> list[WindowResult]:
        """Without the memory for all at once, in halves: the cost model learns what that takes, and
        the schedule prefers smaller batches by itself."""
        try:
            return list(self._opened().recognise(clips))
        except NotANumber as error:
            return [error if answer is None else answer for answer in error.answers]
        except OutOfMemory as error:
            if len(clips) == 1:
                return [error]
            half = len(clips) // 2
            _log.warning("no memory for %d windows at once: trying %d", len(clips), half)
        return self._answer(clips[:half]) + self._answer(clips[half:])

    def _close(self) -> None:
        if self._core is not None:
            self._core.close()

    async def _shut(self) -> None:
        """Close on the thread; not waited for longer than a while."""
        closed = self._thread.call(self._close)
        self._thread.stop()
        wait_s = _CLOSE_S
        if self._stuck is not None and not self._stuck.done():
            self._stuck.cancel()
            wait_s = 0.0
        if not await asyncio.shield(asyncio.to_thread(self._thread.join, wait_s)):
            _log.warning("the recogniser does not end; its thread is left behind")
        elif (error := closed.exception()) is not None:
            raise error


# MERGED from streaming.devices: The recogniser on all of its devices: one worker each, opened,
# warmed and closed together.


class Runners:
    """As many workers as there are ways to make a recogniser; all of them of the same bundle.

    A stream's windows go to whichever device is free: more than one is only for encoders that keep
    nothing between clips (`models.encoders.devices`).
    """

    def __init__(
        self, makes: Sequence[Callable[[], RecognizerCore]], settings: RecognizerSettings
    ) -> None:
        if not makes:
            raise ValueError("a recogniser needs a device")
        self._all = [Runner(make, settings) for make in makes]
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for worker in self._all:  # one after the other: each may need all the memory to load
                await stack.enter_async_context(worker)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._all)

    @property
    def bundle(self) -> Bundle:
        return self._all[0].bundle

    @property
    def spec(self) -> EncoderSpec:
        return self._all[0].spec

    @property
    def device(self) -> str:
        """Where they compute: "cpu", "cuda:0, cuda:1"."""
        return ", ".join(worker.device for worker in self._all)


async def makes_of(settings: RecognizerSettings) -> Sequence[Callable[[], RecognizerCore]]:
    """How to open the bundle that the settings name, on each of the devices that they name.

    Raises:
        BundleError, ValueError: the bundle or a device can not be had.
    """
    bundle = await asyncio.to_thread(open_bundle, settings.model)
    return [
        functools.partial(
            recognizer_on,
            bundle,
            name,
            max_new_frames=settings.max_new_frames,
        )
        for name in devices(bundle.encoder, settings.device)
    ]


# MERGED from streaming.calls: A thread that makes one call after another, and that nobody has to
# wait for. A pool of the standard library joins its threads when the interpreter ends, so that a
# call that never returns would keep the process. This one is a daemon: left behind, it dies with
# the process.


class CallThread:
    """Runs until `stop`. Its queue has no bound: whoever calls waits for the answer, or owes one
    short call a stream.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queue a call. Cancelling takes it out again, unless it has begun."""
        future: Future[R] = Future()

        def make() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                answer = function(*args, **kwargs)
            except BaseException as error:  # the caller's to handle, on the caller's thread
                future.set_exception(error)
            else:
                future.set_result(answer)

        self._calls.put(make)
        return future

    def stop(self) -> None:
        """End after the calls that are queued. Does not wait."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended, waiting for it at most so long."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (make := self._calls.get()) is not None:
            make()
            del make  # holds a batch's pictures

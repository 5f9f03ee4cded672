"""The recogniser on its devices, a worker thread each: the loop awaits, the thread computes.

    batcher -> batches -> [runner] -> `models.recognizer` on its thread -> predictions -> batcher

Nothing else touches the model. It is opened and warmed up before the server is ready, and closed
with it. A thread can't be stopped from outside: a call that does not return is given up, and its
thread is left behind when the server ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from models.bundle import Bundle, open_bundle
from models.encoders import devices
from models.faults import NotANumber, OutOfMemory, Stuck, WindowResult
from models.fusion import open_recognizer
from models.schema import Clip, Prediction
from streaming.batching import CostModel
from streaming.settings import RecognizerSettings

P = ParamSpec("P")
R = TypeVar("R")

_SLOW_S = 0.2  # the first warm-up batch that takes longer is the largest one
_CLOSE_S = 5.0  # for the thread to end; the process may be about to be killed

_log = logging.getLogger(__name__)


class RecognizerCore(Protocol):
    """What a runner runs: `models.recognizer.Recognizer`, or a stand-in with a fixed cost."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def device(self) -> str: ...

    @property
    def prepare(self) -> Callable[[Sequence[Clip]], None] | None:
        """Begins with clips whose windows are not due; None: it can't."""
        ...

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]: ...
    def warm(self, size: int = 1) -> None: ...
    def forget(self, stream: str) -> None: ...
    def close(self) -> None: ...


RecognizerMaker = Callable[[], RecognizerCore]


async def recognizer_makers(settings: RecognizerSettings) -> list[RecognizerMaker]:
    """Functions that open the bundle of the settings, one for each device of the settings.

    A stream's windows go to whichever device is free: several devices are only for encoders that
    keep nothing between clips (`models.encoders.devices`).

    Raises:
        BundleError, ValueError: the bundle or a device can't be used.
    """
    bundle = await asyncio.to_thread(open_bundle, settings.model)
    return [
        functools.partial(open_recognizer, bundle, name, max_new_frames=settings.max_new_frames)
        for name in devices(bundle.encoder, settings.device)
    ]


@asynccontextmanager
async def open_runners(
    makers: Sequence[RecognizerMaker], settings: RecognizerSettings
) -> AsyncIterator[list[Runner]]:
    """A runner for each maker, all open as long as the block lasts."""
    async with AsyncExitStack() as stack:  # one after the other: each may need all the memory
        yield [await stack.enter_async_context(Runner(make, settings)) for make in makers]


class Runner:
    """`async with` opens and warms up the recogniser on the worker thread; leaving closes it there.

    Errors of `make` and of the warm-up come out of `__aenter__`. After it `cost` knows what batches
    up to `max_batch` take. A call that takes longer than `batch_s` raises `Stuck`.
    """

    def __init__(self, make: RecognizerMaker, settings: RecognizerSettings) -> None:
        self.cost = CostModel()
        self.busy_s = 0.0  # time spent computing
        self._make = make
        self._max_batch = settings.max_batch
        self._batch_s = settings.batch_s
        self._thread = _CallThread("recognizer")
        self._core: RecognizerCore | None = None
        self._prepared_s: dict[str, float] = {}  # for each stream's next window
        self._stuck: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._thread.call(self._open))
        except BaseException:
            await self._shut()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shut()

    @property
    def bundle(self) -> Bundle:
        return self._opened().bundle

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        return self._opened().device

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        """For each clip of a batch a prediction, or the error that prevented it.

        Cancelling leaves the thread to finish the batch it is on.

        Raises:
            Stuck: no result within `batch_s`; `back` returns once the device is free again.
            Exception: whatever else the recogniser raises.
        """
        results, seconds = await self._bounded(self._timed, clips)
        if all(isinstance(result, Prediction) for result in results):
            self.cost.learn(len(clips), seconds)
        return results

    @property
    def prepares(self) -> bool:
        """Whether it can begin with windows that are not due."""
        return self._opened().prepare is not None

    async def prepare(self, clips: Sequence[Clip]) -> None:
        """Begin with windows that are not due. Their cost includes it. Raises as `recognise`."""
        await self._bounded(self._prepare, clips)

    async def check(self) -> None:
        """Run a warm-up batch, to find out whether the device works. Raises as `recognise`."""
        await self._bounded(self._opened().warm)

    async def back(self) -> None:
        """Wait for the call that was `Stuck` to return, whatever its result."""
        if self._stuck is not None:
            await asyncio.wait([self._stuck])
            self._stuck.exception()  # so that asyncio does not warn that nobody reads it
            self._stuck = None

    def forget(self, stream: str) -> None:
        """Drop a stream's state, after the call that the thread is on."""
        self._thread.call(self._forget, stream)

    async def _bounded(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        future = asyncio.wrap_future(self._thread.call(function, *args, **kwargs))
        try:
            done, _ = await asyncio.wait([future], timeout=self._batch_s)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done:
            self._stuck = future
            raise Stuck
        return future.result()

    async def _shut(self) -> None:
        """Close on the thread; waits `_CLOSE_S` at most."""
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

    def _opened(self) -> RecognizerCore:
        if self._core is None:
            raise RuntimeError("the recogniser is not open")
        return self._core

    # On the thread

    def _open(self) -> None:
        self._core = self._make()
        size = 1
        while True:
            self._core.warm(size)  # the first one also compiles and allocates
            began = time.perf_counter()
            self._core.warm(size)
            seconds = time.perf_counter() - began
            self.cost.warm(size, seconds)
            if size == self._max_batch or seconds > _SLOW_S:
                break
            size = min(2 * size, self._max_batch)

    def _timed(self, clips: Sequence[Clip]) -> tuple[list[WindowResult], float]:
        began = time.perf_counter()
        try:
            results = self._recognise(clips)
        finally:
            seconds = time.perf_counter() - began
            self.busy_s += seconds
            seconds += sum(self._prepared_s.pop(clip.stream, 0.0) for clip in clips)
        return results, seconds

    def _prepare(self, clips: Sequence[Clip]) -> None:
        prepare = self._opened().prepare
        assert prepare is not None
        began = time.perf_counter()
        prepare(clips)
        seconds = time.perf_counter() - began
        self.busy_s += seconds
        for clip in clips:
            before_s = self._prepared_s.get(clip.stream, 0.0)
            self._prepared_s[clip.stream] = before_s + seconds / len(clips)

    def _forget(self, stream: str) -> None:
        self._prepared_s.pop(stream, None)
        self._opened().forget(stream)

    def _recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        """Without the memory for all clips at once, in halves: the cost model learns what that
        takes, and then `batching` prefers smaller batches by itself."""
        try:
            return list(self._opened().recognise(clips))
        except NotANumber as error:
            return [error if result is None else result for result in error.predictions]
        except OutOfMemory as error:
            if len(clips) == 1:
                return [error]
            half = len(clips) // 2
            _log.warning("no memory for %d windows at once: trying %d", len(clips), half)
        return self._recognise(clips[:half]) + self._recognise(clips[half:])

    def _close(self) -> None:
        if self._core is not None:
            self._core.close()


class _CallThread:
    """A thread that makes one call after another, until `stop`.

    Threads of the standard library's pools are joined when the interpreter ends, so that a call
    which never returns would keep the process. This one is a daemon: left behind, it dies with the
    process. Its queue has no bound: whoever calls waits for the result, or makes one short call a
    stream.
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
                result = function(*args, **kwargs)
            except BaseException as error:  # for the caller, on the caller's thread
                future.set_exception(error)
            else:
                future.set_result(result)

        self._calls.put(make)
        return future

    def stop(self) -> None:
        """End after the calls that are queued. Does not wait."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, `timeout_s` at most; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (make := self._calls.get()) is not None:
            make()
            del make  # holds a batch's pictures

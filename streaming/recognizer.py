"""The recogniser on its own worker thread: the event loop awaits, the thread computes.

One thread a device; nothing else touches the model. Opened and warmed before the server is ready,
closed with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Protocol, Self, TypeVar

from models.bundle import Bundle
from models.schema import Clip, EncoderSpec, Prediction

P = ParamSpec("P")
R = TypeVar("R")


class RecognizerCore(Protocol):
    """What the worker drives: `models.recognizer.Recognizer`, or a stand-in with a fixed cost."""

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def bundle(self) -> Bundle: ...

    @property
    def device(self) -> str: ...

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]: ...
    def warm(self) -> None: ...
    def forget(self, stream: str) -> None: ...
    def close(self) -> None: ...


class RecognizerWorker:
    """`async with` opens and warms the recogniser on the worker thread; leaving closes it there.

    Errors of `make` and of the warm-up come out of `__aenter__`.
    """

    def __init__(self, make: Callable[[], RecognizerCore]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recognizer")
        self._core: RecognizerCore | None = None
        self.busy_s = 0.0  # time spent computing, for /metrics

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
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

    async def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Answer a batch. Cancelling leaves the thread to finish the batch it is on."""
        return await self._run(self._timed, clips)

    def forget(self, stream: str) -> None:
        """Drop a stream's state, after whatever the thread is busy with."""
        self._thread.submit(self._opened().forget, stream)

    def _opened(self) -> RecognizerCore:
        if self._core is None:
            raise RuntimeError("the recogniser is not open")
        return self._core

    def _open(self) -> None:
        self._core = self._make()
        self._core.warm()

    def _timed(self, clips: Sequence[Clip]) -> list[Prediction]:
        began = time.perf_counter()
        try:
            return self._opened().recognise(clips)
        finally:
            self.busy_s += time.perf_counter() - began

    def _close(self) -> None:
        if self._core is not None:
            self._core.close()

    async def _run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: call(*args, **kwargs)
        )

    async def _shut(self) -> None:
        await asyncio.shield(self._run(self._close))
        self._thread.shutdown(wait=True)

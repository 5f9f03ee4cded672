"""The recogniser behind the demo: one for all its visitors, on an event loop of its own thread.

    live streams, video files -> [engine]: `streaming.batcher` -> `streaming.runner`

Streamlit runs a page's script on threads that come and go, so nothing of the recognition lives
there. A file's windows go through the same worker, one at a time, between those of the live ones.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from models.bundle import Bundle
from models.faults import RecognitionError
from models.schema import Clip, Prediction
from streaming.batcher import Batcher
from streaming.runner import RecognizerCore, Runner
from streaming.settings import RecognizerSettings
from web.live import Live

T = TypeVar("T")


class DemoEngine:
    """Open and warm once made. Every method may be called from any thread but its own.

    Raises (when made): what `make` raises.
    """

    def __init__(self, make: Callable[[], RecognizerCore]) -> None:
        self._opened: Future[None] = Future()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(make)), name="engine", daemon=True
        )
        self._thread.start()
        self._opened.result()

    @property
    def bundle(self) -> Bundle:
        return self._worker.bundle

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        return self._worker.device

    def open_live(self) -> Live:
        """A new stream, read until it is closed."""
        return self._wait(self._open_live())

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Answer windows of a file. Waits for them; raises what the recogniser raises."""
        answers = self._wait(self._worker.recognise(clips))
        for answer in answers:
            if isinstance(answer, RecognitionError):
                raise answer
        return [answer for answer in answers if isinstance(answer, Prediction)]

    def forget(self, stream: str) -> None:
        """Drop what the encoder keeps for a stream that ended."""
        self._worker.forget(stream)

    def close(self) -> None:
        """End every stream and let the recogniser go. A second call is fine."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # On the loop

    async def _run(self, make: Callable[[], RecognizerCore]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            settings = RecognizerSettings()
            async with (
                Runner(make, settings) as self._worker,
                asyncio.TaskGroup() as self._tasks,
            ):
                self._batcher = Batcher([self._worker], max_batch=settings.max_batch)
                batches = self._tasks.create_task(self._batcher.run(), name="batcher")
                self._streams: set[Live] = set()
                self._opened.set_result(None)
                await self._stop.wait()
                for live in self._streams:
                    live.close()
                batches.cancel()
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _open_live(self) -> Live:
        stream = f"live {next(self._numbers)}"
        live = Live(stream, self.bundle, self._batcher)
        self._streams.add(live)
        self._tasks.create_task(self._run_live(stream, live), name=stream)
        return live

    async def _run_live(self, stream: str, live: Live) -> None:
        try:
            await live.run()
        finally:
            self._streams.discard(live)
            self._worker.forget(stream)

"""The demo's recogniser: one for all visitors, on an event loop in a thread of its own.

    live streams, video files -> [engine]: `streaming.batcher` -> `streaming.runner`

Streamlit runs a page's script on threads that come and go, so the recogniser has its own. Windows
of files go to the same runner, one at a time, between those of the live streams.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from models.bundle import Bundle
from models.faults import RecognitionError
from models.schema import Clip, Prediction
from streaming.batcher import Batcher
from streaming.runner import RecognizerCore, Runner
from streaming.settings import RecognizerSettings
from web.live import Live


class DemoEngine:
    """Opens the recogniser and warms it up. Its methods are for every thread but its own.

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
        return self._runner.bundle

    def open_live(self) -> Live:
        """A new stream, recognised until it is closed."""
        return asyncio.run_coroutine_threadsafe(self._open_live(), self._loop).result()

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Predictions for windows of a file. Blocks; raises the recogniser's errors."""
        work = self._runner.recognise(clips)
        results = asyncio.run_coroutine_threadsafe(work, self._loop).result()
        for result in results:
            if isinstance(result, RecognitionError):
                raise result
        return [result for result in results if isinstance(result, Prediction)]

    def forget(self, stream: str) -> None:
        """Drop what the encoder keeps for a stream that ended."""
        self._runner.forget(stream)

    def close(self) -> None:
        """End every stream and close the recogniser. A second call is fine."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    # On the loop

    async def _run(self, make: Callable[[], RecognizerCore]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            settings = RecognizerSettings()
            async with (
                Runner(make, settings) as self._runner,
                asyncio.TaskGroup() as self._tasks,
            ):
                self._batcher = Batcher([self._runner], max_batch=settings.max_batch)
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
        task = self._tasks.create_task(live.run(), name=stream)
        task.add_done_callback(lambda _: self._streams.discard(live))
        return live

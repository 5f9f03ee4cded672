"""Windows of many sessions -> batches: the earliest deadline first, newer replaces older.

Knows no model: it is given an async callable that answers a batch of clips. One batch is under way
at a time; while it runs, the next gathers. No waiting time is added: a batch leaves as soon as the
one before it is done, with whatever is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from models.schema import Clip, Prediction

_log = logging.getLogger(__name__)

Recognise = Callable[[Sequence[Clip]], Awaitable[Sequence[Prediction]]]


class Replaced(Exception):
    """A newer window of the same stream took this one's place; it will not be answered."""


@dataclass(slots=True)
class _Waiting:
    clip: Clip
    deadline_s: float
    answer: asyncio.Future[Prediction]


@dataclass(slots=True)
class BatcherCounts:
    """Since the start, for /metrics. Every submitted window ends as done, replaced or failed."""

    due: int = 0
    done: int = 0
    replaced: int = 0
    failed: int = 0
    batches: int = 0
    sizes: dict[int, int] = field(default_factory=dict)  # batch size -> how many


class Batcher:
    """At most one waiting window a stream, so it holds no more windows than there are streams.

    Overflow rule: a stream's newer window replaces its waiting one, and keeps its deadline, so that
    a busy stream is not pushed back by its own news.
    """

    def __init__(self, recognise: Recognise, *, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, not {max_batch}")
        self._recognise = recognise
        self._max_batch = max_batch
        self._waiting: dict[str, _Waiting] = {}
        self._arrived = asyncio.Event()
        self.counts = BatcherCounts()
        self.failures_in_a_row = 0  # batches

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, clip: Clip, deadline_s: float) -> asyncio.Future[Prediction]:
        """Ask for an answer, best by `deadline_s` (loop time). Cancel the future to withdraw.

        The future raises `Replaced` when a newer window of the stream came first, or what the
        recogniser raised for the batch.
        """
        self.counts.due += 1
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        older = self._waiting.pop(clip.stream, None)
        if older is not None:
            deadline_s = min(deadline_s, older.deadline_s)
            self.counts.replaced += 1
            if not older.answer.done():
                older.answer.set_exception(Replaced())
                older.answer.exception()  # told or not, nobody must be warned of it
        self._waiting[clip.stream] = _Waiting(clip, deadline_s, answer)
        self._arrived.set()
        return answer

    def withdraw(self, stream: str) -> None:
        """Forget the waiting window of a stream that ended."""
        waiting = self._waiting.pop(stream, None)
        if waiting is not None:
            waiting.answer.cancel()

    async def run(self) -> None:
        """Answer batches until cancelled; then every waiting window is cancelled."""
        try:
            while True:
                await self._arrived.wait()
                batch = self._next()
                if batch:
                    await self._answer(batch)
        finally:
            for stream in list(self._waiting):
                self.withdraw(stream)

    def _next(self) -> list[_Waiting]:
        for stream in [s for s, w in self._waiting.items() if w.answer.cancelled()]:
            del self._waiting[stream]
        urgent = sorted(self._waiting.values(), key=lambda waiting: waiting.deadline_s)
        batch = urgent[: self._max_batch]
        for waiting in batch:
            del self._waiting[waiting.clip.stream]
        if not self._waiting:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        self.counts.batches += 1
        self.counts.sizes[len(batch)] = self.counts.sizes.get(len(batch), 0) + 1
        try:
            predictions = await self._recognise([waiting.clip for waiting in batch])
            if len(predictions) != len(batch):
                raise RuntimeError(f"{len(predictions)} answers to {len(batch)} windows")
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception as error:  # the batch fails, told to its sessions; the next one may work
            self.counts.failed += len(batch)
            self.failures_in_a_row += 1
            _log.exception("a batch of %d windows failed", len(batch))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
                    waiting.answer.exception()
            return
        self.failures_in_a_row = 0
        self.counts.done += len(batch)
        for waiting, prediction in zip(batch, predictions, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(prediction)

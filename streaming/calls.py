"""A thread that makes one call after another, and that nobody has to wait for.

A pool of the standard library joins its threads when the interpreter ends, so that a call that
never returns would keep the process. This one is a daemon: left behind, it dies with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


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

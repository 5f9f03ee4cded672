"""How a training ends early: Ctrl-C and SIGTERM between two steps, or memory that does not suffice.

signals -> [early_end] -> the loops -> Interrupted -> a line that says how it goes on

Nothing here imports torch before a training runs.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came between two steps; the state is written if there is a file for it."""


class Stop:
    """While it is entered, Ctrl-C and SIGTERM set `wanted` and end nothing; the second one does.

    In a thread other than the main one, which gets no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._want)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _want(self, number: int, _: object) -> None:
        self.wanted = True
        signal.signal(number, signal.default_int_handler)


def how_it_goes_on(resume: Path | None, exc: KeyboardInterrupt) -> str:
    """A line that says what an interrupted training has left."""
    when = str(exc) or "interrupted"
    if resume is None:
        return f"{when}; nothing is kept: with --resume FILE the same command could go on"
    if not resume.exists():
        return f"{when} before the first step: the same command begins anew"
    return f"{when}; the state is in {resume}: the same command goes on from there"


def out_of_memory(exc: BaseException) -> bool:
    """True for the errors of NumPy, of torch on a GPU, and on a CPU, known by its text."""
    import torch

    return isinstance(exc, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(
        exc
    )

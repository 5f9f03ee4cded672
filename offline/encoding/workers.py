"""Encodes videos by an encoder that gives a row a frame, in processes: tasks in, outcomes out.

    tasks -> processes, each with an encoder (whole) -> outcomes, stored by them

Such an encoder takes a video's frames one after the other, on a CPU: what keeps all cores busy is
a video for each. A worker opens its encoder once. With one worker all of it runs in this process.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2

from models.schema import Encoder
from offline.encoding.embedder import whole
from offline.encoding.opening import Opening
from offline.encoding.task import Finished, Outcome, Task, stored


def outcomes(
    tasks: Sequence[Task], out: Path, opening: Opening, *, workers: int
) -> Iterator[Outcome]:
    """Work on `tasks`, in whatever order they end. Waiting tasks are bounded: two a worker.

    Raises:
        ValueError, OSError: the encoder can't be had, or a worker process died.
    """
    # Once here, so that what is missing is told (and fetched) once, before any worker starts.
    encoder = opening.open()
    try:
        if workers == 1:
            cv2.setNumThreads(1)
            for task in tasks:
                yield stored(encoded(encoder, task), out, encoder.spec)
            return
    finally:
        encoder.close()
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_open, initargs=(opening,)
    ) as pool:
        waiting = {pool.submit(_work, task, out) for task in tasks[: 2 * workers]}
        upcoming = iter(tasks[2 * workers :])
        try:
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
                    for task in itertools.islice(upcoming, 1):
                        waiting.add(pool.submit(_work, task, out))
        except BrokenProcessPool as exc:
            raise OSError(
                "a worker died (out of memory?); run it again, it goes on, with --workers 1"
            ) from exc


def encoded(encoder: Encoder, task: Task) -> Finished:
    """A task's video with its embeddings, or why there are none."""
    try:
        embedded = tuple(whole(encoder, task.video.path, task.variants))
    except (ValueError, OSError) as exc:
        return Finished(video=task.video, why_not=str(exc))
    return Finished(video=task.video, embedded=embedded)


_encoder: Encoder | None = None  # a worker's own: opening one takes seconds


def _open(opening: Opening) -> None:
    global _encoder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _encoder = opening.open()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task, out: Path) -> Outcome:
    assert _encoder is not None
    return stored(encoded(_encoder, task), out, _encoder.spec)

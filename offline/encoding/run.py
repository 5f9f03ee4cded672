"""Encodes videos by an encoder of windows and keeps it busy: tasks in, outcomes out.

    tasks -> threads that look -> windows of several videos -> encoder -> threads that store

Decoding, the encoder and the disk overlap. FFmpeg, OpenCV and the disk do their work outside of
Python's lock, so that threads will do and no picture is copied between processes.

Bounds: what was decoded and waits, with what is being decoded, is two calls' worth of videos and
one a thread more; what waits for the disk, two calls' worth.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2

from models.schema import Encoder, EncoderSpec
from offline.encoding.embed import Embedded, Looked, look, whole
from offline.encoding.opening import Opening
from offline.encoding.tasks import EncodeOutcome, EncodeTask, Finished, stored

_WRITERS = 4  # threads that wait for the disk

Ready = tuple[EncodeTask, Looked]


def outcomes_by_threads(
    tasks: Sequence[EncodeTask], out: Path, encoder: Encoder, *, videos: int, threads: int
) -> Iterator[EncodeOutcome]:
    """Work on `tasks`, in whatever order their videos are decoded.

    Args:
        out: the folder to store embeddings in.
        videos: how many of them an encoder's call takes; fewer at the end.
        threads: that decode.

    Raises:
        OSError: the disk can't take the embeddings.
        ValueError, RuntimeError: the encoder can't go on.
    """
    cv2.setNumThreads(1)  # the threads are ours
    spec = encoder.spec
    upcoming = iter(tasks)
    looking: set[Future[Ready | Finished]] = set()
    ready: list[Ready] = []
    storing: deque[Future[EncodeOutcome]] = deque()
    with (
        ThreadPoolExecutor(threads, "look") as lookers,
        ThreadPoolExecutor(_WRITERS, "store") as writers,
    ):
        try:
            while True:
                for _ in range(2 * videos + threads - len(looking) - len(ready)):
                    if (task := next(upcoming, None)) is not None:
                        looking.add(lookers.submit(looked, task, spec))
                if not (looking or ready or storing):
                    return
                if looking and len(ready) < videos:
                    ended, looking = wait(looking, return_when=FIRST_COMPLETED)
                    for one in (future.result() for future in ended):
                        if isinstance(one, Finished):
                            storing.append(writers.submit(stored, one, out, spec))
                        else:
                            ready.append(one)
                elif ready:
                    for finished in encoded_by_threads(encoder, ready[:videos]):
                        storing.append(writers.submit(stored, finished, out, spec))
                    del ready[:videos]
                while storing and (
                    storing[0].done() or len(storing) > 2 * videos or not (looking or ready)
                ):
                    yield storing.popleft().result()
        finally:
            lookers.shutdown(wait=False, cancel_futures=True)  # what is encoded is still stored


def looked(task: EncodeTask, spec: EncoderSpec) -> Ready | Finished:
    """The first stage: a task with what its video shows, or why that can't be told."""
    try:
        return task, look(task.video.path, spec, task.variants)
    except (ValueError, OSError) as exc:
        return Finished(video=task.video, why_not=str(exc))


def encoded_by_threads(encoder: Encoder, ready: Sequence[Ready]) -> list[Finished]:
    """The second stage: all windows of several videos by one call, and each video its own again."""
    embeddings = iter(encoder.encode([clip for _, one in ready for clip in one.clips]))
    return [
        Finished(
            video=task.video,
            embedded=tuple(
                Embedded(variant=variant, rows=next(embeddings).features, frames=one.frames)
                for variant in task.variants
            ),
        )
        for task, one in ready
    ]


# MERGED from offline.encoding.workers: Encodes videos by an encoder that gives a row a frame, in
# processes: tasks in, outcomes out. tasks -> processes, each with an encoder (whole) -> outcomes,
# stored by them Such an encoder takes a video's frames one after the other, on a CPU: what keeps
# all cores busy is a video for each. A worker opens its encoder once. With one worker all of it
# runs in this process.


def outcomes_by_processes(
    tasks: Sequence[EncodeTask], out: Path, opening: Opening, *, workers: int
) -> Iterator[EncodeOutcome]:
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
                yield stored(encoded_by_processes(encoder, task), out, encoder.spec)
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


def encoded_by_processes(encoder: Encoder, task: EncodeTask) -> Finished:
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


def _work(task: EncodeTask, out: Path) -> EncodeOutcome:
    assert _encoder is not None
    return stored(encoded_by_processes(_encoder, task), out, _encoder.spec)

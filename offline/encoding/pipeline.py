"""Encodes videos by an encoder of windows and keeps it busy: tasks in, outcomes out.

    tasks -> threads that look -> windows of several videos -> encoder -> threads that store

Decoding, the encoder and the disk overlap. FFmpeg, OpenCV and the disk do their work outside of
Python's lock, so that threads will do and no picture is copied between processes.

Bounds: what was decoded and waits, with what is being decoded, is two calls' worth of videos and
one a thread more; what waits for the disk, two calls' worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import cv2

from models.schema import Encoder, EncoderSpec
from offline.encoding.embedder import Embedded, Looked, look
from offline.encoding.task import Finished, Outcome, Task, stored

_WRITERS = 4  # threads that wait for the disk

Ready = tuple[Task, Looked]


def outcomes(
    tasks: Sequence[Task], out: Path, encoder: Encoder, *, videos: int, threads: int
) -> Iterator[Outcome]:
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
    storing: deque[Future[Outcome]] = deque()
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
                    for finished in encoded(encoder, ready[:videos]):
                        storing.append(writers.submit(stored, finished, out, spec))
                    del ready[:videos]
                while storing and (
                    storing[0].done() or len(storing) > 2 * videos or not (looking or ready)
                ):
                    yield storing.popleft().result()
        finally:
            lookers.shutdown(wait=False, cancel_futures=True)  # what is encoded is still stored


def looked(task: Task, spec: EncoderSpec) -> Ready | Finished:
    """The first stage: a task with what its video shows, or why that can't be told."""
    try:
        return task, look(task.video.path, spec, task.variants)
    except (ValueError, OSError) as exc:
        return Finished(video=task.video, why_not=str(exc))


def encoded(encoder: Encoder, ready: Sequence[Ready]) -> list[Finished]:
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

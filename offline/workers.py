"""Encodes many videos in worker processes: tasks in, outcomes out as they end.

    encode -> [workers] -> [embedder] -> [store]

A worker opens its encoder once. With one worker all of it runs in this process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2

from models.encoders import open_encoder
from models.schema import Encoder, EncoderSpec
from offline.embedder import embed, identity
from offline.labels import Labelled
from offline.store import Entry, npy_name, write_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video for a worker, and the variants that are still to be made of it."""

    video: Labelled
    variants: tuple[str, ...]
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task: entries for the index, or why there are none."""

    video: Labelled
    entries: tuple[Entry, ...] = ()
    why_not: str = ""


def outcomes(
    tasks: Sequence[Task], spec: EncoderSpec, device: str, workers: int
) -> Iterator[Outcome]:
    """Work on `tasks`, in whatever order they end. Waiting tasks are bounded: two a worker.

    Raises:
        ValueError, OSError: the encoder can't be had, or a worker process died.
    """
    if not tasks:
        return
    if workers == 1:
        _open(spec, device, os.cpu_count() or 1)
        try:
            yield from map(_work, tasks)
        finally:
            _close()
        return
    # Once here, so that what is missing is told (and fetched) once, before any worker starts.
    open_encoder(spec, device).close()
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_open, initargs=(spec, device, threads)
    ) as pool:
        waiting = {pool.submit(_work, task) for task in tasks[: 2 * workers]}
        upcoming = iter(tasks[2 * workers :])
        try:
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
                    task = next(upcoming, None)
                    if task is not None:
                        waiting.add(pool.submit(_work, task))
        except BrokenProcessPool as exc:
            raise OSError(
                "a worker died (out of memory?); run it again, it goes on, with --workers 1"
            ) from exc


_encoder: Encoder | None = None  # a worker's own: opening one takes seconds


def _open(spec: EncoderSpec, device: str, threads: int) -> None:
    global _encoder
    cv2.setNumThreads(1)
    _encoder = open_encoder(spec, device)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _close() -> None:
    global _encoder
    if _encoder is not None:
        _encoder.close()
    _encoder = None


def _work(task: Task) -> Outcome:
    assert _encoder is not None
    video, spec = task.video, _encoder.spec
    try:
        entries = []
        for embedded in embed(_encoder, video.path, task.variants):
            name = npy_name(video.video_id, embedded.variant)
            entries.append(
                Entry(
                    video_id=video.video_id,
                    gloss=video.gloss,
                    path_to_npy_file=name,
                    video=str(video.path),
                    variant=embedded.variant,
                    split=video.split,
                    signer=video.signer,
                    frames=embedded.frames,
                    fps=spec.fps,
                    encoder=identity(spec),
                    checksum=write_rows(task.out / name, embedded.rows),
                )
            )
    except ValueError as exc:
        return Outcome(video=video, why_not=str(exc))
    return Outcome(video=video, entries=tuple(entries))

"""Encodes videos on this machine: tasks in, outcomes out.

    tasks -> threads that decode -> windows of several videos -> encoder -> threads that store
    tasks -> processes, each with an encoder of whole videos, which store -> outcomes
    tasks of landmark files -> processes without an encoder, which store -> outcomes

`EncoderFactory` opens the encoder that `offline.encode --encoder` names, here, in another process
or on another machine: one of `models`, or the stand-in.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import cv2
import numpy as np

from models import encoders
from models.schema import Clip, Embedding, Encoder, EncoderSpec, Resize
from offline.encoding.embed import (
    DecodedWindows,
    EncodedVideo,
    EncodeTask,
    decode_windows,
    encode_whole_video,
    encode_windows,
    row_per_frame,
)
from offline.encoding.landmark_files import encode_landmarks
from offline.encoding.tasks import EncodeOutcome, store

STANDIN = "standin"
STANDIN_LOG = "LIVEGLOSS_STANDIN_LOG"  # a file that gets a line for each window that one encodes
HALVE_BATCH = "the GPU's memory is too small for so many windows at once: halve --batch"
_GPU_BATCH = 16  # windows that a GPU runs at once: 2,048 tokens each, more gain nothing
_WRITERS = 4  # threads that wait for the disk
_FILES = 200  # landmark files, which are read in the time that a process takes to start


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFactory:
    """Which encoder to open, and how."""

    spec: EncoderSpec
    device: str  # auto, cpu, cuda or cuda:N
    batch: int  # windows that it runs at once

    @classmethod
    def of(
        cls,
        name: str,
        frames: int | None,
        fps: float | None,
        device: str,
        batch: int | None,
        gpu: bool | None,
        resize: Resize = "fast",
    ) -> EncoderFactory:
        """The factory of the encoder "landmarks", "vjepa2:PATH", "standin:MS", …

        gpu: whether there is one where the encoder will run; None: it will run on this machine.

        Raises:
            ValueError, OSError: there is no such encoder.
        """
        kind, _, source = name.partition(":")
        if kind == STANDIN:
            spec = replace(standin_spec(source, frames or 16, fps or 8.0), resize=resize)
        else:
            spec = encoders.encoder_spec(name, frames, fps, resize)
        return cls(spec=spec, device=device, batch=batch or _usual_batch(kind, device, gpu))

    def open(self) -> Encoder:
        """The encoder; the caller must close it.

        Raises:
            ValueError, OSError: see `models.encoders.open_encoder`.
        """
        if self.spec.kind == STANDIN:
            return StandInEncoder(self.spec)
        return encoders.open_encoder(self.spec, self.device, batch=self.batch)

    def videos_per_call(self, clips: int) -> int:
        """How many videos a call of the encoder should take, each with so many clips.

        A multiple of a batch, so that no batch is half empty; two batches at least, so that the
        second's pictures travel to the device while the first is computed.
        """
        fewest = self.batch // math.gcd(self.batch, clips)
        return fewest * -(-2 * self.batch // (fewest * clips))


def _usual_batch(kind: str, device: str, gpu: bool | None) -> int:
    if kind == STANDIN:
        return _GPU_BATCH
    if kind == "landmarks" or device == "cpu":
        return 1
    from models.vjepa2.encoder import has_gpu

    return _GPU_BATCH if gpu or (gpu is None and has_gpu()) else 1


def standin_spec(source: str, frames: int = 16, fps: float = 8.0) -> EncoderSpec:
    """The spec of a stand-in that takes `source` milliseconds per window.

    Raises:
        ValueError: that is no number, or a negative one.
    """
    try:
        valid = 0 <= float(source) < 1e6
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"write the stand-in as standin:MS, with its milliseconds, not {source!r}")
    return EncoderSpec(
        kind=STANDIN, source=source, revision="1", dim=3, frames=frames, fps=fps, short_side=292
    )


class StandInEncoder:
    """An encoder of fixed cost that recognises nothing, to test and time everything around it.

    It implements `models.schema.Encoder`: a row per frame of the window, the frame's mean colour.
    It waits so many milliseconds per window, and leaves the CPU free meanwhile, as a GPU does.
    """

    device = "cpu"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self._closed = threading.Event()
        self._log = os.environ.get(STANDIN_LOG)

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self._closed.wait(len(clips) * float(self.spec.source) / 1000)
        if self._log:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write("".join(f"{clip.stream}\n" for clip in clips))
        return [
            Embedding(
                # Of every eighth pixel: the mean of all would cost more than to decode them.
                features=np.stack(
                    [np.float32(frame.image[::8, ::8].mean((0, 1))) for frame in clip.frames]
                ),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def forget(self, stream: str) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        self._closed.set()


def encode_by_threads(
    tasks: Sequence[EncodeTask], out: Path, encoder: Encoder, *, videos: int, threads: int
) -> Iterator[EncodeOutcome]:
    """Encode `tasks` by an encoder of windows, in whatever order their videos are decoded.

    Decoding, the encoder and the disk overlap. FFmpeg, OpenCV and the disk work outside of Python's
    lock, so threads are enough and no picture is copied between processes. At most two calls' worth
    of videos, and one per decoding thread, wait for the encoder; as many results for the disk.

    Args:
        videos: how many an encoder's call takes; fewer at the end.
        threads: that decode.

    Raises:
        OSError: the disk can't take the embeddings.
        ValueError, RuntimeError: the encoder can't go on.
    """
    cv2.setNumThreads(1)  # the threads are ours
    spec = encoder.spec
    upcoming = iter(tasks)
    decoding: set[Future[DecodedWindows | EncodedVideo]] = set()
    decoded: list[DecodedWindows] = []
    storing: deque[Future[EncodeOutcome]] = deque()
    with (
        ThreadPoolExecutor(threads, "decode") as decoders,
        ThreadPoolExecutor(_WRITERS, "store") as writers,
    ):
        try:
            while True:
                for _ in range(2 * videos + threads - len(decoding) - len(decoded)):
                    if (task := next(upcoming, None)) is not None:
                        decoding.add(decoders.submit(decode_windows, task, spec))
                if not (decoding or decoded or storing):
                    return
                if decoding and len(decoded) < videos:
                    ended, decoding = wait(decoding, return_when=FIRST_COMPLETED)
                    for result in (future.result() for future in ended):
                        if isinstance(result, EncodedVideo):
                            storing.append(writers.submit(store, result, out, spec))
                        else:
                            decoded.append(result)
                elif decoded:
                    for encoded in encode_windows(encoder, decoded[:videos]):
                        storing.append(writers.submit(store, encoded, out, spec))
                    del decoded[:videos]
                while storing and (
                    storing[0].done() or len(storing) > 2 * videos or not (decoding or decoded)
                ):
                    yield storing.popleft().result()
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)  # what is encoded is still stored


def encode_by_processes(
    tasks: Sequence[EncodeTask], out: Path, factory: EncoderFactory, *, workers: int
) -> Iterator[EncodeOutcome]:
    """Encode `tasks` by an encoder with a row per frame, in whatever order they end.

    Such an encoder takes a video's frames one after the other, on a CPU: a video per core keeps all
    cores busy. One worker alone works in this process. At most two tasks per worker wait.

    Raises:
        ValueError, OSError: the encoder can't be opened, or a worker process died.
    """
    # Once here, so that what is missing is fetched or reported once, before any worker starts.
    encoder = factory.open()
    try:
        if workers == 1:
            cv2.setNumThreads(1)
            for task in tasks:
                yield store(encode_whole_video(encoder, task), out, encoder.spec)
            return
    finally:
        encoder.close()
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_open, initargs=(factory,)
    ) as pool:
        yield from _in_pool(pool, partial(_work, out=out), tasks, 2 * workers)


def read_landmark_files(
    tasks: Sequence[EncodeTask],
    out: Path,
    spec: EncoderSpec,
    *,
    workers: int,
) -> Iterator[EncodeOutcome]:
    """Make rows of `tasks` whose files hold landmarks, in whatever order they end.

    No network is opened. An encoder without a row per frame gets no such rows.

    Raises:
        OSError: a worker process died, or the disk is full.
    """
    if not row_per_frame(spec):
        why = f"holds landmarks, which are rows of --encoder landmarks, not of {spec.kind}"
        yield from (EncodeOutcome(video=t.video, error=f"{t.video.path}: {why}") for t in tasks)
        return
    work = partial(_read_landmarks, out=out, spec=spec)
    workers = min(workers, -(-len(tasks) // _FILES))
    if workers <= 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_follow_parent) as pool:
        yield from _in_pool(pool, work, tasks, 2 * workers)


def _in_pool(
    pool: ProcessPoolExecutor,
    work: Callable[[EncodeTask], EncodeOutcome],
    tasks: Sequence[EncodeTask],
    most: int,
) -> Iterator[EncodeOutcome]:
    """The outcomes of `work` on `tasks`, of which at most so many wait.

    Who closes it ends the workers at once: what they have stored is in the journal.
    """
    waiting = {pool.submit(work, task) for task in tasks[:most]}
    upcoming = iter(tasks[most:])
    try:
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
                for task in itertools.islice(upcoming, 1):
                    waiting.add(pool.submit(work, task))
    except BrokenProcessPool as exc:
        raise OSError(
            "a worker died (out of memory?); run it again, it goes on, with --workers 1"
        ) from exc
    except BaseException:
        for worker in active_children():
            if worker.name.startswith("SpawnProcess"):
                worker.terminate()
        raise


_encoder: Encoder | None = None  # a worker's own: opening one takes seconds


def _open(factory: EncoderFactory) -> None:
    global _encoder
    _follow_parent()
    cv2.setNumThreads(1)
    _encoder = factory.open()


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: EncodeTask, out: Path) -> EncodeOutcome:
    assert _encoder is not None
    return store(encode_whole_video(_encoder, task), out, _encoder.spec)


def _read_landmarks(task: EncodeTask, out: Path, spec: EncoderSpec) -> EncodeOutcome:
    return store(encode_landmarks(task, spec), out, spec)

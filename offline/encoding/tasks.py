"""What is to be encoded and what became of it: shared by `encode` and all that do the work.

    labels + index.csv + journal -> [find_backlog] -> EncodeTask -> run or cluster -> EncodedVideo
      -> [store] -> .npy, journal, EncodeOutcome -> encode -> [write_results] -> index.csv

The index is written whole, which for tens of thousands of embeddings can't be done after each. So
every embedding that is on disk is at once a line of the journal, and the next run begins by reading
it: a run that is cut off loses nothing that it has stored.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.files import SCRATCH
from models.schema import EncoderSpec
from offline.data.fingerprints import CELLS, Fingerprint, read_fingerprints, write_fingerprints
from offline.data.index import (
    EMBEDDINGS,
    INDEX,
    Entry,
    IndexFileError,
    npy_name,
    read_index,
    rows_problem,
    write_index,
    write_rows,
)
from offline.data.labels import LabelledVideo
from offline.encoding.embed import (
    MIDDLE_WINDOW,
    EncodedVideo,
    EncodeTask,
    WindowPlan,
    encoder_identity,
    row_per_frame,
)

JOURNAL = ".encoded.jsonl"  # entries of the index
_FINGERPRINTS = ".fingerprints.jsonl"  # the same for fingerprints
_USUAL_CLIP_S = 3.0  # to estimate how much disk is needed
_READERS = 4  # threads that check embeddings: SHA-256 runs outside of Python's lock

EntryKey = tuple[str, str]  # video_id, variant


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOutcome:
    """A task whose result is stored: entries for the index, or why there are none."""

    video: LabelledVideo
    entries: tuple[Entry, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a run finds in its folder."""

    tasks: list[EncodeTask]
    kept: dict[EntryKey, Entry]  # with today's labels
    corrupt: list[str]  # a line per embedding that is listed, but missing or changed


def find_backlog(
    out: Path,
    videos: Sequence[LabelledVideo],
    variants: Sequence[str],
    spec: EncoderSpec,
    plan: WindowPlan = MIDDLE_WINDOW,
) -> Backlog:
    """Compare what `videos` in `variants` need with what is in `out`, every byte of it.

    Raises:
        IndexFileError: the index in `out` is not one of `offline.encode`.
    """
    index = read_index(out / INDEX, complete=True) if (out / INDEX).exists() else []
    known = {(e.video_id, e.variant): e for e in index} | read_journal(out)
    found: list[Entry] = []
    for video in videos:
        identity = encoder_identity(spec, video, plan)
        for variant in variants:
            entry = known.get((video.video_id, variant))
            if entry is None or entry.encoder != identity:
                continue
            if Path(entry.video).name != video.path.name:
                continue  # another video under the same id
            found.append(replace(entry, gloss=video.gloss, split=video.split, signer=video.signer))
    with ThreadPoolExecutor(_READERS) as readers:
        problems = list(readers.map(lambda entry: rows_problem(out, entry), found))
    kept = {(e.video_id, e.variant): e for e, why in zip(found, problems, strict=True) if not why}
    tasks = []
    for video in videos:
        missing = tuple(v for v in variants if (video.video_id, v) not in kept)
        if missing:
            tasks.append(EncodeTask(video=video, variants=missing, plan=plan))
    return Backlog(tasks=tasks, kept=kept, corrupt=[why for why in problems if why])


def check_disk(out: Path, tasks: Sequence[EncodeTask], spec: EncoderSpec) -> None:
    """Print how much disk the embeddings of `tasks` will take, and how much is free.

    Raises:
        OSError: that is not enough.
    """
    need, free = bytes_needed(tasks, spec), shutil.disk_usage(out).free
    print(f"disk: about {need / 1e6:.1f} MB needed, {free / 1e6:.0f} MB free", flush=True)
    if need > free:
        raise OSError(f"{out}: not enough disk: {need / 1e6:.0f} MB needed; give another --out")


def bytes_needed(tasks: Sequence[EncodeTask], spec: EncoderSpec) -> float:
    """About how much disk the embeddings of `tasks` will take."""
    rows, size = spec.frames / 2, 4
    if row_per_frame(spec):
        rows = spec.fps * _USUAL_CLIP_S
    elif spec.kind == "vjepa2-tokens":
        rows *= (spec.short_side * 224 // 256 // 16 + 1) ** 2
        size = 2
    return sum(task.clips for task in tasks) * rows * spec.dim * size


def store(encoded: EncodedVideo, out: Path, spec: EncoderSpec) -> EncodeOutcome:
    """Write a task's result to disk and to the journals. Threads and processes may do so at once.

    All tokens of a window are stored in half precision, which halves what is by far the largest
    (5.8 MB per window of V-JEPA 2 ViT-g); rows of time steps in single precision.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    video, entries, error = encoded.video, [], encoded.error
    if encoded.fingerprint is not None:  # first: a video whose embedding is noted is not done again
        cells = base64.b64encode(encoded.fingerprint.tobytes()).decode()
        _append(out / _FINGERPRINTS, {"video_id": video.video_id, "cells": cells})
    tokens = spec.kind == "vjepa2-tokens"
    try:
        for embedded in encoded.rows:
            name = npy_name(video.video_id, embedded.variant)
            with np.errstate(over="ignore"):  # what is out of range becomes inf, and is refused
                rows = embedded.rows.astype(np.float16) if tokens else embedded.rows
            entry = Entry(
                video_id=video.video_id,
                gloss=video.gloss,
                path_to_npy_file=name,
                video=str(video.path),
                variant=embedded.variant,
                split=video.split,
                signer=video.signer,
                frames=embedded.frames,
                fps=spec.fps,
                windows=embedded.windows,
                encoder=encoder_identity(spec, video, encoded.plan),
                checksum=write_rows(out / name, rows),
            )
            _append(out / JOURNAL, asdict(entry))
            entries.append(entry)
    except ValueError as exc:
        error = str(exc)
    return EncodeOutcome(video=video, entries=tuple(entries), error=error)


def _append(journal: Path, line: Mapping[str, object]) -> None:
    with open(journal, "ab", buffering=0) as file:  # one write, so that no other comes between
        file.write(json.dumps(line).encode() + b"\n")


def read_journal(out: Path) -> dict[EntryKey, Entry]:
    """What a run that was cut off has stored. A line that is cut does not count.

    The caller must check that its `.npy` is whole, by the entry's checksum.
    """
    entries = {}
    for line in _lines(out / JOURNAL):
        with contextlib.suppress(TypeError):
            entry = Entry(**line)
            entries[entry.video_id, entry.variant] = entry
    return entries


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        for line in journal.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def write_results(out: Path, entries: Iterable[Entry]) -> None:
    """Write the index of `entries`, with those of the journal among them, and the fingerprints.

    Ends the journals, and deletes the scratch files of runs that were killed.

    Raises:
        ValueError: there are fingerprints from before that can't be read.
    """
    write_index(out / INDEX, entries)
    prints: dict[str, Fingerprint] = {}
    for line in _lines(out / _FINGERPRINTS):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            cells = np.frombuffer(base64.b64decode(line["cells"]), np.uint8)
            prints[line["video_id"]] = cells.reshape(-1, CELLS)
    if prints:
        write_fingerprints(out, read_fingerprints(out) | prints)
    for journal in (JOURNAL, _FINGERPRINTS):
        (out / journal).unlink(missing_ok=True)
    for folder in (out, out / EMBEDDINGS):
        for scratch in folder.glob(f".*{SCRATCH}"):
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock `out` against a second run, which would delete the first one's journal.

    The lock ends with the process, however that ends. Where there are no such locks (Windows, some
    network drives) nothing is locked.

    Raises:
        IndexFileError: another run holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(out, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise IndexFileError(f"{out}: another run writes there; wait for its end") from exc
        yield
    finally:
        os.close(handle)

"""What is to be encoded and what became of it: shared by `encode` and all that do the work.

    labels + journal -> [find_backlog] -> EncodeTask -> run or cluster -> EncodedVideo
      -> [store] -> .npy, journal, EncodeOutcome -> encode -> [write_results] -> index.csv

The journal lists every embedding in the folder, whichever run made it, with what its video was: a
line as soon as it is on disk, so that a run that is cut off loses nothing. The index is written
whole, and lists what the labels of the last run ask for. A run with fewer labels forgets nothing.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.encoders import window_steps
from models.files import SCRATCH, replacing
from models.schema import EncoderSpec
from offline.data.content import FileStamp, content_checksum
from offline.data.fingerprints import CELLS, read_fingerprints, write_fingerprints
from offline.data.index import (
    EMBEDDINGS,
    INDEX,
    Entry,
    IndexFileError,
    npy_name,
    read_index,
    rows_problem,
    video_name,
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

JOURNAL = ".encoded.jsonl"  # entries of the index, each with the stamp of its video
_FINGERPRINTS = ".fingerprints.jsonl"  # the same for fingerprints
_USUAL_CLIP_S = 3.0  # to estimate how much disk is needed
_READERS = 4  # threads that check embeddings: SHA-256 runs outside of Python's lock

EntryKey = tuple[str, str, str]  # video_id, variant, encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOutcome:
    """A task whose result is stored: entries for the index, or why there are none."""

    video: LabelledVideo
    entries: tuple[Entry, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """A line of the journal."""

    entry: Entry
    stamp: FileStamp | None = None  # of the video that it was made of; None: not noted

    @property
    def key(self) -> EntryKey:
        return self.entry.video_id, self.entry.variant, self.entry.encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a run finds in its folder."""

    tasks: list[EncodeTask]
    kept: list[StoredEntry]  # with today's labels
    corrupt: list[str]  # a line per embedding that is listed, but missing or changed
    changed: dict[str, str]  # by video id: a line per video that is another one now
    lost: int  # videos that are gone, of which there are rows
    others: int  # embeddings in the folder that the labels of this run do not ask for


def find_backlog(
    out: Path,
    videos: Sequence[LabelledVideo],
    variants: Sequence[str],
    spec: EncoderSpec,
    plan: WindowPlan = MIDDLE_WINDOW,
) -> Backlog:
    """Compare what `videos` in `variants` need with what is in `out`, every byte of it.

    Rows are kept where the video is the one that they were made of, whatever its name is now, and
    where it is gone.

    Raises:
        IndexFileError: the index in `out` is not one of `offline.encode`.
    """
    known = read_journal(out)
    for entry in read_index(out / INDEX, complete=True) if (out / INDEX).exists() else []:
        found = StoredEntry(entry=entry)  # of an index from before there was a journal
        known.setdefault(found.key, found)

    owner = {one.entry.path_to_npy_file: one.entry.encoder for one in known.values()}
    asked = [
        [(video.video_id, name, encoder_identity(spec, video, plan)) for name in variants]
        for video in videos
    ]

    def check(video: LabelledVideo, keys: Sequence[EntryKey]) -> _Found:
        others = any(owner.get(npy_name(*key[:2]), key[2]) != key[2] for key in keys)
        video = replace(video, stamp=FileStamp.of(video.path), other_rows=others)
        return _check(out, video, keys, known)

    with ThreadPoolExecutor(_READERS) as readers:
        checked = list(readers.map(check, videos, asked))
    tasks = []
    for one in checked:
        there = {stored.entry.variant for stored in one.kept}
        missing = tuple(name for name in variants if name not in there)
        if missing:
            tasks.append(EncodeTask(video=one.video, variants=missing, plan=plan))
    kept = [stored for one in checked for stored in one.kept]
    return Backlog(
        tasks=tasks,
        kept=kept,
        corrupt=[line for one in checked for line in one.corrupt],
        changed={one.video.video_id: one.changed for one in checked if one.changed},
        lost=sum(one.video.stamp is None and bool(one.kept) for one in checked),
        others=len(known.keys() - {key for keys in asked for key in keys}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the folder has of one video."""

    video: LabelledVideo
    kept: list[StoredEntry]
    corrupt: list[str]
    changed: str  # why its rows are another video's; or empty


def _check(
    out: Path,
    video: LabelledVideo,
    keys: Sequence[EntryKey],
    known: Mapping[EntryKey, StoredEntry],
) -> _Found:
    kept, corrupt, changed = [], [], ""
    for stored in (known[key] for key in keys if key in known):
        entry = stored.entry
        checksum, why = _content(out, video, stored)
        if why:
            changed = f"{video.path}: {why}"
        elif problem := rows_problem(out, entry):
            corrupt.append(problem)
        else:
            name = entry.video if video.stamp is None else video_name(out, video.path)
            entry = replace(
                entry,
                gloss=video.gloss,
                split=video.split,
                signer=video.signer,
                video=name,
                video_checksum=checksum,
            )
            kept.append(StoredEntry(entry=entry, stamp=video.stamp or stored.stamp))
    return _Found(video=video, kept=kept, corrupt=corrupt, changed=changed)


def _content(out: Path, video: LabelledVideo, stored: StoredEntry) -> tuple[str, str]:
    """The SHA-256 of the video's file, and why it is not what the rows were made of, or nothing."""
    known = stored.entry.video_checksum
    if video.stamp is None or (known and video.stamp == stored.stamp):
        return known, ""
    if known and stored.stamp and stored.stamp.size != video.stamp.size:
        return "", "its content changed"
    try:
        checksum = content_checksum(str(video.path), video.stamp)
    except OSError:
        return known, ""  # reading it as a video would fail too
    if known:
        return checksum, "" if known == checksum else "its content changed"
    # Rows from before contents were noted: the name is all there is.
    same = Path(stored.entry.video).name == Path(video_name(out, video.path)).name
    return checksum, "" if same else "another file under the same id"


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
    rows = spec.fps * _USUAL_CLIP_S if row_per_frame(spec) else window_steps(spec)
    size = 2 if spec.kind == "vjepa2-tokens" else 4
    return sum(task.clips for task in tasks) * rows * spec.dim * size


def store(encoded: EncodedVideo, out: Path, spec: EncoderSpec) -> EncodeOutcome:
    """Write a task's result to disk and to the journals. Threads and processes may do so at once.

    All tokens of a window are stored in half precision, which halves what is by far the largest
    (5.8 MB per window of V-JEPA 2 ViT-g); rows of time steps in single precision.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    video, entries, error = encoded.video, [], encoded.error
    checksum = ""
    if encoded.rows and (stamp := FileStamp.of(video.path)):
        if video.stamp not in (None, stamp):
            return EncodeOutcome(
                video=video, error=f"{video.path}: was changed meanwhile; run it again"
            )
        checksum = content_checksum(str(video.path), stamp)
    if encoded.fingerprint is not None:  # first: a video whose embedding is noted is not done again
        cells = base64.b64encode(encoded.fingerprint.tobytes()).decode()
        _append(out / _FINGERPRINTS, {"video_id": video.video_id, "cells": cells})
    tokens = spec.kind == "vjepa2-tokens"
    try:
        identity = encoder_identity(spec, video, encoded.plan)
        for embedded in encoded.rows:
            apart = identity if video.other_rows else ""
            name = npy_name(video.video_id, embedded.variant, apart)
            with np.errstate(over="ignore"):  # what is out of range becomes inf, and is refused
                rows = embedded.rows.astype(np.float16) if tokens else embedded.rows
            entry = Entry(
                video_id=video.video_id,
                gloss=video.gloss,
                path_to_npy_file=name,
                video=video_name(out, video.path),
                variant=embedded.variant,
                split=video.split,
                signer=video.signer,
                frames=embedded.frames,
                fps=spec.fps,
                windows=embedded.windows,
                encoder=identity,
                checksum=write_rows(out / name, rows),
                video_checksum=checksum,
            )
            _append(out / JOURNAL, _line(StoredEntry(entry=entry, stamp=video.stamp)))
            entries.append(entry)
    except ValueError:  # of `write_rows`
        error = f"{video.path}: the rows that the encoder made of it are empty, or not finite"
    return EncodeOutcome(video=video, entries=tuple(entries), error=error)


def _line(stored: StoredEntry) -> dict[str, object]:
    stamp = None if stored.stamp is None else asdict(stored.stamp)
    return {**asdict(stored.entry), "stamp": stamp}


def _append(journal: Path, line: Mapping[str, object]) -> None:
    data = json.dumps(line).encode() + b"\n"
    with open(journal, "ab", buffering=0) as file:  # one write, so that no other comes between
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(journal))


def read_journal(out: Path, since: int = 0) -> dict[EntryKey, StoredEntry]:
    """What is stored in `out`, or was since the journal had so many bytes; no line that is cut.

    The caller must check that its `.npy` is whole, by the entry's checksum.
    """
    entries = {}
    for line in _lines(out / JOURNAL, since):
        with contextlib.suppress(TypeError, AttributeError):
            stamp = line.pop("stamp", None)
            stored = StoredEntry(entry=Entry(**line), stamp=FileStamp(**stamp) if stamp else None)
            entries[stored.key] = stored
    return entries


def _lines(journal: Path, since: int = 0) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        for line in journal.read_bytes()[since:].splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def write_results(out: Path, stored: Iterable[StoredEntry]) -> list[Entry]:
    """Write the index of `stored`, whose entries are returned, and the journal.

    Raises:
        ValueError: see `write_journal`.
    """
    listed = {one.key: one for one in stored}
    write_journal(out, listed.values())
    entries = [one.entry for one in listed.values()]
    write_index(out / INDEX, entries)
    return entries


def write_journal(out: Path, stored: Iterable[StoredEntry], changed: Collection[str] = ()) -> None:
    """Write the journal of all that is in `out`, each once, and the fingerprints.

    Deletes the scratch files of runs that were killed; no embedding.

    Args:
        stored: entries that are newer than those in the journal.
        changed: ids of videos that are other ones than before: their fingerprints are dropped.

    Raises:
        ValueError: there are fingerprints from before that can't be read.
    """
    # What an index from before the journal lists goes into the journal too.
    before = read_index(out / INDEX, complete=True) if (out / INDEX).exists() else []
    every = {one.key: one for one in (StoredEntry(entry=entry) for entry in before)}
    every |= read_journal(out) | {one.key: one for one in stored}
    with replacing(out / JOURNAL) as file:
        for key in sorted(every):
            file.write(json.dumps(_line(every[key])).encode() + b"\n")
    prints = {}
    for line in _lines(out / _FINGERPRINTS):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            cells = np.frombuffer(base64.b64decode(line["cells"]), np.uint8)
            prints[line["video_id"]] = cells.reshape(-1, CELLS)
    if prints or changed:
        known = {i: cells for i, cells in read_fingerprints(out).items() if i not in changed}
        write_fingerprints(out, known | prints)
    (out / _FINGERPRINTS).unlink(missing_ok=True)
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

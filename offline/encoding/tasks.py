"""What is to be encoded and what became of it: the words between `encode` and who does the work.

    labels -> [EncodeTask] -> run or cluster -> [Finished] -> index -> [EncodeOutcome]

The three ways to work differ in where: in threads, in processes, on other machines. A task is one
video for all of them, and what they hand over is stored by one function.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.schema import EncoderSpec
from offline.data.index import (
    EMBEDDINGS,
    SCRATCH,
    Entry,
    StoreError,
    npy_name,
    read_index,
    read_rows,
    write_index,
    write_rows,
)
from offline.data.labels import LabelledVideo
from offline.encoding.embed import Embedded, identity, row_a_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeTask:
    """One video, and the variants that are still to be made of it."""

    video: LabelledVideo
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task that was worked on: an embedding a variant, or why there are none."""

    video: LabelledVideo
    embedded: tuple[Embedded, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOutcome:
    """A task that is done with: entries for the index, or why there are none."""

    video: LabelledVideo
    entries: tuple[Entry, ...] = ()
    why_not: str = ""


def stored(finished: Finished, out: Path, spec: EncoderSpec) -> EncodeOutcome:
    """Put what was made of a video on the disk, whole, and note it in the journal.

    All tokens of a window are kept in half precision, which halves what is by far the largest
    (5.8 MB a clip of V-JEPA 2 ViT-g); rows of time steps in single.

    Raises:
        OSError: the disk is full, or not to be written to.
    """
    video, entries = finished.video, []
    tokens = spec.kind == "vjepa2-tokens"
    try:
        for embedded in finished.embedded:
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
                encoder=identity(spec),
                checksum=write_rows(out / name, rows),
            )
            note(out, entry)
            entries.append(entry)
    except ValueError as exc:
        return EncodeOutcome(video=video, entries=tuple(entries), why_not=str(exc))
    return EncodeOutcome(video=video, entries=tuple(entries), why_not=finished.why_not)


# MERGED from offline.encoding.journal: What an encoding has done so far, so that one that is cut
# off loses nothing that it has stored. [store] -> journal, a line an embedding -> index.csv at
# the end The index is written whole, which for tens of thousands of embeddings can't be done
# after each. So an embedding that is on the disk is a line of the journal at once, and the next
# run begins by reading it.

JOURNAL = ".encoded.jsonl"


def note(folder: Path, entry: Entry) -> None:
    """Add `entry`, whose `.npy` is there. Threads and processes may do so at the same time."""
    line = json.dumps(asdict(entry)).encode() + b"\n"
    journal = os.open(folder / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(journal, line)
    finally:
        os.close(journal)


def read_journal(folder: Path) -> dict[tuple[str, str], Entry]:
    """What a run that was cut off noted, by (video_id, variant). A line that is cut does not count.

    That its `.npy` is whole is for the reader to see; the entry has the checksum.
    """
    entries = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / JOURNAL).read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError):
                entry = Entry(**json.loads(line))
                entries[entry.video_id, entry.variant] = entry
    return entries


def settle(folder: Path, entries: Iterable[Entry]) -> None:
    """Make `entries`, among them what the journal has, the index; end the journal, and tidy up."""
    write_index(folder, entries)
    (folder / JOURNAL).unlink(missing_ok=True)
    for place in (folder, folder / EMBEDDINGS):
        for scratch in place.glob(f".*{SCRATCH}"):  # of runs that were killed
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second run, which would take the journal from under the first.

    The hold ends with the process, however that ends. Where there are no such locks (Windows, some
    network drives) nobody is held back.

    Raises:
        StoreError: another run holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise StoreError(f"{folder}: another run writes there; wait for its end") from exc
        yield
    finally:
        os.close(handle)


# MERGED from offline.encoding.backlog: What is still to be encoded, and what need not be: labels
# and the index in, tasks out. labels + index.csv + journal -> [backlog] -> tasks -> pipeline

_USUAL_CLIP_S = 3.0  # for the guess of how much disk is needed
_READERS = 4  # threads that look through what is there: SHA-256 runs outside of Python's lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a run finds in its folder."""

    tasks: list[EncodeTask]
    kept: dict[tuple[str, str], Entry]  # by video and variant, with today's labels
    corrupt: list[str]  # a line an embedding that is listed, but missing or not what is listed


def backlog(
    out: Path, videos: Sequence[LabelledVideo], variants: Sequence[str], spec: EncoderSpec
) -> Backlog:
    """Compare what `videos` in `variants` need with what is in `out`, every byte of it.

    Raises:
        StoreError: the index in `out` is not one of ours.
    """
    known = read_index(out) | read_journal(out)
    found: list[Entry] = []
    for video in videos:
        for variant in variants:
            entry = known.get((video.video_id, variant))
            if entry is None or entry.encoder != identity(spec):
                continue
            if Path(entry.video).name != video.path.name:
                continue  # another video under the same id
            found.append(replace(entry, gloss=video.gloss, split=video.split, signer=video.signer))
    with ThreadPoolExecutor(_READERS) as readers:
        problems = list(readers.map(lambda entry: _problem(out, entry), found))
    kept = {(e.video_id, e.variant): e for e, why in zip(found, problems, strict=True) if not why}
    tasks = []
    for video in videos:
        missing = tuple(v for v in variants if (video.video_id, v) not in kept)
        if missing:
            tasks.append(EncodeTask(video=video, variants=missing))
    return Backlog(tasks=tasks, kept=kept, corrupt=[why for why in problems if why])


def check_disk(out: Path, tasks: Sequence[EncodeTask], spec: EncoderSpec) -> None:
    """Tell how much disk the embeddings of `tasks` will take, and how much there is.

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
    if row_a_frame(spec):
        rows = spec.fps * _USUAL_CLIP_S
    elif spec.kind == "vjepa2-tokens":
        rows *= (spec.short_side * 224 // 256 // 16 + 1) ** 2
        size = 2
    return sum(len(task.variants) for task in tasks) * rows * spec.dim * size


def _problem(out: Path, entry: Entry) -> str:
    try:
        read_rows(out, entry)
    except StoreError as exc:
        return str(exc)
    return ""

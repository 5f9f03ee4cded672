"""What an encoding has done so far, so that one that is cut off loses nothing that it has stored.

    [store] -> journal, a line an embedding -> index.csv at the end

The index is written whole, which for tens of thousands of embeddings can't be done after each. So
an embedding that is on the disk is a line of the journal at once, and the next run begins by
reading it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from offline.encoding.store import EMBEDDINGS, SCRATCH, Entry, StoreError, write_index

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

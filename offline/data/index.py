"""Keeps embeddings: one `.npy` (T, D) a video and variant, and `index.csv` that lists them.

    encode -> [store] -> train

Everything is written beside its place and moved there whole, so a run that is cut off leaves either
the old file or the new one. Each file's SHA-256 stands in the index; one that differs is told, and
never read as numbers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

INDEX = "index.csv"
EMBEDDINGS = "embeddings"  # the folder of the .npy files, beside the index
SCRATCH = ".part"  # how a file ends that is being written
# What numpy raises of a file that is no .npy or .npz, or is cut, or lacks an array.
UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)


class StoreError(ValueError):
    """An index or an embedding that can't be used; one line that names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of `index.csv`."""

    video_id: str
    gloss: str
    path_to_npy_file: str  # relative to the index
    video: str
    variant: str
    split: str
    signer: str
    frames: int  # pictures of the video that were looked at
    fps: float  # how many a second
    encoder: str
    checksum: str  # SHA-256 of the .npy file


_COLUMNS = tuple(f.name for f in fields(Entry))


def read_index(folder: Path) -> dict[tuple[str, str], Entry]:
    """The entries of `folder`'s index by (video_id, variant); none when there is no index yet.

    Raises:
        StoreError: the index is not one of ours.
    """
    file = folder / INDEX
    if not file.exists():
        return {}
    entries = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            lines = csv.DictReader(stream)
            if tuple(lines.fieldnames or ()) != _COLUMNS:
                raise StoreError(f"{file}: its columns are not {','.join(_COLUMNS)}")
            for line in lines:
                values: dict[str, Any] = {**line}
                values |= {"frames": int(line["frames"]), "fps": float(line["fps"])}
                entry = Entry(**values)
                entries[entry.video_id, entry.variant] = entry
    except (OSError, TypeError, ValueError) as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"{file}: can't be read: {exc}") from exc
    return entries


def write_index(folder: Path, entries: Iterable[Entry]) -> None:
    """Replace `folder`'s index by one of `entries`, in order of video and variant."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in sorted(entries, key=lambda e: (e.video_id, e.variant)):
        writer.writerow(asdict(entry))
    write_file(folder / INDEX, text.getvalue().encode())


def npy_name(video_id: str, variant: str) -> str:
    """The path of a video's embedding, relative to the index: plain, and different for each id."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", video_id)[:80]
    if plain != video_id:
        plain += "-" + hashlib.sha256(video_id.encode()).hexdigest()[:8]
    return f"{EMBEDDINGS}/{plain}.{variant}.npy"


def write_rows(file: Path, rows: NDArray[np.floating]) -> str:
    """Write an embedding (T, D), float32 or float16, and return its SHA-256.

    Raises:
        ValueError: it is empty, not (T, D), or has numbers that are not finite.
    """
    kept = rows.ndim == 2 and rows.size and rows.dtype in (np.float32, np.float16)
    if not kept or not np.isfinite(rows).all():
        raise ValueError(
            f"{file}: not an embedding (T, D) of finite floats: {rows.shape} {rows.dtype}"
        )
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    write_file(file, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read_rows(folder: Path, entry: Entry) -> NDArray[np.float32]:
    """The embedding (T, D) of `entry`.

    Raises:
        StoreError: the file is missing or is not what the index says.
    """
    file = folder / entry.path_to_npy_file
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise StoreError(f"{file}: can't be read: {exc.strerror}") from exc
    if hashlib.sha256(content).hexdigest() != entry.checksum:
        raise StoreError(f"{file}: SHA-256 differs from the index; the file was changed or cut")
    rows: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    return rows


def write_file(file: Path, content: bytes) -> None:
    """Write `content` beside `file`, then move it there: `file` is old or new, never a part.

    It is on the disk before it is moved, so that this holds when the power goes, too.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{file.name}-", suffix=SCRATCH, dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, file)
    except BaseException:
        os.unlink(scratch)
        raise


# MERGED from offline.training.rows: The numbers of one embedding, left on disk until they are
# wanted. index.csv -> [rows] -> examples -> lessons An index of WLASL's size does not fit into
# memory, and is not read into it: `StoredRows` knows where the numbers of a `.npy` file begin,
# and reads them each time that it is asked.

_BFLOAT16 = np.dtype("V2")  # as numpy names the two bytes that ml_dtypes' bfloat16 writes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows (T, D) in a `.npy` file. `np.asarray(rows, np.float32)` reads them."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    offset: int  # bytes before the first number

    @classmethod
    def of(cls, path: Path) -> StoredRows:
        """The rows of the file at `path`, looked through once.

        Raises:
            ValueError: it has no rows of finite floats (float16, bfloat16, float32 or float64).
        """
        try:
            # As text: of a Path numpy looks up each folder on the way, for every file.
            table = np.load(str(path), mmap_mode="r", allow_pickle=False)
        except UNREADABLE as exc:
            raise ValueError(f"{path}: no rows of numbers: {exc}") from exc
        floats = np.issubdtype(table.dtype, np.floating) or table.dtype == _BFLOAT16
        if table.ndim != 2 or 0 in table.shape or not floats or not table.flags.c_contiguous:
            raise ValueError(f"{path}: {table.dtype} of shape {table.shape}, not floats (T, D)")
        stored = cls(path=path, shape=table.shape, dtype=table.dtype, offset=table.offset)
        if not np.isfinite(_as_float32(table)).all():
            raise ValueError(f"{path}: has numbers that are not finite")
        return stored

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        count = math.prod(self.shape)
        try:
            numbers = np.fromfile(self.path, self.dtype, count, offset=self.offset)
        except OSError as exc:
            raise ValueError(f"{self.path}: can't be read any more: {exc.strerror}") from exc
        if len(numbers) != count:
            raise ValueError(f"{self.path}: was cut while it was in use")
        return _as_float32(numbers.reshape(self.shape)).astype(dtype or np.float32, copy=False)


def _as_float32(table: NDArray[np.generic]) -> NDArray[np.float32]:
    if table.dtype == _BFLOAT16:  # the upper half of a float32
        return (table.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 out of range becomes inf, which is refused
        return table.astype(np.float32, copy=False)

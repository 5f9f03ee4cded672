"""Embeddings on disk: one `.npy` per video and variant, and the `index.csv` that lists them.

    encode -> [index] -> examples -> training

A file has the rows (T, D) of a video; where several windows of it were encoded, those of one window
after those of another. Every file is written whole or not at all, so a run that is cut off leaves
the old file or the new one. The index holds each file's SHA-256. An index of WLASL's size does not
fit into memory, so rows stay on disk until they are used: `StoredRows`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.files import read_array, replacing, sha256
from offline.data.label_tables import separator_of
from offline.data.spellings import SplitReader, plain_gloss
from offline.data.video_folders import path_of_name, readable_name

INDEX = "index.csv"
EMBEDDINGS = "embeddings"  # the folder of the .npy files, beside the index
ORIGINAL = "original"  # the variant of a video as it is
# What numpy raises of a file that is no .npz, is cut, lacks an array, or promises too large a one.
UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, AttributeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError),
)

_BFLOAT16 = np.dtype("V2")  # as numpy names the two bytes that ml_dtypes' bfloat16 writes


class IndexFileError(ValueError):
    """An index, or its folder, that can't be used; one line that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of `index.csv`. Indexes from elsewhere need only the columns without a default."""

    video_id: str
    gloss: str
    path_to_npy_file: str  # relative to the index
    video: str = ""  # relative to the index where it lies beside it, else absolute
    variant: str = ORIGINAL
    split: str = ""
    signer: str = ""
    frames: int = 0  # different pictures of the video that were encoded
    windows: int = 1  # whose rows the file has
    fps: float = 0.0  # pictures per second that the encoder takes
    encoder: str = ""
    checksum: str = ""  # SHA-256 of the .npy file
    video_checksum: str = ""  # SHA-256 of the video file: what the rows were made of

    @property
    def part(self) -> tuple[int, int | None] | None:
        """The first and the last picture of the video that the rows are of; None: of all."""
        found = _PART.search(self.encoder)
        return (int(found[1]), int(found[2]) if found[2] else None) if found else None

    def video_path(self, folder: Path) -> Path | None:
        """Where the video is, for an index in `folder`; None where none is named."""
        if not self.video:
            return None
        path = path_of_name(os.path.join(folder, self.video))
        if path.exists():
            return path
        here = path_of_name(self.video)  # as indexes had it before: from the folder of the command
        return here if here.exists() else path


def part_name(part: tuple[int, int | None]) -> str:
    """How the column `encoder` states `Entry.part`."""
    return f"/frames={part[0]}-{part[1] or ''}"


_PART = re.compile(r"/frames=(\d{1,9})-(\d{0,9})(?:/(?:fps|aspect)=[^/]*)*$")
_COLUMNS = tuple(f.name for f in fields(Entry))
_NEEDED = ("video_id", "gloss", "path_to_npy_file")
_OURS = {*_NEEDED, "video", "variant", "encoder", "checksum"}  # of every version of `write_index`


def read_index(file: Path, *, complete: bool = False) -> list[Entry]:
    """The entries of an `index.csv`, in its order; spreadsheets may have saved it.

    complete: it must have the columns that `write_index` writes, now or in earlier versions.

    Raises:
        IndexFileError: it can't be read, lacks a column, or a line has cells too few or too many.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            separator = separator_of(stream.readline())
            stream.seek(0)
            table = csv.DictReader(stream, delimiter=separator)
            columns = tuple(name.strip().lower() for name in table.fieldnames or ())
            table.fieldnames = list(columns)
            if complete and not _OURS <= set(columns) <= set(_COLUMNS):
                raise ValueError(f"its columns are not {','.join(_COLUMNS)}")
            missing = [column for column in _NEEDED if columns and column not in columns]
            if missing:
                raise ValueError(f"has no column {', '.join(missing)}")
            lines = [(table.line_num, line) for line in table if any(line.values())]
            split = SplitReader([line.get("split") or "" for _, line in lines])
            return [_entry(line, number, split) for number, line in lines]
    except (OSError, ValueError, csv.Error) as exc:
        raise IndexFileError(f"{file}: can't be read: {exc}") from exc


def _entry(line: dict[str | Any, Any], number: int, split: SplitReader) -> Entry:
    """An empty column has its default; ids and paths may begin or end with a space."""
    if None in line:
        more = ",".join(line[None])
        raise ValueError(f"line {number} has more cells than the header: {more!r}")
    if any(line[column] is None for column in _NEEDED):
        raise ValueError(f"line {number} has fewer cells than it needs")
    texts = {column: (line.get(column) or "").strip() for column in _COLUMNS}
    given = {column: text for column, text in texts.items() if text}
    names = {column: line[column] for column in ("video_id", "path_to_npy_file")}
    try:
        entry = msgspec.convert({"gloss": "", **given, **names}, Entry, strict=False)
        if not plain_gloss(entry.gloss):
            raise ValueError("has no gloss")
        return replace(entry, split=split(entry.split))
    except ValueError as exc:
        raise ValueError(f"line {number}: {exc}") from exc


def write_index(file: Path, entries: Iterable[Entry]) -> None:
    """Replace an `index.csv` by one of `entries`, in order of video and variant."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in sorted(entries, key=lambda e: (e.video_id, e.variant)):
        writer.writerow(asdict(entry))
    with replacing(file) as stream:
        stream.write(text.getvalue().encode())


def npy_name(video_id: str, variant: str, encoder: str = "") -> str:
    """The path of a video's embedding, relative to the index: plain, and different for each id.

    With the identity of an encoder, also different for each encoder: a second one in the folder
    takes no place of the first.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", video_id)[:80]
    if plain.lower() != video_id:  # some file systems take A for a
        plain += "-" + hashlib.sha256(video_id.encode()).hexdigest()[:8]
    by = "." + hashlib.sha256(encoder.encode()).hexdigest()[:6] if encoder else ""
    return f"{EMBEDDINGS}/{plain}.{variant}{by}.npy"


def video_name(folder: Path, video: Path) -> str:
    """The column `video` of an index in `folder`: the same wherever a command is started.

    A name that is no text is made readable; `Entry.video_path` finds the file all the same.
    """
    path = Path(os.path.abspath(video))
    for inside in (Path(os.path.abspath(folder)), folder.resolve()):
        if path.is_relative_to(inside):
            return readable_name(path.relative_to(inside).as_posix())
    return readable_name(str(path))


def write_rows(file: Path, rows: NDArray[np.floating]) -> str:
    """Write an embedding (T, D), float32 or float16, and return the file's SHA-256.

    Raises:
        ValueError: it is empty, not (T, D), or has numbers that are not finite.
    """
    valid = rows.ndim == 2 and rows.size and rows.dtype in (np.float32, np.float16)
    if not valid or not np.isfinite(rows).all():
        raise ValueError(
            f"{file}: not an embedding (T, D) of finite floats: {rows.shape} {rows.dtype}"
        )
    content = io.BytesIO()  # NumPy itself does not say why a file can't be written
    np.save(content, rows, allow_pickle=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        stream.write(content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


def rows_problem(folder: Path, entry: Entry) -> str:
    """Why the `.npy` of `entry`, of the index in `folder`, is not as the index says; or empty."""
    file = folder / entry.path_to_npy_file
    try:
        if sha256(file) == entry.checksum:
            return ""
    except OSError as exc:
        return f"{file}: can't be read: {exc.strerror}"
    return f"{file}: SHA-256 differs from the index; the file was changed or cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows (T, D) in a `.npy` file. `np.asarray(rows, np.float32)` reads them, `read` some."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    offset: int  # bytes before the first number

    @classmethod
    def of(cls, path: Path) -> StoredRows:
        """The rows of the file at `path`, which is read once to check it.

        Raises:
            ValueError: it has no rows of finite floats (float16, bfloat16, float32 or float64).
        """
        try:
            table = read_array(path)
        except (OSError, ValueError) as exc:
            raise ValueError(f"{path}: no rows of numbers: {exc}") from exc
        floats = np.issubdtype(table.dtype, np.floating) or table.dtype == _BFLOAT16
        if table.ndim != 2 or 0 in table.shape or not floats or not table.flags.c_contiguous:
            raise ValueError(f"{path}: {table.dtype} of shape {table.shape}, not floats (T, D)")
        stored = cls(path=path, shape=table.shape, dtype=table.dtype, offset=table.offset)
        if not np.isfinite(_as_float32(table)).all():
            raise ValueError(f"{path}: has numbers that are not finite")
        return stored

    @property
    def half(self) -> bool:
        """True if they are float16, and so `read` returns them."""
        return self.dtype == np.float16

    def read(self, first: int = 0, count: int | None = None) -> NDArray[np.floating]:
        """`count` rows from row `first` on (None: all), float16 if stored so, else float32.

        Raises:
            ValueError: the file is gone or cut.
        """
        rows = self.shape[0] - first if count is None else count
        numbers = rows * self.shape[1]
        begin = self.offset + first * self.shape[1] * self.dtype.itemsize
        try:
            table = np.fromfile(self.path, self.dtype, numbers, offset=begin)
        except OSError as exc:
            raise ValueError(f"{self.path}: can't be read any more: {exc.strerror}") from exc
        if len(table) != numbers:
            raise ValueError(f"{self.path}: was cut while it was in use")
        table = table.reshape(rows, -1)
        return table if self.half else _as_float32(table)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        return self.read().astype(dtype or np.float32, copy=False)


def _as_float32(table: NDArray[np.generic]) -> NDArray[np.float32]:
    if table.dtype == _BFLOAT16:  # the upper half of a float32
        return (table.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 out of range becomes inf, which is refused
        return table.astype(np.float32, copy=False)

"""Files on disk: written whole or not at all, and known by their SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

SCRATCH = ".part"  # a file that is being written ends so; what a kill leaves behind may be deleted


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends, on disk first.

    Whoever reads `path` meanwhile, or after a power cut, finds the old content or the new one,
    never half of it. If the block raises, the old content stays.

    Raises:
        OSError: the folder is missing, cannot be written, or is full.
    """
    target = Path(path)
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}-", suffix=SCRATCH, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o666 & ~_umask())  # mkstemp's are private to their owner
        os.replace(scratch, target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def read_array(path: str | os.PathLike[str]) -> np.memmap[Any, np.dtype[Any]]:
    """The array in a `.npy` file, mapped from it: what the header promises costs no memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or not an array of plain numbers; one line.
    """
    try:
        # As text: of a Path numpy looks up each folder on the way, for every file.
        with np.errstate(over="ignore"):  # of a size that no machine has; refused below
            return np.lib.format.open_memmap(os.fspath(path), mode="r")
    except OSError:
        raise
    except Exception as exc:  # the header is parsed as Python, which fails in many ways
        raise ValueError(f"no array of numbers: {exc}") from exc


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in lower-case hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_place(path: str | os.PathLike[str]) -> None:
    """Raise ValueError when no file can be written at `path`: before hours of work for it."""
    folder = Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as exc:
        raise ValueError(f"{path}: can't be written: {exc.strerror}: give another place") from exc


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

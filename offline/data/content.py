"""What a video is: its content, not its name.

    file -> [content] -> stamp, SHA-256 -> the rows' entry in the store

Another recording may come under the name of an old one, and an old one under a new name. The
SHA-256 tells; the file's size and times, as they were when it was read, spare reading it again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from models.files import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """A file's size and times; a file with the same ones was not written to."""

    size: int  # bytes
    mtime_ns: int  # last written
    ctime_ns: int  # last written or renamed; no program can set it

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> FileStamp | None:
        """The stamp of the file at `path`; None where there is none."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        return cls(size=found.st_size, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns)


@lru_cache(4096)
def content_checksum(path: str, stamp: FileStamp) -> str:
    """The SHA-256 of the file at `path`, which has this stamp; the labels may name it often.

    Raises:
        OSError: it can't be read.
    """
    return sha256(path)

"""Which files of a folder are videos, and what is passed over, with the reason.

    folder -> [video folders] -> files, PassedOver -> labels

Folders come with what systems and programs put beside the videos: thumbnails, the twins that macOS
writes into archives, notes, other kinds of files. None of these makes a gloss or a clip. Folders
in folders are searched, links to folders too, but no link that leads back.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What FFmpeg reads as video, by its usual endings. Of files that differ in this alone, where an id
# names one, the first kind is taken: what programs write before what the web had once.
VIDEO_SUFFIXES = tuple(
    ".mp4 .mov .mkv .webm .avi .m4v .mpg .mpeg .wmv .mts .m2ts .ts .flv .f4v .3gp .3g2 .ogv .vob "
    ".asf .mxf .dv .mpe .m1v .m2v .mpv .ogm .qt .divx .rm .rmvb .mk3d .mod .tod .amv .wtv .gxf "
    ".nsv .nut .ivf .y4m .h264 .264 .h265 .hevc .265 .av1 .obu .mjpeg .mjpg .gif .apng .swf".split()
)

_JUNK = (
    *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information"),
    *("recycler", "network trash folder", "temporary items", "thumbnails", "thumbs"),
    *("lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
)
REPORT = "encode_report.json"  # beside the index, in what `offline.encode` has written


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file or a folder from which nothing is read, and why."""

    path: Path
    why: str


def video_files(
    folder: Path,
    passed_over: list[PassedOver],
    suffixes: Sequence[str] = VIDEO_SUFFIXES,
    *,
    deep: bool = True,
    within: tuple[Path, ...] = (),
) -> list[Path]:
    """The files in `folder` that end in one of `suffixes`, in order; the others are added to
    `passed_over`.

    Args:
        deep: also those in folders in it.
        within: the folders, without links, by which it was reached.

    Raises:
        OSError: the folder can't be read.
    """
    found: list[Path] = []
    within = (*within, folder.resolve())
    for path, is_folder in entries_of(folder, passed_over):
        why = ""
        if not is_folder:
            if path.suffix.lower() in suffixes:
                found.append(path)
            else:
                why = "not a kind of video that is known"
        elif path.resolve() in within:
            why = "a link that leads back"
        elif deep:
            try:
                found += video_files(path, passed_over, suffixes, within=within)
            except OSError as exc:
                why = f"can't be read: {exc.strerror}"
        if why:
            passed_over.append(PassedOver(path=path, why=why))
    return found


def entries_of(folder: Path, passed_over: list[PassedOver]) -> Iterator[tuple[Path, bool]]:
    """What lies in `folder`, in order, without what is hidden or the system's; True for folders.

    Raises:
        OSError: the folder can't be read.
    """
    with os.scandir(folder) as found:  # tells folders from files without a call for each
        entries = sorted((entry.name, _is_folder(entry)) for entry in found)
    for name, is_folder in entries:
        path = folder / name
        if name.startswith(".") or name.lower() in _JUNK:
            passed_over.append(PassedOver(path=path, why="hidden, or made by the system"))
        elif is_folder and (path / REPORT).is_file():
            passed_over.append(PassedOver(path=path, why="written by offline.encode"))
        else:
            yield path, is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def readable_name(text: str) -> str:
    """`text` with what can't be written as UTF-8, and control characters, as `\\xe9`.

    Names of files may be any bytes; lists of them are text.
    """
    if text.isprintable():
        return text
    try:
        data = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, as JSON may hold: no name of a file
        data = text.encode("utf-8", "backslashreplace").decode()
    return "".join(
        f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" and ord(c) < 256 else c for c in data
    )


def path_of_name(name: str) -> Path:
    """The path that `readable_name` has made readable, if that is there; else `name` as it is."""
    if "\\x" in name and not os.path.lexists(name):
        parts = re.split(r"\\x([0-9a-f]{2})", name)
        data = b"".join(
            bytes([int(part, 16)]) if number % 2 else part.encode("utf-8", "surrogateescape")
            for number, part in enumerate(parts)
        )
        if os.path.lexists(data):
            return Path(os.fsdecode(data))
    return Path(name)

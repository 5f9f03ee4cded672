"""Finds the file that a label names, by its path or by its id.

folder + a label's name -> [video lookup] -> path
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from offline.data.label_tables import LabelError
from offline.data.video_folders import VIDEO_SUFFIXES, PassedOver, video_files
from offline.data.videos import is_video

LANDMARK_SUFFIXES = (".npz", ".npy")  # see `offline.encoding.landmark_files`


def holds_landmarks(path: Path) -> bool:
    """True for a file of landmarks, by its name."""
    return path.suffix.lower() in LANDMARK_SUFFIXES


def paths_by_id(folder: Path, passed_over: list[PassedOver]) -> Callable[..., Path]:
    """The path of the file in `folder` that is named after an id: of a video before landmarks.

    Of several, the first kind in `VIDEO_SUFFIXES` that can be opened is taken. The path of a lost
    one ends as those that are there do: in .npz where all are landmarks.
    """
    suffixes = (*VIDEO_SUFFIXES, *LANDMARK_SUFFIXES)
    there = defaultdict(list)
    for file in files_in(folder, passed_over, suffixes, deep=False) if folder.is_dir() else []:
        there[file.stem].append(file)
    chosen = {}
    for stem, files in there.items():
        files.sort(key=lambda file: suffixes.index(file.suffix.lower()))
        best = files[0]
        if len(files) > 1 and not holds_landmarks(best):
            best = next((f for f in files if not holds_landmarks(f) and is_video(f)), best)
        chosen[stem] = best
        passed_over.extend(
            PassedOver(path=file, why="another file of that name is read")
            for file in files
            if file != best
        )
    lost = ".npz" if chosen and all(map(holds_landmarks, chosen.values())) else ".mp4"

    def path_of(video_id: str, *other_names: str) -> Path:
        names = (name for name in (video_id, *other_names) if name in chosen)
        name = next(names, None)
        return folder / f"{video_id}{lost}" if name is None else chosen[name]

    return path_of


def path_under(folder: Path) -> Callable[..., Path]:
    """The path of a file as a table names it; also as Windows, or macOS, would write it."""

    def path_of(name: str) -> Path:
        path = folder / name
        if os.path.lexists(path):
            return path
        forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        others = [*forms, name.replace("\\", "/")]
        return next((folder / other for other in others if (folder / other).is_file()), path)

    return path_of


def files_in(
    folder: Path,
    passed_over: list[PassedOver],
    suffixes: Sequence[str] = VIDEO_SUFFIXES,
    *,
    deep: bool = True,
) -> list[Path]:
    """As `video_files`.

    Raises:
        LabelError: there is no such folder, or it can't be read.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder")
    try:
        return video_files(folder, passed_over, suffixes, deep=deep)
    except OSError as exc:
        raise LabelError(f"{folder}: can't be read: {exc.strerror}") from exc

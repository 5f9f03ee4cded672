"""Reads what a set of videos shows: WLASL's JSON files, a CSV, or one folder a gloss.

    labels + videos -> [labels] -> encode

* `WLASL_v0.3.json`: a list of {"gloss", "instances": [{"video_id", "signer_id", "split"}]};
* `nslt_*.json`: {"<id>": {"subset", "action": [class, …]}} beside `wlasl_class_list.txt`;
* a CSV with the columns `path,gloss` and maybe `video_id,split,signer,group,caption_risk,fps`;
  `file` may stand for `path`, and `video_id` alone is looked up as WLASL's;
* `folders`: every folder in the videos' folder is a gloss, every video in it a clip.

WLASL's videos are `<video_id>.mp4` (or another ending), cut to the sign as its scripts leave them.
Where a path of a CSV or JSON ends in .npz or .npy, others made landmarks of the video already.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.few_shot import IDLE

LANDMARK_SUFFIXES = (".npz", ".npy")  # see `offline.encoding.landmark_files`
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v", ".swf")
EXTRA = "extra"  # a split to learn from, never to score: the word is written in the picture


_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    EXTRA: EXTRA,
    "": "",
}


class LabelError(ValueError):
    """Labels that can't be used; one line that names the file and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledVideo:
    """One video and what it shows. The file need not exist: old data sets have lost many."""

    video_id: str
    path: Path
    gloss: str
    split: str = ""  # train, val, test, extra, or nothing
    signer: str = ""  # who must not stand in both train and test
    # Of landmarks whose file does not state it; videos always do.
    fps: float | None = None
    aspect: float | None = None  # width / height of the pictures


def split_named(text: str) -> str:
    """train, val, test, extra or nothing, from what data sets call them: `Train`, `dev`.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return _SPLITS[text.strip().lower()]
    except KeyError:
        raise ValueError(
            f"no split is called {text!r}: give train, val, test, extra or nothing"
        ) from None


def holds_landmarks(path: Path) -> bool:
    """True for a file of landmarks, by its name."""
    return path.suffix.lower() in LANDMARK_SUFFIXES


def read_labels(labels: str, videos: Path) -> list[LabelledVideo]:
    """The videos that `labels` (a file, or "folders") names, in its order; paths under `videos`.

    Raises:
        LabelError: the file is not one of the known kinds, or names a video twice.
    """
    if labels == "folders":
        found = list(_from_folders(videos))
    elif labels.lower().endswith(".json"):
        found = list(_from_json(Path(labels), videos))
    elif labels.lower().endswith(".csv"):
        found = list(_from_csv(Path(labels), videos))
    else:
        raise LabelError(f"{labels}: give a .json of WLASL, a .csv, or the word folders")
    if not found:
        raise LabelError(f"{labels}: names no video")
    video_id, times = Counter(video.video_id for video in found).most_common(1)[0]
    if times > 1:
        raise LabelError(f"{labels}: names video {video_id} twice")
    return found


def read_negatives(folder: Path) -> list[LabelledVideo]:
    """All videos in `folder`, as clips of nobody signing.

    Raises:
        LabelError: there is no video in it.
    """
    files = _files_in(folder)
    if not files:
        raise LabelError(f"{folder}: there is no video in it")
    names = [f"{IDLE}/{file.stem}" for file in files]
    return [
        LabelledVideo(video_id=name, path=file, gloss=IDLE, signer=name)
        for name, file in zip(names, files, strict=True)
    ]


def of_glosses(videos: Sequence[LabelledVideo], glosses: Path) -> list[LabelledVideo]:
    """The videos whose gloss stands in the file `glosses`, one a line.

    Raises:
        LabelError: the file can't be read, or none of the videos shows one of them.
    """
    names = {line.strip().lower() for line in _text(glosses).splitlines() if line.strip()}
    kept = [video for video in videos if video.gloss.lower() in names]
    if not kept:
        raise LabelError(f"{glosses}: none of the videos shows one of its {len(names)} glosses")
    return kept


def _from_folders(videos: Path) -> Iterable[LabelledVideo]:
    if not videos.is_dir():
        raise LabelError(f"{videos}: no such folder")
    for folder in sorted(p for p in videos.iterdir() if p.is_dir()):
        for file in _files_in(folder):
            yield LabelledVideo(video_id=f"{folder.name}/{file.stem}", path=file, gloss=folder.name)


def _from_csv(file: Path, videos: Path) -> Iterable[LabelledVideo]:
    lines = csv.DictReader(_text(file).splitlines())
    columns = lines.fieldnames or ()
    column = next((c for c in ("path", "file", "video_id") if c in columns), "path")
    missing = {column, "gloss"} - set(columns)
    if missing:
        raise LabelError(f"{file}: has no column {', '.join(sorted(missing))}")
    table = [{name: (line[name] or "").strip() for name in columns} for line in lines]
    times = Counter(line.get("video_id") for line in table)
    path_of = _paths_by_id(videos) if column == "video_id" else videos.joinpath
    for number, line in enumerate(table, 2):
        path, video_id = line[column], line.get("video_id")
        if not path or not line["gloss"]:
            raise LabelError(f"{file}: line {number} has no {column} or no gloss")
        if not video_id or times[video_id] > 1:  # some lists number the videos of each source
            video_id = str(Path(path).with_suffix(""))
        place = path_of(path)
        yield LabelledVideo(
            video_id=video_id,
            path=place,
            gloss=line["gloss"],
            split=EXTRA if line.get("caption_risk") == "1" else line.get("split", ""),
            signer=line.get("group") or line.get("signer", ""),
            fps=_rate(file, number, line.get("fps", "")) if holds_landmarks(place) else None,
        )


def _rate(file: Path, number: int, text: str) -> float | None:
    """Frames a second; None where the line does not say."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if 1 <= (rate := float(text)) <= 1000:
            return rate
    raise LabelError(f"{file}: line {number} has an fps of {text}, which is not from 1 to 1000")


def _from_json(file: Path, videos: Path) -> Iterable[LabelledVideo]:
    try:
        value: Any = json.loads(_text(file))
    except (ValueError, RecursionError) as exc:
        raise LabelError(f"{file}: not JSON: {exc}") from exc
    path_of = _paths_by_id(videos)
    try:
        clips = _from_nslt(file, value) if isinstance(value, dict) else _from_wlasl(value)
        return [
            LabelledVideo(
                video_id=video_id,
                path=path_of(video_id),
                gloss=gloss,
                split=split,
                signer=signer,
            )
            for video_id, gloss, split, signer in clips
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as exc:
        raise LabelError(f"{file}: not in the format of WLASL ({exc!r})") from exc


def _from_wlasl(value: Any) -> Iterable[tuple[str, str, str, str]]:
    for entry in value:
        for clip in entry["instances"]:
            yield str(clip["video_id"]), entry["gloss"], clip["split"], f"wlasl:{clip['signer_id']}"


def _from_nslt(file: Path, value: dict[str, Any]) -> Iterable[tuple[str, str, str, str]]:
    names = {}
    for line in _text(file.with_name("wlasl_class_list.txt")).splitlines():
        number, _, name = line.strip().partition("\t")
        names[int(number)] = name.strip()
    for video_id, clip in value.items():
        yield video_id, names[clip["action"][0]], clip["subset"], ""


def _paths_by_id(folder: Path) -> Callable[[str], Path]:
    """The path of the file in `folder` that is named after an id: of a video before landmarks.

    The path of a lost one ends as those that are there do: in .npz where all are landmarks.
    """
    suffixes = (*LANDMARK_SUFFIXES, *VIDEO_SUFFIXES)
    files = _files_in(folder, suffixes) if folder.is_dir() else []
    files.sort(key=holds_landmarks, reverse=True)
    there = {file.stem: file for file in files}
    lost = ".npz" if there and all(map(holds_landmarks, there.values())) else ".mp4"
    return lambda video_id: there.get(video_id, folder / f"{video_id}{lost}")


def _files_in(folder: Path, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[Path]:
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise LabelError(f"{file}: can't be read: {exc}") from exc

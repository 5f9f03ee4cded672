"""Reads what a set of videos shows: WLASL's JSON files, a CSV, or one folder a gloss.

    labels + videos -> [labels] -> encode

* `WLASL_v0.3.json`, or `nslt_*.json` beside `wlasl_class_list.txt`: see `offline.data.wlasl`;
* a CSV with the columns `path,gloss` and maybe `video_id,split,signer,group,caption_risk,fps`;
  `file` may stand for `path`, and `video_id` alone is looked up as WLASL's;
* `folders`: every folder in the videos' folder is a gloss, every video in it a clip; or the folders
  are `train`, `val` and `test`, with a folder a gloss in each.

WLASL's videos are `<video_id>.mp4` (or another ending), cut to the sign as its scripts leave them,
or as they were published (also as `<YouTube id>.mp4`): then the same part is read, see `VideoPart`.
Where a path of a CSV or JSON ends in .npz or .npy, others made landmarks of the video already.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.few_shot import IDLE
from offline.data.content import FileStamp
from offline.data.label_tables import LabelError as LabelError
from offline.data.label_tables import read_table, read_text
from offline.data.spellings import EXTRA as EXTRA
from offline.data.spellings import (
    SplitReader,
    gloss_key,
    one_spelling,
    plain_gloss,
    split_of,
)
from offline.data.video_folders import (
    PassedOver,
    entries_of,
    readable_name,
)
from offline.data.video_lookup import files_in, path_under, paths_by_id
from offline.data.video_lookup import holds_landmarks as holds_landmarks
from offline.data.videos import VideoPart, part_of
from offline.data.wlasl import read_instances

_NAMED = 5  # glosses that a note names
_COLUMNS = "path file video_id gloss split signer group caption_risk fps".split()  # of a CSV


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledVideo:
    """One video and what it shows. The file need not exist: old data sets have lost many."""

    video_id: str
    path: Path
    gloss: str
    split: str = ""  # train, val, test, extra, or nothing
    signer: str = ""  # who must not stand in both train and test
    frames: tuple[int, int | None] | None = None  # first and last one of the sign, from 1
    # Of landmarks whose file does not state it; videos always do.
    fps: float | None = None
    aspect: float | None = None  # width / height of the pictures
    # What a run finds of it: the file's stamp; and that another encoder's rows of it are there.
    stamp: FileStamp | None = None
    other_rows: bool = False

    @property
    def source(self) -> Path | VideoPart:
        """What to read: the video, or the part of it that shows the sign."""
        return part_of(self.path, self.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNotes:
    """What the reader of labels has to say beside the videos."""

    passed_over: list[PassedOver] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # for people


def read_labels(labels: str, videos: Path, notes: LabelNotes | None = None) -> list[LabelledVideo]:
    """The videos that `labels` (a file, or "folders") names, in its order; paths under `videos`.

    notes: gets what was passed over, and what was taken for what.

    Raises:
        LabelError: the file is not one of the known kinds, or names a video twice.
    """
    notes = notes or LabelNotes()
    if labels == "folders":
        found = list(_from_folders(videos, notes))
    elif labels.lower().endswith(".json"):
        found = _from_json(Path(labels), videos, notes)
    elif labels.lower().endswith((".csv", ".tsv")):
        found = _from_csv(Path(labels), videos, notes)
    else:
        raise LabelError(f"{labels}: give a .json of WLASL, a .csv, or the word folders")
    if not found and labels == "folders":
        raise LabelError(f"{videos}: no folder in it holds a video: each gloss needs one")
    if not found:
        raise LabelError(f"{labels}: names no video")
    video_id, times = Counter(video.video_id for video in found).most_common(1)[0]
    if times > 1:
        raise LabelError(f"{labels}: names video {video_id} twice")
    spelling, lines = one_spelling(video.gloss for video in found)
    notes.lines.extend(lines)
    if "" in spelling:
        nameless = next(v.video_id for v in found if not plain_gloss(v.gloss))
        raise LabelError(f"{labels}: the gloss of video {nameless} has nothing that is shown")
    found = [replace(video, gloss=spelling[gloss_key(video.gloss)]) for video in found]
    signer, lines = one_spelling((video.signer for video in found if video.signer), "signer")
    notes.lines.extend(lines)
    found = [replace(v, signer=signer[gloss_key(v.signer)] if v.signer else "") for v in found]
    if len(glosses := {video.gloss for video in found} - {IDLE}) == 1:
        notes.lines.append(
            f"all videos show one gloss, {glosses.pop()}: a recogniser needs two at least"
        )
    if labels == "folders" and any(video.gloss == IDLE for video in found):
        notes.lines.append(f"folder {IDLE}: taken as videos in which nobody signs")
    return found


def read_negatives(folder: Path, notes: LabelNotes | None = None) -> list[LabelledVideo]:
    """All videos in `folder`, as clips of nobody signing.

    Raises:
        LabelError: there is no video in it.
    """
    files = files_in(folder, (notes or LabelNotes()).passed_over)
    if not files:
        raise LabelError(f"{folder}: there is no video in it")
    return [
        LabelledVideo(video_id=name, path=file, gloss=IDLE, signer=name)
        for name, file in zip(_ids(folder, files, f"{IDLE}/"), files, strict=True)
    ]


def of_glosses(
    videos: Sequence[LabelledVideo], glosses: Path, notes: LabelNotes | None = None
) -> list[LabelledVideo]:
    """The videos whose gloss stands in the file `glosses`, one a line; `notes` names the others.

    Raises:
        LabelError: the file can't be read, or none of the videos shows one of them.
    """
    names = {gloss_key(line) for line in read_text(glosses).split("\n")} - {""}
    kept = [video for video in videos if gloss_key(video.gloss) in names]
    if not kept:
        raise LabelError(f"{glosses}: none of the videos shows one of its {len(names)} glosses")
    missing = sorted(names - {gloss_key(video.gloss) for video in kept})
    if missing and notes is not None:
        more = ", …" if len(missing) > _NAMED else ""
        named = ", ".join(missing[:_NAMED]) + more
        notes.lines.append(f"{glosses}: {len(missing)} glosses are shown by no video: {named}")
    return kept


def _from_folders(videos: Path, notes: LabelNotes) -> Iterator[LabelledVideo]:
    folders = _folders_in(videos, notes.passed_over)
    parts = [f for f in folders if split_of(f.name) and _folders_in(f, [])]
    others = [f for f in folders if parts and not split_of(f.name) and files_in(f, [])]
    if parts and not others:
        notes.lines.append("the folders are splits, and those in them glosses")
        read = SplitReader([part.name for part in parts])
        for part in parts:
            for inner in _folders_in(part, notes.passed_over):
                yield from _of_gloss(inner, f"{part.name}/{inner.name}/", read(part.name), notes)
        for folder in folders:
            if folder not in parts:
                why = "lies beside the splits, with no folder of a gloss in it"
                notes.passed_over.append(PassedOver(path=folder, why=why))
        return
    if parts:
        named, beside = (", ".join(f.name for f in some[:_NAMED]) for some in (parts, others))
        notes.lines.append(f"{named}: taken as glosses, not as splits, as {beside} lies beside")
    for folder in folders:
        yield from _of_gloss(folder, f"{folder.name}/", "", notes)


def _folders_in(folder: Path, passed_over: list[PassedOver]) -> list[Path]:
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder")
    folders = []
    for path, is_folder in entries_of(folder, passed_over):
        if is_folder:
            folders.append(path)
        else:
            passed_over.append(PassedOver(path=path, why="lies in no folder of a gloss"))
    return folders


def _of_gloss(folder: Path, prefix: str, split: str, notes: LabelNotes) -> Iterator[LabelledVideo]:
    files = files_in(folder, notes.passed_over)
    if not files:
        notes.passed_over.append(PassedOver(path=folder, why="there is no video in it"))
    for name, file in zip(_ids(folder, files, prefix), files, strict=True):
        gloss = readable_name(plain_gloss(folder.name))
        yield LabelledVideo(video_id=name, path=file, gloss=gloss, split=split)


def _ids(folder: Path, files: Sequence[Path], prefix: str) -> list[str]:
    """An id a file: its name without the ending, or with it where files differ in nothing else."""
    names = [readable_name(prefix + str(file.relative_to(folder))) for file in files]
    return _shortened(names)


def _shortened(names: Sequence[str]) -> list[str]:
    short = [os.path.splitext(name)[0] for name in names]
    paths = defaultdict(set)
    for stem, name in zip(short, names, strict=True):
        paths[stem].add(name)
    return [name if len(paths[stem]) > 1 else stem for stem, name in zip(short, names, strict=True)]


def _from_csv(file: Path, videos: Path, notes: LabelNotes) -> list[LabelledVideo]:
    columns, lines = read_table(file)
    column = next((c for c in ("path", "file", "video_id") if c in columns), "path")
    missing = {column, "gloss"} - set(columns)
    if missing:
        there = f"; it has {', '.join(filter(None, columns))}" if any(columns) else ""
        raise LabelError(f"{file}: has no column {', '.join(sorted(missing))}{there}")
    table: list[tuple[int, dict[str, str]]] = []
    if unread := [c for c in columns if c and c not in _COLUMNS]:
        notes.lines.append(f"{file}: columns that are not read: {', '.join(unread)}")
    known: dict[str, tuple[int, dict[str, str]]] = {}  # by path
    for number, line in lines:
        if not line[column] or not plain_gloss(line["gloss"]):
            raise LabelError(f"{file}: line {number} has no {column} or no gloss")
        if column != "video_id":
            line[column] = os.path.normpath(line[column])
        before = known.setdefault(os.path.realpath(videos / line[column]), (number, line))
        if before[0] == number:
            table.append((number, line))
        elif _meaning(before[1]) == _meaning(line):
            notes.lines.append(f"{file}: line {number} repeats line {before[0]}: read once")
        else:
            name = os.path.splitext(line[column])[0]
            raise LabelError(
                f"{file}: names video {name} twice, with different labels: in line {before[0]} "
                f"({before[1]['gloss']}) and line {number} ({line['gloss']})"
            )
    times = Counter(line.get("video_id") for _, line in table)
    short = _shortened([line[column] for _, line in table])
    path_of = paths_by_id(videos, notes.passed_over) if column == "video_id" else path_under(videos)
    split = SplitReader([line.get("split", "") for _, line in table])
    found = []
    for (number, line), name in zip(table, short, strict=True):
        video_id = line.get("video_id")
        if not video_id or times[video_id] > 1:  # some lists number the videos of each source
            video_id = name
        place = path_of(line[column])
        try:
            split_name = split(line.get("split", ""))
        except ValueError as exc:
            raise LabelError(f"{file}: line {number}: {exc}") from exc
        found.append(
            LabelledVideo(
                video_id=readable_name(video_id),
                path=place,
                gloss=line["gloss"],
                split=EXTRA if line.get("caption_risk") == "1" else split_name,
                signer=line.get("group") or line.get("signer", ""),
                fps=_rate(file, number, line.get("fps", "")) if holds_landmarks(place) else None,
            )
        )
    notes.lines.extend(split.lines)
    return found


def _meaning(line: dict[str, str]) -> tuple[str | None, ...]:
    """What a line of a table says of its video."""
    split = line.get("split", "")
    return gloss_key(line["gloss"]), split_of(split) or split, line.get("signer"), line.get("group")


def _rate(file: Path, number: int, text: str) -> float | None:
    """Frames a second; None where the line does not say."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if 1 <= (rate := float(text)) <= 1000:
            return rate
    raise LabelError(f"{file}: line {number} has an fps of {text}, which is not from 1 to 1000")


def _from_json(file: Path, videos: Path, notes: LabelNotes) -> list[LabelledVideo]:
    clips = read_instances(file)
    path_of = paths_by_id(videos, notes.passed_over)
    split = SplitReader([clip.split for clip in clips])
    found = []
    for clip in clips:
        try:
            split_name = split(clip.split)
        except ValueError as exc:
            raise LabelError(f"{file}: video {clip.video_id}: {exc}") from exc
        found.append(
            LabelledVideo(
                video_id=readable_name(clip.video_id),
                path=path_of(clip.video_id, *clip.other_names),
                gloss=clip.gloss,
                split=split_name,
                signer=clip.signer,
                frames=clip.frames,
            )
        )
    notes.lines.extend(split.lines)
    if cut := sum(video.frames is not None for video in found):
        notes.lines.append(
            f"{cut} labels state the frames of their sign: of a video that has as many frames, "
            "only these are read; a shorter one is taken as cut already"
        )
    return found

"""Landmarks that others made of a video -> rows as the live landmark encoder makes them.

    .npz or .npy -> [landmark_files] -> rows (T, 154) -> index.csv, beside those of videos

Three kinds of files are known:

* `.npz` with `left`, `right` (T, 21, 3) and `body`, (9 or 13, 2) for the whole clip or
  (T, 9 or 13, 2): MediaPipe Hands, and the first 9 or all of `models.landmarks.layout.BODY_POINTS`;
* `.npz` with `left`, `right` (T, 21, 3) and `pose` (T, 33, 2 or more): MediaPipe Holistic;
* `.npy` (T, 1662): Holistic's pose, face, left and right hand of each frame in one row, as many
  tutorials store them; what is all zeros was not found.

All are normalised image coordinates, NaN where nothing was found; left and right are the signer's
own. In an `.npz`, `t` (T,) may state the frames' times, s, or `fps` their rate, and `aspect` the
picture's width / height. What a file does not state, the caller does. A clip without elbows has
zeros there, and its wrists are those of the hands.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.files import read_array
from models.landmarks import layout
from models.landmarks.rows import RowBuilder
from models.schema import EncoderSpec
from models.window import FrameSampler
from offline.data.index import ORIGINAL
from offline.data.videos import VideoPart
from offline.encoding.embed import EncodedVideo, EncodeTask, VariantRows

_BODY = [0, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # Holistic's numbers of BODY_POINTS
_POINTS, _NAMED = len(layout.BODY_POINTS), 9  # with and without elbows and wrists
_HAND = (layout.HAND_POINTS, 3)
_PARTS = ("left", "right", "pose", "body", "t", "fps", "aspect")  # what is read of an .npz
_ROW = 33 * 4 + 468 * 3 + 2 * 63  # numbers in a row of an .npy: pose, face, hands
_LONGEST_S = 600.0  # as for videos
_MOST_BYTES = 512 * 2**20  # of arrays, unpacked
_FAR = 100.0  # picture heights: points further out are no measurement

Array = NDArray[np.generic]
Points = NDArray[np.float32]


class LandmarkFileError(ValueError):
    """A file that holds no landmarks; one line that names it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandmarkFile:
    """The points of T frames in picture heights; NaN where nothing was found."""

    times: NDArray[np.float64]  # (T,) s, from 0 on
    body: Points  # (T, 13, 2)
    hands: Points  # (T, 2, 21, 3): left, right


def encode_landmarks(task: EncodeTask, spec: EncoderSpec) -> EncodedVideo:
    """The rows of a task whose file holds landmarks: of the original alone, the rest is refused."""
    video, rows, error = task.video, [], ""
    try:
        if ORIGINAL in task.variants:
            file = _part(read_landmarks(video.path, video.fps, video.aspect), video.source)
            made, frames = rows_of(file, spec)
            rows.append(VariantRows(variant=ORIGINAL, rows=made, frames=frames))
        if refused := [variant for variant in task.variants if variant != ORIGINAL]:
            error = f"{video.path}: landmarks have no variant {', '.join(refused)}"
    except LandmarkFileError as exc:
        error = str(exc)
    return EncodedVideo(video=video, rows=tuple(rows), error=error)


def read_landmarks(path: Path, fps: float | None, aspect: float | None) -> LandmarkFile:
    """The points in the file at `path`; `fps` and `aspect` are used where it states none.

    Raises:
        LandmarkFileError: the file can't be read, is of no known kind, or states no rate or aspect
            and none is given.
    """
    try:
        arrays = _read_npy(path) if path.suffix.lower() == ".npy" else _read_npz(path)
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes inf is refused, or NaN
            return _points(arrays, fps, aspect)
    except FileNotFoundError as exc:
        raise LandmarkFileError(f"{path}: no such file") from exc
    except Exception as exc:  # zip, its compressions and numpy fail in many ways
        why = " ".join(f"{exc}".split()) or type(exc).__name__
        raise LandmarkFileError(f"{path}: no landmarks to read: {why}") from exc


def rows_of(file: LandmarkFile, spec: EncoderSpec) -> tuple[NDArray[np.float32], int]:
    """(T, DIM) A row a tick of the encoder's rate, and how many different frames were used.

    The same ticks as `offline.encoding.embed.ticks` takes of a video, in pictures as large.
    """
    sampler, builder = FrameSampler(spec.fps), RowBuilder()
    rows: list[NDArray[np.float32]] = []
    row, frames = np.zeros(layout.DIM, np.float32), 0
    for media_s, body, hands in zip(file.times.tolist(), file.body, file.hands, strict=True):
        if not sampler.wants(media_s):
            continue
        tick = sampler.tick(media_s)
        rows += [row] * (tick - len(rows)) if rows else []
        row = np.zeros(layout.DIM, np.float32)
        if np.isfinite(body[:_NAMED]).all():
            body = body * spec.short_side
            builder.follow(body, media_s)
            found = [hand * spec.short_side if np.isfinite(hand).all() else None for hand in hands]
            row = builder.row(body, found, media_s)
        rows.append(row)
        frames += 1
    return np.stack(rows), frames


def _part(file: LandmarkFile, source: Path | VideoPart) -> LandmarkFile:
    """The frames of the sign, where `source` says that a file of so many holds others too."""
    if not isinstance(source, VideoPart):
        return file
    first, last = source.of_pictures(len(file.times))
    frames = slice(first - 1, None if last == math.inf else int(last))
    times = file.times[frames]
    return LandmarkFile(times=times - times[0], body=file.body[frames], hands=file.hands[frames])


def _read_npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    wanted = [name for name in _PARTS if f"{name}.npy" in sizes]
    _check_size(sum(sizes[f"{name}.npy"] for name in wanted))
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in wanted}


def _read_npy(path: Path) -> dict[str, Array]:
    table = read_array(path)
    _check_size(table.nbytes)
    if table.ndim != 2 or table.shape[1] != _ROW:
        raise ValueError(f"{table.shape} is not (frames, {_ROW}), Holistic's numbers in a row")
    pose, _, left, right = np.split(table, [33 * 4, _ROW - 2 * 63, _ROW - 63], axis=1)
    return {
        "pose": _found(pose, (33, 4)),
        "left": _found(left, _HAND),
        "right": _found(right, _HAND),
    }


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise ValueError(f"{size / 2**20:.0f} MB of arrays are no clip of a sign")


def _found(part: Array, shape: tuple[int, int]) -> Array:
    """(T, *shape) A part of the rows of an .npy, NaN where it was not found."""
    there = np.asarray(part.any(axis=1))
    return np.where(there[:, None, None], part.reshape(-1, *shape), np.nan)


def _points(arrays: Mapping[str, Array], fps: float | None, aspect: float | None) -> LandmarkFile:
    left, right = _numbers(arrays, "left"), _numbers(arrays, "right")
    count = len(left)
    if left.shape != right.shape or left.shape != (count, *_HAND):
        raise ValueError(f"hands of shape {left.shape} and {right.shape}, not both (T, 21, 3)")
    if "pose" in arrays:
        body = _numbers(arrays, "pose")[:, _BODY, :2]
    else:
        body = _numbers(arrays, "body")
        body = np.broadcast_to(body, (count, *body.shape[-2:]))
    if body.shape not in ((count, _NAMED, 2), (count, _POINTS, 2)):
        raise ValueError(f"a body of shape {body.shape}, not ({count}, {_NAMED} or {_POINTS}, 2)")
    wide = _stated(arrays, "aspect", aspect, "--aspect")
    if not 0.1 <= wide <= 10:
        raise ValueError(f"its pictures' aspect (width / height) is {wide:g}")
    hands = _in_range(np.stack([left, right], axis=1) * np.array([wide, 1, wide], np.float32))
    body = _in_range(body * np.array([wide, 1], np.float32))
    if body.shape[1] == _NAMED:
        wrists = hands[:, :, layout.HAND_WRIST, :2]
        body = np.concatenate([body, np.full_like(wrists, np.nan), wrists], axis=1)
    return LandmarkFile(times=_times(arrays, count, fps), body=body, hands=hands)


def _times(arrays: Mapping[str, Array], count: int, fps: float | None) -> NDArray[np.float64]:
    """(count,) Seconds from the first frame."""
    if "t" in arrays:
        times = np.asarray(arrays["t"], np.float64)
        if times.shape != (count,) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ValueError(f"`t` is not {count} times in order")
        times = times - times[:1]
    else:
        rate = _stated(arrays, "fps", fps, "--landmark-fps")
        if not 1 <= rate <= 1000:
            raise ValueError(f"its frames' rate is {rate:g}")
        times = np.arange(count) / rate
    if not count or times[-1] > _LONGEST_S:
        raise ValueError(f"{count} frames, or more than {_LONGEST_S:.0f} s, are no clip of a sign")
    return times


def _stated(arrays: Mapping[str, Array], name: str, given: float | None, option: str) -> float:
    """The number `name` of a file, or the one that is given for files without it."""
    if name in arrays:
        return float(_numbers(arrays, name))
    if given is None:
        raise ValueError(f"it states no {name}: give {option}")
    return given


def _numbers(arrays: Mapping[str, Array], name: str) -> Points:
    if name not in arrays:
        raise ValueError(f"there is no array `{name}` in it")
    if arrays[name].dtype.kind not in "fiu":
        raise ValueError(f"`{name}` is of {arrays[name].dtype}, not of numbers")
    return np.asarray(arrays[name], np.float32)


def _in_range(points: Points) -> Points:
    """`points`, with NaN for those that are far outside of the picture."""
    return np.where(np.abs(points) <= _FAR, points, np.float32(np.nan))

"""Real clips of an index: what exported heads and graphs are compared with torch on.

index.csv -> its videos -> middle windows -> cropped pictures (T, H, W, C), for encoder graphs
index.csv -> its rows   -> middle windows -> features (N, T, D) and mask, for heads
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.preprocess import crop_pictures
from offline.data.examples import read_examples, scored
from offline.data.index import read_index
from offline.data.videos import VideoError
from offline.encoding.embed import middle_window
from offline.scoring.clip_predictions import by_windows, middle_rows


def crop_clips(index: Path, spec: EncoderSpec, crop: int, count: int) -> list[NDArray[np.uint8]]:
    """`count` clips of different videos, cut to `crop` px; the same ones at each call.

    Videos that can't be read are skipped.

    Raises:
        ValueError: the index can't be read, or has fewer readable videos.
    """
    clips: list[NDArray[np.uint8]] = []
    videos = _videos(index)
    problem = f"it lists only {len(videos)} videos"
    for video in videos:
        try:
            frames = middle_window(video, spec)
        except VideoError as exc:
            problem = str(exc)
            continue
        clips.append(crop_pictures([frame.image for frame in frames], crop))
        if len(clips) == count:
            return clips
    raise ValueError(f"{index}: {len(clips)} clips can be read, {count} are needed: {problem}")


def read_windows(
    index: Path, spec: EncoderSpec, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (N, T, D) and mask (N, T) of `count` clips; the same ones at each call.

    Of rows that are one a frame, the window in the middle (padded if the clip is shorter); else
    all rows.

    Raises:
        ValueError: the index can't be read, has fewer clips, or rows of another encoder.
    """
    examples = scored(read_examples(index))
    if len(examples) < count:
        raise ValueError(f"{index}: has {len(examples)} clips, {count} are needed: lower --clips")
    chosen = random.Random(0).sample(examples, count)
    windows = [middle_rows(example.rows, spec) for example in chosen]
    if (dim := windows[0].shape[1]) != spec.dim:
        raise ValueError(f"{index}: rows have {dim} numbers, the head takes {spec.dim}")
    steps = spec.frames if by_windows(spec) else max(len(rows) for rows in windows)
    features = np.zeros((count, steps, spec.dim), np.float32)
    mask = np.zeros((count, steps), np.bool_)
    for number, rows in enumerate(windows):
        features[number, : len(rows)] = rows
        mask[number, : len(rows)] = True
    return features, mask


def _videos(index: Path) -> list[Path]:
    """The videos of an index, each once, in a random order that is always the same."""
    names = {entry.video for entry in read_index(index)} - {""}
    paths = (Path(name) if Path(name).is_file() else index.parent / name for name in sorted(names))
    videos = list(paths)
    random.Random(0).shuffle(videos)
    return videos

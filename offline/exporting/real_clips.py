"""Real clips of an index's videos, as the encoder meets them: what its graphs are compared on.

index.csv -> its videos -> middle windows -> cropped pictures (T, H, W, C)
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.preprocess import crop_pictures
from offline.data.index import read_index
from offline.data.videos import VideoError
from offline.encoding.embed import middle_window


def read_clips(index: Path, spec: EncoderSpec, crop: int, count: int) -> list[NDArray[np.uint8]]:
    """`count` clips for `spec`, of other videos each, the same at each call, cut to `crop` px.

    Videos that can't be read are passed over.

    Raises:
        ValueError: the index can't be read, or fewer of its videos can.
    """
    clips: list[NDArray[np.uint8]] = []
    problem = f"it lists only {len(_videos(index))} videos"
    for video in _videos(index):
        try:
            frames = middle_window(video, spec)
        except VideoError as exc:
            problem = str(exc)
            continue
        clips.append(crop_pictures([frame.image for frame in frames], crop))
        if len(clips) == count:
            return clips
    raise ValueError(f"{index}: {len(clips)} clips can be read, {count} are needed: {problem}")


def _videos(index: Path) -> list[Path]:
    """The videos of an index, each once, in a random order that is always the same."""
    names = {entry.video for entry in read_index(index)} - {""}
    there = (Path(name) if Path(name).is_file() else index.parent / name for name in sorted(names))
    videos = list(there)
    random.Random(0).shuffle(videos)
    return videos

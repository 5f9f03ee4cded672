"""A video that a visitor of the demo sent: its bytes in, predictions or one clear sentence out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.schema import Prediction
from offline.data.videos import VideoError
from offline.scoring.video_predictions import VideoReader, read_predictions

MAX_MB = 50
MAX_S = 60.0  # of video; what follows is not read
TYPES = ("mp4", "mov", "m4v", "webm", "mkv", "avi", "gif")


def read_upload(
    reader: VideoReader, name: str, content: bytes, progress: Callable[[float], None]
) -> list[Prediction]:
    """What `reader` says of the windows of the first `MAX_S` seconds.

    The video is on disk only while it is read. `progress` is told how many seconds have been.

    Raises:
        VideoError: it can't be read; the text is for the visitor.
    """
    with tempfile.TemporaryDirectory(prefix="livegloss-") as folder:
        path = Path(folder) / "video"
        path.write_bytes(content)
        predictions = []
        try:
            for prediction in read_predictions(reader, path, until_s=MAX_S):
                predictions.append(prediction)
                progress(prediction.end_s)
        except VideoError as error:
            raise VideoError(str(error).replace(str(path), name)) from error
    return predictions


def attention_over(predictions: Sequence[Prediction], moments: int) -> list[float]:
    """How much each moment of the video counted in the windows that it was part of, on average.

    Windows in which nobody signs count little. What lies before the video, where a window repeats
    its first picture, is left out.
    """
    end_s = max(max(one.end_s for one in predictions), 1e-3)
    weights, shares = np.zeros(moments), np.zeros(moments)
    for one in predictions:
        steps = len(one.attention)
        times_s = np.linspace(one.start_s, one.end_s, steps, endpoint=False)
        inside = times_s >= 0
        at = (times_s[inside] / end_s * moments).astype(int).clip(max=moments - 1)
        share = 1 - one.idle + 1e-3
        np.add.at(weights, at, share * steps * one.attention[inside])
        np.add.at(shares, at, share)
    return list((weights / np.maximum(shares, 1e-9)).tolist())

"""A video that a visitor of the demo sent: its bytes in, predictions or one clear sentence out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from models.schema import Prediction
from offline.reading import Reader, read_predictions
from offline.videos import VideoError

MAX_MB = 50
MAX_S = 60.0  # of video; what follows is not read
TYPES = ("mp4", "mov", "m4v", "webm", "mkv", "avi", "gif")


def read_upload(
    reader: Reader, name: str, content: bytes, progress: Callable[[float], None]
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

"""What a recogniser said of videos, kept: so that decoder settings are tried without reading again.

    videos -> [reading] -> [kept] -> predictions

A file a video, in a folder whose name is of all that the answers depend on, but our own code: the
bundle's files and how it was read. Attention, embedding and what was seen are not kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.schema import Prediction
from offline.encoding.store import UNREADABLE, write_file

_RESTING = (False, True, None)


def folder_of(root: Path, bundle: Bundle, *how: object) -> Path:
    """The folder in `root` for what `bundle` says when its videos are read in the way of `how`."""
    of = (sorted(bundle.card["files"].items()), bundle.temperature, bundle.encoder, bundle.hop_s)
    digest = hashlib.sha256(repr((of, how)).encode()).hexdigest()[:12]
    return root / f"{bundle.name}-{digest}"


def kept(
    folder: Path | None, video: str, read: Callable[[], Iterable[Prediction]]
) -> list[Prediction]:
    """The predictions of a video: those in `folder`, else what `read` gives, which stays there.

    Without a folder nothing is kept.

    Raises:
        ValueError: what is kept can't be read; one line that names the file.
    """
    if folder is None:
        return list(read())
    file = folder / f"{video}.npz"
    if file.exists():
        return _read(file)
    said = list(read())
    content = io.BytesIO()
    np.savez(
        content,
        probabilities=np.array([one.probabilities for one in said], np.float32),  # N, G
        idle=np.array([one.idle for one in said]),
        times=np.array([(one.start_s, one.end_s) for one in said]),
        resting=np.array([_RESTING.index(one.resting) for one in said], np.int8),
        took_s=np.array([sum(one.stages_s.values()) for one in said]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_file(file, content.getvalue())
    return said


def _read(file: Path) -> list[Prediction]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return [
                Prediction(
                    stream="",
                    probabilities=p,
                    idle=float(idle),
                    attention=np.zeros(0, np.float32),
                    start_s=float(start_s),
                    end_s=float(end_s),
                    resting=_RESTING[resting],
                    stages_s={"window": float(took_s)},
                )
                for p, idle, (start_s, end_s), resting, took_s in zip(
                    *(stored[n] for n in ("probabilities", "idle", "times", "resting", "took_s")),
                    strict=True,
                )
            ]
    except (*UNREADABLE, TypeError) as exc:
        raise ValueError(f"{file}: no kept predictions to read: {exc}") from exc

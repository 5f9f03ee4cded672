"""How a video moves, as a few bytes: to find the same recording under another id.

    videos -> [fingerprints] -> fingerprints.npz beside the index -> leaks

A fingerprint is 8 x 8 grey levels every tenth of a second. Clips of one signer in one studio look
alike whatever is signed, and picture hashes (dHash) call them the same: of our data, a same sign
encoded again differs in more bits than two signs in front of one wall. What tells them apart is
movement, so each cell's own mean is taken off before two clips are correlated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.few_shot import IDLE
from offline.data.examples import Example
from offline.data.index import UNREADABLE, write_file
from offline.data.videos import VideoError, read_video

FINGERPRINTS = "fingerprints.npz"

_SIDE = 8  # cells
CELLS = _SIDE * _SIDE
STEP_S = 0.1
_LONGEST = 600  # steps; of a longer video the first minute
_KEEP_EVERY = 500  # videos

Fingerprint = NDArray[np.uint8]  # (K, 64)


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of the video at `path`, whatever its rate and size.

    Raises:
        VideoError: it can't be read.
    """
    times, cells = [], []
    for frame in read_video(path, 64, lambda media_s: media_s < _LONGEST * STEP_S):
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        cells.append(small.ravel().astype(np.float32))
        times.append(frame.media_s)
    at = np.array(times)
    steps = np.arange(0.0, at[-1] + 1e-6, STEP_S)
    # A frame counts less the further it is, so that another rate gives nearly the same.
    weights = np.clip(1 - np.abs(steps[:, None] - at) / STEP_S, 1e-6, None)
    weights[np.arange(len(steps)), np.abs(steps[:, None] - at).argmin(1)] += 1e-3
    mean = weights @ np.stack(cells) / weights.sum(1, keepdims=True)
    return np.asarray(mean.round(), np.uint8)


# --- on disk --------------------------------------------------------------------------------------


def read_fingerprints(folder: Path) -> dict[str, Fingerprint]:
    """The fingerprints by video id that lie beside the index in `folder`; none is no error.

    Raises:
        ValueError: the file is not one of ours.
    """
    file = folder / FINGERPRINTS
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            ids, ends, cells = content["ids"].tolist(), content["ends"], content["cells"]
        if cells.shape != (ends[-1] if len(ends) else 0, CELLS) or cells.dtype != np.uint8:
            raise ValueError(f"cells of shape {cells.shape}")
        return dict(zip(ids, np.split(cells, ends[:-1]), strict=True))
    except UNREADABLE as exc:
        raise ValueError(f"{file}: no fingerprints; delete it: {exc}") from exc


def write_fingerprints(folder: Path, prints: Mapping[str, Fingerprint]) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        ids=np.array(list(prints)),
        ends=np.cumsum([len(one) for one in prints.values()]),
        cells=np.concatenate([*prints.values(), np.zeros((0, CELLS), np.uint8)]),
    )
    write_file(folder / FINGERPRINTS, content.getvalue())


def complete_fingerprints(
    folder: Path, videos: Mapping[str, Path], progress: Callable[[str], None]
) -> dict[str, Fingerprint]:
    """The fingerprints of `videos` (by id): those in `folder`, and more where a video is there.

    What is made is kept in `folder`, so that videos are looked at once.
    """
    prints = read_fingerprints(folder)
    missing = [name for name in videos if name not in prints and videos[name].is_file()]
    for number, name in enumerate(missing, 1):
        try:
            prints[name] = fingerprint(videos[name])
        except VideoError as exc:
            progress(f"no fingerprint: {exc}")
        if number % _KEEP_EVERY == 0 or number == len(missing):
            progress(f"{number} of {len(missing)} videos looked at for copies")
            try:
                write_fingerprints(folder, prints)
            except OSError as exc:
                progress(f"fingerprints not kept, to be made again: {exc}")
    return prints


# MERGED from offline.splitting.cards: Clips cut across: a title card, or another scene, stands
# between their pictures. index.csv -> [examples] + [fingerprints] -> [cards] -> options: what is
# learnt and scored Where clips were cut out of a film by times that are off, the card before the
# next sign is in them, and often that sign too: such a clip does not show what its label says, or
# the word stands in it.

_FAR = 50.0  # grey levels from the clip's middle picture, cell by cell, that no signer moves
_LONG_S = 0.15  # shorter is a black picture at a cut, as the first one of many clips
_NAMED = 10  # videos that are told by their ids


def card_s(clip: Fingerprint) -> float:
    """For how many seconds of a clip something else than its scene is shown."""
    cells = clip.astype(np.float32)
    away = np.abs(cells - np.median(cells, axis=0)).mean(axis=1)
    return float((away > _FAR).sum() * STEP_S)


def with_cards(
    examples: Sequence[Example],
    prints: Mapping[str, Fingerprint],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, those of signs that show a card marked, and said in a line."""
    far = {name for name, clip in prints.items() if card_s(clip) > _LONG_S}
    marked = [replace(e, title_card=e.video_id in far and e.gloss != IDLE) for e in examples]
    if names := sorted({e.video_id for e in marked if e.title_card}):
        more = ", ..." if len(names) > _NAMED else ""
        progress(
            f"a title card, or another scene, stands between the pictures of {len(names)} of the "
            f"videos: {', '.join(names[:_NAMED])}{more}"
        )
    return marked

"""How a video moves, in a few bytes: finds duplicates of a recording, and title cards.

    pictures, while encoding -> [fingerprints] -> fingerprints.npz beside the index -> duplicates

A fingerprint is 8 x 8 grey levels every tenth of a second. Picture hashes (dHash) do not
distinguish clips of one signer in one studio: in our data, the same clip encoded again differs in
more bits than two signs in front of one wall. Movement does, so each cell's own mean is subtracted
before two clips are correlated.

Clips that were cut out of a film by inexact times contain the title card before the next sign, and
often that sign too: such a clip does not show what its label says, or the word is written in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.few_shot import IDLE
from models.files import replacing
from offline.data.examples import Example
from offline.data.index import UNREADABLE
from offline.data.videos import Picture, VideoError, read_pictures

FINGERPRINTS = "fingerprints.npz"

_SIDE = 8  # cells
CELLS = _SIDE * _SIDE
_STEP_S = 0.1
_LONGEST_S = 60.0  # of a longer video the first minute
_SHORT_SIDE = 64  # px of the pictures that are averaged to cells
_KEEP_EVERY = 500  # videos
_TITLE_CARD = 50.0  # mean difference from the clip's median picture, grey levels: no signer's
_CUT_S = 0.15  # shorter is a black picture at a cut, such as the first one of many clips
_NAMED = 10  # videos that a message names

Fingerprint = NDArray[np.uint8]  # (K, 64)


class FingerprintBuilder:
    """Makes the fingerprint of a video from its pictures, whatever its rate and size."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._cells: list[NDArray[np.float32]] = []
        self._problem: VideoError | None = None

    def add(self, picture: Picture) -> bool:
        """Add the next picture, or ignore one from before; False when no more are needed."""
        if self._problem or picture.media_s >= _LONGEST_S:
            return False
        if self._times and picture.media_s <= self._times[-1]:
            return True  # the video is decoded once more
        try:
            grey = cv2.cvtColor(picture.rgb(_SHORT_SIDE), cv2.COLOR_RGB2GRAY)
        except VideoError as exc:
            self._problem = exc
            return False
        cells = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        self._cells.append(cells.ravel().astype(np.float32))
        self._times.append(picture.media_s)
        return True

    def build(self) -> Fingerprint:
        """The fingerprint of the pictures so far, of which there is at least one.

        Raises:
            VideoError: one of them could not be converted.
        """
        if self._problem:
            raise self._problem
        times = np.array(self._times)
        steps = np.arange(0.0, times[-1] + 1e-6, _STEP_S)
        away = np.abs(steps[:, None] - times)
        # A picture weighs less the further away it is: another rate gives nearly the same cells.
        weights = np.clip(1 - away / _STEP_S, 1e-6, None)
        weights[np.arange(len(steps)), away.argmin(1)] += 1e-3
        mean = weights @ np.stack(self._cells) / weights.sum(1, keepdims=True)
        return np.asarray(mean.round(), np.uint8)


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of the video at `path`.

    Raises:
        VideoError: it can't be read.
    """
    builder = FingerprintBuilder()
    all(map(builder.add, read_pictures(path)))  # until it needs no more
    return builder.build()


def read_fingerprints(folder: Path) -> dict[str, Fingerprint]:
    """The fingerprints by video id that lie beside the index in `folder`; none is no error.

    Raises:
        ValueError: the file can't be read as fingerprints.
    """
    file = folder / FINGERPRINTS
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            ids, ends, cells = content["ids"].tolist(), content["ends"], content["cells"]
        if cells.shape != (ends[-1] if len(ends) else 0, CELLS) or cells.dtype != np.uint8:
            raise ValueError(f"cells of shape {cells.shape}")
        return dict(zip(ids, np.split(cells, ends[:-1]), strict=True)) if ids else {}
    except UNREADABLE as exc:
        raise ValueError(f"{file}: no fingerprints; delete it: {exc}") from exc


def write_fingerprints(folder: Path, prints: Mapping[str, Fingerprint]) -> None:
    """Replace the fingerprints beside the index in `folder`, in order of the video ids."""
    ids = sorted(prints)
    with replacing(folder / FINGERPRINTS) as stream:
        np.savez_compressed(
            stream,
            ids=np.array(ids),
            ends=np.cumsum([len(prints[name]) for name in ids]),
            cells=np.concatenate([*(prints[name] for name in ids), np.zeros((0, CELLS), np.uint8)]),
        )


def complete_fingerprints(
    folder: Path, videos: Mapping[str, Path], progress: Callable[[str], None]
) -> dict[str, Fingerprint]:
    """The fingerprints in `folder`, and those of `videos` (by id) that it lacks.

    Old indexes lack them: their videos are decoded here, once, and the fingerprints stored.
    """
    prints = read_fingerprints(folder)
    missing = [name for name in videos if name not in prints and videos[name].is_file()]
    if missing:
        progress(f"{len(missing)} videos of the index have no fingerprint: they are decoded once")
    for number, name in enumerate(missing, 1):
        try:
            prints[name] = fingerprint(videos[name])
        except VideoError as exc:
            progress(f"no fingerprint: {exc}")
        if number % _KEEP_EVERY == 0 or number == len(missing):
            progress(f"{number} of {len(missing)} videos decoded for their fingerprints")
            try:
                write_fingerprints(folder, prints)
            except OSError as exc:
                progress(f"fingerprints can't be stored, and will be made again: {exc}")
    return prints


def title_card_s(clip: Fingerprint) -> float:
    """How many seconds of a clip show something else than its scene."""
    cells = clip.astype(np.float32)
    away = np.abs(cells - np.median(cells, axis=0)).mean(axis=1)
    return float((away > _TITLE_CARD).sum() * _STEP_S)


def mark_title_cards(
    examples: Sequence[Example],
    prints: Mapping[str, Fingerprint],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, with those of signs marked that show a title card; a message names them."""
    cards = {name for name, clip in prints.items() if title_card_s(clip) > _CUT_S}
    marked = [replace(e, title_card=e.video_id in cards and e.gloss != IDLE) for e in examples]
    if names := sorted({e.video_id for e in marked if e.title_card}):
        more = ", ..." if len(names) > _NAMED else ""
        progress(
            f"a title card, or another scene, stands between the pictures of {len(names)} of the "
            f"videos: {', '.join(names[:_NAMED])}{more}"
        )
    return marked

"""How a video moves, as a few bytes: to find the same recording under another id.

    videos -> [fingerprints] -> fingerprints.npz beside the index -> leaks

A fingerprint is 8 x 8 grey levels every tenth of a second. Clips of one signer in one studio look
alike whatever is signed, and picture hashes (dHash) call them the same: of our data, a same sign
encoded again differs in more bits than two signs in front of one wall. What tells them apart is
movement, so each cell's own mean is taken off before two clips are correlated.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from offline.encoding.store import write_file
from offline.videos import VideoError, read_video

FINGERPRINTS = "fingerprints.npz"

_SIDE = 8  # cells
_STEP_S = 0.1
_LONGEST = 600  # steps; of a longer video the first minute
_SHORTEST = 5  # steps: less shows no movement to tell by
_OVERLAP = 0.6  # of the shorter clip, at least, must lie in the other
_KEEP_EVERY = 500  # videos
_DARK = 8.0  # grey levels: pictures with less contrast are not stretched further

Fingerprint = NDArray[np.uint8]  # (K, 64)


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of the video at `path`, whatever its rate and size.

    Raises:
        VideoError: it can't be read.
    """
    times, cells = [], []
    for frame in read_video(path, 64, lambda media_s: media_s < _LONGEST * _STEP_S):
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        cells.append(small.ravel().astype(np.float32))
        times.append(frame.media_s)
    at = np.array(times)
    steps = np.arange(0.0, at[-1] + 1e-6, _STEP_S)
    # A frame counts less the further it is, so that another rate gives nearly the same.
    weights = np.clip(1 - np.abs(steps[:, None] - at) / _STEP_S, 1e-6, None)
    weights[np.arange(len(steps)), np.abs(steps[:, None] - at).argmin(1)] += 1e-3
    mean = weights @ np.stack(cells) / weights.sum(1, keepdims=True)
    return np.asarray(mean.round(), np.uint8)


def likeness(one: Fingerprint, other: Fingerprint) -> float:
    """How alike two clips move, -1 to 1, at the shift in time where they do so most.

    0 when one of them is too short to tell.
    """
    a, b = sorted((_even(one), _even(other)), key=len)
    shortest = max(_SHORTEST, round(_OVERLAP * len(a)))
    if len(a) < shortest:
        return 0.0
    best = _moves_alike(a, b, shortest)  # shifted by whole steps, and by half a step
    if len(b) > shortest:
        best = max(best, _moves_alike(a, np.asarray((b[1:] + b[:-1]) / 2, np.float32), shortest))
    return best


def looks(prints: list[Fingerprint]) -> NDArray[np.float32]:
    """(N, 128) What likely pairs share: unit rows of the mean picture, and of where it moves."""
    rows = []
    for one in prints:
        even = _even(one)
        for part in (even.mean(0), even.std(0)):
            part = part - part.mean()
            rows.append(part / (np.linalg.norm(part) + 1e-6))
    return np.asarray(rows, np.float32).reshape(len(prints), 2 * _SIDE * _SIDE)


def _even(cells: Fingerprint) -> NDArray[np.float32]:
    """Each picture with mean 0 and spread 1: fades and exposure are no movement."""
    grey = cells.astype(np.float32)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.maximum(grey.std(1, keepdims=True), _DARK)
    return grey


def _moves_alike(a: NDArray[np.float32], b: NDArray[np.float32], shortest: int) -> float:
    """The correlation of `a` (N, 64) with `b` (M, 64) at their best shift, M >= N - 1.

    Each cell's mean over the steps that overlap, `shortest` at least, is taken off. All shifts at
    once, by running sums: two to three times as fast as one by one.
    """
    shift = np.arange(shortest - len(a), len(b) - shortest + 1)  # step i of a beside i + shift of b
    first, last = np.maximum(0, -shift), np.minimum(len(a), len(b) - shift)
    lag = np.arange(len(b)) - np.arange(len(a))[:, None] + len(a) - 1
    products = np.bincount(lag.ravel(), (a @ b.T).ravel())[shift + len(a) - 1]
    moved, both = [], []
    for rows, start, stop in ((a, first, last), (b, first + shift, last + shift)):
        sums = np.cumsum(np.pad(rows, ((1, 0), (0, 0))), 0, dtype=np.float64)
        squares = np.cumsum(np.pad((rows * rows).sum(1), (1, 0)), dtype=np.float64)
        mean = (sums[stop] - sums[start]) / (last - first)[:, None]
        spread = squares[stop] - squares[start] - (last - first) * (mean * mean).sum(1)
        moved.append(spread.clip(min=0))
        both.append(mean)
    common = products - (last - first) * (both[0] * both[1]).sum(1)
    return float((common / (np.sqrt(moved[0] * moved[1]) + 1e-6)).max())


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
        if cells.shape != (ends[-1] if len(ends) else 0, _SIDE * _SIDE) or cells.dtype != np.uint8:
            raise ValueError(f"cells of shape {cells.shape}")
        return dict(zip(ids, np.split(cells, ends[:-1]), strict=True))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ValueError(f"{file}: no fingerprints; delete it: {exc}") from exc


def write_fingerprints(folder: Path, prints: Mapping[str, Fingerprint]) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        ids=np.array(list(prints)),
        ends=np.cumsum([len(one) for one in prints.values()]),
        cells=np.concatenate([*prints.values(), np.zeros((0, _SIDE * _SIDE), np.uint8)]),
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

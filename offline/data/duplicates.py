"""Duplicates: one recording under several video ids is scored once, and its signers are one group.

    index.csv -> examples + fingerprints -> [duplicates] -> splits, training, scores

Collections copy clips from each other, so a signer's recording may stand under a second source.
Duplicates are found by their fingerprints, not by names; signer groups that share recordings,
directly or by way of others, are joined. Cropped and mirrored duplicates are not found.

The similarity of two clips is the highest correlation of their movement over all shifts in time, by
half steps. A few directions out of 64 hold most of the movement: in these, many clips are compared
at once, as if they were equal in all others. That is an upper bound: pairs below the threshold are
ruled out, and few are compared in full.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from models.command_line import say
from models.files import replacing
from offline.data.examples import Example, read_examples
from offline.data.fingerprints import CELLS, Fingerprint, complete_fingerprints, mark_title_cards
from offline.data.labels import holds_landmarks
from offline.data.variants import named_pairs

DUPLICATES = "duplicates.json"  # beside the index

_DUPLICATE = 0.95  # `similarity` of two clips that count as one recording; docs/leaks.md says why
_LIKELY = (0.9, 0.7)  # cosine of mean pictures, and of where they move: below, not compared
_BLOCK = 256  # clips whose appearance is compared with all at once
_DIRECTIONS = 8  # of 64: more rule out more pairs, and take longer for each
_STEPS = 8192  # of other clips compared with one at once
_ROUNDING = 1e-3
_SHORTEST = 5  # steps: fewer do not show enough movement
_OVERLAP = 0.6  # of the shorter clip, at least, must lie in the other
_DARK = 8.0  # grey levels: pictures with less contrast are not stretched further
_SAMPLE = 500  # clips that directions are computed from
_ALL = np.eye(CELLS)

VideoPair = tuple[str, str]  # two video ids


def read_recordings(
    index: str | os.PathLike[str],
    progress: Callable[[str], None] = say,
    variant: str | None = None,
    skipped: list[str] | None = None,
) -> list[Example]:
    """The examples of an `index.csv` (of one variant), with duplicates and title cards marked.

    Videos whose names tell that they are variants of one count as duplicates. Fingerprints and
    duplicates are stored beside the index, so that they are found once. Landmark files have none.

    `skipped`: as `read_examples`.

    Raises:
        ValueError: as `read_examples`; or the fingerprints can't be read.
    """
    examples, folder = read_examples(index, variant, skipped), Path(index).parent
    paths = {e.video_id: e.path for e in examples if e.path is not None}
    landmarks = {video_id for video_id, path in paths.items() if holds_landmarks(path)}
    videos = {video_id: path for video_id, path in paths.items() if video_id not in landmarks}
    prints = complete_fingerprints(folder, videos, progress)
    unknown = {e.video_id for e in examples} - prints.keys()
    if unknown:
        of_landmarks = f", {len(unknown & landmarks)} of them landmark files," if landmarks else ""
        progress(
            f"{len(unknown)} videos{of_landmarks} have no fingerprint: "
            "their duplicates are not found"
        )
    prints = {e.video_id: prints[e.video_id] for e in examples if e.video_id in prints}
    examples = mark_title_cards(examples, prints, progress)
    pairs = stored_duplicates(folder, prints, progress)
    pairs += named_pairs([(e.video_id, e.gloss) for e in examples])
    return mark_duplicates(examples, pairs, progress)


def mark_duplicates(
    examples: Sequence[Example],
    pairs: Sequence[VideoPair],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, with those of one recording marked, in groups that share no recording.

    pairs: as `find_duplicates` returns them.
    """
    if not pairs:
        return list(examples)
    group_of = {e.video_id: e.group for e in examples}
    groups = [(group_of[a], group_of[b]) for a, b in pairs]
    recording, group = _connected(pairs), _connected(groups)
    across = sum(a != b for a, b in groups)
    progress(f"{len(pairs)} pairs of videos are one recording, {across} of two signer groups")
    for first in sorted(set(group.values())):
        others = sorted(name for name in group if group[name] == first != name)
        if others:
            progress(f"one signer group, as they share recordings: {', '.join([first, *others])}")
    return [
        replace(e, duplicate_of=recording.get(e.video_id, ""), group=group.get(e.group, e.group))
        for e in examples
    ]


def _connected(pairs: Sequence[VideoPair]) -> dict[str, str]:
    """For each name in `pairs`: the alphabetically first that it is connected with, or itself."""
    sets = DisjointSet(name for pair in pairs for name in pair)
    for a, b in pairs:
        sets.merge(a, b)
    return {name: min(connected) for connected in sets.subsets() for name in connected}


def stored_duplicates(
    folder: Path, prints: Mapping[str, Fingerprint], progress: Callable[[str], None]
) -> list[VideoPair]:
    """`find_duplicates` of `prints`: from `folder` if stored for the same prints, else searched.

    docs/leaks.md says how long the search takes.
    """
    file = folder / DUPLICATES
    digest_of = hashlib.sha256(repr((_DUPLICATE, _LIKELY)).encode())  # all that decides the pairs
    for name in sorted(prints):
        digest_of.update(f"{name!r}{prints[name].shape}".encode() + prints[name].tobytes())
    digest = digest_of.hexdigest()
    try:
        stored = json.loads(file.read_text())
        if stored["of"] == digest:
            return [(a, b) for a, b in stored["pairs"] if a in prints and b in prints]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # there is none, or it is not ours: it is written anew
    pairs = find_duplicates(prints, progress)
    try:
        with replacing(file) as stream:
            stream.write(json.dumps({"of": digest, "pairs": pairs}).encode())
    except OSError as exc:
        progress(f"duplicates can't be stored, and will be searched again: {exc}")
    return pairs


def find_duplicates(
    prints: Mapping[str, Fingerprint], progress: Callable[[str], None] = lambda line: None
) -> list[VideoPair]:
    """Pairs of videos, by their ids, that are most likely one recording.

    Pairs of similar appearance are compared in few directions, and in full where these do not rule
    them out: the result is the same as if all were compared in full.
    """
    names = list(prints)
    order = [i for i, name in enumerate(names) if len(prints[name]) >= _SHORTEST]
    order.sort(key=lambda i: len(prints[names[i]]))  # of a pair, the shorter one first
    clips = [prints[names[i]] for i in order]
    look, main = appearance(clips), main_directions(clips, _DIRECTIONS)
    whole, halfway = (MotionTrack.of(clips, main, halfway=halfway) for halfway in (False, True))
    half = look.shape[1] // 2
    found = []
    for first in range(0, len(clips), _BLOCK):
        if first:
            progress(f"{first} of {len(clips)} videos compared with all others")
        block = look[first : first + _BLOCK]
        likely = (block[:, :half] @ look[first:, :half].T >= _LIKELY[0]) & (
            block[:, half:] @ look[first:, half:].T >= _LIKELY[1]
        )
        for i, row in enumerate(np.triu(likely, 1), first):
            others = first + np.flatnonzero(row)
            pieces = np.flatnonzero(np.diff(np.cumsum(whole.length[others]) // _STEPS)) + 1
            for some in np.split(others, pieces) if len(others) else []:
                bounds = [similarity_bound(whole, i, track, some) for track in (whole, halfway)]
                bound = np.maximum(*bounds)
                for j in some[bound >= _DUPLICATE - _ROUNDING].tolist():
                    if similarity(clips[i], clips[j]) >= _DUPLICATE:
                        found.append(sorted((order[i], order[j])))
    return [(names[a], names[b]) for a, b in sorted(found)]


def appearance(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """(N, 128) What duplicates share: unit rows of the mean picture, and of where it moves."""
    rows = []
    for clip in prints:
        even = _even(clip)
        for part in (even.mean(0), even.std(0)):
            part = part - part.mean()
            rows.append(part / (np.linalg.norm(part) + 1e-6))
    return np.asarray(rows, np.float32).reshape(len(prints), 2 * CELLS)


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """How similar the movement of two clips is, 0 to 1, at the shift in time where it is most so.

    0 when one of them is too short to compare.
    """
    short, long = sorted((one, other), key=len)
    if len(short) < _SHORTEST:
        return 0.0
    a, only = MotionTrack.of([short], _ALL), np.zeros(1, np.int64)
    tracks = (MotionTrack.of([long], _ALL, halfway) for halfway in (False, True))
    return max(float(similarity_bound(a, 0, b, only)[0]) for b in tracks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionTrack:
    """The movement of clips in D directions, S steps: all clips in a row, then a step of rest."""

    start: NDArray[np.int64]  # (clips,) the step at which each begins
    length: NDArray[np.int64]  # (clips,)
    moved: NDArray[np.floating]  # (S + 1, D) each picture's difference from its clip's mean
    before: NDArray[np.floating]  # (S + 1, D) sum of a clip's steps before each
    squares: NDArray[np.floating]  # (2, S + 1) of `moved`, and of movement in other directions

    @classmethod
    def of(
        cls, prints: Sequence[Fingerprint], directions: NDArray[np.floating], halfway: bool = False
    ) -> MotionTrack:
        """The movement of clips in `directions` (64, D), orthonormal columns, of their type.

        halfway: of the means of each two steps, which are one less.
        """
        length = np.array([len(clip) - halfway for clip in prints], np.int64)
        start = np.cumsum(length) - length
        moved = np.zeros((length.sum() + 1, directions.shape[1]), directions.dtype)
        before, squares = np.zeros_like(moved), np.zeros((2, len(moved)), directions.dtype)
        for clip, first, steps in zip(prints, start, length, strict=True):
            away: NDArray[np.floating] = _even(clip)
            if halfway:
                away = (away[1:] + away[:-1]) / 2
            away -= away.mean(0)
            here = slice(first, first + steps)
            moved[here] = away @ directions
            np.cumsum(moved[here][:-1], 0, out=before[here][1:])
            squares[0, here] = (moved[here] ** 2).sum(1)
            squares[1, here] = ((away - moved[here] @ directions.T) ** 2).sum(1)
        return cls(start=start, length=length, moved=moved, before=before, squares=squares)


def main_directions(prints: Sequence[Fingerprint], count: int) -> NDArray[np.float32]:
    """(64, count) The directions in which clips move most; of many clips, by a sample."""
    moved = MotionTrack.of(prints[:: 1 + len(prints) // _SAMPLE], _ALL).moved
    return np.asarray(np.linalg.eigh(moved.T @ moved)[1][:, : -count - 1 : -1], np.float32)


def similarity_bound(
    these: MotionTrack, clip: int, those: MotionTrack, others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(others,) At most how similar `others` of those are to `clip` of these, by whole steps.

    0 to 1, and exact when the tracks have all directions. `clip` has `_SHORTEST` steps at least,
    and others one less than it has.
    """
    n = int(these.length[clip])
    shortest = max(_SHORTEST, round(_OVERLAP * n))
    # All others in one row, and before each rest for as long as `clip` may stand over its edge.
    gap = n - shortest
    size = those.length[others] + gap
    begin = np.cumsum(size) - size
    step = np.arange(size.sum()) - np.repeat(begin + gap, size)
    row = np.where(step < 0, len(those.moved) - 1, step + np.repeat(those.start[others], size))
    row = np.pad(row, (0, gap + 1), constant_values=len(those.moved) - 1)
    # Shifted to `step`, `clip` overlaps from its step `first` to its step `last`.
    first = np.maximum(0, -step)
    last = np.minimum(n, np.repeat(those.length[others], size) - step)
    at = np.flatnonzero(last - first >= shortest)
    first, last = first[at], last[at]
    count = last - first

    own = np.arange(n + 1) + these.start[clip]
    each = these.moved[own[:n]] @ those.moved.take(row, 0).T
    down, along = each.strides
    shifted = as_strided(each, (n, len(row) - n), (down + along, along), writeable=False)
    a_sum, (a_moved, a_rest) = _overlaps(these, own, first, last)
    b_sum, (b_moved, b_rest) = _overlaps(those, row, at, at + n)
    common = shifted.sum(0)[at] - np.vecdot(a_sum, b_sum) / count
    a_moved = (a_moved - np.vecdot(a_sum, a_sum) / count).clip(min=0)
    b_moved = (b_moved - np.vecdot(b_sum, b_sum) / count).clip(min=0)
    correlation = common.clip(min=0) / (np.sqrt(a_moved * b_moved) + 1e-6)
    share = np.maximum(
        (a_moved + 1e-9) / (a_moved + a_rest + 1e-9), (b_moved + 1e-9) / (b_moved + b_rest + 1e-9)
    )
    similar = np.zeros(len(step))
    similar[at] = np.sqrt((1 - share * (1 - correlation**2)).clip(min=0))
    return np.maximum.reduceat(similar, begin)


def _overlaps(
    clips: MotionTrack, rows: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """For the steps from `start` to `stop` in `rows`: their sum (N, D), and `squares` (2, N)."""
    before, squares = clips.before.take(rows, 0), clips.squares.take(rows, 1)
    running = squares.cumsum(1, np.float64) - squares
    return (
        before.take(stop, 0) - before.take(start, 0),
        running.take(stop, 1) - running.take(start, 1),
    )


def _even(cells: Fingerprint) -> NDArray[np.float32]:
    """Each picture with mean 0 and spread 1: fades and exposure are no movement."""
    grey = cells.astype(np.float32)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.maximum(grey.std(1, keepdims=True), _DARK)
    return grey

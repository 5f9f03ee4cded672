"""One recording under several ids: scored once, and its signers count as one group.

    index.csv -> [examples] + [fingerprints] -> [copies] -> folds, training, scores

Collections take clips from each other, so a signer's recording may stand under a second source. Who
shares a recording with whom is found by the fingerprints, not by names; groups that share one are
joined, and so are those that these share one with. Cropped and mirrored copies are not found.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from offline.data.examples import Example, read_examples
from offline.data.fingerprints import CELLS, Fingerprint, complete_fingerprints, with_cards
from offline.data.index import write_file

COPIES = "copies.json"  # beside the index

_ALIKE = 0.95  # `likeness` of two clips that are called one recording; docs/leaks.md says why
_LIKELY = (0.9, 0.7)  # cosine of mean pictures, and of where they move: below, not compared
_BLOCK = 256  # clips whose looks are compared with all at once
_DIRECTIONS = 8  # of 64: more rule out more pairs, and take longer for each
_STEPS = 8192  # of other clips compared with one at once
_ROUNDING = 1e-3


def read_recordings(
    index: str | os.PathLike[str],
    progress: Callable[[str], None] = print,
    variant: str | None = None,
) -> list[Example]:
    """The examples of an `index.csv` (of one variant), copies and cards told, and said in a line.

    Videos are looked at once, and compared once: fingerprints and pairs are kept beside the index.

    Raises:
        ValueError: as `read_examples`; or the fingerprints can't be read.
    """
    examples = read_examples(index, variant)
    videos = {e.video_id: e.path for e in examples if e.path is not None}
    prints = complete_fingerprints(Path(index).parent, videos, progress)
    unknown = {e.video_id for e in examples} - prints.keys()
    if unknown:
        progress(f"{len(unknown)} videos were not there to be compared: copies are not found")
    of_these = {e.video_id: prints[e.video_id] for e in examples if e.video_id in prints}
    examples = with_cards(examples, of_these, progress)
    return with_copies(examples, kept_copies(Path(index).parent, of_these, progress), progress)


def with_copies(
    examples: Sequence[Example],
    pairs: Sequence[tuple[str, str]],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, each with its recording, in groups that share none. `pairs` as `copies` gives."""
    if not pairs:
        return list(examples)
    group_of = {e.video_id: e.group for e in examples}
    groups = [(group_of[a], group_of[b]) for a, b in pairs]
    recording, group = connected(pairs), connected(groups)
    across = sum(a != b for a, b in groups)
    progress(f"{len(pairs)} pairs of videos are one recording, {across} of two signer groups")
    for name in sorted(set(group.values())):
        others = sorted(one for one, first in group.items() if first == name != one)
        if others:
            progress(f"one signer group, as they share recordings: {', '.join([name, *others])}")
    return [
        replace(
            e,
            duplicate_of=recording.get(e.video_id, ""),
            group=group.get(e.group, e.group),
        )
        for e in examples
    ]


def kept_copies(
    folder: Path, prints: Mapping[str, Fingerprint], progress: Callable[[str], None]
) -> list[tuple[str, str]]:
    """`copies` of `prints`: those in `folder` if they are of the very same, else found and kept.

    docs/leaks.md says how long the search takes.
    """
    file, of = folder / COPIES, _digest(prints)
    try:
        kept = json.loads(file.read_text())
        if kept["of"] == of:
            return [(a, b) for a, b in kept["pairs"] if a in prints and b in prints]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or nothing that we wrote: it is written anew
    pairs = copies(prints, progress)
    try:
        write_file(file, json.dumps({"of": of, "pairs": pairs}).encode())
    except OSError as exc:
        progress(f"copies not kept, to be found again: {exc}")
    return pairs


def _digest(prints: Mapping[str, Fingerprint]) -> str:
    """Of all that decides which pairs are found."""
    digest = hashlib.sha256(repr((_ALIKE, _LIKELY)).encode())
    for name in sorted(prints):
        digest.update(f"{name!r}{prints[name].shape}".encode() + prints[name].tobytes())
    return digest.hexdigest()


def copies(
    prints: Mapping[str, Fingerprint], progress: Callable[[str], None] = lambda line: None
) -> list[tuple[str, str]]:
    """Pairs of videos, by their ids, that are likely one recording.

    Pairs that look alike are compared in few directions, and in full where these do not rule them
    out: the same are found as if all were compared in full.
    """
    names = list(prints)
    order = [i for i, name in enumerate(names) if len(prints[name]) >= SHORTEST]
    order.sort(key=lambda i: len(prints[names[i]]))  # of a pair, the shorter one first
    clips = [prints[names[i]] for i in order]
    look, main = looks(clips), main_directions(clips, _DIRECTIONS)
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
                most = np.maximum(at_most(whole, i, whole, some), at_most(whole, i, halfway, some))
                for j in some[most >= _ALIKE - _ROUNDING].tolist():
                    if likeness(clips[i], clips[j]) >= _ALIKE:
                        found.append(sorted((order[i], order[j])))
    return [(names[a], names[b]) for a, b in sorted(found)]


def connected(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first name, by the alphabet, of all that each name of `pairs` is connected with."""
    first: dict[str, str] = {}

    def found(name: str) -> str:
        while first.setdefault(name, name) != name:
            name = first[name]
        return name

    for a, b in pairs:
        low, high = sorted((found(a), found(b)))
        first[high] = low
    return {name: found(name) for name in list(first)}


# MERGED from offline.splitting.likeness: How alike two clips move, and how alike many can be at
# most: so that few are compared in full. fingerprints -> [likeness] -> copies Likeness is the
# correlation of movement at the shift in time, by whole steps or halves, where it is highest. Few
# directions out of 64 hold most of what moves: in these many clips are compared at once, as if
# they were perfectly alike in the others, so a pair that is ruled out so can't be a copy.

SHORTEST = 5  # steps: less shows no movement to tell by

_OVERLAP = 0.6  # of the shorter clip, at least, must lie in the other
_DARK = 8.0  # grey levels: pictures with less contrast are not stretched further
_SAMPLE = 500  # clips that directions are taken from
_ALL = np.eye(CELLS)


def likeness(one: Fingerprint, other: Fingerprint) -> float:
    """How alike two clips move, 0 to 1, at the shift in time where they do so most.

    0 when one of them is too short to tell.
    """
    short, long = sorted((one, other), key=len)
    if len(short) < SHORTEST:
        return 0.0
    a, only = MotionTrack.of([short], _ALL), np.zeros(1, np.int64)
    both = (MotionTrack.of([long], _ALL), MotionTrack.of([long], _ALL, halfway=True))
    return max(float(at_most(a, 0, b, only)[0]) for b in both)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionTrack:
    """Clips in D directions, one after another, S steps; then one step of stillness."""

    start: NDArray[np.int64]  # (clips,) the step at which each begins
    length: NDArray[np.int64]  # (clips,)
    seen: NDArray[np.floating]  # (S + 1, D) how far each picture is from its clip's mean
    before: NDArray[np.floating]  # (S + 1, D) sum of a clip's steps before each
    squares: NDArray[np.floating]  # (2, S + 1) of what is seen, and of all in other directions

    @classmethod
    def of(
        cls,
        prints: Sequence[Fingerprint],
        directions: NDArray[np.floating],
        halfway: bool = False,
    ) -> MotionTrack:
        """The movement of clips in `directions` (64, D), orthonormal columns, of their type.

        halfway: of the means of each two steps, which are one less.
        """
        length = np.array([len(one) - halfway for one in prints], np.int64)
        start = np.cumsum(length) - length
        seen = np.zeros((length.sum() + 1, directions.shape[1]), directions.dtype)
        before, squares = np.zeros_like(seen), np.zeros((2, len(seen)), directions.dtype)
        for one, first, steps in zip(prints, start, length, strict=True):
            moved: NDArray[np.floating] = _even(one)
            if halfway:
                moved = (moved[1:] + moved[:-1]) / 2
            moved -= moved.mean(0)
            here = slice(first, first + steps)
            seen[here] = moved @ directions
            np.cumsum(seen[here][:-1], 0, out=before[here][1:])
            squares[0, here] = (seen[here] ** 2).sum(1)
            squares[1, here] = ((moved - seen[here] @ directions.T) ** 2).sum(1)
        return cls(start=start, length=length, seen=seen, before=before, squares=squares)


def main_directions(prints: Sequence[Fingerprint], count: int) -> NDArray[np.float32]:
    """(64, count) The directions in which clips move most; of many clips, by some of them."""
    moved = MotionTrack.of(prints[:: 1 + len(prints) // _SAMPLE], _ALL).seen
    return np.asarray(np.linalg.eigh(moved.T @ moved)[1][:, : -count - 1 : -1], np.float32)


def at_most(
    these: MotionTrack, one: int, those: MotionTrack, others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(others,) The most that `others` of those can be alike to `one` of these, by whole steps.

    0 to 1, and just their likeness when all directions are seen. `one` has `SHORTEST` steps at
    least, and others one less than it has.
    """
    n = int(these.length[one])
    shortest = max(SHORTEST, round(_OVERLAP * n))
    # All others in one row, and before each stillness for as long as `one` may stand over its edge.
    gap = n - shortest
    size = those.length[others] + gap
    begin = np.cumsum(size) - size
    step = np.arange(size.sum()) - np.repeat(begin + gap, size)
    row = np.where(step < 0, len(those.seen) - 1, step + np.repeat(those.start[others], size))
    row = np.pad(row, (0, gap + 1), constant_values=len(those.seen) - 1)
    # Put beside `step`, `one` overlaps from its step `first` to its step `last`.
    first = np.maximum(0, -step)
    last = np.minimum(n, np.repeat(those.length[others], size) - step)
    at = np.flatnonzero(last - first >= shortest)
    first, last = first[at], last[at]
    count = last - first

    own = np.arange(n + 1) + these.start[one]
    each = these.seen[own[:n]] @ those.seen.take(row, 0).T
    down, along = each.strides
    shifted = as_strided(each, (n, len(row) - n), (down + along, along), writeable=False)
    a_sum, (a_seen, a_rest) = _overlaps(these, own, first, last)
    b_sum, (b_seen, b_rest) = _overlaps(those, row, at, at + n)
    common = shifted.sum(0)[at] - _dot(a_sum, b_sum) / count
    a_seen = (a_seen - _dot(a_sum, a_sum) / count).clip(min=0)
    b_seen = (b_seen - _dot(b_sum, b_sum) / count).clip(min=0)
    correlation = common.clip(min=0) / (np.sqrt(a_seen * b_seen) + 1e-6)
    share = np.maximum(
        (a_seen + 1e-9) / (a_seen + a_rest + 1e-9), (b_seen + 1e-9) / (b_seen + b_rest + 1e-9)
    )
    alike = np.zeros(len(step))
    alike[at] = np.sqrt((1 - share * (1 - correlation**2)).clip(min=0))
    return np.maximum.reduceat(alike, begin)


def _overlaps(
    clips: MotionTrack, rows: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Of the steps from `start` to `stop` in `rows`: their sum (N, D), and `squares` (2, N)."""
    before, squares = clips.before.take(rows, 0), clips.squares.take(rows, 1)
    running = squares.cumsum(1, np.float64) - squares
    return (
        before.take(stop, 0) - before.take(start, 0),
        running.take(stop, 1) - running.take(start, 1),
    )


def _dot(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """The products of rows."""
    return np.asarray(np.einsum("ij,ij->i", a, b))


def looks(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """(N, 128) What likely pairs share: unit rows of the mean picture, and of where it moves."""
    rows = []
    for one in prints:
        even = _even(one)
        for part in (even.mean(0), even.std(0)):
            part = part - part.mean()
            rows.append(part / (np.linalg.norm(part) + 1e-6))
    return np.asarray(rows, np.float32).reshape(len(prints), 2 * CELLS)


def _even(cells: Fingerprint) -> NDArray[np.float32]:
    """Each picture with mean 0 and spread 1: fades and exposure are no movement."""
    grey = cells.astype(np.float32)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.maximum(grey.std(1, keepdims=True), _DARK)
    return grey

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
from dataclasses import replace
from pathlib import Path

import numpy as np

from offline.encoding.store import write_file
from offline.examples import Example, read_examples
from offline.splitting.cards import with_cards
from offline.splitting.fingerprints import Fingerprint, complete_fingerprints
from offline.splitting.likeness import (
    SHORTEST,
    Movement,
    at_most,
    likeness,
    looks,
    main_directions,
)

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
            copy_of=recording.get(e.video_id, ""),
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
    whole, halfway = (Movement.of(clips, main, halfway=halfway) for halfway in (False, True))
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

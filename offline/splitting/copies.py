"""One recording under several ids: scored once, and its signers count as one group.

    index.csv -> [examples] + [fingerprints] -> [copies] -> folds, training, scores

Collections take clips from each other, so a signer's recording may stand under a second source. Who
shares a recording with whom is found by the fingerprints, not by names; groups that share one are
joined, and so are those that these share one with. Cropped and mirrored copies are not found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from offline.examples import Example, read_examples
from offline.splitting.fingerprints import Fingerprint, complete_fingerprints, likeness, looks

_ALIKE = 0.95  # `likeness` of two clips that are called one recording; docs/leaks.md says why
_LIKELY = (0.9, 0.7)  # cosine of mean pictures, and of where they move: below, not compared
_BLOCK = 1024  # clips compared at once


def read_recordings(
    index: str | os.PathLike[str],
    progress: Callable[[str], None] = print,
    variant: str | None = None,
) -> list[Example]:
    """The examples of an `index.csv` (of one variant), copies told, and said in a line.

    Videos are looked at once: their fingerprints are kept beside the index.

    Raises:
        ValueError: as `read_examples`; or the fingerprints can't be read.
    """
    examples = read_examples(index, variant)
    videos = {e.video_id: e.path for e in examples if e.path is not None}
    prints = complete_fingerprints(Path(index).parent, videos, progress)
    unknown = {e.video_id for e in examples} - prints.keys()
    if unknown:
        progress(f"{len(unknown)} videos were not there to be compared: copies are not found")
    return with_copies(examples, prints, progress)


def with_copies(
    examples: Sequence[Example],
    prints: Mapping[str, Fingerprint],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, each with its recording, in groups that share none."""
    pairs = copies(examples, prints)
    if not pairs:
        return list(examples)
    recording = connected((a.video_id, b.video_id) for a, b in pairs)
    group = connected((a.group, b.group) for a, b in pairs)
    across = sum(a.group != b.group for a, b in pairs)
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


def copies(
    examples: Sequence[Example], prints: Mapping[str, Fingerprint]
) -> list[tuple[Example, Example]]:
    """Pairs of videos that are likely one recording. Videos without a print are not compared."""
    videos = list({e.video_id: e for e in examples if e.video_id in prints}.values())
    look = looks([prints[e.video_id] for e in videos])
    half = look.shape[1] // 2
    found = []
    for first in range(0, len(videos), _BLOCK):
        block = look[first : first + _BLOCK]
        likely = (block[:, :half] @ look[first:, :half].T >= _LIKELY[0]) & (
            block[:, half:] @ look[first:, half:].T >= _LIKELY[1]
        )
        for i, j in zip(*np.nonzero(np.triu(likely, 1)), strict=True):
            a, b = videos[first + i], videos[first + j]
            if likeness(prints[a.video_id], prints[b.video_id]) >= _ALIKE:
                found.append((a, b))
    return found


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

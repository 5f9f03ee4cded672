"""What heads learn from: the rows that `offline.encode` stored, with gloss and signer group.

    index.csv + .npy -> variants -> [examples] -> duplicates, splits -> training

`signer` is the group that must not straddle train and test. Two values have a meaning of their own:
the gloss `idle` (nobody signs), and the split `extra` (learn from it, but never score it: for
example because the word is written in the picture).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.card import spec_from
from models.command_line import say
from models.few_shot import IDLE
from models.schema import EncoderSpec
from offline.data.index import ORIGINAL, Entry, IndexFileError, StoredRows, read_index
from offline.data.spellings import EXTRA, gloss_key, one_spelling
from offline.data.variants import with_variants
from offline.data.video_folders import REPORT
from offline.data.videos import VideoPart, part_of

UNKNOWN_SIGNER = "video:"  # how the group of a video begins whose signer is not known
_NAMED = 3  # broken files that a line names
_TOLD = re.compile(r"(/(frames|fps|aspect)=[^/]*)+$")  # of a video: its part, its landmarks' rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One embedded video."""

    video_id: str
    video: str  # the file's name
    gloss: str
    group: str  # what must stay on one side of a split; a group per video if the signer is unknown
    split: str  # as labelled: train, val, test, extra or empty
    variant: str
    stored: NDArray[np.floating] | StoredRows  # (windows * T, D)
    windows: int = 1  # whose rows these are, one after the other
    path: Path | None = None  # of the video, as `offline.encode` read it
    part: tuple[int, int | None] | None = None  # of its pictures; None: all; see `Entry.part`
    signer: str = ""  # as labelled; `offline.data.duplicates` joins signers to groups
    duplicate_of: str = ""  # the first of the video ids with the same recording; empty: only this
    title_card: bool = False  # a title card or another scene stands between its pictures

    @property
    def recording(self) -> str:
        """The same for all duplicates of one recording."""
        return self.duplicate_of or self.video_id

    @property
    def source(self) -> Path | VideoPart | None:
        """The video that the rows are of, or the part of it."""
        return self.path and part_of(self.path, self.part)

    @property
    def rows(self) -> NDArray[np.float32]:
        """(windows * T, D) Read anew each time where they are on disk."""
        return np.asarray(self.stored, np.float32)


def read_examples(
    index: str | os.PathLike[str], variant: str | None = None, skipped: list[str] | None = None
) -> list[Example]:
    """All examples of an `index.csv`, or those of one variant; paths in it are relative to it.

    Each file is checked once; its rows stay on disk, and become float32 when they are read. A row
    whose file is missing, cut or has numbers that are not finite is skipped: a line on stderr names
    it, and `skipped` gets it. Variants that only names tell are told apart (see `variants`).

    Raises:
        ValueError: a column is missing or a line wrong, all files are broken, rows are of several
            encoders, or one row has two glosses.
    """
    file = Path(index)
    try:
        entries = with_variants(_one_spelling(file, read_index(file)))
    except IndexFileError:
        raise
    except ValueError as exc:
        raise ValueError(f"{file}: {exc}") from exc
    entries = [e for e in entries if variant is None or e.variant == variant]
    if not entries:
        wanted = f" in the variant {variant}" if variant else ""
        raise ValueError(f"{file}: lists no video{wanted}")
    encoders = sorted({_TOLD.sub("", e.encoder) for e in entries} - {""})
    if len(encoders) > 1:
        raise ValueError(f"{file}: rows of different encoders: {', '.join(encoders)}")
    examples, broken = [], list[str]()
    for entry in entries:
        try:
            stored = StoredRows.of(file.parent / entry.path_to_npy_file)
        except ValueError as exc:
            broken.append(str(exc))
            continue
        signer = entry.signer or f"{UNKNOWN_SIGNER}{entry.video_id}"
        if entry.windows < 1 or stored.shape[0] % entry.windows:
            rows = f"{stored.shape[0]} rows can't be those of {entry.windows} windows"
            raise ValueError(f"{file}: {entry.video_id}: {rows}")
        example = Example(
            video_id=entry.video_id,
            video=Path(entry.video or entry.video_id).name,
            gloss=entry.gloss,
            group=signer,
            split=entry.split,
            variant=entry.variant,
            stored=stored,
            windows=entry.windows,
            path=entry.video_path(file.parent),
            part=entry.part,
            signer=signer,
        )
        examples.append(example)
    if broken:
        if not examples:
            raise ValueError(f"{file}: none of its {len(broken)} files can be used: {broken[0]}")
        named = "; ".join(broken[:_NAMED])
        more = f"; {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        count = f"{len(broken)} of {len(entries)} rows are skipped"
        say(f"{file}: {count}: {named}{more}", file=sys.stderr)
        if skipped is not None:
            skipped += broken
    dims = {example.stored.shape[1] for example in examples}
    if len(dims) > 1:
        raise ValueError(f"{file}: rows of different encoders: {sorted(dims)} numbers a step")
    if (file.parent / REPORT).is_file() and (dim := read_spec(file).dim) not in dims:
        raise ValueError(
            f"{file}: rows of {dims.pop()} numbers a step, but {REPORT} beside it says {dim}"
        )
    return examples


def _one_spelling(file: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with one spelling for each gloss, and a line about each that has several."""
    spelling, lines = one_spelling(entry.gloss for entry in entries)
    for line in lines:
        say(f"{file}: {line}", file=sys.stderr)
    return [replace(entry, gloss=spelling[gloss_key(entry.gloss)]) for entry in entries]


def read_spec(index: str | os.PathLike[str]) -> EncoderSpec:
    """The encoder behind an index, from the `encode_report.json` beside it.

    Raises:
        ValueError: the report is missing or does not name the encoder.
    """
    file = Path(index).parent / REPORT
    try:
        return spec_from(json.loads(file.read_text(encoding="utf-8"))["encoder"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"{file}: does not tell which encoder made the index: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The classes of a head: first the glosses to recognise, then classes that only help training.

    `others` are separate classes so that fewer signs seem to be one of the glosses.
    """

    glosses: tuple[str, ...]
    others: tuple[str, ...] = ()  # glosses with few clips
    unknown: bool = False  # there is one class for all further glosses
    nothing: bool = False  # there is one for no sign

    @property
    def classes(self) -> int:
        return len(self.glosses) + len(self.others) + self.unknown + self.nothing

    @property
    def idle(self) -> int | None:
        return self.classes - 1 if self.nothing else None

    def label(self, gloss: str) -> int | None:
        """The class of a gloss; None when it is not trained."""
        if gloss == IDLE:
            return self.idle
        named = self.glosses + self.others
        if gloss in named:
            return named.index(gloss)
        return len(named) if self.unknown else None


def scored(examples: Sequence[Example]) -> list[Example]:
    """The examples that may be scored: of duplicates, the first."""
    once: dict[tuple[str, str], Example] = {}
    for example in filter(_may_be_scored, examples):
        once.setdefault((example.recording, example.gloss), example)
    return list(once.values())


def _may_be_scored(example: Example) -> bool:
    return example.gloss != IDLE and example.split != EXTRA and example.variant == ORIGINAL


def clip_counts(examples: Sequence[Example]) -> Counter[str]:
    """How many clips of each gloss may be scored.

    Duplicates count here, so that a head's glosses do not depend on which duplicates are found.
    """
    return Counter(e.gloss for e in examples if _may_be_scored(e))


def common_glosses(examples: Sequence[Example], clips: int) -> tuple[str, ...]:
    """Glosses with at least `clips` clips, by `clip_counts`, in alphabetical order.

    Raises:
        ValueError: there is none.
    """
    counts = clip_counts(examples)
    glosses = tuple(sorted(gloss for gloss, count in counts.items() if count >= clips))
    if not glosses:
        raise ValueError(f"no gloss has {clips} clips; lower --min-clips")
    return glosses


def vocabulary(train: Sequence[Example], glosses: Sequence[str], open_set: bool) -> Vocabulary:
    """The classes to train; an open set also has classes for other signs and for no sign."""
    if not open_set:
        return Vocabulary(glosses=tuple(glosses))
    named = {IDLE, *glosses}
    rest = Counter(e.gloss for e in train if e.gloss not in named and e.variant == ORIGINAL)
    return Vocabulary(
        glosses=tuple(glosses),
        others=tuple(sorted(gloss for gloss, count in rest.items() if count > 1)),
        unknown=1 in rest.values(),
        nothing=True,
    )

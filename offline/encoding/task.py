"""What is to be encoded and what became of it: the words between `encode` and who does the work.

    labels -> [Task] -> pipeline, workers or cluster -> [Finished] -> store -> [Outcome] -> index

The three ways to work differ in where: in threads, in processes, on other machines. A task is one
video for all of them, and what they hand over is stored by one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.schema import EncoderSpec
from offline.encoding.embedder import Embedded, identity
from offline.encoding.journal import note
from offline.encoding.store import Entry, npy_name, write_rows
from offline.labels import Labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video, and the variants that are still to be made of it."""

    video: Labelled
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task that was worked on: an embedding a variant, or why there are none."""

    video: Labelled
    embedded: tuple[Embedded, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A task that is done with: entries for the index, or why there are none."""

    video: Labelled
    entries: tuple[Entry, ...] = ()
    why_not: str = ""


def stored(finished: Finished, out: Path, spec: EncoderSpec) -> Outcome:
    """Put what was made of a video on the disk, whole, and note it in the journal.

    All tokens of a window are kept in half precision, which halves what is by far the largest
    (5.8 MB a clip of V-JEPA 2 ViT-g); rows of time steps in single.

    Raises:
        OSError: the disk is full, or not to be written to.
    """
    video, entries = finished.video, []
    tokens = spec.kind == "vjepa2-tokens"
    try:
        for embedded in finished.embedded:
            name = npy_name(video.video_id, embedded.variant)
            with np.errstate(over="ignore"):  # what is out of range becomes inf, and is refused
                rows = embedded.rows.astype(np.float16) if tokens else embedded.rows
            entry = Entry(
                video_id=video.video_id,
                gloss=video.gloss,
                path_to_npy_file=name,
                video=str(video.path),
                variant=embedded.variant,
                split=video.split,
                signer=video.signer,
                frames=embedded.frames,
                fps=spec.fps,
                encoder=identity(spec),
                checksum=write_rows(out / name, rows),
            )
            note(out, entry)
            entries.append(entry)
    except ValueError as exc:
        return Outcome(video=video, entries=tuple(entries), why_not=str(exc))
    return Outcome(video=video, entries=tuple(entries), why_not=finished.why_not)

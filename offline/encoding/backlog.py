"""What is still to be encoded, and what need not be: labels and the index in, tasks out.

labels + index.csv + journal -> [backlog] -> tasks -> pipeline
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from models.schema import EncoderSpec
from offline.encoding.embedder import identity, row_a_frame
from offline.encoding.journal import read_journal
from offline.encoding.store import Entry, StoreError, read_index, read_rows
from offline.encoding.task import Task
from offline.labels import Labelled

_USUAL_CLIP_S = 3.0  # for the guess of how much disk is needed
_READERS = 4  # threads that look through what is there: SHA-256 runs outside of Python's lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a run finds in its folder."""

    tasks: list[Task]
    kept: dict[tuple[str, str], Entry]  # by video and variant, with today's labels
    corrupt: list[str]  # a line an embedding that is listed, but missing or not what is listed


def backlog(
    out: Path, videos: Sequence[Labelled], variants: Sequence[str], spec: EncoderSpec
) -> Backlog:
    """Compare what `videos` in `variants` need with what is in `out`, every byte of it.

    Raises:
        StoreError: the index in `out` is not one of ours.
    """
    known = read_index(out) | read_journal(out)
    found: list[Entry] = []
    for video in videos:
        for variant in variants:
            entry = known.get((video.video_id, variant))
            if entry is None or entry.encoder != identity(spec):
                continue
            if Path(entry.video).name != video.path.name:
                continue  # another video under the same id
            found.append(replace(entry, gloss=video.gloss, split=video.split, signer=video.signer))
    with ThreadPoolExecutor(_READERS) as readers:
        problems = list(readers.map(lambda entry: _problem(out, entry), found))
    kept = {(e.video_id, e.variant): e for e, why in zip(found, problems, strict=True) if not why}
    tasks = []
    for video in videos:
        missing = tuple(v for v in variants if (video.video_id, v) not in kept)
        if missing:
            tasks.append(Task(video=video, variants=missing))
    return Backlog(tasks=tasks, kept=kept, corrupt=[why for why in problems if why])


def check_disk(out: Path, tasks: Sequence[Task], spec: EncoderSpec) -> None:
    """Tell how much disk the embeddings of `tasks` will take, and how much there is.

    Raises:
        OSError: that is not enough.
    """
    need, free = bytes_needed(tasks, spec), shutil.disk_usage(out).free
    print(f"disk: about {need / 1e6:.1f} MB needed, {free / 1e6:.0f} MB free", flush=True)
    if need > free:
        raise OSError(f"{out}: not enough disk: {need / 1e6:.0f} MB needed; give another --out")


def bytes_needed(tasks: Sequence[Task], spec: EncoderSpec) -> float:
    """About how much disk the embeddings of `tasks` will take."""
    rows, size = spec.frames / 2, 4
    if row_a_frame(spec):
        rows = spec.fps * _USUAL_CLIP_S
    elif spec.kind == "vjepa2-tokens":
        rows *= (spec.short_side * 224 // 256 // 16 + 1) ** 2
        size = 2
    return sum(len(task.variants) for task in tasks) * rows * spec.dim * size


def _problem(out: Path, entry: Entry) -> str:
    try:
        read_rows(out, entry)
    except StoreError as exc:
        return str(exc)
    return ""

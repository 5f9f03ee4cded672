"""Labelled videos -> embeddings that heads are trained on: the first offline command.

    python -m offline.encode --videos DIR --labels FILE.json|FILE.csv|folders --out DIR

    labels + videos -> [embedder], in several processes -> [store] -> offline.train

What is there already, made by the same encoder and whole, is not made again: a run that was cut off
goes on. `encode_report.json` tells what was done and what was left out, and why; the last line of
stdout is its summary as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from models.encoders import encoder_spec
from models.schema import EncoderSpec
from offline.embedder import identity, row_a_frame
from offline.labels import LabelError, Labelled, chosen, read_labels, read_negatives
from offline.store import (
    Entry,
    StoreError,
    read_index,
    read_rows,
    write_file,
    write_index,
)
from offline.variants import VARIANTS
from offline.workers import Task, outcomes

REPORT = "encode_report.json"
_SAVE_EVERY_S = 10.0
_USUAL_CLIP_S = 3.0  # for the guess of how much disk is needed


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 0 when something is encoded, 1 when nothing is, 2 for wrong use."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (LabelError, StoreError, OSError, ValueError) as exc:
        print(f"offline.encode: {exc}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.encode", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder that the labels' paths start from")
    add("--labels", required=True, help="WLASL's .json, a .csv with path,gloss, or: folders")
    add("--negatives", type=Path, help="folder of videos in which nobody signs (gloss idle)")
    add("--glosses", type=Path, help="file of the glosses to take, one a line (all)")
    add("--out", type=Path, required=True, help="folder for index.csv and the embeddings")
    add("--encoder", default="landmarks", help="landmarks, vjepa2:PATH or vjepa2-tokens:PATH")
    add("--frames", type=int, help="pictures a window (the encoder's own)")
    add("--fps", type=float, help="pictures a second (the encoder's own)")
    add("--variants", default="original", help=f"any of {','.join(VARIANTS)} (original)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--workers", type=int, help="processes (2 at most for landmarks, 1 for vjepa2)")
    add("--limit", type=int, help="only the first N videos")
    return parser


def _run(options: argparse.Namespace) -> int:
    variants = tuple(dict.fromkeys(options.variants.split(",")))
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")
    for name in ("workers", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    spec = encoder_spec(options.encoder, options.frames, options.fps)
    workers = options.workers or (min(2, os.cpu_count() or 1) if row_a_frame(spec) else 1)
    videos = read_labels(options.labels, options.videos)
    if options.glosses:
        videos = chosen(videos, options.glosses)
    videos = videos[: options.limit]
    if options.negatives:
        videos += read_negatives(options.negatives)[: options.limit]
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    entries, corrupt = _kept(out, videos, variants, spec)
    tasks = _tasks(out, videos, variants, entries)
    print(f"encoder {identity(spec)}, {spec.dim} features a row; {workers} workers")
    print(f"{len(videos)} videos in {len(variants)} variants; {len(tasks)} videos still to encode")
    _check_disk(out, tasks, spec)
    for line in corrupt:
        print(f"made again: {line}", file=sys.stderr)

    skipped: list[dict[str, str]] = []
    began = saved = time.monotonic()
    done = 0
    with tqdm(total=len(tasks), unit="video", disable=None) as bar:
        try:
            for outcome in outcomes(tasks, spec, options.device, workers):
                entries.update({(e.video_id, e.variant): e for e in outcome.entries})
                if outcome.why_not:
                    video = outcome.video
                    skipped.append({"video_id": video.video_id, "why": outcome.why_not})
                done += not outcome.why_not
                bar.update()
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    write_index(out, entries.values())
                    saved = time.monotonic()
        finally:
            write_index(out, entries.values())
    summary = {
        "videos": len(videos),
        "done": done,
        "kept": len(videos) - len(tasks),
        "skipped": len(skipped),
        "corrupt": len(corrupt),
        "seconds": round(time.monotonic() - began, 1),
        "index": str(out / "index.csv"),
    }
    report = {
        **summary,
        "encoder": asdict(spec),
        "variants": variants,
        "why_skipped": skipped,
        "made_again": corrupt,
    }
    write_file(out / REPORT, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    print(json.dumps(summary))
    return 0 if entries else 1


def _kept(
    out: Path, videos: Sequence[Labelled], variants: Sequence[str], spec: EncoderSpec
) -> tuple[dict[tuple[str, str], Entry], list[str]]:
    """What need not be made again, with today's labels; and what is there, but broken."""
    known = read_index(out)
    kept, corrupt = {}, []
    for video in videos:
        for variant in variants:
            entry = known.get((video.video_id, variant))
            if entry is None or entry.encoder != identity(spec):
                continue
            if Path(entry.video).name != video.path.name:
                continue  # another video under the same id
            try:
                read_rows(out, entry)
            except StoreError as exc:
                corrupt.append(str(exc))
                continue
            kept[video.video_id, variant] = replace(
                entry, gloss=video.gloss, split=video.split, signer=video.signer
            )
    return kept, corrupt


def _tasks(
    out: Path,
    videos: Sequence[Labelled],
    variants: Sequence[str],
    kept: dict[tuple[str, str], Entry],
) -> list[Task]:
    tasks = []
    for video in videos:
        missing = tuple(v for v in variants if (video.video_id, v) not in kept)
        if missing:
            tasks.append(Task(video=video, variants=missing, out=out))
    return tasks


def _check_disk(out: Path, tasks: Sequence[Task], spec: EncoderSpec) -> None:
    rows = spec.fps * _USUAL_CLIP_S if row_a_frame(spec) else spec.frames / 2
    if spec.kind == "vjepa2-tokens":
        rows *= (spec.short_side * 224 // 256 // 16 + 1) ** 2
    need = sum(len(task.variants) for task in tasks) * rows * spec.dim * 4
    free = shutil.disk_usage(out).free
    print(f"disk: about {need / 1e6:.1f} MB needed, {free / 1e6:.0f} MB free")
    if need > free:
        raise OSError(f"{out}: not enough disk: {need / 1e6:.0f} MB needed; give another --out")


if __name__ == "__main__":
    raise SystemExit(main())

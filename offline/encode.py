"""LabelledVideo videos -> embeddings that heads are trained on: the first offline command.

    python -m offline.encode --videos DIR --labels FILE.json|FILE.csv|folders --out DIR

    labels + videos -> [backlog] -> [pipeline], [workers] or [cluster] -> [store] -> offline.train

What is there already, made by the same encoder and whole, is not made again: a run that was cut off
goes on. `encode_report.json` tells what there is now and what was left out, and why; the last line
of stdout tells what this run did, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from models.faults import DeviceLost, OutOfMemory
from offline.data.index import StoreError, write_file
from offline.data.labels import LabelError, LabelledVideo, chosen, read_labels, read_negatives
from offline.encoding import run
from offline.encoding.cluster import Cluster
from offline.encoding.embed import VARIANTS, identity, row_a_frame
from offline.encoding.opening import Opening, opening
from offline.encoding.tasks import (
    EncodeOutcome,
    EncodeTask,
    alone,
    backlog,
    check_disk,
    read_journal,
    settle,
)

REPORT = "encode_report.json"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 0 when something is encoded, 1 when nothing is, 2 for wrong use."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except OutOfMemory:
        problem = "the GPU's memory is too small for so many windows at once: halve --batch"
    except DeviceLost:
        problem = "the GPU does not answer any more; run it again, it goes on"
    except (LabelError, StoreError, OSError, ValueError) as exc:
        problem = str(exc)
    print(f"offline.encode: {problem}", file=sys.stderr)
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
    add(
        "--encoder",
        default="landmarks",
        help="landmarks; vjepa2:PATH, a row a time step; vjepa2-tokens:PATH, all tokens; or "
        "standin:MS, which waits",
    )
    add("--frames", type=int, help="pictures a window (the encoder's own)")
    add("--fps", type=float, help="pictures a second (the encoder's own)")
    add("--variants", default="original", help=f"any of {','.join(VARIANTS)} (original)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--batch", type=int, help="windows that vjepa2 runs at once (16 on a GPU, 1 on a CPU)")
    add(
        "--workers",
        type=int,
        help="threads that decode for vjepa2 (one a core), processes for landmarks (2 at most), "
        "encoders with --ray (one a GPU)",
    )
    add("--ray", metavar="ADDRESS|local", help="encode on this Ray cluster")
    add("--limit", type=int, help="only the first N videos")
    return parser


def _run(options: argparse.Namespace) -> int:
    variants = tuple(dict.fromkeys(options.variants.split(",")))
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")
    for name in ("batch", "workers", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(alone(out))
        cluster = stack.enter_context(Cluster(options.ray)) if options.ray else None
        how = opening(
            options.encoder,
            frames=options.frames,
            fps=options.fps,
            device=options.device,
            batch=options.batch,
            gpu=cluster.gpus > 0 if cluster else None,
        )
        return _encode(options, variants, how, cluster)


def _encode(
    options: argparse.Namespace, variants: Sequence[str], how: Opening, cluster: Cluster | None
) -> int:
    began, out, spec = time.monotonic(), options.out, how.spec
    videos = _videos(options)
    found = backlog(out, videos, variants, spec)
    settle(out, found.kept.values())
    print(f"encoder {identity(spec)}, {spec.dim} features a row")
    print(
        f"{len(videos)} videos in {len(variants)} variants; {len(found.tasks)} still to encode",
        flush=True,
    )
    check_disk(out, found.tasks, spec)
    for line in found.corrupt:
        print(f"made again: {line}", file=sys.stderr)

    entries, skipped = dict(found.kept), {}
    try:
        with (
            closing(_outcomes(found.tasks, how, cluster, out, options.workers)) as outcomes,
            tqdm(total=len(found.tasks), unit="video", disable=None) as bar,
        ):
            for outcome in outcomes:
                entries.update({(e.video_id, e.variant): e for e in outcome.entries})
                if outcome.why_not:
                    skipped[outcome.video.video_id] = outcome.why_not
                bar.update()
    finally:  # whoever stops it may train on what is there
        entries |= read_journal(out)  # also what was stored, but not heard of any more
        settle(out, entries.values())
    seconds = round(time.monotonic() - began, 1)
    report = {
        # What there is now: the same after one run as after several.
        "videos": len(videos),
        "done": len(videos) - len(skipped),
        "skipped": len(skipped),
        "embeddings": len(entries),
        "encoder": asdict(spec),
        "variants": variants,
        "why_skipped": [
            {"video_id": video.video_id, "why": skipped[video.video_id]}
            for video in videos
            if video.video_id in skipped
        ],
        # Of this run:
        "made_again": found.corrupt,
        "seconds": seconds,
    }
    write_file(out / REPORT, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    summary = {
        "videos": len(videos),
        "done": len(found.tasks) - len(skipped),
        "kept": len(videos) - len(found.tasks),
        "skipped": len(skipped),
        "corrupt": len(found.corrupt),
        "seconds": seconds,
        "index": str(out / "index.csv"),
    }
    print(json.dumps(summary))
    return 0 if entries else 1


def _videos(options: argparse.Namespace) -> list[LabelledVideo]:
    videos = read_labels(options.labels, options.videos)
    if options.glosses:
        videos = chosen(videos, options.glosses)
    videos = videos[: options.limit]
    if options.negatives:
        videos += read_negatives(options.negatives)[: options.limit]
    return videos


def _outcomes(
    tasks: Sequence[EncodeTask],
    how: Opening,
    cluster: Cluster | None,
    out: Path,
    at_once: int | None,
) -> Generator[EncodeOutcome]:
    """Where the work is done: `at_once` is --workers."""
    if not tasks:
        return
    cores = os.cpu_count() or 1
    if cluster is not None:
        yield from cluster.outcomes(tasks, out, how, encoders=at_once)
    elif row_a_frame(how.spec):
        yield from run.outcomes_by_processes(tasks, out, how, workers=at_once or min(2, cores))
    else:
        videos = how.videos(max(len(task.variants) for task in tasks))
        encoder = how.open()
        try:
            yield from run.outcomes_by_threads(
                tasks, out, encoder, videos=videos, threads=at_once or cores
            )
        finally:
            encoder.close()


if __name__ == "__main__":
    raise SystemExit(main())

"""Labelled videos -> embeddings that heads are trained on: the first offline command.

    python -m offline.encode --videos DIR --labels FILE.json|FILE.csv|folders --out DIR

    labels + videos -> find_backlog -> [run] or [cluster] -> index.csv -> offline.train

A label may name landmarks that others made of a video, .npz or .npy, instead of the video:
`encoding.landmark_files` says which. The landmark encoder's rows are made of them, by no network.

What the same encoder has made before and is whole is not made again: a run that was cut off goes
on. `encode_report.json` lists what there is now, and what was left out and why; the last line of
stdout is what this run did, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import arg

from models.card import spec_as_card
from models.command_line import read_command_line, say
from models.faults import DeviceLost, OutOfMemory
from models.files import replacing
from models.schema import Resize
from offline.data.index import INDEX, ORIGINAL
from offline.data.labels import holds_landmarks, of_glosses, read_labels, read_negatives
from offline.encoding import run
from offline.encoding.cluster import Cluster
from offline.encoding.embed import (
    MIDDLE_WINDOW,
    VARIANTS,
    EncodeTask,
    WindowPlan,
    encoder_identity,
    row_per_frame,
)
from offline.encoding.run import EncoderFactory
from offline.encoding.tasks import (
    EncodeOutcome,
    check_disk,
    find_backlog,
    locked,
    read_journal,
    write_results,
)

REPORT = "encode_report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """The options of `offline.encode`."""

    videos: Path  # folder that the labels' paths start from
    labels: str  # WLASL's .json, a .csv with path,gloss, or: folders
    out: Path  # folder for index.csv and the embeddings
    negatives: Path | None = None  # folder of videos in which nobody signs (gloss idle)
    glosses: Path | None = None  # file of the glosses to take, one per line; None: all
    # landmarks; vjepa2:PATH, a row per time step; vjepa2-tokens:PATH, all tokens; or standin:MS,
    # which only waits
    encoder: str = "landmarks"
    frames: int | None = None  # pictures per window; None: the encoder's own number
    fps: float | None = None  # pictures per second; None: the encoder's own rate
    # windows per video, spread over it, for vjepa2 and vjepa2-tokens; 1: the middle one
    windows: int = 1
    views: int = 1  # squares along the long side of the pictures, per window; 1: the middle one
    resize: Resize = "fast"
    """of pictures: exact is transformers' rule for V-JEPA 2, for figures compared with others'"""
    variants: str = ORIGINAL  # any of original,gaussian,bw, with commas between them
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    batch: int | None = None  # windows that vjepa2 runs at once; None: 16 on a GPU, 1 on a CPU
    # threads that decode for vjepa2 (one per core), processes for landmarks (2 at most), encoders
    # with --ray (one per GPU)
    workers: int | None = None
    ray: Annotated[str | None, arg(metavar="ADDRESS|local")] = None  # encode on this Ray cluster
    limit: int | None = None  # only the first N videos
    # frames per second of landmark files, where neither they nor the labels' column fps state it
    landmark_fps: float = 25.0
    # width / height of the pictures of landmark files that state none: 4:3 or 1.333
    aspect: Annotated[str | None, arg(metavar="W:H|RATIO")] = None

    def __post_init__(self) -> None:
        for variant in self.variants.split(","):
            if variant not in VARIANTS:
                raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")
        for name in ("windows", "views", "batch", "workers", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}")
        if not 1 <= self.landmark_fps <= 1000:
            raise ValueError(f"--landmark-fps must be from 1 to 1000, not {self.landmark_fps:g}")
        _ = self.aspect_ratio

    @property
    def aspect_ratio(self) -> float | None:
        """`aspect` as a number.

        Raises:
            ValueError: it is none from 0.1 to 10.
        """
        if self.aspect is None:
            return None
        width, _, height = self.aspect.partition(":")
        with suppress(ValueError, ZeroDivisionError):
            if 0.1 <= (ratio := float(width) / float(height or 1)) <= 10:
                return ratio
        raise ValueError(f"--aspect must be like 4:3 or 1.333, from 0.1 to 10, not {self.aspect}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 0 when something is encoded, 1 when nothing is, 2 for wrong use."""
    settings = read_command_line(
        EncodeSettings,
        argv,
        prog="python -m offline.encode",
        description="Labelled videos -> embeddings that heads are trained on.",
    )
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(locked(settings.out))
            cluster = stack.enter_context(Cluster(settings.ray)) if settings.ray else None
            factory = EncoderFactory.of(
                settings.encoder,
                settings.frames,
                settings.fps,
                settings.device,
                settings.batch,
                gpu=cluster.gpus > 0 if cluster else None,
                resize=settings.resize,
            )
            return _encode(settings, factory, cluster)
    except OutOfMemory:
        problem = "the GPU's memory is too small for so many windows at once: halve --batch"
    except DeviceLost:
        problem = "the GPU does not answer any more; run it again, it goes on"
    except (OSError, ValueError) as exc:
        problem = str(exc)
    say(f"offline.encode: {problem}", file=sys.stderr)
    return 2


def _encode(settings: EncodeSettings, factory: EncoderFactory, cluster: Cluster | None) -> int:
    began, out, spec = time.monotonic(), settings.out, factory.spec
    plan = WindowPlan(segments=settings.windows, views=settings.views)
    if row_per_frame(spec) and plan != MIDDLE_WINDOW:
        raise ValueError(f"--windows and --views: {spec.kind} takes each video whole, as it is")
    videos = read_labels(settings.labels, settings.videos)
    if settings.glosses:
        videos = of_glosses(videos, settings.glosses)
    videos = videos[: settings.limit]
    if settings.negatives:
        videos += read_negatives(settings.negatives)[: settings.limit]
    variants = tuple(dict.fromkeys(settings.variants.split(",")))
    fps, aspect = settings.landmark_fps, settings.aspect_ratio
    videos = [replace(video, fps=video.fps or fps, aspect=aspect) for video in videos]
    backlog = find_backlog(out, videos, variants, spec, plan)
    write_results(out, backlog.kept.values())
    print(f"encoder {encoder_identity(spec, plan=plan)}, {spec.dim} features a row")
    print(f"{len(videos)} videos in {len(variants)} variants; {len(backlog.tasks)} still to encode")
    check_disk(out, backlog.tasks, spec)
    for line in backlog.corrupt:
        say(f"made again: {line}", file=sys.stderr)

    entries, skipped = dict(backlog.kept), {}
    try:
        with (
            closing(_outcomes(backlog.tasks, settings, factory, cluster)) as outcomes,
            tqdm(total=len(backlog.tasks), unit="video", disable=None) as bar,
        ):
            for outcome in outcomes:
                entries.update({(e.video_id, e.variant): e for e in outcome.entries})
                if outcome.error:
                    skipped[outcome.video.video_id] = outcome.error
                bar.update()
    finally:  # a run that is stopped leaves an index of what is there
        entries |= read_journal(out)  # also what was stored after the last outcome
        write_results(out, entries.values())
    seconds = round(time.monotonic() - began, 1)
    report = {
        # What there is now: the same after one run as after several.
        "videos": len(videos),
        "done": len(videos) - len(skipped),
        "skipped": len(skipped),
        "embeddings": len(entries),
        "encoder": spec_as_card(spec),
        "windows": asdict(plan),
        "variants": variants,
        "why_skipped": [
            {"video_id": name, "why": skipped[name]}
            for name in (video.video_id for video in videos)
            if name in skipped
        ],
        # Of this run:
        "made_again": backlog.corrupt,
        "seconds": seconds,
    }
    with replacing(out / REPORT) as file:
        file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    summary = {
        "videos": len(videos),
        "done": len(backlog.tasks) - len(skipped),
        "kept": len(videos) - len(backlog.tasks),
        "skipped": len(skipped),
        "corrupt": len(backlog.corrupt),
        "seconds": seconds,
        "index": str(out / INDEX),
    }
    print(json.dumps(summary))
    return 0 if entries else 1


def _outcomes(
    tasks: Sequence[EncodeTask],
    settings: EncodeSettings,
    factory: EncoderFactory,
    cluster: Cluster | None,
) -> Generator[EncodeOutcome]:
    """Encode on a cluster, in processes or in threads, as the settings require.

    Landmark files are read here, before the first video: that takes milliseconds each.
    """
    out, workers, cores = settings.out, settings.workers, os.cpu_count() or 1
    yield from run.read_landmark_files(
        [task for task in tasks if holds_landmarks(task.video.path)],
        out,
        factory.spec,
        workers=workers or min(2, cores),
    )
    tasks = [task for task in tasks if not holds_landmarks(task.video.path)]
    if not tasks:
        return
    if cluster is not None:
        yield from cluster.encode(tasks, out, factory, workers)
    elif row_per_frame(factory.spec):
        yield from run.encode_by_processes(tasks, out, factory, workers=workers or min(2, cores))
    else:
        videos = factory.videos_per_call(max(task.clips for task in tasks))
        with closing(factory.open()) as encoder:
            yield from run.encode_by_threads(
                tasks, out, encoder, videos=videos, threads=workers or cores
            )


if __name__ == "__main__":
    raise SystemExit(main())

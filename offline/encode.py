"""Labelled videos -> embeddings that heads are trained on: the first offline command.

    python -m offline.encode --videos DIR --labels FILE.json|FILE.csv|folders --out DIR

    labels + videos -> find_backlog -> [run] or [cluster] -> index.csv -> offline.train

A label may name landmarks that others made of a video, .npz or .npy, instead of the video:
`encoding.landmark_files` says which. The landmark encoder's rows are made of them, by no network.

What the same encoder has made of the same content before and is whole is not made again: a run that
was cut off goes on, and one with fewer labels forgets nothing. `index.csv` lists what the labels of
the last run ask for. `encode_report.json` lists what was left out or passed over, and why; a table
says it in short, and the last line of stdout is what this run did, as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from models.command_line import (
    STOPPED,
    read_command_line,
    say,
    stopped_by_signals,
    until_interrupted,
)
from models.faults import DeviceLost, OutOfMemory, RecognitionError
from models.files import replacing
from models.schema import Resize
from offline.data.index import INDEX, ORIGINAL, Entry
from offline.data.labels import (
    LabelledVideo,
    LabelNotes,
    holds_landmarks,
    of_glosses,
    read_labels,
    read_negatives,
)
from offline.data.video_folders import REPORT
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
from offline.encoding.progress import EncodingProgress
from offline.encoding.run import EncoderFactory
from offline.encoding.summary import encode_report, of_two_glosses, summary_table
from offline.encoding.tasks import (
    JOURNAL,
    EncodeOutcome,
    check_disk,
    find_backlog,
    locked,
    read_journal,
    write_journal,
    write_results,
)

_NOTES = 20  # that are printed; all are in the report


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
        for name in ("windows", "views", "batch", "workers", "limit", "frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}")
        if self.fps is not None and not 0 < self.fps <= 120:
            raise ValueError(f"--fps must be above 0, and 120 at most, not {self.fps:g}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, not {self.device}")
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
    """The command. Exit status 0 when something is encoded, 1 when nothing is, 2 for wrong use,
    130 when it was stopped."""
    settings = read_command_line(
        EncodeSettings,
        argv,
        prog="python -m offline.encode",
        description="Labelled videos -> embeddings that heads are trained on.",
    )
    out = settings.out
    try:
        with ExitStack() as stack:
            stack.enter_context(stopped_by_signals())
            _prepare(out)
            stack.enter_context(locked(out))
            notes = LabelNotes()
            videos = _labelled_videos(settings, notes)
            cluster = stack.enter_context(Cluster(settings.ray)) if settings.ray else None
            stack.enter_context(stopped_by_signals())  # Ray takes the signals for itself
            factory = EncoderFactory.of(
                settings.encoder,
                settings.frames,
                settings.fps,
                settings.device,
                settings.batch,
                gpu=cluster.gpus > 0 if cluster else None,
                resize=settings.resize,
            )
            return _encode(settings, videos, notes, factory, cluster)
    except KeyboardInterrupt:
        say("offline.encode: stopped; the same command goes on", file=sys.stderr)
        return STOPPED
    except OutOfMemory:
        problem = run.HALVE_BATCH
        if settings.batch == 1:
            problem = (
                "the GPU's memory is too small for one window: fewer --frames, or --device cpu"
            )
    except (MemoryError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and "allocate memory" not in str(exc):  # as torch says it
            raise
        problem = "the memory is full: fewer --workers, or a smaller --batch; it goes on"
    except DeviceLost:
        problem = "the GPU does not answer any more; run it again, it goes on"
    except OSError as exc:
        problem = str(exc)
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"{out}: the disk is full: make room, and the same command goes on"
    except (ValueError, RecognitionError) as exc:
        problem = " ".join(str(exc).split()) or type(exc).__name__
    say(f"offline.encode: {problem}", file=sys.stderr)
    return 2


def _prepare(out: Path) -> None:
    """Make the folder, and try that files can be written there, before anything takes time.

    Raises:
        ValueError: they can't.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as exc:
        why = "is a file, no folder" if out.is_file() else f"can't be written to: {exc.strerror}"
        raise ValueError(f"--out {out}: {why}") from exc


def _labelled_videos(settings: EncodeSettings, notes: LabelNotes) -> list[LabelledVideo]:
    if not settings.videos.is_dir():
        raise ValueError(f"--videos {settings.videos}: no such folder")
    videos = read_labels(settings.labels, settings.videos, notes)
    if settings.glosses:
        videos = of_glosses(videos, settings.glosses, notes)
    videos = videos[: settings.limit]
    if settings.negatives:
        negatives = read_negatives(settings.negatives, notes)[: settings.limit]
        if twice := {v.video_id for v in videos} & {v.video_id for v in negatives}:
            raise ValueError(f"{settings.negatives}: the labels name video {min(twice)} too")
        videos += negatives
    fps, aspect = settings.landmark_fps, settings.aspect_ratio
    return [replace(video, fps=video.fps or fps, aspect=aspect) for video in videos]


def _encode(
    settings: EncodeSettings,
    videos: Sequence[LabelledVideo],
    notes: LabelNotes,
    factory: EncoderFactory,
    cluster: Cluster | None,
) -> int:
    began, out, spec = time.monotonic(), settings.out, factory.spec
    plan = WindowPlan(segments=settings.windows, views=settings.views)
    if row_per_frame(spec) and plan != MIDDLE_WINDOW:
        raise ValueError(f"--windows and --views: {spec.kind} takes each video whole, as it is")
    variants = tuple(dict.fromkeys(settings.variants.split(",")))
    backlog = find_backlog(out, videos, variants, spec, plan)
    write_journal(out, backlog.kept, backlog.changed)
    print(f"encoder {encoder_identity(spec, plan=plan)}, {spec.dim} features a row")
    print(f"{len(videos)} videos in {len(variants)} variants; {len(backlog.tasks)} still to encode")
    if backlog.others:
        say(f"{backlog.others} embeddings of other videos or encoders stay in {out}, unlisted")
    if backlog.lost:
        print(f"{backlog.lost} videos are gone; their embeddings are kept")
    check_disk(out, backlog.tasks, spec)
    made_again = [*backlog.corrupt, *backlog.changed.values()]
    for line in notes.lines[:_NOTES]:
        say(f"note: {line}", file=sys.stderr)
    for line in made_again:
        say(f"made again: {line}", file=sys.stderr)

    before = (out / JOURNAL).stat().st_size
    skipped: dict[str, str] = {}

    def finish() -> list[Entry]:
        new = read_journal(out, before)  # also what was stored after the last outcome
        entries = write_results(out, [*backlog.kept, *new.values()])
        doubtful.extend(of_two_glosses(entries))
        report = encode_report(videos, variants, spec, plan, entries, skipped, notes, doubtful)
        of_this_run = {"made_again": made_again, "seconds": round(time.monotonic() - began, 1)}
        with replacing(out / REPORT) as file:
            text = json.dumps({**report, **of_this_run}, indent=1, ensure_ascii=False)
            file.write(text.encode("utf-8", "backslashreplace") + b"\n")  # JSON's own escapes
        return entries

    doubtful: list[str] = []
    try:
        with (
            closing(_outcomes(backlog.tasks, settings, factory, cluster)) as outcomes,
            EncodingProgress(len(backlog.tasks)) as progress,
        ):
            for outcome in outcomes:
                if outcome.error:
                    skipped[outcome.video.video_id] = outcome.error
                progress.update(left_out=bool(outcome.error))
    except BaseException:
        if backlog.kept or read_journal(out, before):  # else the index from before stays
            finish()  # an index and a report of what is there
        raise
    entries = finish()
    for line in doubtful[:_NOTES]:
        say(f"note: {line}", file=sys.stderr)
    done, kept = len(backlog.tasks) - len(skipped), len(videos) - len(backlog.tasks)
    for line in summary_table(
        videos, encoded=done, kept=kept, why_skipped=skipped, passed_over=notes.passed_over
    ):
        say(line)
    say(f"{len(entries)} embeddings in {out / INDEX}; what was left out, and why: {out / REPORT}")
    summary = {
        "videos": len(videos),
        "done": done,
        "kept": kept,
        "skipped": len(skipped),
        "corrupt": len(backlog.corrupt),
        "changed": len(backlog.changed),
        "passed_over": len(notes.passed_over),
        "seconds": round(time.monotonic() - began, 1),
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
    raise SystemExit(until_interrupted(main, "offline.encode"))

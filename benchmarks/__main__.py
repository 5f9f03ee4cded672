"""`python -m benchmarks`: the same model and camera behind livegloss and behind what others use.

    python -m benchmarks --sessions 1 4 8 12 --model standin:20 --table docs/rivals.md
    python -m benchmarks --sessions 1 --duration 2 --repetitions 1 --only ours,aiortc

Each server runs in a process of its own, one after the other, in another order each time; figures
are medians of the repetitions. The last line of stdout is one JSON object. What the others need:
the extra `benchmarks` (docs/rivals.md says how to install it).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from av import FFmpegError

from benchmarks import table
from benchmarks.contest import CONTENDERS, Contender, RivalLoad, RivalOutcome, median, run
from models.bundle import BundleError
from streaming.bench.camera import clip_pictures, drawn_pictures, record
from streaming.bench.flags import picture_size
from streaming.bench.page import around, put
from streaming.bench.report import commit
from streaming.bench.standin import open_model
from streaming.flags import HelpFormatter

_CONNECT_S = 40.0  # a recording lasts so much longer than a run: peers send while others connect


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalSettings:
    """One benchmark."""

    model: str
    sessions: tuple[int, ...]
    duration_s: float
    repetitions: int
    only: tuple[Contender, ...]
    fps: int
    size: tuple[int, int]  # px, (width, height)
    clip: str | None
    table: Path | None

    def __post_init__(self) -> None:
        if not all(1 <= sessions <= 64 for sessions in self.sessions):
            raise ValueError("--sessions must lie between 1 and 64")
        if not 2 <= self.duration_s <= 600 or self.repetitions < 1:
            raise ValueError("--duration must lie between 2 and 600, --repetitions be at least 1")
        if not 1 <= self.fps <= 60 or min(self.size) < 64 or any(n % 2 for n in self.size):
            raise ValueError("--fps must lie between 1 and 60, --size be even and at least 64x64")


async def measure(settings: RivalSettings) -> dict[tuple[int, str], RivalOutcome]:
    """The median outcome of each contender at each number of sessions."""
    outcomes: dict[tuple[int, str], list[RivalOutcome]] = {
        (sessions, one.name): [] for sessions in settings.sessions for one in settings.only
    }
    with tempfile.TemporaryDirectory() as folder:
        recording = str(Path(folder) / "camera.ivf")
        clip, size = settings.clip, settings.size
        pictures = clip_pictures(clip, size) if clip else drawn_pictures(size)
        frames = round((settings.duration_s + _CONNECT_S) * settings.fps)
        record(recording, pictures, frames=frames, fps=settings.fps)
        for turn in range(settings.repetitions):
            for sessions in settings.sessions:
                load = RivalLoad(
                    model=settings.model,
                    sessions=sessions,
                    duration_s=settings.duration_s,
                    recording=recording,
                )
                first = turn % len(settings.only)
                for contender in settings.only[first:] + settings.only[:first]:
                    outcome = await run(contender, load)
                    outcomes[sessions, contender.name].append(outcome)
                    print(f"{turn + 1}: {sessions} {contender.name} {outcome}", file=sys.stderr)
    return {key: median(several) for key, several in outcomes.items()}


def settings_from(argv: Sequence[str] | None) -> RivalSettings:
    """What the flags ask for. A bad flag exits with status 2."""
    flags = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure livegloss beside what others use.",
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    names = [one.name for one in CONTENDERS]
    usual = [one.name for one in CONTENDERS if not one.named]
    add = flags.add_argument
    add("--sessions", type=int, nargs="+", default=[1, 4, 8, 12], metavar="N", help="at once")
    add("--duration", type=float, default=10.0, metavar="S", help="of each run")
    add("--repetitions", type=int, default=3, metavar="N", help="of which the median is told")
    add("--model", default="standin:20", help="builtin, a bundle's folder, or standin:MS")
    add("--only", default=",".join(usual), metavar="A,B", help="which servers")
    add("--fps", type=int, default=30, help="of the cameras")
    add("--size", type=picture_size, default=(640, 480), metavar="WxH", help="of the pictures, px")
    add("--clip", metavar="FILE", help="send this video instead of a drawn picture")
    add("--table", type=Path, metavar="FILE", help="put the table into this page")
    given = vars(flags.parse_args(argv))
    chosen = given["only"].split(",")
    if unknown := set(chosen) - set(names):
        flags.error(f"--only knows {', '.join(names)}, not {', '.join(sorted(unknown))}")
    given["only"] = tuple(one for one in CONTENDERS if one.name in chosen)
    given["sessions"] = tuple(given["sessions"])
    given["duration_s"] = given.pop("duration")
    try:
        return RivalSettings(**given)
    except ValueError as error:
        flags.error(str(error))


def report(settings: RivalSettings, outcomes: table.Outcomes) -> dict[str, Any]:
    """Everything as JSON has it."""
    return {
        "model": settings.model,
        "duration_s": settings.duration_s,
        "repetitions": settings.repetitions,
        "fps": settings.fps,
        "size": list(settings.size),
        "clip": settings.clip is not None,
        "rows": [
            {"sessions": sessions, "server": name, **asdict(outcome)}
            for (sessions, name), outcome in outcomes.items()
        ],
        "versions": versions(settings),
        "cores": psutil.cpu_count(),
        "commit": commit(),
    }


def versions(settings: RivalSettings) -> dict[str, str]:
    """Of what was compared, and the Python that ran it.

    Raises:
        ValueError: a package is missing.
    """
    packages = sorted({"av"}.union(*(one.packages for one in settings.only)))
    try:
        found = {name: version(name) for name in packages}
    except PackageNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed: docs/rivals.md says how, or leave it out with --only"
        ) from error
    return found | {"python": platform.python_version()}


def caption(told: dict[str, Any]) -> str:
    """The line over a table."""
    width, height = told["size"]
    packages = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    return (
        f"Model `{told['model']}`, {'a real clip' if told['clip'] else 'a drawn picture'} at "
        f"{width}x{height} and {told['fps']} a second, medians of {told['repetitions']} runs of "
        f"{told['duration_s']:g} s, {told['cores']} cores, commit {told['commit']}; {packages}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    settings = settings_from(argv)
    print(f"benchmarks: {settings}", file=sys.stderr, flush=True)
    try:
        versions(settings)
        open_model(settings.model).close()
        if settings.table is not None:
            around(settings.table, settings.model)  # told now, not when all has been measured
        outcomes = asyncio.run(measure(settings))
        told = report(settings, outcomes)
        lines = table.lines(outcomes, caption(told))
        print("\n".join(lines))
        if settings.table is not None:
            put(settings.table, settings.model, lines)
    except (BundleError, FFmpegError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

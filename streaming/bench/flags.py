"""The benchmark's command line: flags in, settings out, and which kind of run is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from streaming.bench.settings import BenchSettings, NetworkConditions
from streaming.bench.soak import SoakSettings
from streaming.bench.sweep import Goal
from streaming.flags import HelpFormatter

_SOAKED = {"model": "standin:5", "sessions": 4}
_KINDS = ("run", "sweep", "losses", "soak")
_NETWORK = ("loss", "rtt_ms", "jitter_ms", "rate_kbit", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What the flags ask for."""

    kind: str  # run, sweep, losses or soak
    bench: BenchSettings
    goal: Goal
    soak: SoakSettings | None
    report: Path | None
    only_json: bool


def asked_from(argv: Sequence[str] | None) -> BenchRequest:
    """What the flags ask for. A bad flag exits with status 2."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    soak_s = given.pop("soak")
    kind = "soak" if soak_s is not None else given.pop("kind") or "run"
    given.pop("kind", None)
    goal = {"ms": given.pop("goal_ms"), "ratio": given.pop("goal_ratio")}
    network = {name: given.pop(name) for name in _NETWORK}
    report, only_json = given.pop("report"), given.pop("json")
    given["duration_s"] = given.pop("duration")
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        _check(report, chosen.get("senders"))
        soak = {**_SOAKED, **{name: chosen[name] for name in _SOAKED if name in chosen}}
        return BenchRequest(
            kind=kind,
            bench=BenchSettings(**chosen, network=NetworkConditions(**network)),
            goal=Goal(**goal),
            soak=None if soak_s is None else SoakSettings(duration_s=soak_s, **soak),
            report=report,
            only_json=only_json,
        )
    except ValueError as error:
        parser.error(str(error))


def _check(path: Path | None, senders: str | None) -> None:
    """What a run will need in the end, before it begins. Raises ValueError."""
    if senders == "chromium" and find_spec("playwright") is None:
        raise ValueError("--chromium drives a browser with playwright: pip install playwright")
    if path is not None and not path.is_file():
        raise ValueError(f"--report needs a page to write into; there is no file {path}")
    if path is not None and find_spec("matplotlib") is None:
        raise ValueError("--report draws with matplotlib: pip install matplotlib")


def _parser() -> argparse.ArgumentParser:
    default = BenchSettings()
    flags = argparse.ArgumentParser(
        prog="python -m streaming.bench",
        description="Measure the time from a picture to its result.",
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    add = flags.add_argument
    add("--sessions", type=int, metavar="N", help="cameras at once (1; 4 for a soak)")
    add("--duration", type=float, default=default.duration_s, metavar="S", help="of each run")
    add("--clip", metavar="FILE", help="send this video instead of a drawn picture")
    add("--model", help="builtin, a bundle's folder, or standin:MS (builtin; standin:5 for a soak)")
    add("--device", default=default.device, help="auto, cpu, cuda or cuda:N")
    add("--hop-s", type=float, metavar="S", help="time between windows (the bundle's own)")
    add("--fps", type=float, help="of the cameras (what the page asks for)")
    add("--size", type=picture_size, metavar="WxH", help="px (what the page asks for)")
    add(
        "--live",
        dest="senders",
        action="store_const",
        const="live",
        help="peers encode as they go (always where packets are lost); else they send a recording",
    )
    add(
        "--chromium",
        dest="senders",
        action="store_const",
        const="chromium",
        help="pages of a real Chromium, a tab each, send instead",
    )
    bad = flags.add_argument_group("a worse network, both ways: by tc netem, or by the peers")
    bad.add_argument("--loss", type=share, default=0.0, metavar="P", help="as 0.02 or 2%%")
    bad.add_argument("--rtt-ms", type=float, default=0.0, metavar="MS", help="round trip, added")
    bad.add_argument("--jitter-ms", type=float, default=0.0, metavar="MS", help="each way")
    bad.add_argument("--rate-kbit", type=float, metavar="KBIT", help="kbit/s each way")
    bad.add_argument("--seed", type=int, default=0, help="the same packets are lost for the same")
    kinds = flags.add_mutually_exclusive_group()
    for name, text in (
        ("sweep", "find the most sessions that hold the goal"),
        ("losses", "without loss, with 2 and with 5 %%, at 50 ms of round trip"),
    ):
        kinds.add_argument(f"--{name}", dest="kind", action="store_const", const=name, help=text)
    kinds.add_argument(
        "--soak", type=float, metavar="S", help="sessions come and go; status 1 when any is left"
    )
    add("--goal-ms", type=float, metavar="MS", help="of the sweep: p95")
    add("--goal-ratio", type=float, default=2.0, metavar="R", help="of one session's p95, else")
    add("--report", type=Path, metavar="FILE", help="put the figures into this page, with plots")
    add("--json", action="store_true", help="print nothing but the JSON line to stdout")
    return flags


def picture_size(text: str) -> tuple[int, int]:
    """A flag's WxH."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"write a size as 640x480, not '{text}'")
    return int(width), int(height)


def share(text: str) -> float:
    """A flag's share: 0.02, or 2%."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"write a share as 0.02 or 2%, not '{text}'") from None

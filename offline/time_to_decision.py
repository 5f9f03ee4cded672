"""How soon after its end a sign is decided, how often rightly, and how many signs are false.

    python -m offline.time_to_decision --data ../shared/data tests/bundles/heldout [BUNDLE ...]

    held-out clips of each bundle -> predictions, as live -> sign updates + ends -> figures

Each bundle reads the clips that its card lists as held out, and the idle videos of the held-out
groups: a sign decoded from those is false. Clips are cut close to their sign, so the first frame is
held before a clip and the last one after it, as if the camera had gone on. The last line of stdout
is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from models.command_line import read_command_line, say, until_interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToDecisionOptions:
    """What is read."""

    bundles: tyro.conf.Positional[tuple[str, ...]]  # those whose held-out clips are read
    data: str  # folder with manifest.csv, clips, landmarks and negatives
    hop_s: float | None = None  # seconds between windows, as on a busy server; None: the bundle's
    max_new_frames: int | None = None  # encoded for a window at most; None: all
    jobs: int = 1  # bundles read at the same time
    report: str | None = None  # JSON file to write, with every clip

    def __post_init__(self) -> None:
        if not self.bundles or self.jobs < 1:
            raise ValueError("give a bundle; --jobs must be 1 or more")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when a bundle or the data cannot be read."""
    options = read_command_line(
        TimeToDecisionOptions, argv, prog="python -m offline.time_to_decision", description=__doc__
    )
    from offline.evaluation.crossval import in_workers
    from offline.evaluation.figures import per_minute
    from offline.evaluation.report import write_report
    from offline.evaluation.time_to_decision import (
        decision_figures,
        decision_row,
        quantiles,
        read_bundle,
    )

    work = [
        (bundle, Path(options.data), options.hop_s, options.max_new_frames)
        for bundle in options.bundles
    ]
    try:
        found = list(in_workers(read_bundle, work, options.jobs))
        logs = [log for bundle in found for log in bundle.logs]
        idle_s = sum(bundle.idle_s for bundle in found)
        report = {
            **decision_figures(logs),
            "idle_s": round(idle_s, 1),
            "false_signs_per_min": per_minute(sum(bundle.idle_signs for bundle in found), idle_s),
            "window_ms": quantiles([ms for bundle in found for ms in bundle.window_ms]),
        }
        if options.report:
            write_report(options.report, {**report, "clips": [decision_row(log) for log in logs]})
    except (ValueError, OSError) as exc:
        say(f"time_to_decision: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.time_to_decision"))

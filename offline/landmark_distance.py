"""How far the landmark rows of two indexes are apart, on the videos that are in both.

    python -m offline.landmark_distance --index rows/index.csv --other files/index.csv \\
        --table landmarks.csv --by source --report distance.json

    two index.csv -> pairs by video id -> lined up in time -> distances, shares of hands seen

For landmarks that others made of videos that you have too: is it right to train on them what reads
rows of the live encoder, and were their frames taken at the right rate? The last line of stdout is
the report, as JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.command_line import read_command_line, say, until_interrupted
from models.files import replacing
from offline.evaluation.landmark_distance import (
    Alignment,
    RowPair,
    align,
    distance_figures,
    read_pairs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceOptions:
    """What is compared."""

    index: Path  # index.csv of the live encoder's rows
    other: Path  # index.csv of the rows that are compared with them
    table: Path | None = None  # a CSV with video_id, to give the figures of groups too
    by: str | None = None  # the table's column that names the group
    report: Path | None = None  # JSON file to write

    def __post_init__(self) -> None:
        if (self.table is None) != (self.by is None):
            raise ValueError("give --table and --by together")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the indexes can't be compared, and says why."""
    options = read_command_line(
        DistanceOptions, argv, prog="python -m offline.landmark_distance", description=__doc__
    )
    try:
        report = measure(options)
        if options.report:
            with replacing(options.report) as file:
                file.write((json.dumps(report, indent=1) + "\n").encode())
    except (ValueError, OSError) as exc:
        say(f"offline.landmark_distance: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def measure(options: DistanceOptions) -> dict[str, Any]:
    """The figures of all pairs, and of each group of the table.

    Raises:
        ValueError: an index or the table can't be used.
    """
    group_of = _groups(options.table, options.by) if options.table and options.by else {}
    pairs = read_pairs(options.index, options.other)
    lined: list[tuple[RowPair, Alignment]] = [(p, align(p.first, p.second)) for p in pairs]
    report = distance_figures(*zip(*lined, strict=True))
    groups = sorted({group_of.get(pair.video_id, "") for pair in pairs})
    if group_of:
        report["groups"] = {
            group: distance_figures(*zip(*of_group, strict=True))
            for group in groups
            if (of_group := [(p, a) for p, a in lined if group_of.get(p.video_id, "") == group])
        }
    return report


def _groups(table: Path, column: str) -> dict[str, str]:
    """The group of each video id in a table."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            return {line["video_id"]: line[column] or "" for line in csv.DictReader(stream)}
    except KeyError as exc:
        raise ValueError(f"{table}: has no column {exc.args[0]}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise ValueError(f"{table}: can't be read: {exc}") from exc


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.landmark_distance"))

"""What an encoding did, for people: how many videos, and what was left out or passed over, and why.

backlog, outcomes -> [summary] -> a table on stdout, encode_report.json
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from models.card import spec_as_card
from models.schema import EncoderSpec
from offline.data.index import Entry
from offline.data.labels import LabelledVideo, LabelNotes
from offline.data.video_folders import PassedOver
from offline.encoding.embed import WindowPlan

_NAMED = 3  # names that a line of the table has
_REASONS = 12  # lines
_LISTED = 1000  # files that the report lists


def summary_table(
    videos: Sequence[LabelledVideo],
    *,
    encoded: int,
    kept: int,
    why_skipped: Mapping[str, str],
    passed_over: Sequence[PassedOver],
) -> list[str]:
    """The lines of the table; `why_skipped` by video id."""
    lines = [f"{len(videos):7} videos", f"{encoded:7} encoded now", f"{kept:7} kept"]
    lines.append(f"{len(why_skipped):7} left out")
    reasons = {
        video.video_id: why_skipped[video.video_id].removeprefix(f"{video.path}: ")
        for video in videos
        if video.video_id in why_skipped
    }
    lines += _by_reason(reasons.items())
    if passed_over:
        lines.append(f"{len(passed_over):7} files and folders passed over")
        lines += _by_reason((str(one.path), one.why) for one in passed_over)
    return lines


def _by_reason(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """A line a reason, the most frequent first."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, why in reasons:
        names[why].append(name)
    order = sorted(names, key=lambda why: -len(names[why]))
    lines = []
    for why in order[:_REASONS]:
        more = ", …" if len(names[why]) > _NAMED else ""
        lines.append(f"{len(names[why]):15} {why}: {', '.join(names[why][:_NAMED])}{more}")
    if len(order) > _REASONS:
        lines.append(f"{'':15} and {len(order) - _REASONS} reasons more")
    return lines


def encode_report(
    videos: Sequence[LabelledVideo],
    variants: Sequence[str],
    spec: EncoderSpec,
    plan: WindowPlan,
    entries: Sequence[Entry],
    why_skipped: Mapping[str, str],
    notes: LabelNotes,
    doubtful: Sequence[str],
) -> dict[str, Any]:
    """What there is now, as JSON: the same after one run as after several."""
    there = {(entry.video_id, entry.variant) for entry in entries}
    done = [
        video.video_id not in why_skipped and all((video.video_id, v) in there for v in variants)
        for video in videos
    ]
    return {
        "videos": len(videos),
        "done": sum(done),
        "skipped": len(why_skipped),
        "embeddings": len(entries),
        "encoder": spec_as_card(spec),
        "windows": asdict(plan),
        "variants": variants,
        "why_skipped": [
            {"video_id": name, "why": why_skipped[name]}
            for name in (video.video_id for video in videos)
            if name in why_skipped
        ],
        "passed_over": len(notes.passed_over),
        "why_passed_over": [
            {"path": str(one.path), "why": one.why} for one in notes.passed_over[:_LISTED]
        ],
        "notes": [*notes.lines, *doubtful][:_LISTED],
    }


def of_two_glosses(entries: Iterable[Entry]) -> list[str]:
    """A line for each video that stands under two glosses, by its content."""
    same: dict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    for entry in sorted(entries, key=lambda e: (e.video_id, e.variant)):
        if entry.video_checksum:
            same[entry.video_checksum, entry.encoder].setdefault(entry.gloss, entry)
    return [
        "one video with two glosses: "
        + ", ".join(f"{entry.video_id} ({gloss})" for gloss, entry in glosses.items())
        for glosses in same.values()
        if len(glosses) > 1
    ]

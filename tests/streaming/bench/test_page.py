"""A page gets a report's table in its place, and the plots that the table shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streaming.bench.page import publish

_ABOUT = {
    "model": "standin:20",
    "machine": "2 cores, a processor",
    "versions": {"python": "3.11.7", "aiortc": "1.16.0"},
    "commit": "abc1234",
    "size": [320, 240],
    "fps": 15.0,
    "duration_s": 12.0,
    "senders": "recorded",
    "network": {"rtt_ms": 50.0, "by": "peers"},
}
_LATENCY = {"p50": 30.0, "p95": 40.0, "p99": 55.5}
_ONE = {
    "sessions": 1,
    "loss": 0.02,
    "capture_to_result_ms": _LATENCY,
    "without_model_ms": {"p50": 10.0, "p95": 20.0},
    "predictions_per_s": 7.5,
    "cpu_s_per_session_s": 0.02,
    "windows": {"replaced": 0, "lost": 1, "old": 0},
    "packets": {"lost": 5, "repaired": 5, "key_frames_asked": 0},
    "longest_silence_ms": 150.0,
    "stages_ms": {"decode": 1.0, "encode": 20.0, "way_back": 2.0},
    "holds": True,
}
_NOBODY = {"sessions": 0, "tasks": 4, "threads": 2, "sockets": 3, "fds": 10, "objects": 0}
_SOAK = {
    "soak_s": 600.0,
    "served": 300,
    "sessions": 4,
    "killed": 50,
    "rounds": [{**_NOBODY, "rss_mb": 150.0}, {**_NOBODY, "rss_mb": 151.0}],
    "memory_mb_per_h": {"mb_per_h": 1.0, "low": -3.0, "high": 5.0},
    "findings": [],
    "samples": [(0.0, 150.0, 4), (1.0, 151.0, 5)],
}


@pytest.mark.parametrize(
    ("name", "report", "said"),
    [
        (
            "sweep",
            {"sweep": [_ONE, {**_ONE, "sessions": 20}], "most_sessions": 20, "goal_ms": 80.0},
            "**20 sessions** hold it",
        ),
        ("losses", {"losses": [_ONE], **_ONE}, "| 2% | 30 | 40 | 56 | 1.00 | 5 of 5 |"),
        (
            "soak",
            _SOAK,
            "Memory grows by 1.0 MB an hour (95 %: -3.0 to 5.0). Nothing was left over.",
        ),
        ("recorded", _ONE, "| 1 | 30 | 40 | 56 | 20 |"),
    ],
)
def test_a_report_gets_its_place(
    name: str, report: dict[str, Any], said: str, tmp_path: Path
) -> None:
    page = tmp_path / "latency.md"
    page.write_text(f"Before.\n<!-- {name} -->\nold\n<!-- end of {name} -->\nAfter.\n")
    publish({**_ABOUT, **report}, page)
    text = page.read_text()
    assert text.startswith("Before.\n") and text.endswith("\nAfter.\n") and "\nold\n" not in text
    assert said in text and "commit abc1234" in text
    for picture in re.findall(r"\]\((.+?\.png)\)", text):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    once = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    publish({**_ABOUT, **report}, page)
    assert once == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["Nothing here.\n", "<!-- soak -->\n"])
def test_a_page_without_the_place_is_refused(text: str, tmp_path: Path) -> None:
    page = tmp_path / "latency.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="<!-- end of soak -->"):
        publish({**_ABOUT, **_SOAK}, page)

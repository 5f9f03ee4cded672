"""Others beside us: the run is whole, and what it reports is what the peers were told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import table
from benchmarks.__main__ import main, settings_from
from benchmarks.contest import CONTENDERS, RivalOutcome, ages, failures, median


def test_a_short_run_measures_ours_and_aiortc(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "rivals.md"
    page.write_text("Before\n<!-- standin:5 -->\nold\n<!-- end of standin:5 -->\nAfter\n")
    flags = "--sessions 1 --duration 2 --repetitions 1 --only ours,aiortc --model standin:5"
    assert main([*flags.split(), "--size", "320x240", "--table", str(page)]) == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert [row["server"] for row in told["rows"]] == ["ours", "aiortc"]
    for row in told["rows"]:
        assert row["sessions"] == 1 and row["failed"] == ""
        assert 5 <= row["p50_ms"] <= row["p95_ms"] < 5000
        assert row["per_s"] > 1 and row["cpu_s"] > 0
    text = page.read_text()
    assert text.startswith("Before\n") and text.endswith("After\n") and "old" not in text
    assert "| 1 | livegloss |" in text and "| 1 | aiortc's example |" in text


def test_a_page_without_a_place_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("benchmarks.__main__.measure")
    flags = ["--only", "ours", "--model", "standin:5", "--table", str(tmp_path / "no.md")]
    assert main(flags) == 1
    assert "no.md" in capsys.readouterr().err


def test_answers_count_by_when_they_came_and_by_the_picture_that_they_are_of() -> None:
    heard = {"session": "a", "made_s": [0.0, 1.0, 2.0], "error": None}
    direct = heard | {"results": [[0, 0.5, {}], [0, 4.0, {}], [-1, 4.0, {}], [2, 9.0, {}]]}
    assert list(ages(direct, None, 1.0, 5.0)) == [4000.0]
    keyed = heard | {"results": [[90_000, 1.25, {}], [7, 1.5, {}]]}
    assert list(ages(keyed, {("a", 90_000): 1}, 1.0, 5.0)) == [250.0]


def test_a_failure_is_told_beside_the_figures_of_those_who_did_better() -> None:
    assert failures([None, None]) == ""
    assert failures([None, "HTTP 503", "HTTP 503"]) == "2 of 3 peers: HTTP 503"
    good, better = (
        RivalOutcome(p50_ms=30, p95_ms=50, per_s=7),
        RivalOutcome(p50_ms=20, p95_ms=40, per_s=9),
    )
    one = median([good, better, RivalOutcome(failed="ended early")])
    assert (one.p50_ms, one.p95_ms, one.per_s) == (25, 45, 7)
    assert one.failed == "ended early"
    (row,) = table.lines({(4, "fastrtc"): RivalOutcome(failed="a | b")}, "")[4:]
    assert row == "| 4 | FastRTC handler | none | none | 0.0 | none | none | none | a / b |"


@pytest.mark.parametrize(
    "flags",
    [
        ["--sessions", "0"],
        ["--duration", "1"],
        ["--repetitions", "0"],
        ["--only", "ours,zoom"],
        ["--size", "31x31"],
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings_from(flags)
    assert ended.value.code == 2
    assert "error: " in capfd.readouterr().err


def test_each_contender_has_a_name_of_its_own() -> None:
    assert len({one.name for one in CONTENDERS}) == len(CONTENDERS)

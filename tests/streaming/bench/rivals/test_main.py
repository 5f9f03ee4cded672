"""Others beside us: a whole run, how ages count, and failures beside the figures of the others."""

from __future__ import annotations

import json

import pytest

from streaming.bench.peers import PeerLog
from streaming.bench.rivals.__main__ import ages_ms, main, markdown_table


def test_a_short_run_measures_livegloss_and_aiortc(capfd: pytest.CaptureFixture[str]) -> None:
    flags = "--duration 2 --only livegloss --only aiortc --model standin:5"
    assert main(flags.split()) == 0
    lines = capfd.readouterr().out.splitlines()
    rows = json.loads(lines[-1])["rows"]
    assert [row["server"] for row in rows] == ["livegloss", "aiortc"]
    for row in rows:
        assert row["sessions"] == 1 and row["failed"] == ""
        assert 5 <= row["p50_ms"] <= row["p95_ms"] < 5000
        assert row["predictions_per_s"] > 1 and row["cpu_s"] > 0
    assert lines[-3].startswith("| 1 | livegloss |") and lines[-2].startswith("| 1 | aiortc |")


def test_a_result_counts_by_when_it_came_and_by_its_picture() -> None:
    log = PeerLog(session="a", made_s=[0.0, 1.0, 2.0])
    log.predictions = [(0, 0.5, {}), (0, 4.0, {}), (-1, 4.0, {}), (2, 9.0, {})]
    assert list(ages_ms(log, None, 1.0, 5.0)) == [4000.0]
    log.predictions = [(90_000, 1.25, {}), (7, 1.5, {})]
    assert list(ages_ms(log, {("a", 90_000): 1}, 1.0, 5.0)) == [250.0]


def test_a_failure_has_a_row_beside_the_figures_of_the_others() -> None:
    row = {"server": "fastrtc", "sessions": 4, "p50_ms": 20.5, "failed": "a | b\nc"}
    assert markdown_table([row])[2:] == ["| 4 | fastrtc | 20.5 |  |  |  | a / b c |"]


def test_a_missing_model_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "livegloss", "--model", "/nowhere/at/all"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and "/nowhere/at/all" in last


@pytest.mark.parametrize(
    "flags", [["--sessions", "0"], ["--duration", "1"], ["--only", "zoom"], ["--clip"]]
)
def test_a_bad_option_is_refused(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    assert flags[0] in capfd.readouterr().err

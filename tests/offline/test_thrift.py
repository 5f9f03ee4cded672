from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline.thrift import Line, main, table


def measure(way: Path, *more: str) -> int:
    given = ["--model", str(way / "head.pt"), "--index", str(way / "embeddings" / "index.csv")]
    return main([*given, "--rounds", "2", "--device", "cpu", *more])


def test_says_what_thrift_costs(way: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(way, "--levels", "0", "255") == 0
    *printed, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert (report["clips"], report["clips_of_unseen_signers"], report["tokens"]) == (10, 2, 8)
    full, exact, blind = report["lines"]
    assert (full["level"], full["kept"], full["speed"]) == (None, 1.0, 1.0)
    assert full["cosine"] == pytest.approx(1) and full["agree"] == full["top1"] == 1.0
    assert exact["kept"] == 1.0  # each picture has noise of its own
    assert exact["agree"] == 1.0 and exact["cosine"] == pytest.approx(1)
    assert blind["kept"] == 0.5  # the first of two steps alone
    assert blind["cosine_low"] <= blind["cosine"] < 0.9999
    assert len(printed) == 5 and printed[-1].startswith("| 255 | 50.0% |")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--levels", "-1"], "levels"),
        (["--rounds", "0"], "at least 1"),
        (["--model", "/nowhere.pt"], "not a trained head"),
        (["--index", "/nowhere/index.csv"], "can't be read"),
        (["--device", "tpu"], "no device"),
    ],
)
def test_wrong_use_is_one_clear_line(
    way: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert measure(way, *more) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_a_table_without_unseen_signers() -> None:
    line = Line(
        level=2, kept=0.5, speed=1.5, speed_range=(1.4, 1.6), cosine=0.99, cosine_low=0.98,
        agree=0.9, agree_interval95=(0.8, 1.0), top1=None, top1_interval95=None,
    )  # fmt: skip
    want = "| 2 | 50.0% | 1.50 (1.40-1.60) | 0.9900 (0.9800) | 90.0% (80.0-100.0) |  |"
    assert table([line]).splitlines()[-1] == want

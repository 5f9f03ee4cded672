from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks import layout
from offline.data.index import Entry, npy_name, write_index, write_rows
from offline.evaluation.landmark_distance import RowPair, align, distance_figures
from offline.landmark_distance import main

FPS = 15.0


def rows(seconds: float = 4.0, rate: float = 1.0, shift: float = 0.0) -> NDArray[np.float32]:
    """Rows of a right hand on a winding way, whose clock runs `rate` times as fast from a shift."""
    times = shift + rate * np.arange(round(seconds * FPS / rate)) / FPS
    made = np.zeros((len(times), layout.DIM), np.float32)
    made[:, layout.BODY] = np.linspace(-1, 0.8, 26)
    made[:, 23] = 2  # the left wrist hangs down
    way = np.stack([np.sin(1.3 * times) + np.sin(2.9 * times), 0.5 * np.cos(2.1 * times)], 1)
    hand = np.random.default_rng(0).uniform(-0.2, 0.2, (layout.HAND_POINTS, 3))
    hand[0] = 0
    points = np.repeat(hand[None], len(times), 0)
    points[..., :2] += way[:, None]
    made[:, layout.RIGHT_HAND] = points.reshape(len(times), -1)
    made[:, layout.RIGHT_SEEN] = 1
    return made


def pair(first: NDArray[np.float32], second: NDArray[np.float32]) -> RowPair:
    return RowPair(video_id="a", first=first, second=second, fps=FPS)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("late", [0.0, 0.6])
def test_clips_are_lined_up_in_time(rate: float, late: float) -> None:
    found = align(rows(), rows(rate=1 / rate, shift=late))
    assert found.correlation > 0.99
    assert found.rate == pytest.approx(rate, abs=0.03)
    assert found.shift == pytest.approx(late * FPS, abs=0.5)


def test_other_movements_are_not_lined_up() -> None:
    still = rows()
    still[:, layout.RIGHT_HAND] = still[0, layout.RIGHT_HAND]
    unseen = np.zeros_like(still)
    for second in (still, unseen, rows(seconds=0.4)):
        assert align(rows(), second).correlation < 0.9
    assert distance_figures([pair(rows(), unseen)], [align(rows(), unseen)]) == {
        "clips": 1,
        "lined_up": 0,
    }


def test_distances_and_who_sees_the_hand() -> None:
    first, second = rows(), rows()
    hand = second[:, layout.RIGHT_HAND].reshape(-1, 21, 3)
    wrist = hand[:, :1].copy()
    hand[:] = wrist + 1.1 * (hand - wrist)  # a larger hand, elsewhere, twice as deep
    hand[..., 0] += 0.3
    hand[..., 2] *= 2
    second[:, 0] += 0.05  # the nose
    second[:15, layout.RIGHT_SEEN] = 0
    first[-6:, layout.RIGHT_SEEN] = 0
    figures = distance_figures([pair(first, second)], [align(first, second)])
    assert figures["wrist"] == [0.3, 0.3]
    assert figures["body"]["nose"] == [0.05, 0.05] and figures["body"]["left_eye"] == [0, 0]
    assert figures["hand_shape"] == [0, 0] and figures["hand_size_ratio"] == [1.1, 1.1]
    assert figures["z_ratio"] == [2.2, 2.2] and figures["z_correlation"] == 1
    shares = figures["seen"]["raised"]
    assert shares["hands"] == 60 and figures["seen"]["low"]["neither"] == 1
    assert (shares["both"], shares["only_first"], shares["only_second"]) == (0.65, 0.25, 0.1)


def listed(folder: Path, clips: dict[str, NDArray[np.float32]], fps: float = FPS) -> Path:
    folder.mkdir(parents=True)
    entries = []
    for video_id, made in clips.items():
        name = npy_name(video_id, "original")
        checksum = write_rows(folder / name, made)
        entry = Entry(video_id=video_id, gloss="x", path_to_npy_file=name, checksum=checksum)
        entries.append(replace(entry, fps=fps))
    write_index(folder / "index.csv", entries)
    return folder / "index.csv"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = listed(tmp_path / "live", {"a": rows(), "b": rows(), "mine": rows()})
    files = listed(tmp_path / "files", {"a": rows(), "b": rows(rate=1 / 1.2), "theirs": rows()})
    table, report = tmp_path / "table.csv", tmp_path / "report.json"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["video_id", "source"], ["a", "one"], ["b", "two"]])
    where = ["--index", str(live), "--other", str(files)]
    more = ["--table", str(table), "--by", "source", "--report", str(report)]
    assert main([*where, *more]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == json.loads(report.read_text())
    assert (figures["clips"], figures["lined_up"]) == (2, 2)
    assert figures["groups"]["one"]["rate_quartiles"] == pytest.approx([1.0] * 3, abs=0.02)
    assert figures["groups"]["two"]["rate_quartiles"] == pytest.approx([1.2] * 3, abs=0.03)

    assert main([*where, "--table", str(table), "--by", "colour"]) == 2
    assert "no column colour" in capsys.readouterr().err
    none = listed(tmp_path / "none", {"c": rows()})
    slow = listed(tmp_path / "slow", {"a": rows()}, fps=10)
    others = listed(tmp_path / "others", {"a": np.ones((4, 3), np.float32)})
    for other, why in ((none, "no video is in both"), (slow, "10"), (others, "no landmarks")):
        assert main(["--index", str(live), "--other", str(other)]) == 2
        assert why in capsys.readouterr().err

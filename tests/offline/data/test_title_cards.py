from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.data.examples import read_examples
from offline.data.fingerprints import (
    Fingerprint,
    fingerprint,
    mark_title_cards,
    title_card_s,
    write_fingerprints,
)
from offline.evaluate import main as evaluate
from tests.offline.indexes import write_index


def clip(steps: int = 30, *, dark: slice = slice(0, 0)) -> Fingerprint:
    """Someone moves before a bright wall; black at the steps `dark`."""
    draw = np.random.default_rng(0)
    cells = draw.integers(150, 250, (1, 64)) + draw.integers(-40, 40, (steps, 64))
    cells[dark] = 5
    return cells.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("dark", "seconds"),
    [
        (slice(0, 0), 0.0),
        (slice(0, 1), 0.1),
        (slice(12, 15), 0.3),
        (slice(0, 13), 1.3),
        (slice(10, 28), 1.2),  # more card than scene: the scene is what is away
    ],
)
def test_how_long_a_card_is_shown(dark: slice, seconds: float) -> None:
    assert title_card_s(clip(dark=dark)) == pytest.approx(seconds)


def test_cards_are_marked_and_named_but_not_where_nobody_signs(tmp_path: Path) -> None:
    examples = read_examples(write_index(tmp_path))
    prints = {e.video_id: clip() for e in examples}
    signs, idle = examples[3], next(e for e in examples if e.gloss == "idle")
    prints[signs.video_id] = prints[idle.video_id] = clip(dark=slice(5, 10))
    prints[examples[4].video_id] = clip(dark=slice(0, 1))  # black at the cut
    messages: list[str] = []
    marked = mark_title_cards(examples, prints, messages.append)
    assert [e.video_id for e in marked if e.title_card] == [signs.video_id]
    place = "a title card, or another scene, stands between the pictures of 1 of the videos: "
    assert messages == [place + signs.video_id]
    unmarked = mark_title_cards(examples, {}, messages.append)
    assert not any(e.title_card for e in unmarked) and len(messages) == 1


def test_they_are_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_index(tmp_path)
    examples = read_examples(index)
    prints = {e.video_id: clip() for e in examples[:2]}
    prints[examples[0].video_id] = clip(dark=slice(5, 10))
    write_fingerprints(tmp_path, prints)
    counts = {}
    for cards in ("keep", "leave-out"):
        options = ["--head", "landmarks", "--epochs", "0.01", "--open-set", "--threads", "1"]
        report = tmp_path / cards
        options += [
            "--cross-validate",
            "2",
            "--sentences",
            "0",
            "--cards",
            cards,
            "--report",
            str(report),
        ]
        assert evaluate(["--index", str(index), *options]) == 0
        assert examples[0].video_id in capsys.readouterr().out
        told = json.loads(report.with_suffix(".json").read_text())
        assert told["how"]["cards"] == cards
        counts[cards] = told["scores"]["clips"]
    assert counts["keep"] - counts["leave-out"] == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("book-wlasl_70212_1cc69d.mp4", True),  # PENCIL
        ("book-wlasl_70266_414256.mp4", True),  # DOOR, in the last pictures
        ("sun-wlasl_55806_9bf234.mp4", False),  # a black first picture
        ("what-wlasl_62970_801bf4.mp4", False),
        ("hello-named_hello_1d04ab.mp4", False),
    ],
)
def test_cards_in_clips(data_dir: Path, name: str, shown: bool) -> None:
    assert (title_card_s(fingerprint(data_dir / "clips" / name)) > 0.15) is shown

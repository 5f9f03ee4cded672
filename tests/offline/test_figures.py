"""offline.figures: which takes are drawn, how they are completed, and the bundle that gets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle import Bundle, open_bundle, write_bundle
from models.drawn_figure import unpack_figure
from models.landmarks import layout
from offline.figures import main
from offline.posing.completing import completed, right_handed, signed_hands
from offline.posing.typical import Take, rank_takes
from tests.models.bundles import small_card
from tests.models.heads_onnx import mean_head
from tests.offline.indexes import landmark_rows, write_index

ENCODER = {
    "kind": "landmarks",
    "source": "made up",
    "revision": "1",
    "dim": layout.DIM,
    "frames": 16,
    "fps": 15.0,
    "short_side": 320,
}
WRIST_Y = layout.RIGHT_HAND.start + 1


def raised_rows(gloss: str, draw: np.random.Generator) -> NDArray[np.float32]:
    """Of "up" high, of "down" low; the head below tells them by it."""
    rows = landmark_rows(gloss, draw)
    seen = rows[:, layout.RIGHT_SEEN] > 0
    hand = rows[:, layout.RIGHT_HAND].reshape(len(rows), 21, 3)
    hand[seen, :, 1] += 0.1 if gloss == "down" else -0.9
    rows[:, layout.RIGHT_HAND] = hand.reshape(len(rows), -1)
    return rows


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The made-up index, with one clip of "up" that shows "down"."""
    folder = tmp_path / "rows"
    folder.mkdir()
    index = write_index(folder)
    draw = np.random.default_rng(1)
    for number in range(24):
        gloss = ("down", "up")[number % 2]
        rows = raised_rows("down" if number == 7 else gloss, draw)
        rows = layout.mirrored(rows) if number % 3 == 0 else rows
        np.save(folder / f"{number}.npy", np.ascontiguousarray(rows))
    return index


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """It reads "down" where the right or left hand is below the shoulders, "up" above."""
    weights = np.zeros((layout.DIM, 2), np.float32)
    weights[[WRIST_Y, layout.LEFT_HAND.start + 1]] = [40, -40]
    card = small_card(
        encoder=ENCODER,
        head={"kind": "gloss", "args": {}, "idle": False},
        window_s=16 / 15,
        hop_s=0.1,
    )
    files: dict[str, Any] = {"head.onnx": mean_head(weights)}
    return write_bundle(tmp_path / "bundle", card=card, glosses=["down", "up"], files=files)


def test_a_bundle_gets_the_figures_of_takes_read_right(
    index: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--index", str(index), "--bundle", str(bundle.path)]
    assert main([*arguments, "--dry-run"]) == 0
    assert open_bundle(bundle.path).figures == {}
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    assert summary["figures"] == 2 and summary["missing"] == [] and summary["written"]
    drawn = open_bundle(bundle.path)
    assert list(drawn.figures) == ["down", "up"]
    assert sum(map(len, drawn.figures.values())) == summary["bytes"]
    assert drawn.card["files"]["head.onnx"] == bundle.card["files"]["head.onnx"]
    assert drawn.card["data"]["figures"].endswith("Licence: MIT")
    for gloss, data in drawn.figures.items():
        left, right = unpack_figure(data).hands
        assert left is None and right is not None, "as of a right-handed signer"
        middle = float(right[len(right) // 2, 0, 1])
        assert (middle > 0) == (gloss == "down"), "the wrong take is not drawn"

    before = dict(drawn.figures)
    assert main([*arguments, "--glosses", "up", "--leave-out", "clip-5", "--licence", "X"]) == 0
    again = open_bundle(bundle.path)
    assert again.figures["down"] == before["down"], "of other glosses they are kept"
    assert again.card["data"]["figures"].endswith("Licence: X")


def test_what_cannot_be_drawn_is_said(
    index: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--index", str(index), "--bundle", str(bundle.path)]
    assert main([*arguments, "--signers", "9"]) == 2
    assert "no figure could be drawn" in capsys.readouterr().err
    assert main([*arguments, "--glosses", "hello"]) == 2
    assert "'hello' is no gloss" in capsys.readouterr().err
    assert main(["--index", str(tmp_path / "none.csv"), "--bundle", str(bundle.path)]) == 2
    assert open_bundle(bundle.path).figures == {}


def test_a_figure_has_both_arms_and_no_jumps_where_hands_were_lost() -> None:
    rows = raised_rows("up", np.random.default_rng(2))
    hands = signed_hands(rows)
    first = hands.first
    assert hands.part == (False, True)
    rows[first + 4 : first + 7, layout.RIGHT_SEEN] = 0  # lost
    rows[first + 9, layout.RIGHT_HAND] += 2  # an error
    rows[:, 2 * 9 : 2 * 13] = 0  # landmarks of others have no elbows and wrists
    figure = completed(rows, 15.0)
    left, right = figure.hands
    assert left is None and right is not None
    assert np.hypot(*np.diff(right[:, 0], axis=0).T).max() < 0.6
    assert (figure.body[0, 12] == right[0, 0]).all() and right[0, 0, 1] > 1.3, "it comes from rest"
    for side, shoulder in ((9, 7), (10, 8)):
        upper = np.hypot(*(figure.body[:, side] - figure.body[:, shoulder]).T)
        fore = np.hypot(*(figure.body[:, side + 2] - figure.body[:, side]).T)
        assert upper.min() > 0.2 and upper.max() <= 1.06 and fore.max() < 1.1
    outward = figure.body[:, 9, 0].min(), figure.body[:, 10, 0].max()
    assert outward[0] > 0.3 and outward[1] < -0.1
    with pytest.raises(ValueError, match="no hand"):
        completed(landmark_rows("idle", np.random.default_rng(0)), 15.0)


def test_the_typical_take_is_near_the_others_and_whole() -> None:
    draw = np.random.default_rng(3)
    takes = [
        Take(name=str(n), signer=f"signer {n}", rows=raised_rows("up", draw)) for n in range(5)
    ]
    odd = Take(name="odd", signer="signer 9", rows=raised_rows("down", draw))
    ranked = rank_takes([*takes, odd])
    assert ranked[-1].take is odd
    best = ranked[0].take
    rows = best.rows.copy()
    rows[best.hands.first + 2 :: 2, layout.RIGHT_SEEN] = 0
    worse = replace(best, rows=rows)
    others = [worse if take is best else take for take in takes]
    assert rank_takes([*others, odd])[0].take is not worse, "half of its hands are lost"
    with pytest.raises(ValueError, match="one signer"):
        rank_takes([takes[0]])


def test_left_handed_takes_are_mirrored() -> None:
    rows = raised_rows("up", np.random.default_rng(4))
    assert (right_handed(rows) == rows).all()
    assert np.allclose(right_handed(layout.mirrored(rows)), rows)

"""Drawn figures as bytes, and as an optional file of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.bundle import Bundle, BundleError, copy_bundle, open_bundle, write_bundle
from models.card import FIGURES
from models.drawn_figure import DrawnFigure, pack_figure, unpack_figure, write_figures
from tests.models.bundles import small_card
from tests.models.drawn_figures import waving
from tests.models.heads_onnx import mean_head

ROUNDED = 0.5 / 128 + 1e-6


@pytest.mark.parametrize("hands", [(False, True), (True, False), (True, True), (False, False)])
def test_a_figure_comes_back_as_it_was(hands: tuple[bool, bool]) -> None:
    figure = waving(hands)
    data = pack_figure(figure)
    again = unpack_figure(data)
    assert again.fps == 15 and pack_figure(again) == data
    assert np.abs(again.body - figure.body).max() <= ROUNDED
    for hand, before in zip(again.hands, figure.hands, strict=True):
        assert (hand is None) == (before is None)
        assert hand is None or before is None or np.abs(hand - before).max() <= ROUNDED
    assert len(data) == 5 + 2 * 31 * (13 + 21 * sum(hands)), "2 to 4 kB"


def test_what_moves_too_fast_lags_and_arrives() -> None:
    figure = waving()
    figure.body[10:, 0] += 2
    again = unpack_figure(pack_figure(figure))
    assert np.abs(again.body[10] - figure.body[10]).max() > 0.5
    assert np.abs(again.body[13:] - figure.body[13:]).max() <= ROUNDED


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 9.0])
def test_a_figure_that_cannot_be_drawn_is_not_packed(wrong: float) -> None:
    figure = waving()
    figure.body[3, 2] = wrong
    with pytest.raises(ValueError, match="points"):
        pack_figure(figure)
    with pytest.raises(ValueError, match="1 pictures"):
        pack_figure(waving(pictures=1))


GOOD = pack_figure(waving())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut"),
        (b"\x02" + GOOD[1:], "version 2"),
        (GOOD[:1] + b"\x00" + GOOD[2:], "0 a second"),
        (GOOD[:2] + b"\xff\xff" + GOOD[4:], "65535 pictures"),
        (GOOD[:4] + b"\x07" + GOOD[5:], "hands 7"),
        (GOOD[:4] + b"\x03" + GOOD[5:], "bytes"),
        (GOOD[:-1], "bytes"),
        (GOOD + b"\x00", "bytes"),
        (GOOD[:5] + b"\xff\x7f" + GOOD[7:], "too far"),
    ],
)
def test_broken_figures_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpack_figure(data)


def bundle_with(folder: Path, content: bytes | None) -> Bundle:
    files: dict[str, Any] = {"head.onnx": mean_head(np.eye(3, dtype=np.float32))}
    if content is not None:
        files[FIGURES] = content
    return write_bundle(folder, card=small_card(), glosses=["a", "b"], files=files)


def test_a_bundle_may_have_figures(tmp_path: Path) -> None:
    assert bundle_with(tmp_path / "without", None).figures == {}
    made = bundle_with(tmp_path / "with", write_figures({"b": pack_figure(waving())}))
    assert dict(made.figures) == {"b": pack_figure(waving())}
    assert copy_bundle(made.path, tmp_path / "copy").figures == made.figures
    with (made.path / FIGURES).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(made.path)


def packed(**fields: Any) -> bytes:
    return msgspec.msgpack.encode({"format": 1, "figures": {"a": GOOD}, **fields})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "figures.msgpack"),
        (b"\xde\xad", "figures.msgpack"),
        (packed()[:-1], "figures.msgpack"),
        (packed(format=2), "`format` is 2"),
        (packed(more=1), "more"),
        (packed(figures={"a": "text"}), "bytes"),
        (packed(figures={"c": GOOD}), "'c', which is no gloss"),
        (packed(figures={"a": GOOD[:-1]}), "the figure of 'a'"),
    ],
)
def test_broken_files_of_figures_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        bundle_with(tmp_path / "bundle", content)


def test_hands_of_another_shape_are_refused() -> None:
    figure = waving()
    with pytest.raises(ValueError, match="points"):
        pack_figure(DrawnFigure(fps=15, body=figure.body[:, :12], hands=figure.hands))

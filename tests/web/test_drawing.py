"""The demo's HTML and Markdown: escaped, in plain words."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from models.schema import Prediction
from web import drawing

EVIL = "<img src=x onerror=alert(1)>"


def sign(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "gloss": "water",
        "p": 0.91,
        "alternatives": [{"gloss": "drink", "p": 0.06}, {"gloss": "eat", "p": 0.01}],
        "start_s": 67.44,
        "end_s": 68.0,
        "final": True,
        **changes,
    }


def test_text_of_a_bundle_is_escaped() -> None:
    evil = sign(gloss=EVIL, alternatives=[{"gloss": EVIL, "p": 0.5}])
    top = [{"gloss": EVIL, "p": 0.5}]
    for html in (
        drawing.moment(evil, top, 0.1, ""),
        drawing.moment(None, top, 0.1, ""),
        drawing.history([evil]),
        drawing.plain(EVIL),
    ):
        assert "<img" not in html.replace("\\<", "")


def test_a_sign_reads_well() -> None:
    html = drawing.current_sign(sign())
    assert "water" in html and "91 % · quite sure" in html
    assert "drink 6 %" in drawing.history([sign()]) and "eat" not in drawing.history([sign()])
    assert "1:07.4" in drawing.history([sign()])
    assert "water …" in drawing.history([sign(final=False)])


def test_word_and_bars_are_of_one_moment() -> None:
    top = [{"gloss": "yes", "p": 0.2}, {"gloss": "no", "p": 0.08}]
    made = drawing.moment(sign(), top, 0.72, "Not sure yet")
    assert made.count("91 %") == 2 and "drink" in made and "yes" not in made
    moving = drawing.moment(None, top, 0.69, "Not sure yet")
    assert "Not sure yet" in moving and "yes" in moving
    resting = drawing.moment(None, top, 0.7, "Not sure yet")
    assert "No known sign · 70 %" in resting and "yes" not in resting


@pytest.mark.parametrize(
    ("p", "percent", "words"),
    [(0.001, "< 1 %", "only a guess"), (0.5, "50 %", "fairly sure"), (0.8, "80 %", "quite sure")],
)
def test_certainty_in_numbers_and_words(p: float, percent: str, words: str) -> None:
    assert f"{percent} · {words}" in drawing.current_sign(sign(p=p))


def test_the_strip_is_strongest_where_it_counted_most_and_shows_its_pictures() -> None:
    dark = np.zeros((60, 80, 3), np.uint8)
    html = drawing.attention_strip([0.1, 0.1, 0.7, 0.1], ("2 s ago", "now"), [dark] * 32)
    assert html.count("<i ") == 4 and html.index("opacity: 1.00") > html.index("opacity: 0.00")
    assert "62 % of the way" in html and "data:image/jpeg;base64," in html
    assert "<img" not in drawing.attention_strip([0.5, 0.5], ("2 s ago", "now"))


def test_attention_of_a_file_lies_where_its_windows_attended() -> None:
    """Windows of two seconds that all attend to the second 1 of the video."""
    predictions = []
    for end_s in np.arange(0.5, 3.01, 0.5):
        attention = np.full(8, 0.01, np.float32)
        step = round((1.0 - (end_s - 2)) / 0.25)
        if 0 <= step < 8:
            attention[step] = 0.93
        one = Prediction(
            stream="file",
            probabilities=np.array([1.0], np.float32),
            idle=0.0,
            attention=attention,
            start_s=end_s - 2,
            end_s=end_s,
        )
        predictions.append(one)
    weights = drawing.file_attention(predictions, 12)
    assert int(np.argmax(weights)) == 4  # 1.0 of 3.0 s
    resting = [dataclasses.replace(one, idle=1.0) for one in predictions]
    assert np.isfinite(drawing.file_attention(resting, 12)).all()


def test_a_card_may_leave_out_all_but_its_name() -> None:
    assert drawing.model_card({"name": "mine_1"}) == "**Model.** mine\\_1."

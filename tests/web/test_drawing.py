"""What the demo draws, and what it says of a model: escaped, in plain words."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from models.schema import Prediction
from web import drawing
from web.video_file import attention_over

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


def test_what_comes_from_a_bundle_is_escaped() -> None:
    evil = sign(gloss=EVIL, alternatives=[{"gloss": EVIL, "p": 0.5}])
    top = [{"gloss": EVIL, "p": 0.5}]
    for html in (
        drawing.sign(evil, ""),
        drawing.candidates(top, 0.1),
        drawing.history([evil]),
        drawing.plain(EVIL),
    ):
        assert "<img" not in html.replace("\\<", "")


def test_a_sign_reads_well() -> None:
    html = drawing.sign(sign(), "")
    assert "water" in html and "91 % · quite sure" in html
    assert "drink 6 %" in drawing.history([sign()]) and "eat" not in drawing.history([sign()])
    assert "1:07.4" in drawing.history([sign()])
    assert "water …" in drawing.history([sign(final=False)])


@pytest.mark.parametrize(
    ("p", "percent", "words"),
    [(0.001, "< 1 %", "only a guess"), (0.5, "50 %", "fairly sure"), (0.8, "80 %", "quite sure")],
)
def test_certainty_in_numbers_and_words(p: float, percent: str, words: str) -> None:
    assert (drawing.percent(p), drawing.in_words(p)) == (percent, words)


def test_the_strip_is_strongest_where_it_counted_most_and_shows_its_pictures() -> None:
    dark = np.zeros((60, 80, 3), np.uint8)
    html = drawing.attention([0.1, 0.1, 0.7, 0.1], ("2 s ago", "now"), [dark] * 32)
    assert html.count("<i ") == 4 and html.index("opacity: 1.00") > html.index("opacity: 0.00")
    assert "62 % of the way" in html and "data:image/jpeg;base64," in html
    assert "<img" not in drawing.attention([0.5, 0.5], ("2 s ago", "now"))


def test_attention_of_a_file_lies_where_its_windows_looked() -> None:
    """Windows of two seconds, each looking at the moment one second after the beginning."""
    said = []
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
        said.append(one)
    weights = attention_over(said, 12)
    assert int(np.argmax(weights)) == 4  # 1.0 of 3.0 s
    resting = [dataclasses.replace(one, idle=1.0) for one in said]
    assert np.isfinite(attention_over(resting, 12)).all()


def test_a_card_may_leave_out_all_but_its_name() -> None:
    said = drawing.markdown({"name": "mine_1"}, [])
    assert said == "**Signs it knows (0).** none yet.\n\n**Model.** mine\\_1."

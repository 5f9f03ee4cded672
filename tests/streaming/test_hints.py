"""Hints come when they help, and not all the time."""

from __future__ import annotations

import numpy as np

from models.schema import Frame
from streaming.hints import TOO_DARK, Hint, Hints


def told(levels: list[int], fps: float = 10) -> list[tuple[float, Hint]]:
    hints = Hints()
    found = []
    for n, level in enumerate(levels):
        image = np.full((48, 64, 3), level, np.uint8)
        hint = hints.look(Frame(image=image, media_s=n / fps))
        if hint is not None:
            found.append((n / fps, hint))
    return found


def test_a_dark_room_is_told_once_in_a_while() -> None:
    assert told([10] * 130) == [(1.5, TOO_DARK), (11.5, TOO_DARK)]


def test_a_lit_room_needs_no_hint() -> None:
    assert told([90] * 200) == []


def test_a_hand_before_the_lens_is_no_dark_room() -> None:
    assert told(([10] * 12 + [90] * 3) * 5) == []


def test_a_clock_set_back_is_followed() -> None:
    hints = Hints()
    image = np.zeros((48, 64, 3), np.uint8)
    assert hints.look(Frame(image=image, media_s=100.0)) is None
    assert hints.look(Frame(image=image, media_s=1.0)) is None
    assert hints.look(Frame(image=image, media_s=3.0)) == TOO_DARK

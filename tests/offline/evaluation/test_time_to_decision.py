"""The end of signing on wrists whose movement is known, and figures of made-up signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.schema import Sign
from offline.evaluation.time_to_decision import (
    SignEnd,
    SignLog,
    decision_figures,
    read_end,
    sign_end,
)

FPS = 15
_END = SignEnd(moved_s=2.0, lowering_s=1.8, clip_s=2.5)


def wrists(*heights: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, and wrists whose right one goes to each (seconds, height) in a straight line."""
    y = [1.4]
    for seconds, height in heights:
        y += np.linspace(y[-1], height, round(seconds * FPS) + 1)[1:].tolist()
    points = np.full((len(y), 2, 2), 1.4)
    points[:, 1, 1] = y
    return np.arange(len(y)) / FPS, points


def test_a_sign_ends_as_its_hand_goes_down_not_when_it_has_come_to_rest() -> None:
    times, points = wrists((0.4, 0.2), (1.0, 0.2), (0.4, 1.4), (1.0, 1.4))
    end = sign_end(times, points)
    assert end.lowering_s == pytest.approx(1.4)
    assert 1.4 < end.moved_s < 1.7
    assert end.clip_s == pytest.approx(2.8)


def test_a_clip_cut_in_the_last_hold_ends_with_its_last_movement() -> None:
    times, points = wrists((0.4, 0.2), (1.0, 0.2))
    assert sign_end(times, points).moved_s == pytest.approx(0.4)


def test_where_no_hand_is_raised_the_clip_is_the_sign() -> None:
    times, points = wrists((1.0, 1.3))
    assert sign_end(times, points).moved_s == pytest.approx(1.0)
    assert sign_end(times, np.full_like(points, np.nan)).moved_s == pytest.approx(1.0)


def test_a_file_without_landmarks_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no zip")
    (tmp_path / "empty.npz").touch()
    for name in ("a.npz", "empty.npz", "missing.npz"):
        with pytest.raises(ValueError, match=name):
            read_end(tmp_path / name, 1.0)


def sign(id: int, gloss: str, *, final: bool, p: float = 0.8) -> Sign:
    return Sign(id=id, gloss=gloss, p=p, alternatives=(), start_s=1, end_s=2, final=final)


def log(*updates: tuple[float, Sign], clip_gloss: str = "book") -> SignLog:
    return SignLog(video="a.mp4", gloss="book", clip_gloss=clip_gloss, end=_END, updates=updates)


def test_delays_are_those_of_the_sign_that_decides_the_clip() -> None:
    one = log(
        (1.0, sign(1, "drink", final=False, p=0.9)),
        (1.2, sign(1, "drink", final=True, p=0.9)),
        (1.5, sign(2, "help", final=False)),
        (1.9, sign(2, "book", final=False)),
        (2.4, sign(2, "book", final=True)),
    )
    found = decision_figures([one])
    assert found["first_s"]["p50"] == pytest.approx(-0.5)
    assert found["first_right_s"]["p50"] == pytest.approx(-0.1)
    assert found["final_s"]["p50"] == pytest.approx(0.4)
    assert found["final_from_lowering_s"]["p50"] == pytest.approx(0.6)
    assert found["final_before_end"] == 0
    assert found["right"]["share"] == found["more_than_one"]["share"] == 1


def test_clips_are_right_wrong_or_undecided() -> None:
    found = decision_figures(
        [
            log((2.1, sign(1, "book", final=True))),
            log((1.1, sign(1, "drink", final=True)), clip_gloss="drink"),
            log(),
            log(clip_gloss="drink"),
        ]
    )
    shares = [found[name]["share"] for name in ("right", "wrong", "undecided", "clip_right")]
    assert shares == [0.25, 0.25, 0.5, 0.5]
    assert found["decided"] == 2 and found["right_of_decided"]["share"] == 0.5
    assert found["final_before_end"] == 1


def test_further_signs_of_a_clip_are_the_same_gloss_or_another() -> None:
    found = decision_figures(
        [
            log((1.0, sign(1, "book", final=True)), (2.1, sign(2, "book", final=True))),
            log((1.0, sign(1, "book", final=True)), (1.5, sign(2, "drink", final=True))),
            log((1.0, sign(1, "help", final=True)), (2.6, sign(2, "book", final=True))),
            log((2.1, sign(1, "book", final=True))),
        ]
    )
    assert found["more_than_one"]["share"] == 0.75
    assert found["further_signs"] == {"same": 1, "other": 2, "other_after_end": 1}


def test_no_sign_in_any_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sign was decoded"):
        decision_figures([log()])

"""Where a sign ends, on wrists whose movement is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from offline.evaluation.time_to_decision import read_end, sign_end

FPS = 15


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


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no zip")
    (tmp_path / "empty.npz").touch()
    for name in ("a.npz", "empty.npz", "missing.npz"):
        with pytest.raises(ValueError, match=name):
            read_end(tmp_path / name, 1.0)

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.vjepa2.thrift import kept_tubelets, stand_ins


def noise(times: int, seed: int = 0) -> NDArray[np.uint8]:
    """(times, 16, 24, 3) Pictures of 2 x 3 patches of 8 px, all different."""
    return np.random.default_rng(seed).integers(0, 256, (times, 16, 24, 3), np.uint8)


def test_pictures_that_all_differ_are_kept_whole() -> None:
    assert kept_tubelets(noise(8), 8, 2, 0).all()


def test_exact_repeats_leave_the_first_alone() -> None:
    still = np.repeat(noise(1), 8, axis=0)
    keep = kept_tubelets(still, 8, 2, 0)
    assert keep.shape == (4, 2, 3)
    assert keep[0].all() and not keep[1:].any()


def test_one_place_that_moves_is_kept_when_it_moves() -> None:
    pictures = np.repeat(noise(1), 8, axis=0)
    pictures[5, 8:, 16:] = 255 - pictures[5, 8:, 16:]  # the third tubelet, in its second picture
    keep = kept_tubelets(pictures, 8, 2, 0)
    moved = np.zeros((4, 2, 3), bool)
    moved[2, 1, 2] = moved[3, 1, 2] = True  # there, and back
    assert (keep[1:] == moved[1:]).all()


def test_a_difference_of_the_level_is_dropped_and_more_is_kept() -> None:
    pictures = np.full((4, 16, 24, 3), 250, np.uint8)
    pictures[2:] = 253
    assert not kept_tubelets(pictures, 8, 2, 3)[1].any()
    assert kept_tubelets(pictures, 8, 2, 2.99)[1].all()
    dark = 255 - pictures  # downwards too: unsigned differences would wrap
    assert not kept_tubelets(dark, 8, 2, 3)[1].any()


def test_slow_change_adds_up() -> None:
    pictures = np.repeat(np.arange(0, 16, 2).astype(np.uint8), 2)[:, None, None, None]
    keep = kept_tubelets(np.broadcast_to(pictures, (16, 16, 24, 3)), 8, 2, 5)
    assert keep[:, 0, 0].tolist() == [True, False, False, True, False, False, True, False]


def test_a_dropped_place_is_stood_for_by_the_last_kept_one_there() -> None:
    keep = np.ones((3, 1, 2), bool)
    keep[1, 0, 0] = keep[2, 0, 0] = keep[2, 0, 1] = False
    # Kept, in order: (0, left), (0, right), (1, right).
    assert stand_ins(keep).tolist() == [0, 1, 0, 2, 0, 2]
    assert stand_ins(np.ones((3, 1, 2), bool)).tolist() == list(range(6))


@pytest.mark.parametrize("level", [-1, 256, float("nan")])
def test_a_level_that_is_none(level: float) -> None:
    with pytest.raises(ValueError, match="levels"):
        kept_tubelets(noise(4), 8, 2, level)


@pytest.mark.parametrize(("patch", "tubelet"), [(8, 3), (16, 2), (5, 2)])
def test_pictures_that_make_no_tubelets(patch: int, tubelet: int) -> None:
    with pytest.raises(ValueError, match="no tubelets"):
        kept_tubelets(noise(4), patch, tubelet, 0)

"""Regions cut out the right pixels and carry points back to where they came from."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from models.landmarks.detectors import anchor_centres
from models.landmarks.networks import Region, spanning, turn_of


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("turn", [0.0, 0.7, -2.5])
def test_a_point_found_in_the_cut_is_placed_where_it_was(turn: float, flipped: bool) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    cv2.circle(image, (170, 90), 4, (255, 255, 255), -1)
    region = Region(160.0, 100.0, 80.0, turn, flipped)
    cut = region.cut(image, 64, cv2.BORDER_CONSTANT)
    rows, columns = np.nonzero(cut[:, :, 0] > 127)
    found = np.array([[(columns.mean() + 0.5) / 64, (rows.mean() + 0.5) / 64, 0.1]], np.float32)
    x, y, depth = region.place(found)[0]
    assert (x, y) == pytest.approx((170.5, 90.5), abs=0.6)
    assert depth == pytest.approx(8.0)


def test_a_flipped_region_of_a_mirrored_picture_shows_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    here = Region(50.0, 40.0, 30.0, 0.6).cut(image, 32, cv2.BORDER_REPLICATE)
    there = Region(70.0, 40.0, 30.0, -0.6, flipped=True).cut(mirrored, 32, cv2.BORDER_REPLICATE)
    assert np.abs(here.astype(int) - there.astype(int)).mean() < 2


def test_what_lies_above_needs_no_turn() -> None:
    low, high, right = (np.array(p, np.float32) for p in ((5, 9), (5, 1), (13, 9)))
    assert turn_of(low, high) == pytest.approx(0)
    assert turn_of(low, right) == pytest.approx(math.pi / 2)  # clockwise on the screen
    region = spanning(low, high, 1.25)
    assert (region.x, region.y, region.side) == pytest.approx((5, 9, 20))


def test_growing_shifts_along_the_regions_own_axis() -> None:
    grown = Region(0.0, 0.0, 10.0, math.pi / 2).grown(2.0, down=-0.5)
    assert (grown.x, grown.y, grown.side) == pytest.approx((5, 0, 20))


@pytest.mark.parametrize("side", [0.0, math.nan, math.inf, 1e9])
def test_senseless_regions_are_not_usable(side: float) -> None:
    assert not Region(1.0, 1.0, side).usable
    assert Region(1.0, 1.0, 50.0).usable


def test_anchors_are_as_many_as_the_networks_score() -> None:
    assert anchor_centres(224, (8, 16, 32, 32, 32)).shape == (2254, 2)
    palm = anchor_centres(192, (8, 16, 16, 16))
    assert palm.shape == (2016, 2)
    assert palm[0].tolist() == pytest.approx([4 / 192, 4 / 192])
    assert palm[-1].tolist() == pytest.approx([184 / 192, 184 / 192])

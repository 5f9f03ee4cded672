from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.vjepa2.preprocess import crop_pictures
from models.vjepa2.staging import Staging, _Slot

CROP = 32  # pictures of a short side of 36 px are only cut


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(params=[1 << 20, 10_000], ids=["all at once", "two or three at once"])
def staging(request: pytest.FixtureRequest) -> Iterator[Staging]:
    made = Staging(torch.device("cpu"), CROP, request.param)
    yield made
    made.close()


def brought(staging: Staging, pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    rows = torch.full((len(pictures), CROP, CROP, 3), 77, dtype=torch.uint8)
    staging.put(pictures, rows)
    whole: NDArray[np.uint8] = rows.numpy()
    return whole


def test_pictures_of_the_right_size_are_only_cut(staging: Staging) -> None:
    pictures = [noise(36, 48, i) for i in range(7)] + [noise(64, 36, 9)]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))


@pytest.mark.parametrize(
    "shape", [(48, 64), (64, 48), (32, 32), (20, 30), (36, 36), (37, 36), (200, 300)]
)
def test_equals_preprocess(staging: Staging, shape: tuple[int, int]) -> None:
    """Of 32 x 32 too, which is as large as the crop and yet not cut; the last fits no buffer."""
    pictures = [noise(*shape, i) for i in range(3)]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))


def test_sizes_may_change_within_a_batch_and_pictures_repeat(staging: Staging) -> None:
    small, cut, wide = noise(20, 20), noise(36, 40), noise(40, 90)
    pictures = [small, cut, cut, wide, wide, small, noise(32, 32), cut]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))


def test_pictures_that_are_views_or_read_only(staging: Staging) -> None:
    whole = noise(80, 90)
    flipped = whole[::2, ::-2]
    still = noise(36, 40)
    still.setflags(write=False)
    pictures = [flipped, still]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))


def test_a_buffer_is_filled_again_only_when_it_was_unpacked() -> None:
    """The order that a device relies on which copies and computes by itself."""
    log: list[tuple[str, int]] = []

    class Watched(_Slot):
        def __init__(self, number: int) -> None:
            super().__init__(CROP * CROP * 3)
            self.number = number

        def wait(self) -> None:
            log.append(("wait", self.number))
            self.host.fill_(0)

        def send(self, size: int) -> torch.Tensor:
            log.append(("send", self.number))
            assert self.host[:size].any()  # filled between waiting and sending
            return super().send(size).clone()

        def unpacked(self) -> None:
            log.append(("unpacked", self.number))

    staging = Staging(torch.device("cpu"), CROP, 1)
    staging._slots = itertools.cycle([Watched(0), Watched(1)])
    pictures = [noise(36, 36, i) for i in range(3)]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))
    staging.close()
    assert log == [(step, i % 2) for i in range(3) for step in ("wait", "send", "unpacked")]


def test_what_is_no_picture(staging: Staging) -> None:
    with pytest.raises(ValueError, match="uint8"):
        brought(staging, [noise(36, 36), np.zeros((36, 36), np.uint8)])
    pictures = [noise(36, 36)]
    np.testing.assert_array_equal(brought(staging, pictures), crop_pictures(pictures, CROP))

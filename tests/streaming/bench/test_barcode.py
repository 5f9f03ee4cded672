"""Numbers in pictures."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.bench import barcode


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (256, 192), (128, 96), (90, 160)])
def test_a_bar_code_is_read_at_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for number in (0, 1, 4242, 65535):
        barcode.write(image, number)
        assert barcode.read(image) == number
    barcode.write(image, 65536 + 7)
    assert barcode.read(image) == 7


@pytest.mark.parametrize("level", [0, 112, 255])
def test_no_bar_code_is_read_from_a_plain_picture(level: int) -> None:
    assert barcode.read(np.full((240, 320, 3), level, np.uint8)) is None


def test_a_spoilt_block_is_noticed() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    barcode.write(image, 1234)
    image[:30, :32] = 255 - image[:30, :32]
    assert barcode.read(image) is None

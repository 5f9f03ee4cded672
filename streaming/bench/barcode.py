"""A number drawn into a picture as large blocks: the honest way to know which frame arrived.

Blocks survive VP8 at 300 kbit/s and scaling to a fifth. Benchmarks and tests draw it at the sender
and read it at the receiver; nothing in the live way depends on it.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 10
_ROWS = 2
_BITS = 16
_CHECK = 4  # bits
_HEIGHT = 0.25  # of the picture: both rows
_CLEAR = 48  # grey levels that a block's mean must keep from the middle

NUMBERS = 1 << _BITS  # counters wrap here


def draw(image: NDArray[np.uint8], number: int) -> None:
    """Draw `number` (modulo 65536) over the top quarter of an (H, W, 3) picture, in place."""
    bits = code(number % NUMBERS)
    rows, columns = _edges(image)
    for place in range(_ROWS * _COLUMNS):
        row, column = divmod(place, _COLUMNS)
        block = image[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        block[:] = 255 if bits >> place & 1 else 0


def read(image: NDArray[np.uint8]) -> int | None:
    """The number drawn into an (H, W, 3) picture of any size; None when there is none to read."""
    rows, columns = _edges(image)
    inset = (columns[1] - columns[0]) // 4
    bits = place = 0
    for top, bottom in itertools.pairwise(rows):
        middle = (bottom - top) // 4
        strip = image[top + middle : bottom - middle, :, 1].mean(axis=0)
        for left, right in itertools.pairwise(columns):
            mean = sum(strip[left + inset : right - inset].tolist()) / (right - left - 2 * inset)
            if abs(mean - 127.5) < _CLEAR:
                return None
            bits |= (mean > 127.5) << place
            place += 1
    number = bits & (NUMBERS - 1)
    return number if code(number) == bits else None


def _edges(image: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """Where blocks meet: tops and bottoms, lefts and rights, px."""
    height, width = image.shape[0] * _HEIGHT, image.shape[1]
    rows = [round(height * row / _ROWS) for row in range(_ROWS + 1)]
    columns = [round(width * column / _COLUMNS) for column in range(_COLUMNS + 1)]
    return rows, columns


def code(number: int) -> int:
    """The blocks from the top left, a bit each: the number, and four that check it.

    Neither an all-black nor an all-white strip is a number.
    """
    check = 0b1010
    for shift in range(0, _BITS, _CHECK):
        check ^= number >> shift & 0b1111
    return number | check << _BITS

"""A number written into a picture as large black and white blocks: it shows which frame arrived.

    camera -> [write] -> video over the network -> [read] -> recogniser

Blocks survive VP8 at 300 kbit/s and scaling to a fifth. The product itself does not use it.
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
_CLEAR = 48  # grey levels between 127.5 and the mean of a block that can be read

NUMBERS = 1 << _BITS  # counters start again at 0 here


def write(image: NDArray[np.uint8], number: int) -> None:
    """Write `number` (modulo 65536) over the top quarter of an (H, W, 3) picture, in place."""
    bits = code(number % NUMBERS)
    rows, columns = _edges(image)
    for place, (row, column) in enumerate(np.ndindex(_ROWS, _COLUMNS)):
        block = image[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        block[:] = 255 * (bits >> place & 1)


def read(image: NDArray[np.uint8]) -> int | None:
    """The number in an (H, W, 3) picture of any size; None when none can be read."""
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
    """Borders of the blocks, px: of the rows, of the columns."""
    height, width = image.shape[0] * _HEIGHT, image.shape[1]
    rows = [round(height * row / _ROWS) for row in range(_ROWS + 1)]
    columns = [round(width * column / _COLUMNS) for column in range(_COLUMNS + 1)]
    return rows, columns


def code(number: int) -> int:
    """The blocks from the top left, one bit each: the number, then four check bits.

    Neither all black nor all white blocks are a number.
    """
    check = 0b1010
    for shift in range(0, _BITS, _CHECK):
        check ^= number >> shift & 0b1111
    return number | check << _BITS

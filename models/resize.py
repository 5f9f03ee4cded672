"""Resizes pictures to the very levels that torch gives: bilinear, antialiased, in 8 bits.

    picture of any size -> [resize] -> short side as V-JEPA 2's processor wants it

This is what transformers' processor does by torchvision, without either: across and then down,
each rounded to 8 bits, with weights of as many bits as torch keeps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32  # new pixels that are computed at once: only the old pixels near them are read


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of a picture brought to `short_side` px; the long side is rounded down."""
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def resized(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """(H, W, 3) brought to a short side of `short_side` px. The same object if it has that."""
    height, width = image.shape[:2]
    new = resized_shape(height, width, short_side)
    if new == (height, width):
        return image
    rows = resize_weights(height, new[0], 0, new[0])
    return weighted(image, rows, resize_weights(width, new[1], 0, new[1]))


def weighted(
    image: NDArray[np.uint8], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """(H, W, 3) by weights (h, H) and (w, W) of `resize_weights` to (h, w, 3)."""
    top, bottom = _reach(rows)
    planes = image[top:bottom].transpose(2, 0, 1)  # 3, H, W
    wide = _product(planes, columns)  # 3, H, w
    square = _product(wide.transpose(0, 2, 1), rows[:, top:bottom])  # 3, w, h
    return np.ascontiguousarray(square.transpose(2, 1, 0), np.uint8)


def _product(planes: NDArray[np.generic], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """planes (3, n, old) @ weights (new, old).T to (3, n, new), in whole levels of 8 bits.

    Each sum has at most 23 bits (8 of a level, 15 of a weight), so float32 is exact in any order.
    """
    result = np.empty((*planes.shape[:2], len(weights)), np.float32)
    for first in range(0, len(weights), _BLOCK):
        block = weights[first : first + _BLOCK]
        begin, end = _reach(block)
        near = np.ascontiguousarray(planes[..., begin:end], np.float32)
        result[..., first : first + _BLOCK] = near @ block[:, begin:end].T
    return np.floor(result + np.float32(0.5), out=result).clip(0, 255, out=result)


def _reach(weights: NDArray[np.float32]) -> tuple[int, int]:
    """The first old pixel that has a weight, and one past the last."""
    used = np.flatnonzero(weights.any(0))
    return int(used[0]), int(used[-1]) + 1


@lru_cache(maxsize=64)
def resize_weights(size: int, new_size: int, first: int, count: int) -> NDArray[np.float32]:
    """(count, size) Rows `first`… of the matrix that resizes `size` pixels to `new_size`.

    The triangle filter of PIL and torch: as wide as one new pixel, at least as one old one. Torch
    takes as many bits of each weight as let the largest of all fit 15 (ATen/native/cpu/
    UpSampleKernel.cpp); without that up to 6 of 1000 levels of noise would differ by one.
    """
    scale = size / new_size
    support = max(scale, 1.0)
    centres = (np.arange(new_size) + 0.5) * scale  # in old pixels
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / support
    weights = np.maximum(1 - distance, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
        bits += 1
    kept = np.floor(weights[first : first + count] * 2**bits + 0.5) / 2**bits
    matrix: NDArray[np.float32] = kept.astype(np.float32)
    matrix.setflags(write=False)
    return matrix

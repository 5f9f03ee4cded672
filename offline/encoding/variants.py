"""Other looks of the same video, made before encoding: a blurred one, one in black and white."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB


def _original(image: Image) -> Image:
    return image


def _gaussian(image: Image) -> Image:
    """As out of focus: a blur of 1/128 of the short side (2.3 px of 292), 0.8 px at least."""
    sigma = max(0.8, min(image.shape[:2]) / 128)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _bw(image: Image) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


VARIANTS: dict[str, Callable[[Image], Image]] = {
    "original": _original,
    "gaussian": _gaussian,
    "bw": _bw,
}

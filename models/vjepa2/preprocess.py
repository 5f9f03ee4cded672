"""From RGB frames to V-JEPA 2's input, the same for training and for serving.

    pictures of any size -> [resize, centre crop] -> [normalise] -> encoder

Equals transformers' `VJEPA2VideoProcessor` (5.23) on a CPU, which needs torchvision: short side to
`int(crop * 256 / 224)` px (bilinear, antialiased, across and then down, each rounded to 8 bits),
centre crop: `crop_pictures`; then division by 255, ImageNet mean and standard deviation:
`normalised`. Once, and nothing else: the shape of the picture is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.resize import resize_weights, resized_shape, weighted

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pictures, by channel
STD = (0.229, 0.224, 0.225)

Pictures = Sequence[NDArray[np.uint8]]  # of one clip: each (H, W, 3) RGB, of any size


def resized_short_side(crop: int) -> int:
    """The short side, px, that pictures are brought to before a crop of `crop` px."""
    return int(crop * 256 / 224)


def preprocess(frames: Pictures, crop: int) -> NDArray[np.float32]:
    """Pictures to (T, C, `crop`, `crop`), the encoder's input; errors: see `crop_pictures`."""
    return normalised(crop_pictures(frames, crop))


def crop_pictures(frames: Pictures, crop: int) -> NDArray[np.uint8]:
    """Pictures (H, W, 3) RGB, of any sizes, to (T, `crop`, `crop`, 3).

    A picture that comes several times (the same array) is resized once.

    Raises:
        ValueError: there is no picture, or one that is not (H, W, 3) uint8.
    """
    if not frames:
        raise ValueError("no frame to preprocess")
    done: dict[int, NDArray[np.uint8]] = {}
    for image in frames:
        if id(image) not in done:
            done[id(image)] = _cropped(image, crop)
    return np.stack([done[id(image)] for image in frames])


def normalised(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(…, T, H, W, 3) to (…, T, 3, H, W), of about zero mean and unit deviation."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    values = np.asarray((pictures / np.float32(255) - mean) / std, np.float32)
    return np.moveaxis(values, -1, -3)


def middle(image: NDArray[np.uint8], crop: int) -> NDArray[np.uint8] | None:
    """(crop, crop, 3) A view of `image`'s middle; None where it must be resized first.

    Raises:
        ValueError: it is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"a frame must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    size, (top, left) = _placed(image.shape[0], image.shape[1], crop)
    if size != image.shape[:2]:
        return None
    return image[top : top + crop, left : left + crop]


def filters(height: int, width: int, crop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(crop, height) and (crop, width): a channel's resized middle is rows @ (channel @ columns.T).

    It is rounded after each product. Only the rows and columns that the crop keeps are computed.
    """
    (new_height, new_width), (top, left) = _placed(height, width, crop)
    return (
        resize_weights(height, new_height, top, crop),
        resize_weights(width, new_width, left, crop),
    )


def _placed(height: int, width: int, crop: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size that a picture is brought to, and where the crop's first pixel lies in it."""
    size = resized_shape(height, width, resized_short_side(crop))
    return size, ((size[0] - crop) // 2, (size[1] - crop) // 2)


def _cropped(image: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """(crop, crop, 3) The middle of the resized picture."""
    cut = middle(image, crop)
    if cut is not None:
        return cut
    rows, columns = filters(image.shape[0], image.shape[1], crop)  # crop, H; crop, W
    return weighted(image, rows, columns)

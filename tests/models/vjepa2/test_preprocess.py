from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from models.vjepa2.preprocess import preprocess, resized_short_side

_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_torch(image: NDArray[np.uint8], crop: int) -> torch.Tensor:
    """The hub processor's steps (transformers 5.23), with the kernel that torchvision calls."""
    height, width = image.shape[:2]
    short = int(crop * 256 / 224)
    size = (
        (short, int(short * width / height))
        if height <= width
        else (int(short * height / width), short)
    )
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]  # of 8 bits, and stays so
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)[0]
    top, left = int((size[0] - crop) / 2), int((size[1] - crop) / 2)
    return (pixels[:, top : top + crop, left : left + crop].float() / 255 - _MEAN) / _STD


# 1080 x 1920 leaves 263 columns to cut off: 131 on the left, where rounding would say 132.
@pytest.mark.parametrize(
    "shape",
    [(480, 640), (640, 480), (320, 427), (292, 390), (1080, 1920), (100, 100), (90, 33)],
)
def test_equals_the_hub_processors_steps(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    ours = preprocess([image], 256)
    assert ours.shape == (1, 3, 256, 256) and ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], by_torch(image, 256).numpy(), atol=1e-6, rtol=0)


def test_equals_pil_within_its_rounding() -> None:
    image = noise(240, 320)
    big = np.asarray(Image.fromarray(image).resize((97, 73), Image.Resampling.BILINEAR), np.float32)
    ours = preprocess([image], 64)[0] * _STD.numpy() * 255 + _MEAN.numpy() * 255  # 3, 64, 64
    np.testing.assert_allclose(ours.transpose(1, 2, 0), big[4:68, 16:80], atol=1.01)


@pytest.mark.parametrize(
    ("turned", "golden"),
    [
        (False, [-1.501413, 1.170049, 1.833333, 0.082633, 0.217342, -0.671547]),
        (True, [-1.501413, -1.501413, -1.773109, 0.082633, 0.984227, -0.671547]),
    ],
)
def test_golden_values(turned: bool, golden: list[float]) -> None:
    """From `VJEPA2VideoProcessor(crop_size=32)` of transformers 5.23.0 with torchvision 0.28.0.

    60 x 79 becomes 36 x 47, of which 15 columns go: 7 on the left.
    """
    y, x = np.mgrid[0:60, 0:79]
    image = np.stack([3 * x, 4 * y, (7 * x * y + x * x) % 256], -1).astype(np.uint8)
    got = preprocess([image.transpose(1, 0, 2) if turned else image], 32)[0]
    at = [(0, 0, 0), (0, 0, 31), (1, 31, 0), (1, 16, 16), (2, 5, 20), (2, 31, 31)]
    np.testing.assert_allclose([got[place] for place in at], golden, atol=1e-6, rtol=0)


def test_the_same_picture_is_worked_on_once_and_repeated() -> None:
    image = noise(64, 64)
    out = preprocess([image, noise(64, 64, 1), image], 32)
    np.testing.assert_array_equal(out[0], out[2])
    assert not np.array_equal(out[0], out[1])


def test_the_shape_of_the_picture_is_kept() -> None:
    """A circle in a wide picture stays a circle."""
    y, x = np.mgrid[0:100, 0:200]
    circle = (((y - 50) ** 2 + (x - 100) ** 2) < 30**2).astype(np.uint8) * 255
    bright = preprocess([np.repeat(circle[..., None], 3, -1)], 128)[0, 0] > 0
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 1


def test_short_side_of_the_hub_checkpoints() -> None:
    assert (resized_short_side(256), resized_short_side(384)) == (292, 438)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), float)]
)
def test_what_is_no_picture(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess([wrong], 32)
    with pytest.raises(ValueError, match="no frame"):
        preprocess([], 32)

"""What the server sees of an upright and of a wide camera, by way of a real Chromium: all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from models.schema import Frame
from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import CAMERA_FPS, Picture, camera_flags, write_camera
from tests.web.page import SETTINGS, opened

CORNERS = {(0, 0): 20, (0, 1): 90, (1, 0): 170, (1, 1): 240}  # (bottom, right): grey level
SHARE = 8  # of the picture's height and width: a corner's patch


def patch(picture: Picture, bottom: int, right: int) -> Picture:
    """The part of a picture that lies in one of its corners."""
    high, wide = picture.shape[0] // SHARE, picture.shape[1] // SHARE
    rows = slice(-high, None) if bottom else slice(high)
    columns = slice(-wide, None) if right else slice(wide)
    return picture[rows, columns]


@pytest.mark.parametrize("size", [(480, 640), (640, 360)])
async def test_the_whole_picture_arrives(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    picture = np.full((height, width, 3), 128, np.uint8)
    for corner, level in CORNERS.items():
        patch(picture, *corner)[:] = level
    camera = write_camera(tmp_path / "camera.mjpeg", [picture] * CAMERA_FPS, size)
    arrived: asyncio.Queue[Frame] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def look(frame: Frame) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, frame)

    recognizer = StandIn(inspect=look)
    async with (
        serve(SETTINGS, recognizer) as server,
        opened(tmp_path, camera_flags(camera), f"{server.url}/?autostart=1"),
        asyncio.timeout(30),
    ):
        image = (await arrived.get()).image
        assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.01)
        assert min(image.shape[:2]) == recognizer.bundle.encoder.short_side, "no smaller than read"
        seen = {corner: float(patch(image, *corner).mean()) for corner in CORNERS}
        assert seen == pytest.approx(CORNERS, abs=30)

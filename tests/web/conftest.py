"""What the page's tests share: a Chromium to run, and a drawn camera that the stand-in can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browser import CAMERA_FPS, HEIGHT, WIDTH, Picture, write_camera
from tests.chromium import find


@pytest.fixture(scope="session", autouse=True)
def _browser() -> None:
    if find() is None:
        pytest.skip("no Chromium here: python -m tests.chromium installs one")


def levels() -> Iterator[Picture]:
    """Grey, bright, grey, dark: rest, one sign, rest, another, to the stand-in recogniser.

    A tile at the left edge is darker than the rest: whoever mirrors the picture moves it.
    """
    for level in (128, 250, 128, 12):
        picture = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        picture[160:320, 20:120] = level // 2
        for _ in range(int(1.2 * CAMERA_FPS)):
            yield picture


@pytest.fixture(scope="session")
def levels_camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MJPEG of a camera in front of which it becomes bright and dark by turns."""
    return write_camera(tmp_path_factory.mktemp("camera") / "levels.mjpeg", levels())


@pytest.fixture(scope="session")
def grey_camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In front of it nothing changes: the stand-in sees no sign until it is taught this one."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    pictures: Iterator[Picture] = (picture for _ in range(CAMERA_FPS))
    return write_camera(tmp_path_factory.mktemp("camera") / "grey.mjpeg", pictures)

"""What the recogniser sees is drawn over the picture, and what to mend is said, until it is mended.

Chromium plays a real clip, badly framed at first; the server runs the built-in model.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.async_api import expect

from streaming.hints import FACE_OUT, TOO_FAR
from streaming.messages import Hint
from tests.browser import (
    CAMERA_FPS,
    HEIGHT,
    WIDTH,
    Picture,
    browser_page,
    camera_flags,
    clip_pictures,
    server_process,
    write_camera,
)
from tests.web.page import LIVE_MS, is_live, served

CLIP = "apple-wlasl_03003_783b65.mp4"  # 4:3, as the camera is asked for
HALF_S = 6.0  # of trouble, then of good framing, and so on
CHANGE_MS = 30_000  # two rounds of both, and a slow start


def head_off(picture: Picture) -> Picture:
    return fitted(picture[150:480, 100:540])


def far_away(picture: Picture) -> Picture:
    small = cv2.resize(picture, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    room = np.full_like(picture, 150)
    room[-len(small) :, 200 : 200 + small.shape[1]] = small
    return room


def fitted(picture: Picture) -> Picture:
    return np.asarray(cv2.resize(picture, (WIDTH, HEIGHT)), np.uint8)


@pytest.mark.parametrize(
    ("change", "hint", "edge"), [(head_off, FACE_OUT["top"], "top"), (far_away, TOO_FAR, "")]
)
async def test_a_hint_stands_until_the_trouble_is_mended(
    data_dir: Path,
    tmp_path: Path,
    change: Callable[[Picture], Picture],
    hint: Hint,
    edge: str,
) -> None:
    good = list(clip_pictures(data_dir / "clips" / CLIP, lead_s=0, tail_s=0))
    good = list(islice(cycle([*good, *reversed(good)]), round(HALF_S * CAMERA_FPS)))
    bad = [change(picture) for picture in good]
    camera = write_camera(tmp_path / "camera.mjpeg", [*bad, *good])
    async with (
        server_process() as server,
        browser_page(tmp_path, camera_flags(camera)) as page,
    ):
        await page.goto(f"{server.url}/?autostart=1")
        await is_live(page)
        overlay, said = page.locator("#overlay"), page.locator("#hint")
        await expect(overlay).to_have_attribute("data-seen", "true", timeout=LIVE_MS)
        await expect(said).to_have_text(hint.text, timeout=CHANGE_MS)
        await expect(said).to_have_role("status")
        await expect(overlay).to_have_attribute("data-edge", edge)
        await expect(said).to_be_hidden(timeout=CHANGE_MS)
        await expect(overlay).to_have_attribute("data-edge", "")
        await expect(overlay.locator('.hand[data-seen="true"]').first).to_be_attached(
            timeout=CHANGE_MS
        )
        await expect(overlay).to_have_css("opacity", "1")
        assert not await page.locator("#stage").get_by_role("img").count(), "a drawing for eyes"
        await page.get_by_role("button", name="Hide picture").click()
        await expect(overlay).to_have_css("opacity", "0")
        await page.get_by_role("button", name="Stop").click()
        await expect(overlay).to_have_attribute("data-seen", "false")
        await expect(said).to_be_hidden()


DRAW = """async ([width, height, signer]) => {
    const { Overlay } = await import("/static/overlay.js");
    const box = document.querySelector("#overlay");
    box.replaceChildren();
    const overlay = new Overlay({ box, video: { videoWidth: width, videoHeight: height } });
    overlay.message({ type: "prediction", seen: signer });
    const within = document.querySelector("#stage").getBoundingClientRect();
    return [".head", ".hand"].map((name) => {
        const at = box.querySelector(name).getBoundingClientRect();
        return [(at.left + at.width / 2 - within.left) / within.width,
                (at.top + at.height / 2 - within.top) / within.height];
    });
}"""


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1280, 720)])
async def test_the_drawing_lies_on_what_the_page_shows_of_the_picture(
    tmp_path: Path, levels_camera: Path, width: int, height: int
) -> None:
    """The stage is a mirror that shows the whole picture, between bars where the forms differ."""
    signer = {
        "head": [0.4, 0.4, 0.5, 0.5],
        "shoulders": [[0.6, 0.6], [0.3, 0.6]],
        "elbows": [[0.7, 0.8], [0.2, 0.8]],
        "wrists": [[0.7, 0.9], [0.2, 0.9]],
        "hands": [[0.55, 0.35, 0.65, 0.45], None],
    }
    centres = [(0.45, 0.45), (0.6, 0.4)]  # of head and hand
    stage, picture = 4 / 3, width / height
    wide, high = min(1.0, picture / stage), min(1.0, stage / picture)  # of the picture, in stages
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.emulate_media(reduced_motion="reduce")
        drawn = await page.evaluate(DRAW, [width, height, signer])
    expected = [(1 - (0.5 + (x - 0.5) * wide), 0.5 + (y - 0.5) * high) for x, y in centres]
    assert np.allclose(drawn, expected, atol=0.005)

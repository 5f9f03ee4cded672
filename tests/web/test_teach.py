"""The Teach panel in a real Chromium: a sign is taught by takes, known at once, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import FilePayload, Page, expect

from streaming.standin import embedding
from streaming.takes import pack
from tests.browser import CAMERA_FPS, HEIGHT, WIDTH, camera_flags, write_camera
from tests.web.page import is_live, served, sign

KEY = "livegloss.signs.1"
TAKES_MS = 40_000  # three takes with their counts


@pytest.fixture(scope="module")
def grey_camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In front of it nothing changes: the stand-in sees no sign until it is taught this one."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    pictures: Iterator[Any] = (picture for _ in range(CAMERA_FPS))
    return write_camera(tmp_path_factory.mktemp("camera") / "grey.mjpeg", pictures)


def kept(gloss: str, *, space: str = "standin", level: float = 128) -> dict[str, Any]:
    takes = [pack(embedding(level))] * 3
    return {"gloss": gloss, "space": space, "takes": takes, "date": "2026-11-24"}


def exported(*signs: dict[str, Any]) -> str:
    return json.dumps({"format": "livegloss-signs", "version": 1, "signs": signs})


async def open_teach(page: Page) -> None:
    await page.get_by_role("tab", name="Teach").click()
    await expect(page.locator("#panel-teach")).to_be_visible()


async def test_a_sign_is_taught_known_after_a_reload_and_deleted(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        await open_teach(page)
        await page.get_by_label("Name of the sign").fill("dark")
        await page.get_by_role("button", name="Record", exact=True).click()
        await expect(page.locator("#teach-fault")).to_contain_text("knows a sign of this name")

        await page.get_by_label("Name of the sign").fill(" <b>grey</b> ")
        await page.keyboard.press("Enter")  # starts the camera, then counts
        await page.get_by_role("button", name="Enough").click(timeout=TAKES_MS)
        row = page.locator("#teach-list li")
        await expect(row).to_contain_text("<b>grey</b>")
        await expect(row).to_contain_text("3 takes")
        await expect(page.locator("#teach-try")).to_have_text("It recognised <b>grey</b>.")
        assert await page.evaluate(f"localStorage.getItem('{KEY}').length") < 1_000

        await page.reload()
        await page.locator("#toggle").click()
        await is_live(page)
        await expect(page.locator(sign("<b>grey</b>").split("[data-final")[0])).to_be_attached()
        await open_teach(page)
        await page.get_by_role("button", name="Delete <b>grey</b>").click()
        await expect(page.locator("#teach-none")).to_be_visible()
        candidate = page.locator('#candidates li[data-gloss="<b>grey</b>"]')
        await expect(candidate).to_have_count(0)
        await expect(page.locator('#candidates li[data-gloss="dark"]')).to_be_attached()


async def test_files_are_checked_and_what_is_broken_is_ignored(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        await page.evaluate(f"localStorage.setItem('{KEY}', '{{\"format\": 7')")
        await page.reload()
        await open_teach(page)
        await expect(page.locator("#teach-none")).to_be_visible()

        async def read(text: str) -> None:
            buffer = text.encode()
            await page.locator("#teach-file").set_input_files(
                FilePayload(name="signs.json", mimeType="application/json", buffer=buffer)
            )

        hostile = [
            "no JSON",
            "null",
            exported(kept("a\u0007b")),
            exported({**kept("short"), "takes": ["####"]}),
            exported({**kept("nan"), "takes": [pack(np.full(4, np.nan, np.float32))]}),
            exported(*[kept(f"sign {i}") for i in range(201)]),
        ]
        for text in hostile:
            await page.locator("#teach-fault").evaluate("p => { p.textContent = ''; }")
            await read(text)
            await expect(page.locator("#teach-fault")).to_contain_text("no file of taught signs")
            await expect(page.locator("#teach-list li")).to_have_count(0)

        apart = kept("mixed")
        apart["takes"] = [*apart["takes"], pack(embedding(250))]
        await read(exported(apart, kept("other", space="elsewhere"), kept("<img src=x>", level=20)))
        rows = page.locator("#teach-list li")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(0)).to_contain_text("Take 4 looks unlike the others")
        await expect(rows.nth(1)).to_contain_text("Taught to another model")
        await expect(rows.nth(2).locator("img")).to_have_count(0)
        await rows.nth(0).get_by_role("button", name="Delete this take").click()
        await expect(rows.nth(0)).to_contain_text("3 takes")
        await expect(rows.nth(0)).not_to_contain_text("unlike")

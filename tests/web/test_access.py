"""What axe-core finds on the page in a real Chromium: four sizes, light and dark, each state."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser import CAMERA_DENIED, camera_flags
from tests.web.page import barriers, is_live, served, too_wide

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = {  # and the themes looked at
    "desktop": (1280, 860, THEMES),
    "phone": (390, 844, THEMES),
    "small": (320, 640, THEMES[:1]),
    "sideways": (844, 390, THEMES[:1]),
}


async def looked_at(page: Page, state: str) -> None:
    """No serious or critical issue and nothing to scroll sideways, in any size."""
    for name, (width, height, themes) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        for theme in themes:
            await page.emulate_media(color_scheme=theme)
            assert not await barriers(page), (state, name, theme)
        assert not await too_wide(page), (state, name)


async def test_every_state_can_be_used_by_everyone(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await looked_at(page, "off")
        await page.locator("#toggle").click()
        await is_live(page)
        await expect(page.locator("#transcript li").first).to_be_attached()
        await looked_at(page, "live")
        await page.locator("#vitals summary").click()
        await expect(page.locator("#stages li").first).to_be_visible()
        await looked_at(page, "stages")
        await page.locator("#vitals summary").click()
        await page.get_by_role("button", name="Settings").click()
        await looked_at(page, "settings")
        await page.get_by_role("button", name="Done").click()
        for tab in ("Practise", "Teach"):
            await page.get_by_role("tab", name=tab).click()
            await looked_at(page, tab)
        await page.get_by_label("Name of the sign").fill("dark")
        await page.keyboard.press("Enter")
        await expect(page.locator("#teach-fault")).not_to_be_empty()
        await looked_at(page, "a name that is known")


async def test_a_problem_can_be_read_by_everyone(tmp_path: Path) -> None:
    async with served(tmp_path, CAMERA_DENIED) as page:
        await page.locator("#toggle").click()
        await expect(page.locator("#problem")).to_be_visible()
        await looked_at(page, "problem")


@pytest.mark.parametrize("key", ["ArrowRight", "End"])
async def test_tabs_are_walked_by_keys(tmp_path: Path, levels_camera: Path, key: str) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.locator("#tab-read").focus()
        await page.keyboard.press(key)
        chosen = page.locator("[role=tab][aria-selected=true]")
        await expect(chosen).to_be_focused()
        await expect(chosen).to_have_text("Practise" if key == "ArrowRight" else "Teach")
        await expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)

"""The Teach panel in a real Chromium: a sign is taught by takes, known at once, and kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from playwright.async_api import expect

from streaming.app import serve
from streaming.bench.standin import embedding
from streaming.pipeline import pack
from tests.browser import camera_flags
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, served, sign
from tests.web.taught import HASTE, KEY, QuickStandIn, exported, kept, open_teach, read_file


async def test_a_sign_is_taught_known_after_a_reload_and_deleted(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with (
        serve(SETTINGS, QuickStandIn()) as server,
        opened(tmp_path, camera_flags(grey_camera), server.url) as page,
    ):
        await page.evaluate(HASTE)
        await open_teach(page)
        await page.get_by_label("Name of the sign").fill("dark")
        await page.get_by_role("button", name="Record", exact=True).click()
        await expect(page.locator("#teach-fault")).to_contain_text("knows a sign of this name")

        await page.get_by_label("Name of the sign").fill(" <b>grey</b> ")
        await page.keyboard.press("Enter")  # starts the camera, then counts
        await page.get_by_role("button", name="Enough").click(timeout=LIVE_MS)
        row = page.locator("#teach-list > li")
        await expect(row).to_contain_text("<b>grey</b>")
        await expect(row).to_contain_text(re.compile("[345] takes"))
        await expect(page.locator("#teach-try")).to_have_text("It recognised <b>grey</b>.")
        assert await page.evaluate(f"localStorage.getItem('{KEY}').length") < 1_000

        await page.reload()
        await page.locator("#toggle").click()
        await is_live(page)
        await expect(page.locator(sign("<b>grey</b>").split("[data-final")[0])).to_be_attached()
        await open_teach(page)
        await page.get_by_role("button", name="Delete <b>grey</b>").click()
        await expect(page.locator("#teach-none")).to_be_visible()
        await expect(page.locator("#now")).to_have_attribute("data-moment", "past")
        await expect(page.locator("#candidates li")).to_have_count(0)


async def test_files_are_checked_and_what_is_broken_is_ignored(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        await page.evaluate(f"localStorage.setItem('{KEY}', '{{\"format\": 7')")
        await page.reload()
        await open_teach(page)
        await expect(page.locator("#teach-none")).to_be_visible()

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
            await read_file(page, text)
            await expect(page.locator("#teach-fault")).to_contain_text("no file of taught signs")
            await expect(page.locator("#teach-list > li")).to_have_count(0)

        apart = kept("mixed")
        apart["takes"] = [*apart["takes"], pack(embedding(250))]
        await read_file(
            page, exported(apart, kept("other", space="elsewhere"), kept("<img src=x>", level=20))
        )
        rows = page.locator("#teach-list > li")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(0)).to_contain_text("Take 4 looks unlike the others")
        await expect(rows.nth(1)).to_contain_text("Taught to another model")
        await expect(rows.nth(2).locator("img")).to_have_count(0)
        await rows.nth(0).get_by_role("button", name="Delete this take").click()
        await expect(rows.nth(0)).to_contain_text("3 takes")
        await expect(rows.nth(0)).not_to_contain_text("unlike")

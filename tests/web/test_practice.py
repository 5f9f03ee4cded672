"""The Practise panel in a real Chromium: asked, recognised or not, remembered and forgotten."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect

from tests.browser import camera_flags
from tests.web.page import LIVE_MS, served


async def test_signs_are_asked_for_and_the_results_kept_until_forgotten(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.evaluate("localStorage.setItem('livegloss.tally.1', '{broken')")
        await page.reload()
        await page.get_by_role("tab", name="Read").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#panel-practice")).to_be_visible()
        await page.locator("#practice-choice").select_option("bright")
        await page.locator("#practice-begin").click()
        answer = page.locator("#practice-answer")
        await expect(answer).to_have_text("Recognised", timeout=LIVE_MS)

        # Its own picture is taken away: what is shown from now on is no sign.
        await page.evaluate(
            "document.querySelector('#preview').srcObject.getVideoTracks()[0].enabled = false"
        )
        await expect(answer).to_have_text("Not recognised", timeout=LIVE_MS)
        await page.locator("#practice-stop").click()
        row = page.locator('#practice-results li[data-gloss="bright"]')
        await expect(row.locator(".score")).to_contain_text("1 of 2")

        await page.reload()
        await page.get_by_role("tab", name="Practise").click()
        await expect(row.locator(".score")).to_contain_text("1 of 2")
        await page.get_by_role("button", name="Forget my results").click()
        await expect(page.locator("#practice-empty")).to_be_visible()
        assert await page.evaluate("localStorage.getItem('livegloss.tally.1')") is None

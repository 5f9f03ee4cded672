"""What a person sets on the page: acted on at once, kept by the browser, checked when read back."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import camera_flags
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, served, sign

TWO_CAMERAS = "--use-fake-device-for-media-stream=device-count=2"


async def open_settings(page: Page) -> None:
    await page.get_by_role("button", name="Settings").click()
    await expect(page.get_by_role("dialog", name="Settings")).to_be_visible()


async def threshold(page: Page, value: float) -> None:
    """Move the slider as a person does who lets go of it at `value`."""
    await page.get_by_label("How sure a sign must be").fill(str(value))


async def paper(page: Page) -> str:
    return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))


async def test_a_surer_threshold_holds_signs_back_from_the_next_one_on(
    tmp_path: Path, levels_camera: Path
) -> None:
    # The stand-in is 90 % sure of its signs.
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url) as page,
    ):
        await open_settings(page)
        await expect(page.locator("#set-threshold-now")).to_have_text("50 %")
        await threshold(page, 0.95)
        await expect(page.locator("#set-threshold-now")).to_have_text("95 %")
        await page.get_by_role("button", name="Done").click()
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)
        for gloss in ("bright", "dark"):  # both are shown, and neither is told
            bar = page.locator(f'#candidates li[data-gloss="{gloss}"] .p')
            await expect(bar).to_have_text("90 %", timeout=LIVE_MS)
        await expect(page.locator("#transcript li")).to_have_count(0)

        await open_settings(page)
        await page.get_by_role("button", name="Reset to defaults").click()
        await expect(page.locator("#set-threshold-now")).to_have_text("50 %")
        await page.get_by_role("button", name="Done").press("Enter")
        await expect(page.locator(sign("bright")).first).to_be_visible(timeout=LIVE_MS)


async def test_what_is_set_is_kept_and_shown(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        light = await paper(page)
        await open_settings(page)
        await page.get_by_label("Guesses shown").select_option("4")
        await page.get_by_label("Colours").select_option("Dark")
        await page.get_by_label("I sign with my left hand").check()
        await threshold(page, 0.6)
        assert await paper(page) != light
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Settings")).to_be_focused()
        await page.reload()
        assert await paper(page) != light
        turned = "getComputedStyle(document.querySelector('.figure')).transform"
        assert (await page.evaluate(turned)).startswith("matrix(-1"), "the drawn signer is turned"
        await open_settings(page)
        await expect(page.get_by_label("Guesses shown")).to_have_value("4")
        await expect(page.get_by_label("Colours")).to_have_value("dark")
        await expect(page.get_by_label("I sign with my left hand")).to_be_checked()
        await expect(page.locator("#set-threshold-now")).to_have_text("60 %")
        await page.get_by_role("button", name="Reset to defaults").click()
        assert await paper(page) == light
        await expect(page.get_by_label("I sign with my left hand")).not_to_be_checked()


async def test_what_is_kept_is_not_trusted(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        for kept in (
            "{broken",
            "7",
            '{"threshold": 9, "candidates": "x", "theme": "<b>", "left": 1, "toString": 1}',
        ):
            await page.evaluate("kept => localStorage.setItem('livegloss.settings.1', kept)", kept)
            await page.reload()
            await open_settings(page)
            await expect(page.locator("#set-threshold-now")).to_have_text("50 %")
            await expect(page.get_by_label("Guesses shown")).to_have_value("5")
            await expect(page.get_by_label("Colours")).to_have_value("")


async def test_another_camera_is_taken_while_it_runs(tmp_path: Path, levels_camera: Path) -> None:
    flags = [*camera_flags(levels_camera)[:1], TWO_CAMERAS]
    in_use = """document.querySelector("#preview").srcObject.getVideoTracks()[0].label"""
    async with served(tmp_path, flags) as page:
        await open_settings(page)
        camera = page.get_by_role("combobox", name="Camera")
        await page.get_by_role("button", name="Done").click()
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)
        first = await page.evaluate(in_use)
        await open_settings(page)
        names = await camera.locator("option").all_text_contents()
        assert len(names) == 3 and first in names
        await camera.select_option(label=next(name for name in names[1:] if name != first))
        await page.get_by_role("button", name="Done").click()
        await is_live(page)
        second = await page.evaluate(in_use)
        assert second != first
        await page.get_by_role("button", name="Stop").click()
        await page.reload()
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)
        assert await page.evaluate(in_use) == second, "it is kept"

        # A camera that is not there any more is no reason to show nothing.
        kept = """localStorage.setItem('livegloss.settings.1', '{"camera": "gone"}')"""
        await page.get_by_role("button", name="Stop").click()
        await page.evaluate(kept)
        await page.reload()
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)

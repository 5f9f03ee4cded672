"""Drawn figures in a real Chromium: of a sign, of the person's own try, of taught signs' takes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.async_api import Locator, Page, expect

from models.drawn_figure import pack_figure
from models.schema import Box, Clip, Pair, Prediction, Seen, Signer
from streaming.app import serve
from tests.browser import NO_CAMERA, camera_flags
from tests.models.drawn_figures import waving
from tests.web.page import LIVE_MS, SETTINGS, barriers, opened, too_wide
from tests.web.taught import HASTE, QuickStandIn, open_teach

SIZES = ((1280, 800), (390, 844), (844, 390))

# Of a canvas: pixels of the hands' colour, and the middle of these from its left edge, 0 to 1.
HANDS = """(canvas) => {
    const colour = getComputedStyle(canvas).color.match(/\\d+/g).map(Number);
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let [count, sum] = [0, 0];
    for (let i = 0; i < pixels.length; i += 4) {
        if (!colour.every((part, k) => Math.abs(part - pixels[i + k]) < 4)) continue;
        count += 1;
        sum += (i / 4) % width;
    }
    return [count, sum / count / width];
}"""

# Presses the button, and returns ms until the figure has moved.
CLICK = """async (button) => {
    const began = performance.now();
    button.click();
    const moved = () => Number(document.querySelector(".how .drawn")?.dataset.time) > 0;
    while (!moved()) await new Promise(requestAnimationFrame);
    return performance.now() - began;
}"""

# Presses the button, and returns the word that is asked for then. Without a camera it is gone as
# soon as the page knows, which may be before a test asks.
PRACTISE = """(button) => {
    button.click();
    return document.querySelector("#practice-word").textContent;
}"""


class Seeing(QuickStandIn):
    """A stand-in with a figure of "bright", which sees a person wave with the right hand."""

    def __init__(self) -> None:
        super().__init__()
        self.bundle = replace(self.bundle, figures={"bright": pack_figure(waving())})

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        return [
            replace(one, seen=Seen(aspect=4 / 3, signer=_waver(one.end_s)))
            for one in super().recognise(clips)
        ]


def _waver(media_s: float) -> Signer:
    """Shoulders a quarter of the picture wide; the hand is at the left of the picture."""
    x = 0.3 + 0.05 * math.sin(5 * media_s)
    box: Box = (x - 0.05, 0.3, x + 0.05, 0.5)
    joints = tuple((x - 0.05 + 0.1 * n / 20, 0.5 - 0.2 * n / 20) for n in range(21))
    eyes: Pair = ((0.53, 0.3), (0.47, 0.3))
    return Signer(
        head=(0.42, 0.15, 0.58, 0.45),
        shoulders=((0.63, 0.55), (0.37, 0.55)),
        elbows=((0.68, 0.85), (0.28, 0.75)),
        wrists=((0.66, 1.2), (x, 0.5)),
        hands=(None, box),
        face=((0.5, 0.34), *eyes, (0.56, 0.32), (0.44, 0.32), (0.52, 0.39), (0.48, 0.39)),
        joints=((), joints),
    )


async def hands(canvas: Locator) -> tuple[int, float]:
    count, middle = await canvas.evaluate(HANDS)
    return count, middle


async def time_of(view: Locator) -> float:
    return float(await view.get_attribute("data-time") or 0)


async def goes_on(page: Page, where: str) -> None:
    """The figure's time moves by itself."""
    before = await page.locator(where).get_attribute("data-time")
    await page.wait_for_function(
        "([where, before]) => document.querySelector(where).dataset.time !== before",
        arg=[where, before],
    )


async def test_a_button_beside_a_sign_plays_how_it_is_signed(
    tmp_path: Path, record_property: Any
) -> None:
    faults = ["404", "Failed to load"]
    async with (
        serve(SETTINGS, Seeing()) as server,
        opened(tmp_path, NO_CAMERA, server.url, faults=faults) as page,
    ):
        how = page.get_by_role("button", name="See how bright is signed")
        await expect(page.get_by_role("button", name="See how")).to_have_count(1)
        dialog, view = page.locator("dialog.how"), page.locator(".how .drawn")
        await how.focus()
        first_ms = await how.evaluate(CLICK)
        record_property("figure_plays_after_ms", first_ms)
        print(f"a figure plays {first_ms:.0f} ms after the click")
        await expect(dialog).to_contain_text("for academic, non-commercial use")
        canvas = page.get_by_role("img", name="bright, drawn")
        count, middle = await hands(canvas)
        assert count > 50 and middle < 0.4, "a right hand is at the left of who looks at it"
        await goes_on(page, ".how .drawn")

        await page.keyboard.press("Space")
        await expect(view).to_have_attribute("data-state", "paused")
        await page.keyboard.press("ArrowRight")
        at = await time_of(view)
        await page.keyboard.press("ArrowLeft")
        assert at - await time_of(view) - 1 / 15 < 0.002
        await page.keyboard.press("s")
        slow = page.get_by_role("button", name="Slow")
        await expect(slow).to_have_attribute("aria-pressed", "true")
        _, before = await hands(canvas)
        await page.keyboard.press("l")
        left = page.get_by_role("button", name="Left-handed")
        await expect(left).to_have_attribute("aria-pressed", "true")
        _, after = await hands(canvas)
        assert abs(before + after - 1) < 0.02, "mirrored"
        assert await page.locator("#stage").get_attribute("data-left") == "true"
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            assert not await too_wide(page)
        assert not await barriers(page)
        await page.keyboard.press("Home")
        await expect(view).to_have_attribute("data-state", "playing")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(how).to_be_focused()

        # Who asked for reduced motion gets poses, and sees it move only on demand.
        await page.set_viewport_size({"width": 1280, "height": 800})
        await page.emulate_media(reduced_motion="reduce")
        await how.click()
        await expect(view).to_have_attribute("data-state", "paused")
        poses = page.get_by_role("img", name="bright, drawn, pose")
        await expect(poses).to_have_count(4)
        assert (await hands(poses.first))[0] > 5
        await page.get_by_role("button", name="Play", exact=True).click()
        await goes_on(page, ".how .drawn")
        await expect(view).to_have_attribute("data-state", "paused", timeout=LIVE_MS)  # once
        practise = page.get_by_role("button", name="Practise it")
        assert await practise.evaluate(PRACTISE) == "bright"
        await expect(dialog).to_be_hidden()
        await expect(page.get_by_role("tab", name="Practise")).to_have_attribute(
            "aria-selected", "true"
        )

        await page.reload()  # left-handed is remembered, and broken answers are told of
        await page.route("**/api/figures/*", lambda route: route.fulfill(body=b"\x01\x0f..."))
        await how.click()
        await expect(dialog.get_by_role("alert")).to_contain_text("could not be shown")
        await page.keyboard.press("Escape")
        await page.route("**/api/figures/*", lambda route: route.fulfill(status=404, body="{}"))
        await how.click()
        await expect(dialog.get_by_role("alert")).to_contain_text("could not be shown")
        await expect(left).to_be_hidden()
        assert await page.locator("#stage").get_attribute("data-left") == "true"


async def test_a_try_is_drawn_beside_the_sign_and_takes_are_kept(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, Seeing()) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url) as page,
    ):
        await page.get_by_role("tab", name="Practise").click()
        await page.locator("#practice-choice").select_option("bright")
        await page.get_by_role("button", name="Begin").click()
        drawn = page.locator("#practice-figures canvas")
        await expect(drawn).to_have_count(1, timeout=LIVE_MS)
        await goes_on(page, "#practice-figures .drawn")
        tried = re.compile("ecognised")  # or not, on a busy machine
        await expect(page.locator("#practice-answer")).to_have_text(tried, timeout=LIVE_MS)
        await expect(drawn).to_have_count(2, timeout=LIVE_MS)
        await expect(page.locator("#practice-figures")).to_contain_text("You, as others see you")
        await expect(drawn.last).to_have_attribute("aria-label", "How you signed bright, drawn")
        for count, middle in await drawn.evaluate_all(f"(all) => all.map({HANDS})"):
            assert count > 20 and middle < 0.45
        await page.get_by_label("Show how it is signed").uncheck()
        await expect(drawn).to_have_count(0)
        await page.locator("#practice-stop").click()
        await expect(page.locator("#practice-figures")).to_be_hidden()

        await page.evaluate(HASTE)
        await open_teach(page)
        await page.get_by_label("Name of the sign").fill("wave")
        await page.get_by_role("button", name="Record").click()
        await page.get_by_role("button", name="Enough").click(timeout=LIVE_MS)
        see = page.get_by_role("button", name="See it: wave")
        await see.click(timeout=LIVE_MS)
        dialog = page.locator("dialog.how")
        await expect(dialog).to_contain_text("How you sign “wave”")
        await expect(dialog).to_contain_text("Kept in this browser only")
        takes = dialog.get_by_role("button", name="Take")
        await expect(takes.first).to_have_attribute("aria-pressed", "true")
        await takes.last.click()
        assert (await hands(page.get_by_role("img", name="wave, drawn")))[0] > 20
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Delete wave").click()
        await expect(see).to_have_count(0)
        assert await page.evaluate("localStorage.getItem('livegloss.takes.1')") is None

        # What another program wrote there, or an older page, breaks nothing.
        await page.evaluate(
            'localStorage.setItem(\'livegloss.takes.1\', \'[[1], "x", ["a", "b"]]\')'
        )
        await page.reload()
        await expect(page.locator("#glosses li").first).to_be_attached()

"""One visit to the page, as a person makes it, on a laptop and on a phone: the whole product.

The camera plays clips of signers that the model (`tests/bundles/heldout`) never met.
"""

from __future__ import annotations

import asyncio
import json
import re
from itertools import chain
from pathlib import Path

from playwright.async_api import Page, expect

from tests import clips
from tests.browser import browser_page, camera_flags, clip_pictures, server_process, write_camera
from tests.web.first_visit import SIZES as WINDOWS
from tests.web.first_visit import camera_of_a_newcomer, first_visit
from tests.web.page import LIVE_MS, is_live, sign

GLOSSES = ("dance", "home")  # read surely even where half of the frames are lost
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}
READ_MS = 40_000  # four times the camera's loop: a busy machine
TRIES = 3
DECIDED = re.compile("recognised|missed")


async def in_view(page: Page, selector: str) -> None:
    """It can be seen whole without scrolling sideways."""
    box = await page.locator(selector).bounding_box()
    width = await page.evaluate("innerWidth")
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width + 1, selector


async def practise(page: Page, gloss: str, *, after: str) -> None:
    """Press the sign to practise it until it is recognised, as a person would on a busy machine.

    Pressed as the sign `after` is over, since the camera does not wait to be asked: eight seconds
    from any other moment may pass between two times that it shows `gloss`.
    """
    now = page.locator("#practice-now")
    for _ in range(TRIES):
        told = await page.locator(sign(after)).count()
        await expect(page.locator(sign(after))).not_to_have_count(told, timeout=READ_MS)
        await page.locator("#glosses").get_by_role("button", name=gloss).click()
        await expect(page.locator("#practice-word")).to_have_text(gloss)
        await expect(now).to_have_attribute("data-state", DECIDED, timeout=READ_MS)
        if await now.get_attribute("data-state") == "recognised":
            return
    raise AssertionError(f"{gloss} was pressed {TRIES} times and never recognised")


async def visit(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_role("button", name="Start camera").click()
    await is_live(page)

    # Read
    for gloss in GLOSSES:
        await expect(page.locator(sign(gloss)).first).to_be_visible(timeout=READ_MS)
    await expect(page.locator("#current")).not_to_have_attribute("data-gloss", "")
    await expect(page.locator("#candidates li")).to_have_count(5, timeout=READ_MS)
    weights = await page.locator("#heat i").evaluate_all(
        "all => all.map(i => Number(i.style.getPropertyValue('--weight')))"
    )
    assert len(set(weights)) > 5, "a trained model does not weigh all moments alike"
    for part in ("#current", "#candidates", "#strip", "#transcript"):
        await in_view(page, part)
    await page.locator("#vitals summary").click()
    await expect(page.locator('#stages li[data-stage="encode"]')).to_be_visible()
    await in_view(page, ".stages-card")
    await page.keyboard.press("Escape")
    async with page.expect_download() as saved:
        await page.locator("#save").select_option("json")
    file = Path(await (await saved.value).path())
    transcript = json.loads(await asyncio.to_thread(file.read_text))
    assert set(GLOSSES) <= {one["gloss"] for one in transcript["signs"]}

    # Settings
    await page.get_by_role("button", name="Settings").click()
    await in_view(page, "#settings")
    await page.get_by_label("Guesses shown").select_option("3")
    await page.get_by_role("button", name="Done").click()
    await expect(page.locator("#candidates li")).to_have_count(3, timeout=READ_MS)

    # Practise
    await page.get_by_label("Find a sign").fill(GLOSSES[0])
    await practise(page, GLOSSES[0], after=GLOSSES[1])
    await in_view(page, "#practice-now")
    await page.get_by_role("button", name="Stop practising").click()
    await expect(page.locator("#practice-results .score").first).to_be_visible()

    # Teach
    await page.get_by_role("tab", name="Teach").click()
    await page.get_by_label("Name of the sign").fill("lantern")
    await page.get_by_role("button", name="Record", exact=True).click()
    await expect(page.locator("#teach-progress")).to_contain_text("3 of 5", timeout=READ_MS)
    await in_view(page, "#teach-recording")
    await page.get_by_role("button", name="Enough").click()
    await expect(page.locator("#teach-list")).to_contain_text("lantern")
    await expect(page.locator("#teach-try")).to_contain_text("Try it")

    await page.get_by_role("button", name="Stop", exact=True).click()
    await expect(page.locator("#status")).to_have_attribute("data-state", "off", timeout=LIVE_MS)


async def test_a_visit_on_a_laptop_and_on_a_phone(data_dir: Path, tmp_path: Path) -> None:
    chosen = {one.gloss: one.path for one in clips.one_a_gloss(clips.held_out(data_dir))}
    shown = (clip_pictures(chosen[gloss], lead_s=1.5, tail_s=1.5) for gloss in GLOSSES)
    camera = await asyncio.to_thread(
        write_camera, tmp_path / "camera.mjpeg", chain.from_iterable(shown)
    )

    async def visitor(name: str) -> None:
        flags = camera_flags(camera)
        async with browser_page(tmp_path / name, flags, size=SIZES[name]) as page:
            await visit(page, url)

    async with server_process("--model", str(clips.HELD_OUT)) as server, asyncio.TaskGroup() as all:
        url = server.url
        for name in SIZES:
            all.create_task(visitor(name))


async def test_a_newcomer_gets_a_first_right_sign_within_a_minute(
    data_dir: Path, tmp_path: Path
) -> None:
    camera = await asyncio.to_thread(camera_of_a_newcomer, data_dir, tmp_path)
    async with (
        server_process("--model", str(clips.HELD_OUT)) as server,
        browser_page(tmp_path, camera_flags(camera), size=WINDOWS["sideways"]) as page,
    ):
        assert (await first_visit(page, server.url)).seconds < 60

"""What the page shows while it is live: the window that was read, and the stages of the delay."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import camera_flags
from tests.web.page import (
    LIVE_MS,
    SETTINGS,
    barriers,
    is_live,
    opened,
    served,
    sign,
    too_wide,
)

# The mean level of each small picture of the strip, as it stands on the page.
TILES = """() => {
    const film = document.querySelector("#film");
    const side = film.width / 8;
    return Array.from({ length: 8 }, (_, i) => {
        const { data } = film.getContext("2d").getImageData(i * side, 0, side, film.height);
        const green = data.filter((_, at) => at % 4 === 1);
        return green.reduce((sum, value) => sum + value, 0) / green.length;
    });
}"""


async def test_the_window_that_was_read_is_shown_with_its_weights(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        heat = page.locator("#heat i")
        await expect(heat).to_have_count(0)
        await page.locator("#toggle").click()
        await expect(page.locator(sign("bright")).first).to_be_visible(timeout=LIVE_MS)
        tiles = await page.evaluate(TILES)
        assert abs(tiles[-1] - 128) > 60, "it ends where a sign was seen, not at rest"
        assert max(tiles) - min(tiles) > 60, "and shows what came before"
        await expect(heat).to_have_count(StandIn().bundle.encoder.frames)
        weights = await heat.evaluate_all(
            "all => all.map(i => i.style.getPropertyValue('--weight'))"
        )
        assert set(weights) == {"1.00"}, "the stand-in weighs all alike"

        await page.get_by_role("button", name="Hide picture").click()
        await expect(page.locator("#film")).to_be_hidden()
        await expect(page.locator("#heat")).to_be_visible()
        await page.get_by_role("button", name="Stop").click()
        await expect(heat).to_have_count(0)
        assert not any(await page.evaluate(TILES)), "no picture stays when the camera is off"


async def test_the_delay_opens_into_its_stages(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        vitals = page.locator("#vitals")
        await expect(vitals).to_be_hidden()
        await page.locator("#toggle").click()
        await is_live(page)
        await expect(page.locator("#latency")).to_contain_text("ms", timeout=LIVE_MS)
        await vitals.locator("summary").press("Enter")
        stages = page.locator("#stages li")
        await expect(stages).to_have_count(7)
        told = await stages.evaluate_all(
            """rows => rows.map(row => [
                row.dataset.stage, parseFloat(row.querySelector(".ms").textContent)])"""
        )
        assert [name for name, _ in told] == [
            *("decode", "window", "queue", "encode", "classify", "send", "back")
        ]
        assert all(0 <= ms < 5000 for _, ms in told) and sum(ms for _, ms in told) > 0
        await expect(page.locator("#sent-size")).to_contain_text("pixels each", timeout=LIVE_MS)
        await expect(page.locator("#left-out")).to_contain_text("0 windows")
        await page.keyboard.press("Escape")
        await expect(stages.first).to_be_hidden()
        await expect(vitals.locator("summary")).to_be_focused()


async def test_a_busy_server_shows_how_often_it_predicts(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, StandIn(each_s=0.4)) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url) as page,
    ):
        busy = page.locator("#busy")
        await page.locator("#toggle").click()
        await is_live(page)
        await expect(busy).to_have_text(re.compile(r"a prediction every 0\.\d s"), timeout=LIVE_MS)
        await page.set_viewport_size({"width": 320, "height": 640})
        assert not await too_wide(page)
        await page.locator("#toggle").click()
        await expect(busy).to_be_hidden()


async def test_a_gloss_that_is_pressed_is_asked_for(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.locator("#glosses").get_by_role("button", name="dark").click()
        await expect(page.locator("#panel-practice")).to_be_visible()
        await expect(page.locator("#practice-word")).to_have_text("dark")
        await expect(page.locator("#practice-answer")).to_have_text("Recognised", timeout=LIVE_MS)


# Each story that the panel tells: its state, its word, its heading, and what it could be.
STORIES = """() => {
    window.stories = [];
    const at = (id) => document.getElementById(id);
    const now = at("now");
    new MutationObserver(() => stories.push({
        state: now.dataset.moment,
        word: at("current").dataset.gloss,
        said: at("current-sure").textContent,
        p: [...at("candidates").querySelectorAll(".p")].map((one) => one.textContent),
        bars: [...at("candidates").children].map((row) => row.dataset.gloss),
        note: at("idle").textContent,
    })).observe(now, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


async def test_word_and_candidates_tell_of_one_moment(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.clock.install()
        await page.reload()
        await page.evaluate(STORIES)
        await page.locator("#toggle").click()
        for gloss in ("bright", "dark"):
            await expect(page.locator(sign(gloss)).first).to_be_visible(timeout=LIVE_MS)
        stories = await page.evaluate("stories")
        for one in stories:
            match one["state"]:
                case "sign":
                    assert one["bars"][0] == one["word"] and one["said"].startswith(one["p"][0])
                    assert not one["note"]
                case "unsure":
                    assert not one["word"] and one["said"] == "Not sure yet" and one["bars"]
                case _:
                    assert not one["bars"], "at rest there is nothing to guess from"
        assert {one["state"] for one in stories} >= {"rest", "unsure", "sign"}
        assert any(one["note"].startswith("No known sign") for one in stories)

        # Nothing new: what is old fades, says its age, and goes.
        await page.locator("#toggle").click()
        now, word = page.locator("#now"), page.locator("#current-word")
        last = await word.text_content()
        await page.clock.fast_forward(5_000)
        await expect(now).to_have_attribute("data-moment", "past")
        await expect(page.locator("#now-title")).to_have_text("Last sign")
        await expect(word).to_have_text(last or "-")
        await expect(page.locator("#current-sure")).to_contain_text(re.compile(r"[5-9] s ago$"))
        await expect(page.locator("#candidates li")).to_have_count(0)
        await page.clock.fast_forward(15_000)
        await expect(now).to_have_attribute("data-moment", "rest")
        await expect(word).to_be_empty()
        await expect(page.locator("#current-sure")).to_have_text("Start the camera and sign")


async def test_reading_goes_on_beside_the_other_panels(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await page.locator("#toggle").click()
        await is_live(page)
        lately = page.locator(".lately")
        for tab, gloss in (("Practise", "bright"), ("Teach", "dark")):
            await page.get_by_role("tab", name=tab).click()
            told = await page.locator(sign(gloss)).count()
            await expect(page.locator(sign(gloss))).not_to_have_count(told, timeout=LIVE_MS)
            await expect(lately).to_be_visible()
            await expect(lately).to_contain_text(gloss)
            assert not await barriers(page), tab
        await page.get_by_role("tab", name="Read").click()
        await expect(lately).to_be_hidden()
        for gloss in ("bright", "dark"):
            await expect(page.locator(sign(gloss)).first).to_be_visible()


async def test_a_phone_held_sideways_shows_picture_word_and_bars_at_once(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        for width, height in ((844, 390), (667, 375), (568, 320)):
            await page.set_viewport_size({"width": width, "height": height})
            if width == 844:
                await page.locator("#toggle").click()
                await page.locator(sign("bright")).first.wait_for(timeout=LIVE_MS)
            boxes = {}
            for part in ("#stage", "#current", ".guesses", "#toggle", "#preview-toggle"):
                await expect(page.locator(part)).to_be_in_viewport()
                box = await page.locator(part).bounding_box()
                assert box and box["y"] >= 0, part
                if part != ".guesses" or height == 390:
                    assert box["y"] + box["height"] <= height, (part, width)
                boxes[part] = box
            for button in ("#toggle", "#preview-toggle"):
                assert boxes[button]["y"] + boxes[button]["height"] <= boxes["#stage"]["y"]
            assert not await too_wide(page)
            assert not await barriers(page)
        await page.get_by_role("tab", name="Practise").click()
        await page.get_by_role("button", name="Begin").click()
        await page.set_viewport_size({"width": 844, "height": 390})
        for part in ("#stage", "#practice-word", "#practice-answer"):
            await expect(page.locator(part)).to_be_in_viewport(ratio=0.99)

"""A draft sentence on the page, in a real Chromium, by a model that behaves well, then badly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from playwright.async_api import expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import DraftSettings
from tests.browser import camera_flags
from tests.model_server import event, model_server, saying, stalling, status
from tests.web.page import LIVE_MS, SETTINGS, barriers, opened, sign, too_wide

SIZES = ((1280, 800), (390, 844), (844, 390))
GOOD = "It | -\nis | -\nbright, | 1\nthen it gets | -\n<i>dark</i> | 2\nsoon."

# Keeps what is announced: the next sign's announcement takes its place.
TOLD = """() => {
    window.told = [];
    const announcer = document.querySelector("#announcer");
    const keep = () => told.push(announcer.textContent);
    const all = { childList: true, characterData: true, subtree: true };
    new MutationObserver(keep).observe(announcer, all);
}"""

# Asks for another draft, and returns the signs that it should be made of.
ASK_AGAIN = """() => {
    const kept = [...document.querySelectorAll("#draft .chip[aria-pressed=true] .gloss")];
    document.querySelector("#draft .log-head button").click();
    return kept.map((one) => one.textContent);
}"""


async def test_a_draft_is_tied_to_its_signs(tmp_path: Path, levels_camera: Path) -> None:
    async with model_server() as model:
        model.answer = saying(GOOD)
        draft = DraftSettings(url=model.url, model="tiny", timeout_s=10.0, burst=20)
        async with (
            serve(replace(SETTINGS, draft=draft), StandIn()) as server,
            opened(tmp_path, camera_flags(levels_camera), server.url, faults=["503"]) as page,
        ):
            await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            panel = page.locator("#draft")
            ask = panel.get_by_role("button", name="Draft a sentence")
            await expect(panel).to_contain_text("A draft from guesses, not a translation")
            await expect(panel).to_contain_text("model tiny on this server's own machine")
            await ask.click()
            await expect(panel.get_by_role("alert")).to_contain_text("no sign")

            await page.locator("#toggle").click()
            for gloss in ("bright", "dark"):
                await expect(page.locator(sign(gloss)).first).to_be_attached(timeout=LIVE_MS)
            await expect(panel.locator(".chip")).to_have_count(
                await page.locator('#transcript li[data-final="true"]').count()
            )
            await page.evaluate(TOLD)
            await ask.focus()
            await page.keyboard.press("Enter")
            words = panel.locator(".draft-words .word")
            await expect(words).to_have_text(
                ["It", "is", "bright,", "then it gets", "<i>dark</i>", "soon."]
            )
            kinds = await words.evaluate_all("all => all.map((one) => one.dataset.kind)")
            assert kinds == ["added", "added", "tied", "added", "tied", "untied"]
            await expect(panel.locator(".draft-words")).to_have_attribute("aria-busy", "false")
            await page.wait_for_function(
                "told.some(text => text.startsWith('Draft: It is bright,'))"
            )
            assert await panel.locator("i").count() == 0

            # A word shows its sign, by the keyboard and by the pointer.
            lit = panel.locator(".chip.lit .gloss")
            await words.nth(2).focus()
            await expect(lit).to_have_text(["bright"])
            await words.nth(4).hover()
            await expect(lit).to_have_text(["dark"])
            await words.nth(0).hover()
            await expect(lit).to_have_count(0)

            for width, height in SIZES:
                await page.set_viewport_size({"width": width, "height": height})
                assert not await barriers(page) and not await too_wide(page), (width, height)

            await panel.get_by_role("button", name="Edit").click()
            edited = panel.get_by_role("textbox", name="The draft as you changed it")
            await expect(edited).to_be_focused()
            await edited.fill("Mine.")
            await panel.get_by_role("button", name="Copy").click()
            copied = "async () => navigator.clipboard.readText()"
            assert await page.evaluate(copied) == "Mine.\n(A draft from guesses, not a translation)"
            await panel.get_by_role("button", name="Back to the model's words").click()
            await expect(panel.get_by_role("button", name="Edit")).to_be_focused()
            await panel.get_by_role("button", name="Copy").click()
            await page.wait_for_function("told.includes('Draft copied')")
            assert (await page.evaluate(copied)).startswith("It is bright, then it gets <i>dark")

            # A sign that is left out is not told to the model.
            await panel.locator(".chip").first.click()
            model.answer = stalling(event("Bright | 1\n"))
            kept = await page.evaluate(ASK_AGAIN)
            await expect(words).to_have_text(["Bright"])
            asked = model.asked[-1]["messages"][-1]["content"]
            assert [line.split('"')[1] for line in asked.splitlines()] == kept
            assert len(kept) < await panel.locator(".chip").count()
            await panel.get_by_role("button", name="Stop").click()
            await expect(panel.get_by_role("alert")).to_have_text("Stopped.")
            await model.left.wait()

            model.answer = status(503, "loading")
            await panel.get_by_role("button", name="Draft again").click()
            await expect(panel.get_by_role("alert")).to_contain_text("server failed (503)")
            await page.locator("#toggle").click()
            await ask.click()
            await expect(panel.get_by_role("alert")).to_contain_text("Start the camera first")
            await page.locator("#clear").click()
            await expect(panel.locator(".chip")).to_have_count(0)
            await expect(panel.locator(".fault")).to_be_empty()

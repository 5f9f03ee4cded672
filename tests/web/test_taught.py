"""Taught signs on the page, in a real Chromium: recorded, renamed, and kept where they can be."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from models.few_shot import MAX_SIGNS
from models.schema import Frame
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import Settings
from streaming.taught_signs import SignStore
from tests.browser import browser_page, camera_flags
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, served, sign
from tests.web.taught import (
    HASTE,
    QuickStandIn,
    exported,
    fits,
    in_browser,
    kept,
    open_teach,
    read_file,
    seed,
)

TOKEN = "open-sesame"
ROW = "#teach-list > li"
GONE = ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]

# Mean levels of each still near its left edge and near its right one.
SIDES = """(all) => all.map((still) => {
    const { width, height } = still;
    const { data } = still.getContext("2d").getImageData(0, height >> 1, width, 1);
    const row = Array.from({ length: width }, (_, x) => data[4 * x]);
    const mean = (part) => part.reduce((sum, level) => sum + level, 0) / part.length;
    return [mean(row.slice(width * .05, width * .15)), mean(row.slice(width * .85, width * .95))];
})"""

# Leaves no room in the browser's storage.
FILL = """() => {
    for (let size = 1 << 22; size >= 1; size >>= 1) {
        try {
            for (let n = 0; ; n += 1) localStorage.setItem(`${size} ${n}`, "x".repeat(size));
        } catch { /* no room for so much */ }
    }
}"""


def keeping(folder: Path, *, port: int = 0) -> Settings:
    """A server that keeps signs in `folder`."""
    server = replace(SETTINGS.server, port=port, token=TOKEN, signs=str(folder))
    return replace(SETTINGS, server=server)


def on_server(folder: Path) -> dict[str, int]:
    """How many takes of each sign the server's folder holds."""
    path = folder / "standin.json"
    signs = json.loads(path.read_text())["signs"] if path.exists() else {}
    return {gloss: len(takes) for gloss, takes in signs.items()}


async def look_again(page: Page) -> None:
    """What a person does who comes back to the page."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


# Recording


async def test_takes_are_shown_and_a_bad_one_is_deleted(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, QuickStandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url) as page,
    ):
        await page.locator("#toggle").click()
        await is_live(page)
        await open_teach(page)
        await page.evaluate(HASTE)
        await page.get_by_label("Name of the sign").fill("levels")
        await page.keyboard.press("Enter")
        await expect(page.locator("#teach-stills canvas").first).to_be_visible(timeout=LIVE_MS)
        await fits(page)
        await expect(page.locator("#teach-recording")).to_be_hidden(timeout=LIVE_MS)

        row = page.locator(ROW)
        await expect(row).to_contain_text("gone when you reload")
        stills = row.get_by_role("img")
        await expect(stills).to_have_count(5)
        await expect(stills.nth(1)).to_have_attribute(
            "aria-label", "Take 2 of levels: a still from its middle"
        )
        # The camera's tile is at the left; the preview is a mirror, and so are the stills.
        sides = await stills.evaluate_all(SIDES)
        lit = [(left, right) for left, right in sides if left > 30]
        assert lit and all(left > right + 10 for left, right in lit), sides
        await page.get_by_role("button", name="Hide picture").click()
        await expect(stills.first).to_be_hidden()
        await page.get_by_role("button", name="Show picture").click()
        await expect(stills.first).to_be_visible()
        await fits(page)

        before = (await in_browser(page))[0]["takes"]
        await page.get_by_role("button", name="Delete take 2 of levels").click()
        await expect(stills).to_have_count(4)
        assert (await in_browser(page))[0]["takes"] == before[:1] + before[2:]
        await page.reload()
        await open_teach(page)
        await expect(row).to_contain_text("4 takes")
        await expect(stills).to_have_count(0)


async def test_an_untrained_model_asks_for_rest_and_keeps_it_until_there_is_better(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with (
        serve(SETTINGS, QuickStandIn(untrained=True)) as server,
        opened(tmp_path, camera_flags(grey_camera), f"{server.url}/?preview=off") as page,
    ):
        await open_teach(page)
        await expect(page.locator("#teach-form")).to_be_hidden()
        await page.evaluate(HASTE)
        await page.get_by_role("button", name="Record rest").click()
        row = page.locator(ROW)
        await expect(row).to_contain_text("No sign (rest)3 takes", timeout=LIVE_MS)
        await expect(page.locator("#teach-form")).to_be_visible()
        await expect(page.locator("canvas.still")).to_have_count(0)  # the picture is hidden

        older = kept("idle", space="untrained", level=20)
        await seed(page, older)
        await open_teach(page)
        await page.evaluate(HASTE)
        again = page.get_by_role("button", name="Record again")
        await again.click()
        await expect(page.locator("#teach-progress")).to_contain_text(
            re.compile("[12] of 3"), timeout=LIVE_MS
        )
        await page.locator("#teach-enough").click()
        await expect(page.locator("#teach-fault")).to_contain_text("Nothing was changed")
        assert await in_browser(page) == [older]
        await again.click()
        await expect(page.locator("#teach-recording")).to_be_visible()
        await expect(page.locator("#teach-recording")).to_be_hidden(timeout=LIVE_MS)
        await expect(row).to_contain_text("3 takes")
        (newer,) = await in_browser(page)
        assert len(newer["takes"]) == 3 and not set(newer["takes"]) & set(older["takes"])


async def test_a_lost_take_is_told_and_more_takes_can_be_added(
    tmp_path: Path, grey_camera: Path
) -> None:
    free = threading.Event()
    free.set()

    def look(frame: Frame) -> None:
        free.wait(30)

    async with (
        serve(SETTINGS, QuickStandIn(inspect=look)) as server,
        opened(tmp_path, camera_flags(grey_camera), server.url) as page,
    ):
        await seed(page, kept("grey"))
        await page.locator("#toggle").click()
        await is_live(page)
        await open_teach(page)
        await page.evaluate(HASTE)
        free.clear()  # the recogniser hangs: no take will be answered
        await page.get_by_role("button", name="Add takes: grey").click()
        fault = page.locator("#teach-fault")
        await expect(fault).to_have_text(
            "The server sent no result for this take: it is lost.", timeout=9_000
        )
        await expect(fault).to_contain_text("Press Record to try again", timeout=9_000)
        await expect(page.locator("#teach-recording")).to_be_hidden()
        await expect(page.locator(ROW)).to_contain_text("3 takes")
        free.set()
        await page.get_by_role("button", name="Add takes: grey").click()
        await expect(page.locator("#teach-progress")).to_contain_text(
            re.compile("[45] of 8 takes"), timeout=LIVE_MS
        )
        await page.get_by_role("button", name="Enough").click()
        await expect(page.locator(ROW)).to_contain_text(re.compile("[4-7] takes"))
        await expect(page.locator("#teach-try")).to_have_text("It recognised grey.")


async def test_what_looks_alike_is_told_and_what_looks_unlike_deleted(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        apart = kept("apart", level=20)
        apart["takes"] = [*apart["takes"], *kept("other", level=250, takes=1)["takes"]]
        await seed(page, kept("one"), kept("two", level=129), apart)
        await open_teach(page)
        rows = page.locator(ROW)
        await expect(rows.nth(0)).to_contain_text("Looks much like two")
        await expect(rows.nth(2)).to_contain_text("Take 4 looks unlike the others")
        await fits(page)
        await rows.nth(2).get_by_role("button", name="Delete this take").click()
        await expect(rows.nth(2)).to_contain_text("3 takes")
        await expect(rows.nth(2)).not_to_contain_text("unlike")
        assert (await in_browser(page))[2]["takes"] == apart["takes"][:3]


# In the browser


async def test_a_sign_is_renamed_here_and_in_the_session(tmp_path: Path, grey_camera: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(grey_camera), server.url, faults=["ERR_FAILED"]) as page,
    ):
        await seed(page, kept("grey"), kept("other", level=20))
        await page.locator("#toggle").click()
        await expect(page.locator('#candidates li[data-gloss="grey"]')).to_be_attached(
            timeout=LIVE_MS
        )
        await open_teach(page)
        await page.get_by_role("button", name="Rename: grey").click()
        name = page.get_by_label("New name of grey")
        await expect(name).to_be_focused()
        await fits(page)
        for taken in ("dark", "idle", "other", ""):
            await name.fill(taken)
            await page.keyboard.press("Enter")
            await expect(name).to_have_attribute("aria-invalid", "true")
            await expect(page.locator("#teach-fault")).not_to_be_empty()
            await name.evaluate("(input) => input.removeAttribute('aria-invalid')")
        await name.fill("dull <i>day</i>")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Rename: dull <i>day</i>")).to_be_focused()
        await expect(page.locator("#teach-fault")).to_be_empty()
        renamed = '#candidates li[data-gloss="dull <i>day</i>"]'
        await expect(page.locator(renamed)).to_be_attached()
        await expect(page.locator('#candidates li[data-gloss="grey"]')).to_have_count(0)
        await expect(page.locator(sign("dull <i>day</i>").split("[data-final")[0])).to_be_attached()
        # A session that can't be told keeps nothing from being kept.
        await page.route("**/whip/*/signs/*", lambda route: route.abort())
        await page.get_by_role("button", name="Rename: other").click()
        await page.get_by_label("New name of other").fill("cafe\u0301")  # as some keyboards type it
        await page.keyboard.press("Enter")
        await expect(page.locator("#teach-fault")).to_contain_text("caf\u00e9 could not be sent")
        glosses = [one["gloss"] for one in await in_browser(page)]
        assert glosses == ["dull <i>day</i>", "caf\u00e9"]


async def test_two_pages_of_a_browser_undo_nothing_of_each_other(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        other = await page.context.new_page()
        await other.goto(page.url)
        await open_teach(other)
        await open_teach(page)
        await read_file(page, exported(kept("first")))
        await expect(other.locator(ROW)).to_contain_text("first")
        await read_file(other, exported(kept("second", level=20)))
        await expect(page.locator(ROW)).to_have_count(2)
        await page.get_by_role("button", name="Delete first").click()
        await expect(other.locator(ROW)).to_have_count(1)
        assert [one["gloss"] for one in await in_browser(page)] == ["second"]


@pytest.mark.parametrize("why", ["full", "blocked"])
async def test_a_browser_that_stores_nothing_is_told_of(
    tmp_path: Path, grey_camera: Path, why: str
) -> None:
    if why == "blocked":  # as a person does in the browser's settings
        preferences = tmp_path / "profile" / "Default" / "Preferences"
        preferences.parent.mkdir(parents=True)
        cookies = {"profile": {"default_content_setting_values": {"cookies": 2}}}
        preferences.write_text(json.dumps(cookies))
    async with served(tmp_path, camera_flags(grey_camera)) as page:
        if why == "full":
            await page.evaluate(FILL)
        await open_teach(page)
        await read_file(page, exported(kept("grey")))
        await expect(page.locator("#teach-fault")).to_contain_text("Save it to a file")
        await expect(page.locator("#teach-where")).to_contain_text("does not store it")
        await expect(page.locator(ROW)).to_contain_text("3 takes")
        async with page.expect_download():
            await page.get_by_role("button", name="Save to a file").click()
        await page.get_by_role("tab", name="Practise").click()
        await expect(page.locator("#practice-choice option")).to_have_text(
            ["All signs", "bright", "dark", "grey"]
        )
        await page.reload()
        await open_teach(page)
        await expect(page.locator("#teach-none")).to_be_visible()


# On the server


async def test_a_second_device_finds_the_signs_of_the_server(
    tmp_path: Path, grey_camera: Path
) -> None:
    folder, flags = tmp_path / "signs", camera_flags(grey_camera)
    async with (
        serve(keeping(folder), StandIn()) as server,
        opened(tmp_path / "one", flags, f"{server.url}/#token={TOKEN}", faults=["412"]) as page,
        browser_page(tmp_path / "two", flags, size=(390, 844)) as phone,
    ):
        await open_teach(page)
        await expect(page.locator("#teach-where")).to_have_text(
            "stored on this server for everyone who has its token"
        )
        await read_file(page, exported(kept("grey")))
        await expect(page.locator(ROW)).to_contain_text("3 takes · on the server")
        assert await in_browser(page) == []

        await phone.goto(f"{server.url}/#token={TOKEN}")
        await open_teach(phone)
        await expect(phone.locator(ROW)).to_contain_text("grey3 takes · on the server")
        await phone.locator("#toggle").click()
        await expect(phone.locator('#candidates li[data-gloss="grey"]')).to_be_attached(
            timeout=LIVE_MS
        )

        # Both change it, the second without having seen the first one's change.
        await read_file(phone, exported({**kept("grey"), "takes": one_take(100)}))
        await expect(phone.locator(ROW)).to_contain_text("4 takes")
        await read_file(page, exported({**kept("grey"), "takes": one_take(150)}))
        await expect(page.locator(ROW)).to_contain_text("5 takes")
        assert on_server(folder) == {"grey": 5}

        await page.get_by_role("button", name="Rename: grey").click()
        await page.get_by_label("New name of grey").fill("dull/day")
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.locator(ROW)).to_contain_text("dull/day")
        assert on_server(folder) == {"dull/day": 5}
        await look_again(phone)
        renamed = phone.locator('#candidates li[data-gloss="dull/day"]')
        await expect(renamed).to_be_attached()
        await expect(phone.locator('#candidates li[data-gloss="grey"]')).to_have_count(0)
        await phone.get_by_role("button", name="Delete dull/day").click()
        await expect(phone.locator("#teach-none")).to_be_visible()
        assert on_server(folder) == {}


def one_take(level: float) -> list[str]:
    takes: list[str] = kept("", level=level, takes=1)["takes"]
    return takes


async def test_signs_of_the_browser_are_offered_to_the_server_once(
    tmp_path: Path, grey_camera: Path
) -> None:
    folder = tmp_path / "signs"
    async with (
        serve(keeping(folder), StandIn()) as server,
        opened(tmp_path, camera_flags(grey_camera), f"{server.url}/#token={TOKEN}") as page,
    ):
        await seed(page, kept("grey"), kept("other", level=20))
        await open_teach(page)
        offer = page.locator("#teach-offer")
        await expect(offer).to_contain_text("In this browser only: grey, other.")
        await expect(page.locator(ROW).first).to_contain_text("in this browser")
        assert on_server(folder) == {}, "nothing goes there unasked"
        await fits(page)
        await page.get_by_role("button", name="Leave them here").click()
        await expect(offer).to_be_hidden()
        await page.reload()
        await open_teach(page)
        await expect(page.locator(ROW)).to_have_count(2)
        await expect(offer).to_be_hidden()
        assert on_server(folder) == {}

        await seed(page, kept("grey"), kept("other", level=20))
        await open_teach(page)
        await page.get_by_role("button", name="Keep these 2 signs on the server").click()
        await expect(offer).to_be_hidden()
        await expect(page.locator(ROW).first).to_contain_text("on the server")
        assert on_server(folder) == {"grey": 3, "other": 3}
        assert await in_browser(page) == []

        # One of the same name that is only here is told apart, left alone, and joined when asked.
        await seed(page, {**kept("grey"), "takes": [*one_take(90)] * 2})
        await open_teach(page)
        same = page.locator(f'{ROW}[data-gloss="grey"]')
        await expect(same.last).to_contain_text("The server has a sign of this name")
        await read_file(page, exported({**kept("grey"), "takes": one_take(150)}))
        await expect(same.first).to_contain_text("4 takes · on the server")
        assert len((await in_browser(page))[0]["takes"]) == 2
        await page.get_by_role("button", name="Keep this sign on the server").click()
        await expect(same).to_have_count(1)
        assert on_server(folder)["grey"] == 6


async def test_what_the_server_does_not_take_waits_in_the_browser(
    tmp_path: Path, grey_camera: Path
) -> None:
    folder = tmp_path / "signs"
    space = StandIn().bundle.space
    store = SignStore(folder, space)
    for n in range(MAX_SIGNS):
        await store.put(f"sign {n}", space.background[:1])
    faults = [*GONE, "ERR_FAILED", "429"]
    flags = camera_flags(grey_camera)
    async with opened(tmp_path, flags, "about:blank", faults=faults) as page:
        async with serve(keeping(folder), StandIn()) as server:
            port = int(server.url.rsplit(":", 1)[1])
            await page.goto(f"{server.url}/#token={TOKEN}")
            await open_teach(page)
            await read_file(page, exported(kept("grey")))
            fault = page.locator("#teach-fault")
            await expect(fault).to_contain_text("50 signs are kept already: delete one first.")
            await expect(fault).to_contain_text("This browser keeps it until the server does.")
            row = page.locator(f'{ROW}[data-gloss="grey"]')
            await expect(row).to_contain_text("waits for the server")
            await page.get_by_role("button", name="Delete sign 0", exact=True).click()
            await look_again(page)
            await expect(row).to_contain_text("on the server")
            await expect(fault).to_be_empty()
            await page.get_by_role("button", name="Delete sign 1", exact=True).click()
            await expect(page.locator(f'{ROW}[data-gloss="sign 1"]')).to_have_count(0)
            assert "sign 1" not in on_server(folder)

            # Half of a renaming fails: the new name is there, and the old one still.
            async def no_delete(route: Route) -> None:
                await (route.abort() if route.request.method == "DELETE" else route.continue_())

            await page.route("**/api/signs/*", no_delete)
            await page.get_by_role("button", name="Rename: sign 2", exact=True).click()
            await page.get_by_label("New name of sign 2").fill("renamed")
            await page.keyboard.press("Enter")
            await expect(fault).to_contain_text(
                "On the server sign 2 could not be deleted; it is kept as renamed too."
            )
            await page.unroute("**/api/signs/*")
            assert {"sign 2", "renamed"} <= on_server(folder).keys()
            await page.get_by_role("button", name="Delete sign 2", exact=True).click()
            await expect(page.locator(f'{ROW}[data-gloss="sign 2"]')).to_have_count(0)
        # The server is gone.
        await read_file(page, exported(kept("late", level=20)))
        await expect(fault).to_contain_text(
            "The server did not take late. The server cannot be reached."
        )
        late = page.locator(f'{ROW}[data-gloss="late"]')
        await expect(late).to_contain_text("waits for the server")
        assert [one["gloss"] for one in await in_browser(page)] == ["late"]
        await page.get_by_role("button", name="Delete grey").click()
        await expect(fault).to_contain_text("On the server grey could not be deleted.")
        await expect(row).to_contain_text("on the server")
        await page.get_by_role("button", name="Rename: grey").click()
        await page.get_by_label("New name of grey").fill("dull")
        await page.keyboard.press("Enter")
        await expect(fault).to_contain_text("On the server grey could not be renamed.")
        await page.keyboard.press("Escape")
        await expect(row).to_be_visible()
        async with serve(keeping(folder, port=port), StandIn()):
            await look_again(page)
            await expect(late).to_contain_text("on the server")
            await expect(fault).to_be_empty()
            assert on_server(folder)["late"] == 3 and on_server(folder)["grey"] == 3
            assert await in_browser(page) == []


async def test_without_the_token_the_signs_of_the_server_are_not_shown(
    tmp_path: Path, grey_camera: Path
) -> None:
    async with (
        serve(keeping(tmp_path / "signs"), StandIn()) as server,
        opened(tmp_path, camera_flags(grey_camera), server.url, faults=["401"]) as page,
    ):
        await open_teach(page)
        await expect(page.locator("#problem-text")).to_contain_text("it ends in #token=")
        await expect(page.locator("#teach-list li")).to_have_count(0)

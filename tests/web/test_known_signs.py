"""The list of signs: themes, search, the surest and the weak, on the page and in the demo alike."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from streamlit.testing.v1 import AppTest

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import ROOT, camera_flags
from tests.web.page import LIVE_MS, SETTINGS, opened
from tests.web.taught import fits
from web.known_signs import KnownSigns

TABLE = json.loads((ROOT / "web" / "themes.json").read_text(encoding="utf-8"))
SCORES = {
    **{gloss: [12, 12] for gloss in ("hello", "water", "yes")},
    **{gloss: [8, 10] for gloss in ("mother", "father", "sister", "brother", "apple")},
    **{"please": [14, 15], "no": [3, 3], "history": [4, 6], "go": [1, 2], "my": [2, 7]},
}
GLOSSES = [*SCORES, "bread", "bright", "dark", "naïve", "thank you", "zigzag"]
CARD = {
    "glosses": GLOSSES,
    "metrics": {"cross_validation": {"per_gloss": SCORES}},
    "data": {"same_sign": {"bread": ["Loaf", "bun"], "zigzag": []}},
}

# Everything that the page says of a card, as the demo's does below.
ASK = """async ([card, table, words]) => {
    const { KnownSigns } = await import("/static/known_signs.js");
    const all = new KnownSigns(card, table, []);
    return { groups: all.groups.map(({ name, glosses }) => [name, glosses]), weak: all.weak,
             surest: all.surest, found: words.map((word) => [...all.find(word)]),
             scores: all.glosses.map((gloss) => all.score(gloss)) };
}"""
WORDS = ["", " MOM", "mömmy", "hi", "thanks", "NAIVE", "t", "gza", "gz", "<b>"]
WORDS += ["Families", "drinking", "watered", "historie", "foods", "greetings", "other", "yes"]
WORDS += ["loaf", "buns"]


@asynccontextmanager
async def known(folder: Path, camera: Path, card: dict[str, Any]) -> AsyncIterator[Page]:
    """The page of a server that is said to know the signs of `card`."""
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(folder, camera_flags(camera), "about:blank") as page,
    ):

        async def model(route):  # type: ignore[no-untyped-def]
            answer = await route.fetch()
            await route.fulfill(response=answer, json={**await answer.json(), **card})

        await page.route("**/api/model", model)
        await page.goto(server.url)
        await expect(page.locator("#glosses li").first).to_be_attached()
        yield page


def test_each_gloss_has_one_theme_and_is_one_of_wlasl(data_dir: Path) -> None:
    themed = [gloss for glosses in TABLE["themes"].values() for gloss in glosses]
    assert len(themed) == len(set(themed))
    # Not wlasl_class_list.txt, which has "losear" for "lose".
    entries = json.loads((data_dir / "wlasl" / "WLASL_v0.3.json").read_text(encoding="utf-8"))
    glosses = [entry["gloss"] for entry in entries]
    assert set(themed) <= set(glosses)
    assert len(set(themed) & set(glosses[:500])) > 450, "what people ask for most has a theme"
    for same in TABLE["synonyms"]:
        assert set(same) & set(themed) and same == [word.lower().strip() for word in same]


def test_the_surest_and_the_weak() -> None:
    known = KnownSigns(GLOSSES, CARD)
    assert known.surest[:4] == ["hello", "water", "yes", "please"]
    assert len(known.surest) == 10 and "no" in known.surest, "as sure as one can be of 3 of 3"
    assert known.weak == ["go", "my"] and known.score("my") == "2 of 7"
    assert known.find("family") == known.groups["People and family"], "a theme is found, too"
    assert known.find("watered") == ["water"] and known.find("mothers") == ["mother"]
    assert known.find("zag") == ["zigzag"] and known.find("za") == []
    assert known.find("loaf") == known.find("buns") == ["bread"], "another word for the sign"
    assert known.score("zigzag") == "" and not known.is_weak("zigzag"), "it was not measured"


@pytest.mark.parametrize(
    "scores",
    [None, [], "yes", {"yes": "12"}, {"yes": [1]}, {"yes": [3, 2]}, {"yes": [0, 0]}, {"yes": 1}],
)
def test_figures_that_are_missing_or_broken_rank_nothing(scores: object) -> None:
    known = KnownSigns(GLOSSES, {"metrics": {"cross_validation": {"per_gloss": scores}}})
    assert known.surest == known.weak == []
    assert KnownSigns(GLOSSES, {"metrics": 7}).surest == []


@pytest.mark.parametrize("same", [None, 7, ["loaf"], {"bread": "loaf"}, {"bread": [7]}])
def test_other_words_that_are_missing_or_broken_find_nothing(same: object) -> None:
    assert KnownSigns(GLOSSES, {"data": {"same_sign": same}}).find("loaf") == []
    assert KnownSigns(GLOSSES, {"data": [same]}).find("loaf") == []


async def test_the_page_and_the_demo_say_the_same(tmp_path: Path, levels_camera: Path) -> None:
    broken = {**CARD, "metrics": {"cross_validation": {"per_gloss": {"yes": [3, 2], "no": 7}}}}
    few = {**CARD, "glosses": ["no", "my"]}
    cards: list[Any] = [CARD, broken, few, {"glosses": []}]
    cards += [
        {**CARD, "data": {"same_sign": same}} for same in (7, ["a"], {"yes": "a"}, {"no": [7]})
    ]
    async with known(tmp_path, levels_camera, CARD) as page:
        for card in cards:
            mine = KnownSigns(card["glosses"], card)
            assert await page.evaluate(ASK, [card, TABLE, WORDS]) == {
                "groups": [list(group) for group in mine.groups.items()],
                "weak": mine.weak,
                "surest": mine.surest,
                "found": [mine.find(word) for word in WORDS],
                "scores": [mine.score(gloss) for gloss in mine.glosses],
            }


async def test_signs_are_found_by_theme_and_by_word(tmp_path: Path, levels_camera: Path) -> None:
    async with known(tmp_path, levels_camera, CARD) as page:
        await expect(page.locator("#surest li")).to_have_count(10)
        await expect(page.locator("#transcript-first")).to_have_text("Try hello or water first.")
        await expect(page.locator("#weak-note")).to_contain_text("as in “go 1 of 2”")
        await expect(page.locator("#glosses li:visible")).to_have_count(0)
        family = page.locator('#glosses details[data-theme="People and family"]')
        await expect(family.locator("summary .count")).to_have_text("5")
        await family.locator("summary").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(family.get_by_role("button", name="brother")).to_be_focused()
        await expect(family.get_by_role("button", name="my 2 of 7")).to_have_attribute(
            "title", "Practise my. It was read right in 2 of 7 tries by people it had not met."
        )
        await fits(page)

        search = page.get_by_label("Find a sign")
        await search.fill("DÁDDY")
        await expect(page.locator("#glosses li:visible")).to_have_text(["father"])
        await fits(page)
        await search.fill("loaf")
        await expect(page.locator("#glosses li:visible")).to_have_text(["bread also Loaf, bun"])
        await search.fill("")
        await expect(page.locator("#glosses li:visible")).to_have_count(
            5
        )  # the theme that was open
        await search.fill("<i>volcano")
        await page.get_by_role("button", name="Teach it").click()
        await expect(page.get_by_label("Name of the sign")).to_have_value("<i>volcano")


async def test_practice_begins_with_the_surest_and_tells_of_the_weak(
    tmp_path: Path, levels_camera: Path
) -> None:
    scores = {**SCORES, "bright": [1, 5]}
    card = {**CARD, "metrics": {"cross_validation": {"per_gloss": scores}}}
    async with known(tmp_path, levels_camera, card) as page:
        choice, word = page.locator("#practice-choice"), page.locator("#practice-word")
        await expect(page.locator("#starters li")).to_have_count(5)
        await expect(page.locator("#starters")).to_be_visible()
        await page.get_by_role("tab", name="Practise").click()
        await expect(choice.locator("option:checked")).to_have_text("The surest signs")
        surest = await page.locator("#surest li").evaluate_all(
            "all => all.map(i => i.dataset.gloss)"
        )
        await page.get_by_role("button", name="Begin").click()
        assert await word.text_content() in surest
        await page.locator('[data-theme="People and family"] summary').click()
        await page.get_by_role("button", name="Practise these: People and family").click()
        await expect(choice.locator("option:checked")).to_contain_text("People and family: any of")
        family = await page.locator('[data-theme="People and family"] li').evaluate_all(
            "all => all.map(i => i.dataset.gloss)"
        )
        assert await word.text_content() in family

        await page.get_by_role("button", name="Practise the weak signs").click()
        await expect(word).to_have_text(re.compile("^(bright|go|my)$"))
        await page.locator("#first").get_by_role("button", name="Practise these").click()
        assert await word.text_content() in surest
        await page.get_by_label("Find a sign").fill("bright")
        await page.locator("#glosses").get_by_role("button", name="bright").click()
        await expect(page.locator("#practice-help")).to_have_text(
            "A weak sign: read right in 1 of 5 tries by people it had not met."
        )
        await expect(page.locator("#practice-answer")).to_have_text("Recognised", timeout=LIVE_MS)
        await page.reload()
        await expect(page.locator("#glosses li").first).to_be_attached()
        await expect(page.locator("#first")).to_be_hidden()
        await expect(page.locator("#starters")).to_be_hidden()
        await expect(choice.locator("option:checked")).to_have_text("All signs")


def test_the_demo_lists_them_too() -> None:
    def script(glosses: list[str], card: dict[str, object]) -> None:
        from web.demo import _draw_signs
        from web.known_signs import KnownSigns

        _draw_signs(KnownSigns(glosses, card))

    app = AppTest.from_function(script, kwargs={"glosses": GLOSSES, "card": CARD})
    app.run(timeout=60)
    assert not app.exception
    assert app.subheader[0].value == f"Signs it knows: {len(GLOSSES)}"
    assert app.markdown[0].value.startswith("**Try one of these first:** hello, water, yes, please")
    assert "People and family · 5" in [one.label for one in app.expander]
    app.text_input[0].set_value("mom").run()
    [family] = app.expander
    assert family.label == "People and family · 1" and family.markdown[0].value == "mother"
    app.text_input[0].set_value("<volcano>").run()
    assert not app.expander and "does not know" in app.info[0].value

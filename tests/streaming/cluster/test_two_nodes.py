"""A real cluster of two nodes: its servers come and go, get another model, and one node is lost.

A page in Chromium reads all the time. How fast all of this is: `measure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from ray import serve as ray_serve

from streaming.bench.standin import open_model
from streaming.cluster import application
from streaming.cluster.run import NAME
from streaming.settings import ClusterSettings, ServerSettings, SessionSettings, Settings
from tests import chromium
from tests.streaming.caller import calling
from tests.streaming.cluster.two_nodes import HEAD, WORKER, TwoNodes, two_nodes
from tests.streaming.cluster.watched_page import WatchedPage, watched_page

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium: make test installs one"),
]
SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=3),
    session=SessionSettings(loopback_ice=True),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes() -> AsyncIterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(application._SCALING, "downscale_delay_s", 3.0)
        make = functools.partial(open_model, "standin:20")
        async with two_nodes(SETTINGS, make, "1:2") as nodes:
            yield nodes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(
    nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WatchedPage]:
    await nodes.until_servers(1)
    async with watched_page(tmp_path_factory.mktemp("page"), nodes.url) as page:
        yield page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def test_a_server_starts_where_one_is_full_and_goes_when_it_is_not_needed(
    nodes: TwoNodes, page: WatchedPage, http: aiohttp.ClientSession
) -> None:
    first = await page.session()
    await page.until_signs(2)
    async with calling(nodes.url, http) as one, calling(nodes.url, http) as two:
        await nodes.until_servers(2)
        await nodes.until_room()
        async with calling(nodes.url, http) as three, calling(nodes.url, http) as four:
            for caller in (one, two, three, four):
                await caller.wait_for_more("prediction", 3)
            assert sorted((await nodes.sessions()).values()) == [2, 3]
    await nodes.until_servers(1)
    # Ray chooses which one goes. If it is the page's, the page is told and moves.
    before = await page.signs()
    await page.until_signs(before + 2)
    notes = await page.notes()
    moved = await page.session() != first
    assert len(notes["stopping"]) == moved == len(notes["hellos"]) - 1


async def test_another_model_takes_the_sessions_of_the_one_before(
    nodes: TwoNodes, page: WatchedPage
) -> None:
    before, signs = await page.session(), await page.signs()
    told = len((await page.notes())["stopping"])
    settings = Settings(
        server=SETTINGS.server,
        session=SETTINGS.session,
        cluster=ClusterSettings(ray=nodes.ray, replicas="2"),
    )
    app = application.application(settings, functools.partial(open_model, "standin:21"))
    await asyncio.to_thread(ray_serve.run, app, name=NAME, route_prefix="/")
    await page.until_reads_elsewhere(before)
    await page.until_signs(signs + 2)
    notes = await page.notes()
    assert len(notes["stopping"]) == told + 1
    assert [model for _, _, model in notes["hellos"]][-1] == "standin:21"


async def test_a_lost_node_takes_only_its_own_sessions(
    nodes: TwoNodes, page: WatchedPage, http: aiohttp.ClientSession
) -> None:
    await nodes.until_servers(2)
    session, signs = await page.session(), await page.signs()
    async with contextlib.AsyncExitStack() as stack:
        places: list[str] = []
        while sorted(set(places)) != [HEAD, WORKER]:  # a server that is new has yet to tell of room
            caller = await stack.enter_async_context(calling(nodes.url, http))
            (hello,) = await caller.wait_for("hello")
            places = [await nodes.node_of(one) for one in (session, hello["session"])]
        await nodes.lose_worker()
        if places == [WORKER, HEAD]:
            await page.until_reads_elsewhere(session)
            numbers = [one["seq"] for one in await caller.wait_for_more("prediction", 10)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        await page.until_signs(signs + 2)
        assert (await page.session() == session) == (places == [HEAD, WORKER])

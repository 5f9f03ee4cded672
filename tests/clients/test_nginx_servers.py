"""Two servers behind nginx, as the guide has it: ids name their server; nginx keeps no table."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.ids import server_of
from streaming.server import Server
from streaming.settings import Settings, read_settings
from tests.browser import free_port
from tests.clients.install import missing
from tests.clients.senders import session_of
from tests.clients.servers import guide_file, nginx
from tests.streaming.caller import Caller, calling, problem

pytestmark = pytest.mark.skipif(missing("nginx") is not None, reason=str(missing("nginx")))

_FILE = "nginx-servers.conf"
_TRICKLED = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
_AT_ONCE_S = 2.0  # less than the time in which nginx gives a connection up


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("a", "b")}


@pytest.fixture
async def address(ports: dict[str, int], tmp_path: Path) -> AsyncIterator[str]:
    """The page's address at nginx, which starts before the servers do."""
    changes = {
        "10.0.0.11:8080": f"127.0.0.1:{ports['a']}",
        "10.0.0.12:8080": f"127.0.0.1:{ports['b']}",
    }
    async with nginx(_FILE, changes, tmp_path) as address:
        yield address


@pytest.fixture
async def http(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=ssl._create_unverified_context())
    async with aiohttp.ClientSession(connector=connector) as http:
        yield http


def _serving(name: str, ports: dict[str, int]) -> AbstractAsyncContextManager[Server]:
    """A server for one session, with the options that stand at the head of the guide's file."""
    (options,) = re.findall(r"^# +(--host .*)$", guide_file(_FILE, {}), re.MULTILINE)
    argv = shlex.split(options.replace("10.0.0.11", "127.0.0.1").replace("10.0.0.10", "127.0.0.1"))
    settings: Settings = read_settings([*argv, "--port", str(ports[name]), "--loopback-ice"])
    server = replace(settings.server, name=name, max_sessions=1, grace_s=0.5)
    return serve(replace(settings, server=server), StandIn())


def _calling(address: str, http: aiohttp.ClientSession) -> AbstractAsyncContextManager[Caller]:
    return calling(address.removesuffix("/"), http)


def _whole(address: str, path: str) -> str:
    return str(URL(address).join(URL(path)))


async def _next_event(response: aiohttp.ClientResponse, kind: str) -> dict[str, Any]:
    """The next message of a kind that an event stream brings."""
    async with asyncio.timeout(15):
        async for line in response.content:
            message: dict[str, Any] = (
                json.loads(line.removeprefix(b"data: ")) if line.strip() else {}
            )
            if message.get("type") == kind:
                return message
    raise AssertionError(f"the stream ended without a {kind}")


async def test_a_caller_goes_on_to_a_server_with_room(
    address: str, ports: dict[str, int], http: aiohttp.ClientSession
) -> None:
    """One server full: the other one takes the next caller. All full: the server's own 503."""
    async with _serving("a", ports) as a, _serving("b", ports) as b:
        async with _calling(address, http) as one, _calling(address, http) as other:
            sessions = {name: await session_of(server) for name, server in (("a", a), ("b", b))}
            assert {one.location, other.location} == {
                f"/sign/whip/{session.id}" for session in sessions.values()
            }
            assert {name: server_of(session.id) for name, session in sessions.items()} == {
                name: name for name in ("a", "b")
            }
            third = Caller(address)
            headers = {"Content-Type": "application/sdp"}
            try:
                offer = await third.offer()
                async with http.post(f"{address}whip", data=offer, headers=headers) as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) >= 5
                    assert "places are taken" in (await problem(response))["detail"]
            finally:
                await third.close()
            async with http.get(f"{address}readyz") as response:
                assert response.status == 503
            async with http.delete(_whole(address, one.location)) as response:
                assert response.status == 200
            for _ in ("whichever of the two", "nginx asks first"):
                async with http.get(f"{address}readyz") as response:
                    assert response.status == 200
            name = server_of(one.location)
            for _ in range(2):  # nginx takes turns: it asks the full one first once
                async with _calling(address, http) as again:
                    assert server_of(again.location) == name
                    async with http.delete(_whole(address, again.location)) as response:
                        assert response.status == 200


async def test_what_names_a_session_reaches_its_server(
    address: str, ports: dict[str, int], http: aiohttp.ClientSession
) -> None:
    """Candidates, events, captions in each of their forms, and the end, for both servers' ids."""
    async with _serving("a", ports) as a, _serving("b", ports) as b:
        async with _calling(address, http) as one, _calling(address, http) as other:
            for caller in (one, other):
                whole = _whole(address, caller.location)
                server = a if caller.location.endswith("~a") else b
                session = await session_of(server)
                assert caller.location == f"/sign/whip/{session.id}"

                fragment = "a=end-of-candidates\r\n"
                async with http.patch(whole, data=fragment, headers=_TRICKLED) as response:
                    assert response.status == 204, await response.text()
                async with http.get(f"{whole}/events") as events:
                    assert (await _next_event(events, "hello"))["session"] == session.id
                    assert await _next_event(events, "prediction")

                async with http.put(f"{whole}/captions") as response:
                    assert response.status == 201, await response.text()
                    captions = await response.json()
                id, _, _ = captions["page"].removeprefix("captions/").partition("?")
                assert server_of(id) == server.settings.server.name
                async with http.get(f"{address}{captions['page']}") as response:
                    assert (response.status, response.content_type) == (200, "text/html")
                async with http.get(f"{address}{captions['vtt']}") as response:
                    assert (await response.content.readline()).startswith(b"WEBVTT")
                async with http.get(f"{address}{captions['events']}") as response:
                    assert (response.status, response.content_type) == (200, "text/event-stream")

                async with http.delete(whole) as response:
                    assert response.status == 200
                assert session.end_reason == "deleted"
                async with http.delete(whole) as response:
                    assert response.status == 404
                    assert "has ended" in (await problem(response))["detail"]


async def test_a_server_that_stops_disturbs_no_other(
    address: str, ports: dict[str, int], http: aiohttp.ClientSession
) -> None:
    """What names its sessions is answered at once, new callers go to the other server, whose own
    session goes on."""
    async with _serving("b", ports) as b:
        async with _calling(address, http) as stays:  # a is not there yet
            session = await session_of(b)
            assert stays.location == f"/sign/whip/{session.id}"
            async with http.get(f"{_whole(address, stays.location)}/events") as events:
                await _next_event(events, "hello")
                async with _serving("a", ports), _calling(address, http) as leaves:
                    assert leaves.location.endswith("~a")
                await _next_event(events, "prediction")
                async with asyncio.timeout(_AT_ONCE_S):
                    async with http.delete(_whole(address, leaves.location)) as response:
                        assert response.status == 502
                for path in ("", "api/model", "livegloss.js", "healthz"):
                    async with http.get(f"{address}{path}") as response:
                        assert response.status == 200, path
                await _next_event(events, "prediction")
                async with http.delete(_whole(address, stays.location)) as response:
                    assert response.status == 200
        for _ in range(2):  # whichever nginx asks first
            async with _calling(address, http) as comes:
                assert comes.location == f"/sign/whip/{(await session_of(b)).id}"
                async with http.delete(_whole(address, comes.location)) as response:
                    assert response.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "whip/x7Ds~c",
        "whip/x7Ds~c/events",
        "whip/x7Ds~",
        "whip/x7Ds~ab",
        "whip/x7Ds~a~b",
        "whip/~a",
        "whip/x7Ds~127.0.0.1",
        "whip/x7Ds~livegloss_a",
        "whip/x7Ds%7Ec",
        "captions/x7Ds~c?token=t",
        "captions/x7Ds~c.vtt?token=t",
    ],
)
async def test_an_unknown_name_leads_nowhere(
    path: str, address: str, http: aiohttp.ClientSession
) -> None:
    """There is no server at all here: a request that was passed on would get a 502."""
    async with http.get(URL(f"{address}{path}", encoded=True)) as response:
        assert response.status == 404
        assert "No server of that name" in (await problem(response))["detail"]
    async with http.get(f"{address}whip/x7Ds~a") as response:
        assert response.status == 502

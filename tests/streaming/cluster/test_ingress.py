"""An ingress in front of two small servers over real HTTP, with a stand-in for Ray's handle."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import Response

from streaming.cluster.ingress import Ingress
from tests.browser import free_port


@dataclass
class Server:
    """Answers each request with 200, or `status`, and keeps it."""

    name: str
    url: str = ""
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    got: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append(request)
        response = web.Response(status=self.status, text=self.name)
        for name, value in self.headers:
            response.headers.add(name, value)
        return response


@dataclass
class Selection:
    replica_id: str
    replica_metadata: dict[str, str]


class Handle:
    """As a DeploymentHandle chooses: the named server first, those in `but` last."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers

    @contextlib.asynccontextmanager
    async def choose_replica(
        self,
        *,
        server: str = "",
        guest: str = "",
        room: bool = False,
        but: Any = (),
        _reserve: bool,
    ) -> AsyncIterator[Selection]:
        assert not _reserve, "Ray would call the server, too"
        assert guest.endswith(server)

        def last(one: Server) -> tuple[bool, bool]:
            return bool(server) and one.name != server, one.name in but

        first = min(self.servers, key=last)
        yield Selection(first.name, {"url": first.url})


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    both = [Server("a"), Server("b")]
    async with contextlib.AsyncExitStack() as stack:
        for server in both:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", server.answer)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield both


class Closed(Ingress):
    """Python, too, calls `__del__`, and would warn that it does not await it."""

    def __del__(self) -> None:  # type: ignore[override]
        pass


@pytest.fixture
async def ingress(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ingress]:
    monkeypatch.setattr("streaming.cluster.ingress._node_address", lambda: "127.0.0.1")
    ingress = Closed(Handle(servers), body_bytes=10, body_s=0.1)
    yield ingress
    await Ingress.__del__(ingress)


def request(
    path: str,
    method: str = "GET",
    body: bytes | None = b"",
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request as Ray's proxy passes it on; `None`: its body does not come."""

    async def receive() -> dict[str, Any]:
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body}

    path, _, query = path.partition("?")
    sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    more = {"query_string": query.encode(), "headers": sent, "client": ("192.0.2.1", 5)}
    return Request({**scope, **more}, receive)


async def text(response: Response) -> str:
    iterator = getattr(response, "body_iterator", None)
    if iterator is None:
        return bytes(response.body).decode()
    return b"".join([part async for part in iterator]).decode()


async def test_a_body_that_does_not_come_is_a_408(ingress: Ingress) -> None:
    response = await ingress(request("/whip", "POST", None))
    assert response.status_code == 408
    assert "0.1 seconds" in json.loads(await text(response))["detail"]


async def test_a_body_that_is_too_large_is_a_413(ingress: Ingress, servers: list[Server]) -> None:
    response = await ingress(request("/whip", "POST", b"x" * 11))
    assert response.status_code == 413 and response.media_type is None
    assert response.headers["Content-Type"] == "application/problem+json"
    assert not any(server.got for server in servers)


@pytest.mark.parametrize(
    "path", ["/whip/x~b", "/whip/x~b/events", "/captions/x~b", "/captions/x~b.vtt?token=t"]
)
async def test_what_names_a_server_goes_there(
    ingress: Ingress, servers: list[Server], path: str
) -> None:
    response = await ingress(request(path))
    assert response.status_code == 200 and await text(response) == "b"
    assert [one.raw_path for one in servers[1].got] == [path] and not servers[0].got


@pytest.mark.parametrize("gone", ["unknown", "unreachable"])
async def test_for_a_server_that_is_gone_another_answers(
    ingress: Ingress, servers: list[Server], gone: str
) -> None:
    servers[0].status = 404
    if gone == "unreachable":
        servers[1].url = f"http://127.0.0.1:{free_port()}"
    response = await ingress(request(f"/whip/x~{'c' if gone == 'unknown' else 'b'}", "DELETE"))
    assert response.status_code == 404 and await text(response) == "a"


async def test_a_caller_goes_on_to_the_server_that_has_room(
    ingress: Ingress, servers: list[Server]
) -> None:
    servers[0].status = 503
    response = await ingress(request("/whip", "POST", b"v=0"))
    assert response.status_code == 200 and await text(response) == "b"
    servers[1].status = 503
    response = await ingress(request("/whip", "POST", b"v=0"))
    assert response.status_code == 503 and await text(response) == "b", "the last one's refusal"


async def test_without_a_server_it_is_a_503_with_retry_after(
    ingress: Ingress, servers: list[Server]
) -> None:
    for server in servers:
        server.url = f"http://127.0.0.1:{free_port()}"
    response = await ingress(request("/whip", "POST", b"v=0"))
    assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0


async def test_the_caller_s_own_address_is_the_last_one(
    ingress: Ingress, servers: list[Server]
) -> None:
    headers = {"x-forwarded-for": "203.0.113.7", "connection": "close", "via": "1.1 x"}
    await ingress(request("/readyz", headers=headers))
    (got,) = servers[0].got
    assert got.headers.getall("X-Forwarded-For") == ["203.0.113.7", "192.0.2.1"]
    assert got.headers["Via"] == "1.1 x" and "Connection" not in got.headers


async def test_headers_come_back_but_for_one_hop(ingress: Ingress, servers: list[Server]) -> None:
    servers[0].headers = [("Link", "<stun:a>"), ("Link", "<stun:b>"), ("Location", "whip/x~a")]
    response = await ingress(request("/whip", "POST", b"v=0"))
    assert response.headers.getlist("Link") == ["<stun:a>", "<stun:b>"]
    assert response.headers["Location"] == "/whip/x~a", "as one server has it"
    assert int(response.headers["Content-Length"]) == len(await text(response))
    for proxys_own in ("Date", "Server", "Connection", "Transfer-Encoding"):
        assert proxys_own not in response.headers
    outer = {"x-forwarded-proto": "https"}
    behind = await ingress(request("/whip", "POST", b"v=0", outer))
    assert behind.headers["Location"] == "whip/x~a", "another proxy may have a path of its own"
    await text(behind)

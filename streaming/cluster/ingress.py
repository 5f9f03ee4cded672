"""The way in: passes requests on to the server that they are for, and their responses back.

    Ray's HTTP proxy -> [ingress] -> a server's HTTP side, at its node

POST /whip goes to a server with room, and to the next where that one has none after all.
What names a session, or captions, goes to the server that made it: its name ends the id. /metrics
comes from all, anything else from any. The ingress keeps nothing, so each one can pass on all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import ray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

from streaming.callers import PROXIED
from streaming.cluster.scrape import labelled
from streaming.ids import server_of
from streaming.problems import Problem

_log = logging.getLogger(__name__)

_CHOOSE_S = 5.0  # to find a server; longer while none has started
_CONNECT_S = 2.0  # to reach it
_SCRAPE_S = 5.0  # for the metrics of all of them
_MOST_ASKED = 3  # servers for one request: where all are full, hundreds would not help either
_RETRY_AFTER_S = "5"
_ONE_HOP = {  # RFC 9110, 7.6.1; lengths are of what we send ourselves
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
    *("upgrade", "content-length"),
}
_NOT_BACK = _ONE_HOP - {"content-length"} | {"date", "server"}  # Ray's proxy writes its own


class Ingress:
    """The class that Ray Serve makes ingresses of.

    Bounds: a request's body, `body_bytes`, which comes within `body_s`. How many requests there are
    at a time is Ray's to bound (`max_ongoing_requests`).
    """

    def __init__(self, servers: Any, body_bytes: int, body_s: float) -> None:
        self._servers = servers  # a DeploymentHandle of `Replica`
        self._body_bytes = body_bytes
        self._body_s = body_s
        self._http: aiohttp.ClientSession | None = None

    async def __del__(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def __call__(self, request: Request) -> Response:
        try:
            return await self._respond(request)
        except Problem as problem:
            return _problem(problem)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        body = await self._body(request)
        if server_of(id := _id_in(path)):
            return await self._of_server(id, request, body)
        if path == "/metrics" and request.method == "GET":
            return await self._of_all(request)
        return await self._of_any(request, body, room=path in ("/whip", "/readyz"))

    async def _body(self, request: Request) -> bytes:
        parts, length = [], 0
        try:
            async with asyncio.timeout(self._body_s):
                async for part in request.stream():
                    length += len(part)
                    if length > self._body_bytes:
                        raise Problem(413, f"The body has more than {self._body_bytes} bytes.")
                    parts.append(part)
        except TimeoutError:
            why = f"The body did not arrive within {self._body_s:g} seconds."
            raise Problem(408, why) from None
        return b"".join(parts)

    # Whom to ask

    async def _of_server(self, id: str, request: Request, body: bytes) -> Response:
        """The response of the server that the id of a session or of captions names.

        Where it is gone, another says that there is no such session: in the same form, and to those
        who may know it.
        """
        name, url = await self._choose(server=server_of(id), guest=id)
        try:
            return _back(await self._ask(url, request, body), request)
        except aiohttp.ClientError as error:
            _log.warning("server %s can't be reached: %s", name, error)
        return await self._of_any(request, body, but=name)

    async def _of_any(
        self, request: Request, body: bytes, *, room: bool = False, but: str = ""
    ) -> Response:
        """The response of the first server that has room; if none has, of the last one asked.

        `but`: the name of a server that is not to be asked.
        """
        asked = [but]
        last: aiohttp.ClientResponse | None = None
        while len(asked) <= _MOST_ASKED:  # and `but`
            name, url = await self._choose(room=room, but=asked)
            if name in asked:
                break
            asked.append(name)
            try:
                response = await self._ask(url, request, body)
            except aiohttp.ClientError as error:
                _log.warning("server %s can't be reached: %s", name, error)
                continue
            if last is not None:
                last.close()
            last = response
            if not room or response.status != 503:
                break
        if last is None:
            raise _no_server()
        return _back(last, request)

    async def _of_all(self, request: Request) -> Response:
        """The metrics of all servers, each with its name as a label; or the first refusal."""
        places: list[tuple[str, str]] = await self._broadcast("place")
        texts: dict[str, str] = {}
        async with asyncio.TaskGroup() as tasks:
            asking = {
                name: tasks.create_task(self._text(url, request), name=f"metrics of {name}")
                for name, url in places
            }
        for name, task in asking.items():
            response = task.result()
            if isinstance(response, Response):
                return response
            if response is not None:
                texts[name] = response
        return Response(labelled(texts), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _text(self, url: str, request: Request) -> Response | str | None:
        """A server's metrics; its refusal; or None if there is no response."""
        try:
            async with asyncio.timeout(_SCRAPE_S):
                response = await self._ask(url, request, b"")
                if response.status != 200:
                    return _back(response, request)
                async with response:
                    return await response.text()
        except (TimeoutError, aiohttp.ClientError) as error:
            _log.warning("no metrics of the server at %s: %s", url, error)
            return None

    async def _choose(self, **wanted: Any) -> tuple[str, str]:
        """Name and URL of a server, see `placement.RoomRouter`.

        Without `_reserve=False`, which Ray has for its own ingresses, it would also call the server
        by Ray, twice: 2 ms of processor time here, and 2 there.
        """
        try:
            async with (
                asyncio.timeout(_CHOOSE_S),
                self._servers.choose_replica(_reserve=False, **wanted) as selection,
            ):
                return selection.replica_id, selection.replica_metadata["url"]
        except Exception as error:  # of Ray: there are many
            raise _no_server() from error

    async def _broadcast(self, method: str) -> list[Any]:
        try:
            async with asyncio.timeout(_SCRAPE_S):
                results: list[Any] = await self._servers.broadcast(method).results_async()
                return results
        except Exception as error:  # of Ray: there are many
            raise _no_server() from error

    # The way there and back

    async def _ask(self, url: str, request: Request, body: bytes) -> aiohttp.ClientResponse:
        """A server's response to the request, its body unread.

        Raises:
            aiohttp.ClientError: there is none.
        """
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
            self._http = aiohttp.ClientSession(
                timeout=timeout,
                auto_decompress=False,
                # Ray bounds the requests. Servers know the ingresses by the nodes' addresses.
                connector=aiohttp.TCPConnector(limit=0, local_addr=(_node_address(), 0)),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            )
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers.raw
            if name.decode("latin-1").lower() not in _ONE_HOP
        ]
        if request.client is not None:
            # In small letters, as all the others: aiohttp keeps one of two spellings.
            headers.append(("x-forwarded-for", request.client.host))
        target = request.scope.get("raw_path") or request.scope["path"].encode()
        whole = url + target.decode("latin-1")
        if query := request.scope["query_string"]:
            whole += "?" + query.decode("latin-1")
        return await self._http.request(
            request.method,
            URL(whole, encoded=True),
            data=body or None,
            headers=headers,
            allow_redirects=False,
        )


def _node_address() -> str:
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _id_in(path: str) -> str:
    """The id of a session or of captions that a path names; empty if it names none."""
    match path.split("/")[1:3]:
        case ["whip", id]:
            return id
        case ["captions", id]:
            return id.removesuffix(".vtt")
    return ""


def _back(response: aiohttp.ClientResponse, request: Request) -> Response:
    """The response for the client: its body is passed on as it comes, and not kept."""
    back = StreamingResponse(_parts(response), status_code=response.status)
    named = ((name.lower(), value) for name, value in response.raw_headers)  # as ASGI has them
    back.raw_headers = [
        (name, _whole(value, request) if name == b"location" else value)
        for name, value in named
        if name.decode("latin-1") not in _NOT_BACK
    ]
    return back


async def _parts(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for part in response.content.iter_any():
            yield part
    finally:
        response.close()


def _whole(location: bytes, request: Request) -> bytes:
    """A session's address as one server has it: the whole path, unless another proxy is in front.

    To a server each request comes from a proxy, and is answered with an address relative to it.
    """
    outer = any(name in request.headers for name in PROXIED)
    return location if outer or not location.startswith(b"whip/") else b"/" + location


def _no_server() -> Problem:
    why = "No server answers now; try again soon."
    return Problem(503, why, Retry_After=_RETRY_AFTER_S)


def _problem(problem: Problem) -> Response:
    there = problem.response()
    return Response(there.body, status_code=there.status, headers=dict(there.headers))

"""One server of a cluster: `streaming.app.serve`, alive as long as Ray Serve keeps the replica.

    settings -> [replica] -> a server at this node's address; its room -> placement, scaling

Its HTTP side is for the ingress, its UDP side for peers. When Ray stops the replica (fewer servers,
another model) it drains: no new sessions, those there are told, and get the grace period.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray import serve as ray_serve

from streaming.app import serve
from streaming.runner import RecognizerCore
from streaming.server import Server
from streaming.settings import Settings

ANNOUNCE = "LIVEGLOSS_ANNOUNCE_IP"  # of each node: the address by which peers reach it
_NODES_S = 2.0  # between two looks at which nodes there are: ingresses call from each of them
_WANT_ROOM = ("full", "busy", "late")  # reasons of `AdmissionCounts.refused`
_AGAIN_S = 7.0  # the longest `Retry-After` is: `Admission.retry_after_s`


class Replica:
    """The class that Ray Serve makes replicas of.

    `make`: a recogniser instead of the settings' model (tests, benchmarks).

    Raises what `serve` raises: the replica then does not start, and Ray tells why.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, settings: Settings, make: Callable[[], RecognizerCore] | None = None
    ) -> None:
        name = ray_serve.get_replica_context().replica_id.unique_id
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._settings = at_node(settings, name, host, os.environ)
        self._make = make
        self._refused = Refusals(time.monotonic)
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(), name="server")
        self._server = await asyncio.shield(self._ready)

    async def _live(self) -> None:
        """Serve until `__del__`. One task enters and leaves all that the server consists of."""
        try:
            recognizers = () if self._make is None else (self._make(),)
            async with serve(self._settings, *recognizers) as server, asyncio.TaskGroup() as tasks:
                await _trust_nodes(server)
                watching = tasks.create_task(_watch_nodes(server), name="nodes")
                self._ready.set_result(server)
                await self._stop.wait()
                watching.cancel()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def __del__(self) -> None:
        """Ray Serve awaits it when it stops the replica."""
        self._stop.set()
        with suppress(Exception):
            await self._life

    # What Ray Serve asks

    def record_replica_metadata(self) -> dict[str, str]:
        """Told to all ingresses once."""
        return {"url": self._server.url}

    def record_routing_stats(self) -> dict[str, Any]:
        """Told to all ingresses each second: see `placement`."""
        return {"room": self._room(), "at_s": time.time(), "guests": self._server.guests()}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Told to Ray's controller: see `scaling`."""
        return {
            "room": self._room(),
            "sessions": self._server.sessions.taken,
            "refused": self._refused.newest(self._server.sessions.counts.refused),
        }

    def check_health(self) -> None:
        """Ray replaces a replica whose server has ended."""
        if self._life.done() and not self._stop.is_set():
            raise RuntimeError("the server has ended") from self._life.exception()

    def describe(self) -> str:
        """Which model it serves, and on what."""
        return self._server.description

    def place(self) -> tuple[str, str]:
        """Name and URL of the server; asked of all replicas at once, for /metrics."""
        return self._settings.server.name, self._server.url

    def _room(self) -> int:
        """Sessions that would be admitted now: the measured headroom (`/metrics` has it, too)."""
        sessions = self._server.sessions
        if sessions.not_ready() is not None:
            return 0
        free = self._settings.server.max_sessions - sessions.taken
        return self._server.load.free_sessions(sessions.taken, max(0, free))


class Refusals:
    """How many callers were refused in the last `_AGAIN_S`: by then they have called again.

    Bound: the counts of that time, one for each look.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._before: deque[tuple[float, int]] = deque()  # when, and how many since the start

    def newest(self, refused: Mapping[str, int]) -> int:
        """Those of `refused`, by reason since the start, whom another server could have taken."""
        now_s, count = self._clock_s(), sum(refused.get(why, 0) for why in _WANT_ROOM)
        self._before.append((now_s, count))
        while len(self._before) > 1 and now_s - self._before[1][0] >= _AGAIN_S:
            self._before.popleft()
        return count - self._before[0][1]


def at_node(settings: Settings, name: str, host: str, environ: Mapping[str, str]) -> Settings:
    """The settings of one server: its name and address; TLS is the proxies' business.

    Raises:
        ValueError: the node's `ANNOUNCE` is no address.
    """
    announced = settings.session.announce_ip
    if (text := environ.get(ANNOUNCE)) is not None:
        announced = (str(ipaddress.ip_address(text)),)
    return replace(
        settings,
        server=replace(
            settings.server,
            name=name,
            host=host,
            port=0,
            tls_cert=None,
            tls_key=None,
        ),
        session=replace(settings.session, announce_ip=announced),
    )


async def _watch_nodes(server: Server) -> None:
    while True:
        await asyncio.sleep(_NODES_S)
        with suppress(Exception):  # no answer now: the nodes are as before
            await _trust_nodes(server)


async def _trust_nodes(server: Server) -> None:
    """Believe what the ingresses say of whom they call for, on whichever node they are."""
    nodes = await asyncio.to_thread(ray.nodes)
    server.callers.trust_nodes(node["NodeManagerAddress"] for node in nodes if node["Alive"])

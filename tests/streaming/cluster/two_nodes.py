"""A Ray cluster of two nodes on this machine that serves livegloss, to look at and to hurt.

Each node has an address of its own in 127/8 and capacity for one server. Both nodes' proxies listen
on one port: the kernel shares connections among those that are alive, as a load balancer would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
from ray import serve as ray_serve

from streaming.cluster.run import NAME, PATIENCE, cluster
from streaming.ids import server_of
from streaming.runner import RecognizerCore
from streaming.settings import ClusterSettings, Settings
from tests.browser import free_port

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
_ENVIRONMENT = {"SERVE_SOCKET_REUSE_PORT_ENABLED": "1", **dict([PATIENCE])}
_START_S = 60.0


class Node:
    """`ray start`, and all that it starts, for as long as the block lasts."""

    def __init__(self, address: str, *arguments: str, folder: str) -> None:
        self.address = address
        self._arguments = arguments
        self._folder = folder
        self._process: Process

    async def __aenter__(self) -> Node:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *self._arguments),
            *("--node-ip-address", self.address, "--num-cpus", "1", "--disable-usage-stats"),
            *("--object-store-memory", str(100 << 20)),
        ]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdout=PIPE,
            stderr=STDOUT,
            env={
                "RAY_AUTH_MODE": "disabled",
                **os.environ,
                **_ENVIRONMENT,
                "RAY_TMPDIR": self._folder,
            },
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_S):
            printed = []
            while b"runtime started" not in (line := await self._process.stdout.readline()):
                printed.append(line)
                assert line, b"".join(printed)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.lose()

    async def lose(self) -> None:
        """Kill everything at once, as a power cut would."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            for process in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        await self._process.wait()


class TwoNodes:
    """The service at `url`. The second node may be lost and come back."""

    def __init__(
        self, url: str, ray: str, http: aiohttp.ClientSession, add: Callable[[], Node]
    ) -> None:
        self.url = url
        self.ray = ray  # the cluster's address
        self._http = http
        self._add = add
        self._worker: Node | None = None

    async def add_worker(self) -> None:
        self._worker = await self._add().__aenter__()

    async def lose_worker(self) -> None:
        if self._worker is not None:
            await self._worker.lose()

    async def metrics(self) -> str:
        """Those of all servers; empty while none answers."""
        async with self._http.get(f"{self.url}/metrics") as response:
            return await response.text() if response.status == 200 else ""

    async def servers(self) -> set[str]:
        """Names of the servers that answer."""
        return set(await self.sessions())

    async def until_servers(self, count: int, within_s: float = _START_S) -> set[str]:
        """Wait until so many servers answer."""
        async with asyncio.timeout(within_s):
            while len(names := await self.servers()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        return names

    async def until_room(self, within_s: float = _START_S) -> None:
        """Wait until the way in knows of a server with room: one that answers may be news to it."""
        async with asyncio.timeout(within_s):
            while True:
                async with self._http.get(f"{self.url}/readyz") as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(0.2)

    async def sessions(self) -> dict[str, int]:
        """Sessions of each server."""
        line = r'^livegloss_sessions\{replica="(\w+)"\} (\d+)'
        found = re.findall(line, await self.metrics(), re.MULTILINE)
        return {name: int(count) for name, count in found}

    async def until_sessions(self, count: int, within_s: float = 20.0) -> None:
        """Wait until there are so many sessions in all."""
        async with asyncio.timeout(within_s):
            while not (now := await self.sessions()) or sum(now.values()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def node_of(self, session: str) -> str:
        """The address of the node on which a session's server runs."""
        handle = ray_serve.get_deployment_handle("servers", NAME)
        places = dict(await handle.broadcast("place").results_async())
        handle.shutdown()  # type: ignore[no-untyped-call]
        return str(places[server_of(session)]).split("/")[2].split(":")[0]


@asynccontextmanager
async def two_nodes(
    settings: Settings, make: Callable[[], RecognizerCore] | None, replicas: str = "2"
) -> AsyncIterator[TwoNodes]:
    """The service of `settings` on two nodes, with the recogniser that `make` makes."""
    async with AsyncExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="ray")  # short: the paths of sockets must be
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        await asyncio.to_thread(Path(folder, "ray").mkdir)
        port = free_port()
        on_head = ("--head", "--port", str(port), "--include-dashboard", "false")
        head = Node(HEAD, *on_head, folder=folder)
        await stack.enter_async_context(head)
        there = f"{HEAD}:{port}"
        on_ray = replace(settings, cluster=ClusterSettings(ray=there, replicas=replicas))
        http = await stack.enter_async_context(aiohttp.ClientSession())

        def add() -> Node:
            return Node(WORKER, "--address", there, folder=folder)

        worker = await stack.enter_async_context(add())
        service = await stack.enter_async_context(cluster(on_ray, make))
        nodes = TwoNodes(service.url, there, http, add)
        nodes._worker = worker
        stack.push_async_callback(nodes.lose_worker)
        yield nodes

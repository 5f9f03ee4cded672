"""Real worker processes behind a real server: they share the load, die alone, and leave nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import pytest

from streaming.server import Server
from streaming.service import serve
from streaming.settings import ServerSettings, SessionSettings, Settings
from streaming.standin import StandIn, embedding
from streaming.takes import pack
from streaming.workers import process
from streaming.workers.crew import pause
from tests.browser import server_process
from tests.streaming.caller import Caller, Camera, calling, problem

SETTINGS = Settings(
    server=ServerSettings(
        port=0, max_sessions=4, max_sessions_per_address=4, grace_s=0.5, workers=2
    ),
    session=SessionSettings(loopback_ice=True),
)


def level(grey: int) -> Camera:
    return Camera(lambda n: np.full((240, 320, 3), grey, np.uint8), fps=15)


def best(caller: Caller) -> str:
    return str(caller.of("prediction")[-1]["top"][0]["gloss"])


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def maps() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


@asynccontextmanager
async def crewed() -> AsyncIterator[Server]:
    """A server with two workers; what it leaves behind is looked for."""
    before, files = children(), len(os.listdir("/proc/self/fd"))
    async with serve(SETTINGS, StandIn()) as server:
        yield server
    assert children() <= before
    assert not [line for line in maps() if "livegloss" in line], "shared memory is still mapped"
    assert len(os.listdir("/proc/self/fd")) <= files + 2  # the HTTP client keeps one or two
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith(("worker", "session", "batcher"))]


async def test_two_workers_serve_and_one_dies_alone(http: aiohttp.ClientSession) -> None:
    async with (
        crewed() as server,
        calling(server.url, http, level(250)) as one,
        calling(server.url, http, level(10)) as other,
    ):
        assert server.crew is not None
        assert {one.location[:8], other.location[:8]} == {"/whip/0.", "/whip/1."}
        for caller, gloss in ((one, "bright"), (other, "dark")):
            await caller.wait_for("prediction", 3)
            assert best(caller) == gloss
            assert caller.location == f"/whip/{caller.of('hello')[0]['session']}"
        await requests_reach_their_session(server, http, one, other)

        events = await http.get(f"{server.url}{one.location}/events")
        assert b'"hello"' in await events.content.readline()
        (worker,) = (w for w in server.crew if one.location.startswith(f"/whip/{w.name}."))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            await events.content.read()  # a listener is told by the stream's end
        async with http.get(f"{server.url}{one.location}/events") as gone:
            assert gone.status == 404
        async with http.get(f"{server.url}/readyz") as response:
            assert (await response.json())["workers"]["of"] == 2
        async with calling(server.url, http, level(250)) as again:
            await again.wait_for("prediction")
            assert best(again) == "bright"
            async with http.delete(f"{server.url}{again.location}") as response:
                assert response.status == 200
            assert [len(w.sessions) for w in server.crew if w.sessions] == [1], "the other's"
        async with asyncio.timeout(30):
            while server.crew.running < 2:  # meanwhile the other goes on
                await other.wait_for("prediction", len(other.of("prediction")) + 1)
        numbers = [p["seq"] for p in other.of("prediction")]
        assert numbers == sorted(set(numbers)) and best(other) == "dark"
        counts = server.batcher.counts
        assert counts.failed == 0 and counts.withdrawn <= 4, "two a session that ended"
        assert server.sessions.counts.ended == {"worker lost": 1, "deleted": 1}
        async with http.get(f"{server.url}/metrics") as response:
            text = await response.text()
        assert "livegloss_workers 2.0" in text and "livegloss_worker_deaths_total 1.0" in text
        assert 'livegloss_worker_cpu_seconds_total{worker="0"}' in text
        assert 'livegloss_buffer_bound{buffer="ring_frames"}' in text


async def requests_reach_their_session(
    server: Server, http: aiohttp.ClientSession, one: Caller, other: Caller
) -> None:
    """And no other: not by the name of another worker, nor of one that there is not."""
    takes = [pack(embedding(120 + n)) for n in range(3)]
    body = json.dumps({"space": "standin", "takes": takes})
    mine = f"{server.url}{one.location}"
    async with http.put(f"{mine}/signs/grey", data=body) as response:
        assert response.status == 204
    async with http.put(f"{mine}/signs/{'x' * 200}", data=body) as response:
        assert response.status == 400, "the worker's refusal comes back"
        await problem(response)
    async with http.delete(f"{server.url}{other.location}/signs/grey") as response:
        assert response.status == 404, "it was taught to one session only"
    async with http.delete(f"{mine}/signs/grey") as response:
        assert response.status == 204
    trickle = {"Content-Type": "application/trickle-ice-sdpfrag"}
    async with http.patch(mine, data="a=end-of-candidates\r\n", headers=trickle) as response:
        assert response.status == 204, await response.text()
    other_mid = "a=mid:other\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
    async with http.patch(mine, data=other_mid, headers=trickle) as response:
        assert response.status == 400, await response.text()
    worker, _, token = one.location.removeprefix("/whip/").partition(".")
    for id in (f"{1 - int(worker)}.{token}", f"7.{token}", token, f"{worker}.", worker):
        for method, suffix in (("PATCH", ""), ("DELETE", ""), ("GET", "/events")):
            path = f"{server.url}/whip/{id}{suffix}"
            async with http.request(method, path, data="x", headers=trickle) as response:
                assert response.status == 404, (method, id)


async def test_sigterm_reaches_the_peers_and_the_workers_end(http: aiohttp.ClientSession) -> None:
    flags = ("--workers", "1")
    async with server_process(*flags, module="tests.web.standin") as running:
        async with calling(running.url, http) as caller:
            await caller.wait_for("prediction")
            workers = psutil.Process(running.process.pid).children()
            assert len(workers) == 1
            for one in (running.process.pid, workers[0].pid):  # as a service's stop does
                os.kill(one, signal.SIGTERM)
            assert (await caller.wait_for("error"))[0]["code"] == "stopping"
            caller.say(type="bye")
            async with asyncio.timeout(20):
                assert await running.process.wait() == 0
            assert not psutil.pid_exists(workers[0].pid)


async def test_no_worker_outlives_a_server_that_is_killed(http: aiohttp.ClientSession) -> None:
    flags = ("--workers", "1")
    async with server_process(*flags, module="tests.web.standin") as running:
        async with calling(running.url, http) as caller:
            await caller.wait_for("prediction")
            workers = psutil.Process(running.process.pid).children()
            await running.kill()
            _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 20)
            assert len(workers) == 1 and not alive


def worker_script(folder: Path, text: str) -> str:
    script = folder / "worker.sh"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("exit 3", "3"),
        ("exec sleep 60", "-9"),  # says nothing, and does not end when hung up on
        ("head -c 99 /dev/zero > /proc/self/fd/$3; exit 4", "4"),
    ],
)
async def test_a_worker_that_does_not_come_to_life_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: str
) -> None:
    monkeypatch.setattr(sys, "executable", worker_script(tmp_path, text))
    monkeypatch.setattr(process, "_SILENT_S", 0.2)
    monkeypatch.setattr(process, "_END_S", 0.2 if status == "-9" else 5.0)
    with pytest.raises(OSError, match=rf"a worker process can't start \({status}\)"):
        async with crewed():
            pass


def test_pauses_between_deaths_grow_up_to_a_bound() -> None:
    pauses = [pause(deaths) for deaths in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.5, 30.0)

"""What a cluster of two nodes does, measured: the figures of docs/reports/cluster.md.

    python -m tests.streaming.cluster.measure loss --times 10
    python -m tests.streaming.cluster.measure calls --times 40
    python -m tests.streaming.cluster.measure media --sessions 10 --times 5
    python -m tests.streaming.cluster.measure life

`loss` kills a node with a session on each; `calls` compares calls through the ingress with those of
one server, `media` the latency of their results at equal load, by turns; `life` fills the servers
until another starts, idles until it goes, and changes the model, while a page reads. `--model
builtin --clip FILE` takes the built-in model and a clip of a sign. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from ray import serve as ray_serve

from streaming.bench.measure import environment, peers_sent
from streaming.bench.peers import PeerTask, with_recording
from streaming.bench.standin import open_model
from streaming.cluster import application as ray_application
from streaming.cluster.run import NAME
from streaming.runner import RecognizerCore
from streaming.settings import ClusterSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, calling
from tests.streaming.cluster.two_nodes import HEAD, TwoNodes, two_nodes
from tests.streaming.cluster.watched_page import watched_page

Maker = Callable[[], RecognizerCore]


def settings(most: int, **cluster: Any) -> Settings:
    return Settings(
        server=ServerSettings(port=0, max_sessions=most),
        session=SessionSettings(loopback_ice=True),
        cluster=ClusterSettings(**cluster),
    )


def maker(model: str) -> Maker:
    return functools.partial(open_model, model)


def p95(values: Sequence[float]) -> float:
    return round(float(np.percentile(values, 95)), 1)


# A node is lost


async def loss(model: str, times: int, clip: Path | None) -> dict[str, Any]:
    rounds = []
    async with two_nodes(settings(8), maker(model)) as nodes, aiohttp.ClientSession() as http:
        for number in range(times):
            if number:
                await nodes.add_worker()
            await nodes.until_servers(2)
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(await _lose(nodes, http, Path(folder), clip))
            print(rounds[-1], flush=True)
    return {
        "rounds": rounds,
        "reads_again_s_max": max(one["reads_again_s"] for one in rounds),
        "p95_ratio_median": statistics.median(one["p95_ratio"] for one in rounds),
        "p95_ratio_max": max(one["p95_ratio"] for one in rounds),
        "results_lost": sum(one["results_lost"] for one in rounds),
    }


async def _lose(
    nodes: TwoNodes, http: aiohttp.ClientSession, folder: Path, clip: Path | None
) -> dict[str, Any]:
    """Lose the node that serves a page while the other one serves a caller."""
    async with (
        _caller_at(nodes, http, HEAD) as caller,
        watched_page(folder, nodes.url, clip) as page,
    ):
        session = await page.session()
        assert await nodes.node_of(session) != HEAD
        await page.until_signs(2)
        await asyncio.sleep(8)
        signs, before = await page.signs(), len(caller.of("prediction"))
        lost_s = time.time()
        await nodes.lose_worker()
        again_s = await page.until_reads_elsewhere(session)
        back = len(caller.of("prediction"))  # from then on the page is at the caller's server
        await page.until_signs(signs + 2)
        await asyncio.sleep(max(0.0, 8 - (time.time() - lost_s)))
        predictions = caller.of("prediction")
        kept = await page.signs() >= signs + 2
    totals = [one["latency_ms"]["total"] for one in predictions]
    quiet, meanwhile = p95(totals[before - 60 : before]), p95(totals[before:back])
    numbers = [one["seq"] for one in predictions]
    return {
        "reads_again_s": round(again_s - lost_s, 2),
        "transcript_kept": kept,
        "p95_ms": [quiet, meanwhile, p95(totals[back:])],
        "p95_ratio": round(meanwhile / quiet, 2),
        "results": len(predictions) - before,
        "results_lost": numbers[-1] - numbers[0] + 1 - len(numbers),
    }


@asynccontextmanager
async def _caller_at(
    nodes: TwoNodes, http: aiohttp.ClientSession, address: str
) -> AsyncIterator[Caller]:
    """A caller whose server is on that node: the other server is given one that hangs up again."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(calling(nodes.url, http))
        (hello,) = await first.wait_for("hello")
        if await nodes.node_of(hello["session"]) == address:
            yield first
        else:
            async with calling(nodes.url, http) as second:
                (hello,) = await second.wait_for("hello")
                assert await nodes.node_of(hello["session"]) == address
                await stack.aclose()
                await nodes.until_sessions(1)
                yield second
    await nodes.until_sessions(0)


# Calls and media, beside one server


@asynccontextmanager
async def one_server(model: str, most: int) -> AsyncIterator[str]:
    """A server without Ray in a process of its own; yields its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.streaming.cluster.one_server", model, str(most)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def calls(model: str, times: int) -> dict[str, Any]:
    """From the offer sent to the SDP answer, ms; by turns at one server and through the ingress."""
    took: dict[str, list[float]] = {"one server": [], "cluster": []}
    async with (
        one_server(model, 8) as alone,
        two_nodes(settings(8), maker(model)) as nodes,
        aiohttp.ClientSession() as http,
    ):
        await nodes.until_servers(2)
        for number in range(2 * times + 4):
            where, url = [("one server", alone), ("cluster", nodes.url)][number % 2]
            caller = Caller(url)
            offer = await caller.offer()
            began_s = time.perf_counter()
            headers = {"Content-Type": "application/sdp"}
            async with http.post(f"{url}/whip", data=offer, headers=headers) as response:
                await response.read()
                if number >= 4:  # the first ones open connections
                    took[where].append(1000 * (time.perf_counter() - began_s))
                assert response.status == 201
                session = f"{url}/{response.headers['Location'].lstrip('/')}"
            async with http.delete(session) as response:
                assert response.status == 200
            await caller.close()
    added = [b - a for a, b in zip(took["one server"], took["cluster"], strict=True)]
    return {
        name: {"p50": round(statistics.median(ms), 1), "p95": p95(ms)}
        for name, ms in (took | {"added": added}).items()
    }


async def media(model: str, sessions: int, times: int) -> dict[str, Any]:
    """From a frame's arrival to its result, ms: at one server, and at one on a cluster."""
    rounds = []
    async with (
        one_server(model, sessions) as alone,
        two_nodes(settings(sessions), maker(model), "1") as nodes,
        AsyncExitStack() as stack,
    ):
        await nodes.until_servers(1)
        task = PeerTask(url="", peers=sessions, duration_s=10, fps=15, size=(426, 320))
        recorded = await with_recording(task, 30, stack)
        for _ in range(times):
            figures = {}
            for where, url in (("one server", alone), ("cluster", nodes.url)):
                figures[where] = await _latency(recorded, url)
            ratios = {
                name: round(figures["cluster"][name] / figures["one server"][name], 3)
                for name in ("p50", "p95")
            }
            rounds.append(figures | {"ratio": ratios})
            print(rounds[-1], flush=True)
            await nodes.until_sessions(0)
    return {
        "rounds": rounds,
        "p50_ratio_median": statistics.median(one["ratio"]["p50"] for one in rounds),
        "p95_ratio_median": statistics.median(one["ratio"]["p95"] for one in rounds),
    }


async def _latency(task: PeerTask, url: str) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        sending = await peers_sent(
            stack, "streaming.bench.peers", [replace(task, url=url)], lambda: []
        )
    totals = [
        latency_ms["total"]
        for log in sending.logs
        for _, received_s, latency_ms in log.predictions
        if received_s > sending.began_s + 1
    ]
    errors = [log.error for log in sending.logs if log.error]
    assert not errors, errors
    return {"p50": round(statistics.median(totals), 1), "p95": p95(totals), "results": len(totals)}


# Room, and another model


async def life(model: str, clip: Path | None) -> dict[str, Any]:
    """One page reads; the servers fill, empty again, and get another model."""
    ray_application._SCALING["downscale_delay_s"] = 10.0
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            two_nodes(settings(3), maker(model), "1:2") as nodes,
            aiohttp.ClientSession() as http,
            AsyncExitStack() as stack,
        ):
            await nodes.until_servers(1)
            page = await stack.enter_async_context(watched_page(Path(folder), nodes.url, clip))
            async with calling(nodes.url, http) as one, calling(nodes.url, http) as two:
                full_s = time.time()
                await nodes.until_servers(2)
                told["second_server_s"] = round(time.time() - full_s, 1)
                async with calling(nodes.url, http) as three, calling(nodes.url, http) as four:
                    for caller in (one, two, three, four):
                        await caller.wait_for("prediction")
                    told["sessions"] = await nodes.sessions()
            empty_s = time.time()
            await nodes.until_servers(1, within_s=90)
            told["one_server_again_s"] = round(time.time() - empty_s, 1)
            await asyncio.sleep(3)
            told["page_after_scaling"] = await _gaps(page)
            before = await page.session()
            update_s = time.time()
            other = maker("standin:21")
            fresh = settings(3, ray=nodes.ray, replicas="1:2")
            app = ray_application.application(fresh, other)
            await asyncio.to_thread(ray_serve.run, app, name=NAME, route_prefix="/")
            await page.until_reads_elsewhere(before)
            told["update_s"] = round(time.time() - update_s, 1)
            await asyncio.sleep(3)
            told["page_after_update"] = await _gaps(page)
            told["models"] = [model for _, _, model in (await page.notes())["hellos"]]
    return told


async def _gaps(page: Any) -> dict[str, Any]:
    notes = await page.notes()
    times = [time_s for time_s, _ in notes["predictions"]]
    return {
        "sessions": len(notes["hellos"]),
        "told_stopping": len(notes["stopping"]),
        "longest_silence_s": round(max(b - a for a, b in itertools.pairwise(times)), 2),
    }


async def _work(options: argparse.Namespace) -> dict[str, Any]:
    match options.what:
        case "loss":
            return await loss(options.model, options.times, options.clip)
        case "calls":
            return await calls(options.model, options.times)
        case "media":
            return await media(options.model, options.sessions, options.times)
        case _:
            return await life(options.model, options.clip)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["loss", "calls", "media", "life"])
    parser.add_argument("--model", default="standin:20")
    parser.add_argument("--clip", type=Path, help="of a sign, for the page; else grey levels")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=10)
    options = parser.parse_args()
    found = asyncio.run(_work(options))
    print(json.dumps({"what": options.what, "model": options.model, **found, **environment("ray")}))


if __name__ == "__main__":
    main()

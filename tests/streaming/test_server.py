"""The server with real peers: signalling, messages, admission, hostile input, drain."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from models.faults import DeviceLost, RecognitionError, Stuck
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.session import Session
from streaming.settings import (
    LoadSettings,
    RecognizerSettings,
    ServerSettings,
    SessionSettings,
    Settings,
)
from tests.streaming.caller import Caller, calling, offered, problem
from tests.streaming.faulty import Faulty, Hanging

SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=3, max_sessions_per_address=3, grace_s=2.0),
    session=SessionSettings(loopback_ice=True, connect_s=3.0, silence_s=3.0, heartbeat_s=1.0),
)
SDP = {"Content-Type": "application/sdp"}


async def until_empty(server: Server, within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while len(server.sessions):
            await asyncio.wait([session.ended for session in server.sessions])
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Held:
    """What this process holds on to."""

    files: int  # sockets among them
    threads: int
    tasks: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(
            len(os.listdir("/proc/self/fd")), threading.active_count(), len(asyncio.all_tasks())
        )

    def __le__(self, other: Held) -> bool:
        return (
            self.files <= other.files + 2  # the HTTP client keeps a connection or two
            and self.threads <= other.threads + 2  # the loop's own pool may grow
            and self.tasks <= other.tasks + 2
        )


async def test_a_full_server_refuses_until_a_place_is_free(
    server: Server, http: aiohttp.ClientSession
) -> None:
    callers = [Caller(server.url) for _ in range(4)]
    try:
        for caller in callers[:3]:
            await caller.call(http)
        async with http.get(f"{server.url}/readyz") as response:
            assert response.status == 503
        sdp = await callers[3].offer()
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "places" in (await problem(response))["detail"]
        async with http.delete(f"{server.url}{callers[0].location}") as response:
            assert response.status == 200
        async with http.get(f"{server.url}/readyz") as response:
            assert response.status == 200
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 201
    finally:
        for caller in callers:
            await caller.close()


async def test_one_address_may_not_take_all_places(http: aiohttp.ClientSession) -> None:
    few = replace(SETTINGS, server=replace(SETTINGS.server, max_sessions_per_address=1))
    async with serve(few, StandIn()) as server, calling(server.url, http):
        sdp = await Caller(server.url).offer()
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 429
            assert "Retry-After" in response.headers


async def test_callers_behind_a_trusted_proxy_have_addresses_of_their_own(
    http: aiohttp.ClientSession,
) -> None:
    """By default one address gets half of the places; this machine itself gets them all."""
    proxied = ServerSettings(port=0, grace_s=2.0, max_sessions=5, trusted_proxy=("127.0.0.1",))
    load = LoadSettings(decode_share=1000.0, loop_lag_s=1000.0)  # let everybody in
    async with serve(replace(SETTINGS, server=proxied, load=load), StandIn()) as server:
        sdp = await offered(server.url)

        async def status(forwarded: str | None = None) -> int:
            headers = SDP if forwarded is None else SDP | {"X-Forwarded-For": forwarded}
            async with http.post(f"{server.url}/whip", data=sdp, headers=headers) as response:
                return response.status

        one, other = "192.0.2.1", "127.0.0.1, 192.0.2.2"
        assert [await status(one) for _ in range(3)] == [201, 201, 429]
        assert await status(other) == 201
        assert [await status() for _ in range(3)] == [201, 201, 503]


async def test_an_sdp_answer_that_takes_too_long_is_a_503_with_retry_after(
    http: aiohttp.ClientSession,
) -> None:
    hasty = replace(SETTINGS, session=replace(SETTINGS.session, connect_s=1e-6))
    async with serve(hasty, StandIn()) as server:
        sdp = await offered(server.url)
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "in time" in (await problem(response))["detail"]
        await until_empty(server)


async def test_offers_without_a_connection_are_cleaned_up(http: aiohttp.ClientSession) -> None:
    """200 of them: their sockets, threads and tasks go with them, and a live call goes on."""
    brief = replace(
        SETTINGS,
        server=replace(SETTINGS.server, max_sessions=250, max_sessions_per_address=250),
        session=replace(SETTINGS.session, connect_s=2.0),
        load=LoadSettings(decode_share=1000.0, loop_lag_s=1000.0),  # let everybody in
    )
    async with serve(brief, StandIn()) as server, calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        sdp = await offered(server.url)
        before = Held.now()
        for _ in range(200):
            async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
                assert response.status == 201, await response.text()
        await caller.wait_for_more("prediction", 5)
        others = [s.ended for s in server.sessions if s.id not in caller.location]
        async with asyncio.timeout(45):
            if others:
                await asyncio.wait(others)
        await caller.wait_for_more("prediction", 5)
        assert len(server.sessions) == 1
        assert Held.now() <= before
    assert server.sessions.counts.ended["ice"] == 200


async def test_places_that_nobody_follows_up_are_given_back(http: aiohttp.ClientSession) -> None:
    """Eight offers without a peer behind them; a ninth caller gets in when those are noticed."""
    settings = replace(
        SETTINGS,
        server=replace(SETTINGS.server, max_sessions=8, max_sessions_per_address=8),
        session=replace(SETTINGS.session, connect_s=60.0, follow_s=0.5, silence_s=60.0),
        load=LoadSettings(decode_share=1000.0, loop_lag_s=1000.0),  # let everybody in
    )
    async with serve(settings, StandIn()) as server:
        sdp = await offered(server.url)
        for _ in range(8):
            async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
                assert response.status == 201
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 503
        async with asyncio.timeout(10):
            await asyncio.wait([session.ended for session in server.sessions])
        async with calling(server.url, http) as caller:
            await caller.wait_for("prediction")  # after two seconds of video: it may stay
            assert len(server.sessions) == 1
        assert server.sessions.counts.ended["ice"] == 8


async def test_a_flood_on_the_channel_costs_the_flooder_alone(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as good, calling(server.url, http) as flooder:
        await good.wait_for("prediction")
        await flooder.wait_for("hello")
        for _ in range(3000):
            flooder.send(type="ping", t=1)
        errors = await flooder.wait_for("error")
        assert errors[0]["code"] == "too-many"
        assert len(flooder.of("pong")) < 200
        await good.wait_for_more("prediction", 5)


async def test_binary_messages_do_not_end_the_session(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("hello")
        sctp: Any = caller.connection.sctp
        sctp._data_channel_queue.append((caller.channel, 51, b"\xff\xfe not UTF-8"))
        await sctp._data_channel_flush()
        caller.channel.send(b"\x00\x01")
        assert (await caller.wait_for("error"))[0]["code"] == "not-text"
        await caller.wait_for_more("prediction", 5)
        (session,) = server.sessions
        assert isinstance(session, Session)
        assert session.numbers()["channel_faults"] == 1


async def test_a_peer_that_vanishes_is_noticed(server: Server, http: aiohttp.ClientSession) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        sctp: Any = caller.connection.sctp
        for transport in sctp.transport.transport._connection._protocols:
            transport.transport.abort()  # as `kill -9` would: no goodbye, packets stop
        await until_empty(server, within_s=20)
    assert server.sessions.counts.ended.keys() <= {"silent", "disconnected"}


async def test_draining_warns_the_peer_and_admits_nobody(http: aiohttp.ClientSession) -> None:
    async with serve(SETTINGS, StandIn()) as server:
        caller = Caller(server.url)
        await caller.call(http)
        await caller.wait_for("prediction")
        draining = asyncio.create_task(server.sessions.drain())
        assert (await caller.wait_for("error"))[0]["code"] == "stopping"
        async with http.get(f"{server.url}/readyz") as response:
            assert response.status == 503
        async with http.get(f"{server.url}/healthz") as response:
            assert response.status == 200
        sdp = await Caller(server.url).offer()
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 503
        await draining
        await until_empty(server)
        await caller.close()
    assert server.sessions.counts.ended == {"stopping": 1}


async def readiness(server: Server, http: aiohttp.ClientSession) -> str | None:
    """What is wrong, according to /readyz; None when it is ready."""
    async with http.get(f"{server.url}/readyz") as response:
        if response.status == 200:
            return None
        assert response.status == 503
        return str((await problem(response))["detail"])


async def test_a_failing_recogniser_sends_errors_and_makes_the_server_not_ready(
    http: aiohttp.ClientSession,
) -> None:
    core = Faulty(RuntimeError("/secret/path: internals"))
    async with serve(SETTINGS, core) as server, calling(server.url, http) as caller:
        errors = await caller.wait_for("error", 3)
        assert {(one["code"], one["message"]) for one in errors} == {
            ("recogniser", str(RecognitionError()))
        }
        assert "recogniser" in (await readiness(server, http) or "")
        core.fault = None
        await caller.wait_for("prediction")
        assert await readiness(server, http) is None
        async with http.get(f"{server.url}/metrics") as response:
            text = await response.text()
        assert 'livegloss_failures_total{kind="other"}' in text
        assert 'livegloss_batch_cost_seconds{device="cpu",size="1"}' in text


async def test_the_last_device_that_is_lost_makes_the_server_not_ready_at_once(
    http: aiohttp.ClientSession,
) -> None:
    lost, sound = Faulty(None, "one"), StandIn()
    async with serve(SETTINGS, lost, sound) as server, calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        lost.fault = DeviceLost()
        (error,) = (await caller.wait_for("error"))[:1]
        assert error["message"] == str(DeviceLost())
        await caller.wait_for_more("prediction", 5)
        assert await readiness(server, http) is None and server.batcher.in_service == 1
    lost.fault = None
    async with serve(SETTINGS, lost) as server, calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        lost.fault = DeviceLost()
        await caller.wait_for("error", 2)  # the windows that come after it fail as well
        assert await readiness(server, http) == str(DeviceLost())
        assert server.batcher.counts.failures.keys() == {"device_lost"}


async def test_a_recogniser_that_hangs_sends_errors_and_delays_no_shutdown(
    http: aiohttp.ClientSession,
) -> None:
    core = Hanging()
    hasty = replace(SETTINGS, recognizer=RecognizerSettings(batch_s=0.3))
    try:
        async with serve(hasty, core) as server:
            async with calling(server.url, http) as caller:
                errors = await caller.wait_for("error")
                assert errors[0]["message"] == str(Stuck())
                assert await readiness(server, http) == str(Stuck())
                core.leave.set()  # it comes back after all
                await caller.wait_for("prediction", 3)
                assert await readiness(server, http) is None
                core.leave.clear()
                await caller.wait_for_more("error")
            async with asyncio.timeout(10):
                await until_empty(server)
        # leaving `serve` was not held up: the test's own timeout is the witness
    finally:
        core.leave.set()


async def test_while_one_device_hangs_the_other_works(
    http: aiohttp.ClientSession,
) -> None:
    core = Hanging("one")
    hasty = replace(SETTINGS, recognizer=RecognizerSettings(batch_s=0.3))
    try:
        async with serve(hasty, core, StandIn()) as server, calling(server.url, http) as caller:
            errors = await caller.wait_for("error")
            assert errors[0]["message"] == str(Stuck())
            await caller.wait_for_more("prediction", 5)
            assert await readiness(server, http) is None
    finally:
        core.leave.set()

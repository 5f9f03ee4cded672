"""The server with real peers: signalling, messages, admission, hostile input, drain."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import threading
from dataclasses import dataclass, replace
from typing import Any, cast

import aiohttp
import numpy as np
import pytest
from yarl import URL

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
from tests.streaming.caller import Caller, Camera, calling, problem
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


async def offered(url: str) -> str:
    """An offer whose maker is gone."""
    caller = Caller(url)
    sdp = await caller.offer()
    await caller.close()
    return sdp


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


async def test_a_call_is_answered_with_predictions(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        (hello,) = await caller.wait_for("hello")
        assert hello["protocol"] == 1
        assert hello["model"]["glosses"] == ["dark", "bright"]
        predictions = await caller.wait_for("prediction", 5)
        first = predictions[0]
        assert [one["seq"] for one in predictions] == sorted({one["seq"] for one in predictions})
        assert sum(first["attention"]) == pytest.approx(1, abs=0.01)
        assert first["window"]["end_s"] - first["window"]["start_s"] == pytest.approx(
            32 / 15, abs=0.002
        )
        stages = dict(first["latency_ms"])
        total = stages.pop("total")
        assert set(stages) == {"decode", "window", "queue", "encode", "classify", "send"}
        assert sum(stages.values()) == pytest.approx(total, abs=1.0)
        assert 0 < total < 5000
        assert caller.location == f"/whip/{hello['session']}"
        assert (await caller.wait_for("stats"))[0]["frames"] > 0


async def test_signs_come_early_and_end_final(server: Server, http: aiohttp.ClientSession) -> None:
    def blink(n: int) -> np.ndarray[Any, Any]:
        return np.full((240, 320, 3), 250 if n >= 30 else 120, np.uint8)

    async with calling(server.url, http, Camera(blink)) as caller:
        (first, *_) = await caller.wait_for("sign")
        assert (first["gloss"], first["final"]) == ("bright", False)
        caller.send(type="clear")
        async with asyncio.timeout(10):
            while not caller.of("sign")[-1]["final"]:
                await caller.wait_for_more("sign")
        assert {sign["id"] for sign in caller.of("sign")} == {1}


async def test_client_messages_have_their_effect(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("hello")
        caller.send(type="ping", t=42.5)
        assert (await caller.wait_for("pong"))[0]["t"] == 42.5
        caller.send(type="settings", top_k=1)
        assert len((await caller.wait_for_more("prediction", 5))[-1]["top"]) == 1
        caller.send(type="sing")
        assert (await caller.wait_for("error"))[0]["code"] == "unknown-type"
        caller.channel.send("x" * 5000)
        assert (await caller.wait_for("error", 2))[1]["code"] == "too-long"
        caller.send(type="bye")
        await until_empty(server)
    assert server.sessions.counts.ended == {"bye": 1}


async def test_the_event_stream_carries_the_same_messages(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        async with http.get(f"{server.url}{caller.location}/events") as events:
            assert events.status == 200
            assert events.content_type == "text/event-stream"
            assert events.headers["X-Accel-Buffering"] == "no", "or nginx keeps messages back"
            kinds = []
            async with asyncio.timeout(10):
                while "prediction" not in kinds:
                    line = (await events.content.readline()).decode()
                    if line.startswith("data: "):
                        kinds.append(json.loads(line[6:])["type"])
            assert kinds[0] == "hello"
            async with http.delete(f"{server.url}{caller.location}") as deleted:
                assert deleted.status == 200
            async with asyncio.timeout(10):
                await events.content.read()  # the stream ends with the session
        async with http.get(f"{server.url}{caller.location}/events") as gone:
            assert gone.status == 404
            await problem(gone)
    assert len(server.sessions) == 0


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


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", SDP, 400),
        (b"v=0", SDP, 400),
        (b"\xff\xfe\x00", SDP, 400),
        (b"\x00" * 1000, SDP, 400),
        (b"a" * 900_000, SDP, 413),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"v=0", {}, 415),
    ],
)
async def test_bodies_that_are_no_offer_are_refused(
    server: Server,
    http: aiohttp.ClientSession,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    async with http.post(f"{server.url}/whip", data=body, headers=headers) as response:
        assert response.status == status
        await problem(response)
    assert len(server.sessions) == 0


async def test_broken_offers_are_refused_and_disturb_nobody(
    server: Server, http: aiohttp.ClientSession
) -> None:
    """Truncated at many places, without a fingerprint, with nothing but VP9."""
    good = await Caller(server.url).offer()
    lines = good.split("\r\n")
    without_fingerprint = "\r\n".join(x for x in lines if not x.startswith("a=fingerprint"))
    only_vp9 = good.replace("VP8/90000", "VP9/90000").replace("H264/90000", "AV1/90000")
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        for body in (without_fingerprint, only_vp9, *(good[:n] for n in range(0, 900, 60))):
            async with http.post(f"{server.url}/whip", data=body, headers=SDP) as response:
                assert response.status == 400, body
                await problem(response)
        await caller.wait_for_more("prediction", 5)
        assert len(server.sessions) == 1


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


async def test_whip_clients_learn_what_the_server_takes(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.options(f"{server.url}/whip") as response:
        assert response.status == 200
        assert response.headers["Accept-Post"] == "application/sdp"
        assert response.headers["Allow"] == "OPTIONS, POST"
    async with http.options(f"{server.url}/whip/x") as response:
        assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        assert response.headers["Allow"] == "DELETE, OPTIONS, PATCH"
    async with http.options(f"{server.url}/nowhere") as response:
        assert response.status == 404
    async with http.get(f"{server.url}/whip") as response:
        assert response.status == 405
        await problem(response)


class Refusing(asyncio.DatagramProtocol):
    """A STUN and TURN server that refuses each request at once (400)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        error = bytes([0, 9, 0, 4, 0, 0, 4, 0])  # ERROR-CODE
        kind = bytes([data[0] | 1, data[1] | 16, 0, len(error)])
        self._transport.sendto(kind + data[4:20] + error, address)


async def test_ice_servers_come_with_the_sdp_answer(http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Refusing, local_addr=("127.0.0.1", 0))
    place = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    urls = (f"stun:{place}", f"turn:{place}?transport=udp")
    session = replace(SETTINGS.session, ice_servers=urls, turn_secret="shared")
    async with serve(replace(SETTINGS, session=session), StandIn()) as server:
        sdp = await offered(server.url)
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 201
            stun, turn = response.headers.getall("Link")
        assert stun == f'<stun:{place}>; rel="ice-server"'
        assert re.fullmatch(
            rf'<turn:{place}\?transport=udp>; rel="ice-server"; username="\d+:[\w-]+"; '
            r'credential="[\w+/=]+"; credential-type="password"',
            turn,
        )
    transport.close()


async def test_trickled_candidates_name_their_ice_generation(
    server: Server, http: aiohttp.ClientSession
) -> None:
    caller = Caller(server.url)
    try:
        sdp = await caller.offer()
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            location, etag = response.headers["Location"], response.headers["ETag"]
        assert re.fullmatch(r"/whip/[\w-]+", location)
        url = f"{server.url}{location}"
        (name,) = set(re.findall(r"a=ice-ufrag:(\S+)", sdp))
        same = f"a=ice-ufrag:{name}\r\na=ice-pwd:{'p' * 22}\r\na=end-of-candidates\r\n"
        restart = same.replace(name, "restarted")

        async def patched(body: str, expected: str | None = None) -> int:
            headers = {"Content-Type": "application/trickle-ice-sdpfrag"}
            if expected is not None:
                headers["If-Match"] = expected
            async with http.patch(url, data=body, headers=headers) as response:
                if response.status != 204:
                    await problem(response)
                return response.status

        assert await patched(same) == 428
        assert await patched(same, '"another"') == 412
        assert await patched(restart, etag) == 422
        assert await patched(restart, "*") == await patched(restart, '"*"') == 422
        assert await patched(same, f'"another", {etag}') == 204
        assert len(server.sessions) == 1
    finally:
        await caller.close()


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


async def test_a_token_is_required(http: aiohttp.ClientSession) -> None:
    locked = replace(SETTINGS, server=replace(SETTINGS.server, token="s3cret"))
    async with serve(locked, StandIn()) as server:
        wrong = {"Authorization": "Bearer wrong"}
        for headers in ({}, wrong, {"Authorization": "s3cret"}):
            challenge = 'Bearer error="invalid_token"' if headers == wrong else "Bearer"
            sent = {**SDP, **headers}
            async with http.post(f"{server.url}/whip", data="v=0", headers=sent) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == challenge
            async with http.get(f"{server.url}/api/ice", headers=headers) as response:
                assert response.status == 401
        right = {"Authorization": "Bearer s3cret"}
        async with http.get(f"{server.url}/api/ice", headers=right) as response:
            assert await response.json() == {"ice_servers": []}


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


async def test_metrics_show_every_buffer_beside_its_bound(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction", 3)
        async with http.get(f"{server.url}/metrics") as response:
            text = await response.text()
    held: dict[str, float] = {}
    bounds: dict[str, float] = {}
    for line in text.splitlines():
        for name, values in (("livegloss_buffer{", held), ("livegloss_buffer_bound{", bounds)):
            if line.startswith(name):
                values[line.split('"')[1]] = float(line.split()[-1])
    assert set(held) == set(bounds)
    assert set(bounds) >= {
        "socket_datagrams",
        "jitter_packets",
        "jitter_bytes",
        "decoder_frames",
        "ring_frames",
        "window_frames",
        "waiting_windows",
        "outbox_messages",
    }
    assert all(held[name] <= bounds[name] for name in held)
    assert 'livegloss_windows_total{outcome="done"}' in text


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


@pytest.mark.parametrize(
    "name", ["../pyproject.toml", "demo.py", "x.js", "%00.js", "..%2fapp.js", "%ff.js", "x" * 5000]
)
async def test_only_the_page_s_own_files_are_served(
    server: Server, http: aiohttp.ClientSession, name: str
) -> None:
    async with http.get(URL(f"{server.url}/static/{name}", encoded=True)) as response:
        assert response.status == 404
        await problem(response)


async def test_the_model_is_described(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/api/model") as response:
        model = await response.json()
    assert model["glosses"] == ["dark", "bright"]
    assert model["camera"]["frame_rate"] == 15
    assert model["threshold"] == 0.5

"""Calls, and what WHIP clients may ask: the same of one server and through the ingress."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pytest
from yarl import URL

from tests.service.client import ENDED, RIGHT, SDP, Service
from tests.service.serving import ADDRESS_LIMIT, FIGURE, FRIEND
from tests.streaming.caller import Caller, Camera, calling, offered, problem


async def test_a_call_is_answered_with_predictions(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller:
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


async def test_signs_come_early_and_end_final(
    service: Service, http: aiohttp.ClientSession
) -> None:
    def blink(n: int) -> np.ndarray[Any, Any]:
        return np.full((240, 320, 3), 250 if n >= 30 else 120, np.uint8)

    async with calling(service.url, http, Camera(blink)) as caller:
        (first, *_) = await caller.wait_for("sign")
        assert (first["gloss"], first["final"]) == ("bright", False)
        caller.send(type="clear")
        async with asyncio.timeout(10):
            while not caller.of("sign")[-1]["final"]:
                await caller.wait_for_more("sign")
        assert {sign["id"] for sign in caller.of("sign")} == {1}


async def test_client_messages_have_their_effect(
    service: Service, http: aiohttp.ClientSession
) -> None:
    before = await service.numbers(http)
    async with calling(service.url, http) as caller:
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
        await service.until_empty(http)
    ended = await service.numbers(http) - before
    assert ended[f"{ENDED}bye"] == 1


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
        (b"\x1f\x8b no gzip", {**SDP, "Content-Encoding": "gzip"}, 400),
        (gzip.compress(b"v=0", mtime=0), {**SDP, "Content-Encoding": "gzip"}, 400),
        (b"", {**SDP, "Content-Encoding": "gzip"}, 400),
    ],
)
async def test_bodies_that_are_no_offer_are_refused(
    service: Service,
    http: aiohttp.ClientSession,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    async with http.post(f"{service.url}/whip", data=body, headers=headers) as response:
        assert response.status == status
        await problem(response)
    assert (await service.numbers(http))["livegloss_sessions"] == 0


async def test_broken_offers_are_refused_and_disturb_nobody(
    service: Service, http: aiohttp.ClientSession
) -> None:
    """Truncated at many places, without a fingerprint, with nothing but VP9."""
    good = await offered(service.url)
    lines = good.split("\r\n")
    without_fingerprint = "\r\n".join(x for x in lines if not x.startswith("a=fingerprint"))
    only_vp9 = good.replace("VP8/90000", "VP9/90000").replace("H264/90000", "AV1/90000")
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction")
        for body in (without_fingerprint, only_vp9, *(good[:n] for n in range(0, 900, 60))):
            async with http.post(f"{service.url}/whip", data=body, headers=SDP) as response:
                assert response.status == 400, body
                await problem(response)
        await caller.wait_for_more("prediction", 5)
        assert (await service.numbers(http))["livegloss_sessions"] == 1


async def test_whip_clients_learn_what_the_server_takes(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with http.options(f"{service.url}/whip") as response:
        assert response.status == 200
        assert response.headers["Accept-Post"] == "application/sdp"
        assert response.headers["Allow"] == "OPTIONS, POST"
    for id in ("x", "x~nobody"):
        async with http.options(f"{service.url}/whip/{id}") as response:
            assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
            assert response.headers["Allow"] == "DELETE, OPTIONS, PATCH"
    async with http.options(f"{service.url}/nowhere") as response:
        assert response.status == 404
    async with http.get(f"{service.url}/whip") as response:
        assert response.status == 405
        await problem(response)


async def test_ice_servers_come_with_the_sdp_answer(
    service: Service, http: aiohttp.ClientSession
) -> None:
    sdp = await offered(service.url)
    async with http.post(f"{service.url}/whip", data=sdp, headers=SDP) as response:
        assert response.status == 201
        stun, turn = response.headers.getall("Link")
        session = response.url.join(URL(response.headers["Location"]))
    place = r"127\.0\.0\.1:\d+"
    assert re.fullmatch(rf'<stun:{place}>; rel="ice-server"', stun)
    assert re.fullmatch(
        rf'<turn:{place}\?transport=udp>; rel="ice-server"; username="\d+:[\w-]+"; '
        r'credential="[\w+/=]+"; credential-type="password"',
        turn,
    )
    async with http.delete(session) as response:
        assert response.status == 200


async def test_each_call_gets_turn_credentials_of_its_own(
    service: Service, http: aiohttp.ClientSession
) -> None:
    names = set()
    for _ in range(2):
        async with http.get(f"{service.url}/api/ice") as response:
            stun, turn = (await response.json())["ice_servers"]
            names.add(turn["username"])
    assert "credential" not in stun and len(names) == 2


async def test_trickled_candidates_name_their_ice_generation(
    service: Service, http: aiohttp.ClientSession
) -> None:
    caller = Caller(service.url)
    try:
        sdp = await caller.offer()
        async with http.post(f"{service.url}/whip", data=sdp, headers=SDP) as response:
            location, etag = response.headers["Location"], response.headers["ETag"]
        assert re.fullmatch(r"/whip/[\w-]+(~[a-z0-9]+)?", location)
        url = f"{service.url}{location}"
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
        assert (await service.numbers(http))["livegloss_sessions"] == 1
        async with http.delete(url) as response:
            assert response.status == 200
        assert await patched(same, etag) == 404
    finally:
        await caller.close()


async def test_what_an_ended_session_is_asked_has_one_answer(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    """Whether its server is here or gone: who has no token, or calls from elsewhere, too."""
    there = {"Origin": FRIEND}
    for id in ("gone", "gone~nobody"):
        url = f"{service.url}/whip/{id}"
        async with http.delete(url, headers=there) as response:
            assert response.status == 404
            assert response.headers["Access-Control-Allow-Origin"] == FRIEND
            assert "Send a new offer" in (await problem(response))["detail"]
        async with stranger.delete(url) as response:
            assert response.status == 401
        async with http.get(f"{url}/events") as response:
            assert response.status == 404
            await problem(response)


async def test_who_leaves_before_the_answer_keeps_no_place(
    service: Service, http: aiohttp.ClientSession
) -> None:
    """Whether it is noticed before the session begins, while it does, or by its silence."""
    before = await service.numbers(http)
    sdp = (await offered(service.url)).encode()
    parts = urlsplit(service.url)
    fields = {"Host": parts.netloc, **RIGHT, **SDP, "Content-Length": len(sdp)}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    for _ in range(ADDRESS_LIMIT - 1):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"POST /whip HTTP/1.1\r\n{head}\r\n".encode() + sdp)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction")
        await service.until(http, "livegloss_sessions", 1)
        ended = {name for name in await service.numbers(http) - before if name.startswith(ENDED)}
        assert ended <= {f"{ENDED}{why}" for why in ("abandoned", "ice")}


async def test_one_address_gets_its_share_whatever_it_writes(service: Service) -> None:
    """Two servers at most give it twice as much, one after the other."""
    sdp = await offered(service.url)
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    got: list[int] = []
    sessions: list[URL] = []
    async with aiohttp.ClientSession(headers=RIGHT, connector=elsewhere) as http:
        while 429 not in got:
            forged = {"X-Forwarded-For": f"192.0.2.{len(got)}", "X-Real-IP": "192.0.2.99"}
            async with http.post(
                f"{service.url}/whip", data=sdp, headers={**SDP, **forged}
            ) as response:
                got.append(response.status)
                if response.status == 201:
                    sessions.append(response.url.join(URL(response.headers["Location"])))
            assert len(got) <= 2 * ADDRESS_LIMIT + 1
        assert len(sessions) >= ADDRESS_LIMIT and set(got) == {201, 429}
        for session in sessions:
            await http.delete(session)


@pytest.mark.parametrize("path", ["/metrics", "/api/model", "/api/ice", "/api/signs"])
async def test_what_is_not_for_all_asks_for_the_token(
    service: Service, stranger: aiohttp.ClientSession, path: str
) -> None:
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic s3cret"},
        {"Authorization": "Bearers3cret"},
        {"Authorization": "Bearer s3crét"},
        {"Authorization": "Bearer \udcff"},
    ]
    for headers in wrong:
        async with stranger.get(f"{service.url}{path}", headers=headers) as response:
            assert response.status == 401, headers
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
        headers = {"Authorization": f"{scheme} s3cret"}
        async with stranger.get(f"{service.url}{path}", headers=headers) as response:
            assert response.status == 200, scheme


async def test_who_has_no_token_gets_no_session(
    service: Service, stranger: aiohttp.ClientSession
) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    for headers in ({}, wrong, {"Authorization": "s3cret"}):
        challenge = 'Bearer error="invalid_token"' if headers == wrong else "Bearer"
        sent = {**SDP, **headers}
        async with stranger.post(f"{service.url}/whip", data="v=0", headers=sent) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/static/app.js"])
async def test_the_page_and_the_probes_ask_for_none(
    service: Service, stranger: aiohttp.ClientSession, path: str
) -> None:
    async with stranger.get(f"{service.url}{path}") as response:
        assert response.status == 200
        length = int(response.headers["Content-Length"])
        tag = response.headers.get("ETag")
        assert len(response.headers.getall("Date")) == len(response.headers.getall("Server")) == 1
    plain = {"Accept-Encoding": "identity"}
    async with stranger.head(f"{service.url}{path}") as response:
        assert response.status == 200 and int(response.headers["Content-Length"]) == length
        assert await response.read() == b""
    async with stranger.get(f"{service.url}{path}", headers=plain) as response:
        assert len(await response.read()) == int(response.headers["Content-Length"]) >= length
    if tag is not None:
        known = {"If-None-Match": tag}
        async with stranger.get(f"{service.url}{path}", headers=known) as response:
            assert response.status == 304 and await response.read() == b""


async def test_pages_of_named_origins_may_call(
    service: Service, stranger: aiohttp.ClientSession
) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "if-match"}
    whip = f"{service.url}/whip"
    for origin, allowed in ((FRIEND, FRIEND), ("https://evil.example", None)):
        headers = {"Origin": origin}
        async with stranger.options(whip, headers={**headers, **ask}) as preflight:
            assert preflight.status == 200
            assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
            assert ("Access-Control-Allow-Headers" in preflight.headers) == bool(allowed)
        async with stranger.post(whip, headers=headers) as refused:
            assert refused.status == 401
            assert refused.headers.get("Access-Control-Allow-Origin") == allowed
            assert refused.headers["Vary"] == "Origin"
            if allowed:
                exposed = refused.headers["Access-Control-Expose-Headers"]
                assert {"Location", "ETag", "Link"} <= set(exposed.split(", "))


async def test_a_page_of_another_name_gets_nothing(
    service: Service, http: aiohttp.ClientSession
) -> None:
    rebound = {"Host": "evil.example"}
    for method, path in (("GET", "/"), ("GET", "/api/ice"), ("POST", "/whip")):
        async with http.request(method, f"{service.url}{path}", headers=rebound) as response:
            assert response.status == 421
            assert "--allow-host evil.example" in (await problem(response))["detail"]


@pytest.mark.parametrize(
    "name", ["../pyproject.toml", "demo.py", "x.js", "%00.js", "..%2fapp.js", "%ff.js", "x" * 5000]
)
async def test_only_the_page_s_own_files_are_served(
    service: Service, http: aiohttp.ClientSession, name: str
) -> None:
    async with http.get(URL(f"{service.url}/static/{name}", encoded=True)) as response:
        assert response.status == 404
        await problem(response)


async def test_the_model_is_described(service: Service, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{service.url}/api/model?any=%C3%A9&thing") as response:
        assert response.headers["Content-Encoding"] in ("deflate", "gzip")
        model = await response.json()
    assert model["glosses"] == ["dark", "bright"]
    assert model["camera"]["frame_rate"] == 15
    assert model["threshold"] == 0.5


async def test_a_figure_is_sent_once_to_who_has_the_token(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    url = f"{service.url}/api/figures"
    async with stranger.get(f"{url}/né") as refused:
        assert refused.status == 401
    async with http.get(f"{service.url}/api/model") as model:
        assert (await model.json())["figures"] == ["né"]
    async with http.get(f"{url}/ne%CC%81") as got:
        assert got.status == 200 and await got.read() == FIGURE
        assert got.content_type == "application/octet-stream"
        assert got.headers["Cache-Control"] == "private, max-age=3600"
        assert int(got.headers["Content-Length"]) < len(FIGURE), "it is compressed"
        known = {"If-None-Match": got.headers["ETag"]}
    async with http.get(f"{url}/né", headers=known) as same:
        assert same.status == 304 and await same.read() == b""
    async with http.get(f"{url}/né", headers={"Accept-Encoding": "identity"}) as whole:
        assert await whole.read() == FIGURE
    for none in ("dark", "..%2F..%2Fcard.json", "%00", "x" * 2000):
        async with http.get(f"{url}/{none}") as missing:
            assert missing.status == 404
            assert missing.content_type == "application/problem+json"


async def test_metrics_show_every_buffer_beside_its_bound(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction", 3)
        numbers = await service.numbers(http)
    held, bounds = (
        {name.removeprefix(prefix): numbers[name] for name in numbers if name.startswith(prefix)}
        for prefix in ("livegloss_buffer ", "livegloss_buffer_bound ")
    )
    assert set(held) == set(bounds)
    assert set(bounds) >= {
        "socket_datagrams",
        "jitter_packets",
        "jitter_bytes",
        "decoder_frames",
        "ring_frames",
        "window_frames",
        "waiting_windows",
        "early_windows",
        "outbox_messages",
    }
    assert all(held[name] <= bounds[name] for name in held)
    assert numbers["livegloss_windows_total done"] > 0

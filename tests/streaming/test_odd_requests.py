"""Some thousand odd requests over real sockets beside a live session: no 500, nobody suffers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from streaming.server import Server
from streaming.settings import LoadSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, calling

SETTINGS = Settings(
    server=ServerSettings(port=0, grace_s=1.0, request_s=0.2, body_s=0.2, max_sessions=4),
    session=SessionSettings(loopback_ice=True, follow_s=1.0),
    load=LoadSettings(decode_share=1000.0, loop_lag_s=1000.0),
)
REQUESTS = 3200
AT_A_TIME = 32

METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "Q",
]
PATHS = [
    *(
        "/",
        "/whip",
        "/whip/",
        "/whip/ID",
        "/whip/ID/events",
        "/whip/ID/signs/x",
        "/whip/x/signs/%00",
    ),
    *(
        "/api/model",
        "/api/ice",
        "/api/signs",
        "/api/signs/%F0%9F",
        "/healthz",
        "/readyz",
        "/metrics",
    ),
    *(
        "/static/app.js",
        "/static/%00",
        "/static/..%2f..%2fetc",
        "*",
        "//",
        "/%",
        "http://evil/",
        "",
    ),
    *("/whip?x=%zz", "/static/" + "n" * 5000, "/" + "a/" * 2000, "/whip/" + "%25" * 900, "/é\x80"),
]
HEADERS = [
    *("Content-Type: application/sdp", "Content-Type: application/trickle-ice-sdpfrag"),
    *("Content-Type: \xff", "Content-Type: a;b=c;charset=utf-99", "Content-Type: application/json"),
    *("Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: br, gzip"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x00"),
    *("Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999999999"),
    *("Host: 127.0.0.1", "Host: evil.example", "Host: \xff", "Host: [", "Host:", "Host: a, b"),
    *("Authorization: Bearer x", "Authorization: \xe9", "Authorization:", "Cookie: a=b; ;=;\x01"),
    *("If-Match: *", 'If-Match: "', "If-None-Match: *", 'If-None-Match: W/"', "If-Match: \xff"),
    *(
        "Range: bytes=0-",
        "Range: bytes=9-1",
        "If-Modified-Since: yesterday",
        "Expect: 100-continue",
    ),
    *("Expect: nothing", "Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade, close"),
    *(
        "Connection: keep-alive",
        "X-Forwarded-For: ,,%s" % ("1," * 500),
        "Origin: \xff",
        "Origin: null",
    ),
    *(
        "Access-Control-Request-Method: \xff",
        "Accept-Encoding: gzip;q=x",
        "X: " + "y" * 9000,
        ": x",
    ),
    *("no colon", "X-Null: \x00", "X-Line: a\r b", "Sec-WebSocket-Key: x", "Forwarded: for=\xff"),
]
BODIES = [
    *(b"", b"v=0\r\n", b"\x00" * 64, b"\xff\xfe", b"{}", b'{"space": "x", "takes": ["%"]}'),
    *(
        b"\x1f\x8b\x08",
        b"5\r\nv=0\r\n\r\n0\r\n\r\n",
        b"zz\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
    ),
    *(
        b"a=candidate:\r\n",
        b"a=ice-ufrag:x\r\n",
        b"[" * 3000,
        b"x" * 70_000,
        b"GET / HTTP/1.1\r\n\r\n" * 20,
    ),
]


def requests(id: str, offer: bytes, seed: int) -> Iterator[bytes]:
    """Requests put together at random; some broken afterwards. `id` is a live session's."""
    choose = random.Random(seed)
    while True:
        method, path = choose.choice(
            [("POST", "/whip"), ("PATCH", "/whip/ID")]
            + [(choose.choice(METHODS), choose.choice(PATHS))] * 4
        )
        path = path.replace("ID", choose.choice([id, "x"]))
        if method == "DELETE" or path == f"/whip/{id}/events":  # would end it, or last as long
            path = path.replace(id, "x")
        body = choose.choice(BODIES)
        lines = choose.sample(HEADERS, choose.randint(0, 5))
        if method == "POST" and choose.random() < 0.3:
            cut = choose.randint(0, len(offer))
            body = offer[:cut] + offer[cut + choose.randint(1, 9) :]
            lines = [*lines[:1], "Content-Type: application/sdp"]
        elif method == "PATCH" and choose.random() < 0.5:
            lines = [*lines[:2], "Content-Type: application/trickle-ice-sdpfrag"]
        if choose.random() < 0.7:
            lines += ["Host: 127.0.0.1", f"Content-Length: {len(body)}", "Connection: close"]
        version = choose.choice(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/x", ""])
        head = "\r\n".join([f"{method} {path} {version}", *lines]) + "\r\n\r\n"
        whole = bytearray(head.encode("latin-1") + body)
        if choose.random() < 0.2:
            for _ in range(choose.randint(1, 4)):
                whole[choose.randrange(len(whole))] = choose.randrange(256)
        yield bytes(whole)


async def statuses(host: str, port: int, request: bytes) -> list[int]:
    """What the server returns for the request, until it closes or there is no more."""
    reader, writer = await asyncio.open_connection(host, port)
    found = []
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            for line in (await reader.read()).split(b"\r\n"):
                if line.startswith(b"HTTP/1."):
                    found.append(int(line.split()[1]))
    except ConnectionError:
        pass
    finally:
        writer.close()
    return found


async def test_no_request_makes_the_server_fail(
    server: Server, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(server.url)
    unheard = Caller(server.url)
    offer = (await unheard.offer()).encode()
    await unheard.close()
    counts: Counter[int] = Counter()
    async with calling(server.url, http) as caller:
        (hello,) = await caller.wait_for("hello")
        odd = requests(hello["session"], offer, seed=15)

        async def send(count: int) -> None:
            for _ in range(count):
                request = next(odd)
                got = await statuses(parts.hostname or "", parts.port or 0, request)
                assert not [status for status in got if status == 500 or status == 504], request
                counts.update(got)

        with caplog.at_level(logging.WARNING):
            async with asyncio.TaskGroup() as senders:
                for _ in range(AT_A_TIME):
                    senders.create_task(send(REQUESTS // AT_A_TIME))
        await caller.wait_for_more("prediction", 5)
        assert server.sessions.get(hello["session"]) is not None
    assert {200, 201, 400, 404, 405, 415, 421, 428} <= set(counts), "they reach every part"
    assert not [record for record in caplog.records if record.exc_info], "no traceback in the log"

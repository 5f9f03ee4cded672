"""The invitation: an address that others can open, its certificate, a code that can be read."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.https import invitation, network_url, own_addresses, qr_code, ssl_context
from streaming.settings import ServerSettings, Settings
from tests.conftest import ROOT

CELLS = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}  # upper, lower; 1 is black
MODULE = 8  # px


def read_code(printed: str) -> str:
    """What a camera reads from the QR code among the lines of a terminal."""
    lines = re.findall(r"\x1b\[38;5;16;48;5;231m([ ▄▀█]+)\x1b\[0m\r?\n", printed)
    cells = np.array([[CELLS[cell] for cell in line] for line in lines])  # lines, columns, 2
    modules = cells.transpose(0, 2, 1).reshape(-1, cells.shape[1])
    picture = np.where(modules, 0, 255).astype(np.uint8).repeat(MODULE, 0).repeat(MODULE, 1)
    # Its corners are given: in drawings without any blur OpenCV finds one code in a hundred not.
    rows, columns = (np.flatnonzero(modules.any(axis)) * MODULE for axis in (1, 0))
    (top, bottom), (left, right) = ((at[0], at[-1] + MODULE - 1) for at in (rows, columns))
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    text, _ = cv2.QRCodeDetector().decode(picture, np.array([corners], np.float32))
    return str(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.7:8080/",
        "https://192.168.178.123:65535/#token=correct%20horse%20battery%20staple%20%26%20more",
        "https://[fd00:1234:5678:9abc:def0:1234:5678:9abc]:8080/",
    ],
)
def test_a_camera_reads_the_address(url: str) -> None:
    assert read_code(qr_code(url)) == url
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", qr_code(url)).splitlines())) <= 80


def settings(host: str, *, token: str | None = None, secure: bool = True) -> ServerSettings:
    return ServerSettings(host=host, tls_self_signed=secure, token=token)


def test_the_token_is_in_the_fragment() -> None:
    asked = settings("192.168.1.5", token="a b&c#+/")
    assert network_url("https://192.168.1.5:80", asked) == (
        "https://192.168.1.5:80/#token=a%20b%26c%23%2B%2F"
    )
    assert network_url("https://[fd00::5]:80", settings("fd00::5")) == "https://[fd00::5]:80/"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_there_is_no_invitation_to_a_loopback_address(host: str) -> None:
    at = f"[{host}]" if ":" in host else host
    assert invitation(f"https://{at}:80", settings(host)) is None


def test_the_invitation_says_what_keeps_the_camera_shut() -> None:
    plain = invitation("http://10.0.0.7:80", settings("10.0.0.7", secure=False)) or ""
    assert read_code(plain) == "http://10.0.0.7:80/"
    assert "HTTPS. Start with --tls-self-signed" in plain
    secure = invitation("https://10.0.0.7:80", settings("10.0.0.7")) or ""
    assert "certificate" in secure and "--tls-self-signed" not in secure


@pytest.mark.parametrize(
    ("names", "host"),
    [(["*.b.org", "signs.b.org"], "signs.b.org"), (["b.org", "10.0.0.7"], "10.0.0.7")],
)
def test_the_invitation_is_to_a_name_that_the_certificate_has(
    tmp_path: Path, names: list[str], host: str
) -> None:
    cert = tmp_path / "cert.pem"
    trustme.CA().issue_cert(*names).cert_chain_pems[0].write_to_path(str(cert))
    own = ServerSettings(host="10.0.0.7", tls_cert=str(cert), tls_key="unread")
    text = invitation("https://10.0.0.7:443", own) or ""
    assert read_code(text) == f"https://{host}:443/" and "HTTPS" not in text


@pytest.mark.parametrize(("host", "version"), [("0.0.0.0", 4), ("::", 6)])
async def test_the_certificate_is_for_every_address_of_this_machine(
    host: str, version: int
) -> None:
    if version == 6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    versions = (4,) if version == 4 else (4, 6)  # :: stands for both
    addresses = [str(address) for each in versions for address in own_addresses(each)]
    async with serve(
        Settings(server=ServerSettings(host=host, port=0, tls_self_signed=True)), StandIn()
    ) as server:
        port = urlsplit(server.url).port
        assert urlsplit(server.url).hostname == (addresses[0] if addresses else "localhost")
        invited = network_url(server.url, server.settings.server)
        assert urlsplit(invited or "").hostname == (addresses[0] if addresses else None)
        loopback = "127.0.0.1"
        pem = await asyncio.to_thread(ssl.get_server_certificate, (loopback, port or 0))
        trusting = ssl.create_default_context(cadata=pem)
        trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # pem has no root
        async with aiohttp.ClientSession() as http:
            for address in [*addresses, loopback]:
                place = f"[{address}]" if ":" in address else address
                async with http.get(f"https://{place}:{port}/", ssl=trusting) as response:
                    assert response.status == 200


HOUR = datetime.timedelta(hours=1)
NOW = datetime.datetime.now(datetime.UTC)


def own_files(folder: Path, begins: datetime.datetime, ends: datetime.datetime) -> ServerSettings:
    """Settings with a certificate and its key in files."""
    made = trustme.CA().issue_cert("localhost", not_before=begins, not_after=ends)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return ServerSettings(port=0, tls_cert=str(cert), tls_key=str(key))


def test_a_certificate_that_is_valid_now_is_used(tmp_path: Path) -> None:
    assert ssl_context(own_files(tmp_path, NOW - HOUR, NOW + HOUR)) is not None


@pytest.mark.parametrize(
    ("begins", "ends", "why"),
    [(-2 * HOUR, -HOUR, "expired at"), (HOUR, 2 * HOUR, "is valid only from")],
)
def test_a_certificate_of_another_time_is_refused(
    tmp_path: Path, begins: datetime.timedelta, ends: datetime.timedelta, why: str
) -> None:
    with pytest.raises(ValueError, match=rf"cert\.pem {why} \d{{4}}-"):
        ssl_context(own_files(tmp_path, NOW + begins, NOW + ends))


def test_a_key_that_does_not_fit_or_is_encrypted_is_refused(tmp_path: Path) -> None:
    settings = own_files(tmp_path, NOW - HOUR, NOW + HOUR)
    key = tmp_path / "key.pem"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(ValueError, match=r"key\.pem: the key is encrypted"):
        ssl_context(settings)
    key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(ValueError, match=r"key\.pem: the key belongs to another certificate"):
        ssl_context(settings)


async def printed(host: str, *, terminal: bool) -> tuple[str, str]:
    """The address of the ready line, and what a server prints to stderr from start to SIGTERM."""
    reader, writer = os.openpty() if terminal else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streaming", "--port", "0", "--host", host, "--tls-self-signed"),
        *("--token", "open sesame"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=writer,
    )
    os.close(writer)
    reading = asyncio.create_task(asyncio.to_thread(everything, reader))
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGTERM)
        rest = await process.stdout.read()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        text = await reading
    ready = re.fullmatch(r"livegloss ready at (\S+) \(model .+, \d+ glosses, cpu\)\n", line)
    assert ready and not rest, "stdout has the ready line and nothing else"
    return ready[1], text


def everything(descriptor: int) -> str:
    """All that is written until the other end closes; a terminal then fails with EIO."""
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        parts = []
        try:
            while part := stream.read(4096):
                parts.append(part)
        except OSError:
            pass
    return b"".join(parts).decode()


async def test_a_terminal_shows_the_address_for_a_phone() -> None:
    addresses = own_addresses(4)
    if not addresses:
        pytest.skip("this machine has no address but its own")
    url, text = await printed("0.0.0.0", terminal=True)
    expected = f"https://{addresses[0]}:{urlsplit(url).port}/#token=open%20sesame"
    assert read_code(text) == expected
    assert f"{expected}\r\n" in text
    assert "certificate" in text


@pytest.mark.parametrize(("host", "terminal"), [("0.0.0.0", False), ("127.0.0.1", True)])
async def test_logs_and_loopback_servers_show_no_address(host: str, terminal: bool) -> None:
    _, text = await printed(host, terminal=terminal)
    assert "phone" not in text
    assert "▀" not in text
    assert "token" not in text

"""The command: ready line, drain on SIGTERM, errors in one line, nothing left running."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from streaming.__main__ import main
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.conftest import ROOT
from tests.streaming.caller import calling


@asynccontextmanager
async def running(*flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streaming",
        *flags,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process, device: str = "cpu") -> str:
    """The address in the ready line."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    pattern = rf"livegloss ready at (\S+) \(model .+, \d+ glosses, {device}\)\n"
    found = re.fullmatch(pattern, line)
    assert found, line
    return found[1]


async def test_sigterm_warns_the_peer_and_ends_in_time() -> None:
    async with running("--port", "0", "--loopback-ice") as process:
        url = await ready(process)
        async with aiohttp.ClientSession() as http, calling(url, http) as caller:
            await caller.wait_for("prediction", within_s=30)
            process.send_signal(signal.SIGTERM)
            errors = await caller.wait_for("error")
            assert errors[0]["code"] == "stopping"
            async with asyncio.timeout(15):  # 5 s of grace, and the closing of everything
                assert await process.wait() == 0


async def test_sigterm_without_a_session_ends_at_once() -> None:
    async with running("--port", "0") as process:
        await ready(process)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_a_ray_cluster_of_this_machine_serves_the_builtin_model(
    http: aiohttp.ClientSession,
) -> None:
    async with running("--ray", "local", "--port", "0", "--loopback-ice") as process:
        url = await ready(process, "cpu, 1 on Ray")
        async with calling(url, http) as caller:
            await caller.wait_for("prediction", within_s=30)
            assert caller.location.startswith("/whip/") and "~" in caller.location
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            _, log = await process.communicate()
        assert (process.returncode, log) == (0, b"")


def test_without_ray_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streaming.cluster.run", None)
    assert main(["--ray", "local"]) == 2
    assert 'pip install -c constraints.txt -e ".[cluster]"' in capsys.readouterr().err


async def test_no_thread_or_task_is_left() -> None:
    settings = Settings(
        server=ServerSettings(port=0, grace_s=0.5), session=SessionSettings(loopback_ice=True)
    )
    async with serve(settings, StandIn()) as server, aiohttp.ClientSession() as http:
        async with calling(server.url, http) as caller:
            await caller.wait_for("prediction")
    names = {thread.name for thread in threading.enumerate()}
    assert not [name for name in names if name.startswith(("recognizer", "video-decoder"))]
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in tasks if name.startswith(("session", "batcher", "windows"))]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "/no/such/bundle"], "no such bundle"),
        (["--model", "/no/\x1b[2Jbundle"], "/no/\\x1b[2Jbundle: no such bundle"),
        (["--port", "0", "--tls-cert", "/no/cert.pem", "--tls-key", "/no/key.pem"], "/no/cert.pem"),
        (["--port", "0", "--ice-server", "http://x"], "no ICE server"),
        (["--port", "0", "--host", "192.0.2.1"], "--host 192.0.2.1 is no address of this machine"),
        (["--port", "0", "--host", ":::1"], "--host :::1 is no address of this machine"),
        (["--port", "0", "--host", "x" * 64], "x is no address of this machine"),
        (["--token-file", "/no/token"], "can't read the secret in /no/token"),
        (["--signs", "/no/signs"], "--signs keeps what people teach: it needs a --token"),
    ],
)
def test_a_server_that_can_not_start_says_why_in_one_line(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("livegloss can't start: ") and reason in last


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with running("--port", port) as process:
            async with asyncio.timeout(30):
                _, stderr = await process.communicate()
            assert process.returncode == 1
            assert f"can't listen on 127.0.0.1 port {port}" in stderr.decode()


async def test_a_token_from_a_file_is_asked_for_and_shown_to_nobody(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    async with running("--port", "0", "--token-file", str(tmp_path / "token")) as process:
        url = await ready(process)
        assert "sesame" not in " ".join(psutil.Process(process.pid).cmdline())
        for given, status in (("open sesame", 200), ("open", 401)):
            headers = {"Authorization": f"Bearer {given}"}
            async with http.get(f"{url}/api/ice", headers=headers) as response:
                assert response.status == status
        process.send_signal(signal.SIGTERM)
        _, log = await process.communicate()
        assert b"sesame" not in log


async def test_self_signed_tls_serves_the_page() -> None:
    settings = Settings(server=ServerSettings(port=0, tls_self_signed=True))
    async with serve(settings, StandIn()) as server, aiohttp.ClientSession() as http:
        assert server.url.startswith("https://127.0.0.1:")
        async with http.get(server.url, ssl=False) as response:
            assert response.status == 200
            assert "livegloss" in await response.text()

"""Runs the server, `offline.predict` and the demo where the only network is the loopback.

    unshare --map-root-user --net --mount python -m tests.loopback_only VIDEO

The namespace's DNS server is this program. The last line is one JSON object: `names` that anybody
asked it for, and `open`, the addresses of sockets that listen beyond the loopback.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from streaming.webrtc.ice import gather_loopback
from tests.streaming.caller import calling

DEMO = Path(__file__).resolve().parent.parent / "web" / "demo.py"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # netdevice(7)


def enter() -> None:
    """Bring the loopback up, and send every question for a name to 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
    settings = {"resolv.conf": "nameserver 127.0.0.1\n", "nsswitch.conf": "hosts: files dns\n"}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in settings.items():
            (Path(folder) / name).write_text(text)
            subprocess.run(["mount", "--bind", f"{folder}/{name}", f"/etc/{name}"], check=True)


class Names(asyncio.DatagramProtocol):
    """A DNS server that knows no name and keeps those that it is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, place = [], 12
        while length := data[place]:
            labels.append(data[place + 1 : place + 1 + length].decode("ascii", "replace"))
            place += 1 + length
        self.asked.add(".".join(labels))
        flags, counts = b"\x81\x83", struct.pack("!4H", 1, 0, 0, 0)  # a response: no such name
        self._transport.sendto(data[:2] + flags + counts + data[12 : place + 5], addr)


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=PIPE, stderr=sys.stderr
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def line_with(process: Process, text: str) -> str:
    """The first line that it prints with `text` in it."""
    assert process.stdout
    while text not in (line := (await process.stdout.readline()).decode()):
        assert line, f"it ended before it printed {text}"
    return line


async def visit(http: aiohttp.ClientSession) -> None:
    """Let the demo's script run once, as a browser does that opens the page."""
    url = "http://127.0.0.1:8501/_stcore/stream"
    async with http.ws_connect(url, protocols=["streamlit"]) as page:
        start = BackMsg()
        start.rerun_script.query_string = ""
        await page.send_bytes(start.SerializeToString())
        shown = b""
        async for message in page:
            shown += message.data
            if ForwardMsg.FromString(message.data).WhichOneof("type") == "script_finished":
                break
    assert b"Signs it knows" in shown, "the demo did not open its model"


def listening() -> set[str]:
    """Addresses beyond the loopback at which something in this namespace listens."""
    sockets = psutil.net_connections("tcp")
    hosts = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    return {host for host in hosts if not ipaddress.ip_address(host).is_loopback}


async def main(video: str) -> None:
    enter()
    gather_loopback()
    loop = asyncio.get_running_loop()
    _, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 53))
    async with (
        aiohttp.ClientSession() as http,
        running("streaming", "--loopback-ice") as server,
        running("streamlit", "run", str(DEMO)) as demo,
    ):
        await line_with(server, "ready at")
        async with calling("http://127.0.0.1:8080", http) as caller:
            await caller.wait_for("prediction", within_s=30)
        async with running("offline.predict", video) as predict:
            await line_with(predict, "top ")
        await line_with(demo, "URL:")
        await visit(http)
        beyond = listening()
    print(json.dumps({"names": sorted(names.asked), "open": sorted(beyond)}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

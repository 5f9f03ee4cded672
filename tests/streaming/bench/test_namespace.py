"""Networks of the kernel: what netem is told, and that nothing of one is left."""

from __future__ import annotations

import asyncio
import sys

import pytest

from streaming.bench.namespace import Namespace, NoNamespace, netem
from streaming.bench.settings import NetworkConditions


def test_netem_is_told_half_of_the_round_trip_for_each_end() -> None:
    network = NetworkConditions(loss=0.02, rtt_ms=50, jitter_ms=5, rate_kbit=800)
    words = "netem delay 25ms 5ms loss random 2% rate 800kbit"
    assert " ".join(netem(network)) == words
    assert netem(NetworkConditions(loss=0.005)) == ["netem", "loss", "random", "0.5%"]


@pytest.mark.parametrize("network", [NetworkConditions(), NetworkConditions(loss=0.02)])
async def test_a_namespace_reaches_its_host_and_is_gone_afterwards(
    network: NetworkConditions,
) -> None:
    """Where the kernel has no netem, or we may not, the reason is one line."""
    try:
        async with Namespace.made(network) as namespace:
            server = await asyncio.start_server(_greet, namespace.host, 0)
            port = server.sockets[0].getsockname()[1]
            peer = f"socket.create_connection(('{namespace.host}', {port}), 5)"
            code = f"import socket; print({peer}.recv(5))"
            process = await asyncio.create_subprocess_exec(
                *namespace.command, sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
            server.close()
            assert said == b"b'hello'\n"
            name = namespace.name
    except NoNamespace as error:
        assert str(error) and "\n" not in str(error)
        return
    listing = await asyncio.create_subprocess_exec(
        *("ip", "netns", "list"), stdout=asyncio.subprocess.PIPE
    )
    listed, _ = await listing.communicate()
    assert name not in listed.decode()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()

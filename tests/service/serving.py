"""`python -m tests.service.serving one|cluster FOLDER`: the service that the tests here talk to.

One server, or two on a Ray cluster of two nodes on this machine: the same settings, the same
recogniser. Prints its address when it is ready, and ends when its stdin does. Taught signs are kept
in FOLDER.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

from models.drawn_figure import pack_figure
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import LoadSettings, ServerSettings, SessionSettings, Settings
from tests.models.drawn_figures import waving

TOKEN = "s3cret"
FRIEND = "https://friend.example"  # an origin whose pages may call
ADDRESS_LIMIT = 4  # sessions of one address at one server
SETTINGS = Settings(
    server=ServerSettings(
        port=0,
        token=TOKEN,
        allow_origin=(FRIEND,),
        max_sessions_per_address=ADDRESS_LIMIT,
        grace_s=0.5,
    ),
    session=SessionSettings(loopback_ice=True, heartbeat_s=1.0, turn_secret="shared"),
    load=LoadSettings(decode_share=1000.0, loop_lag_s=1000.0),  # let everybody in
)
FIGURE = pack_figure(waving())


class Refusing(asyncio.DatagramProtocol):
    """A STUN and TURN server that refuses each request at once (400)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        error = bytes([0, 9, 0, 4, 0, 0, 4, 0])  # ERROR-CODE
        kind = bytes([data[0] | 1, data[1] | 16, 0, len(error)])
        self._transport.sendto(kind + data[4:20] + error, address)


def recogniser() -> StandIn:
    """The stand-in; its model has a drawn figure."""
    standin = StandIn()
    standin.bundle = replace(standin.bundle, glosses=("dark", "bright"), figures={"né": FIGURE})
    return standin


@contextlib.asynccontextmanager
async def running(kind: str, folder: str) -> AsyncIterator[str]:
    """The address of the service, as long as it runs."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Refusing, local_addr=("127.0.0.1", 0))
    place = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    urls = (f"stun:{place}", f"turn:{place}?transport=udp")
    settings = replace(
        SETTINGS,
        server=replace(SETTINGS.server, signs=folder),
        session=replace(SETTINGS.session, ice_servers=urls),
    )
    if kind == "one":
        async with serve(settings, recogniser()) as server:
            yield server.url
        return
    from tests.streaming.cluster.two_nodes import two_nodes

    async with two_nodes(settings, recogniser) as nodes:
        yield nodes.url


async def main(kind: str, folder: str) -> None:
    async with running(kind, folder) as url:
        with contextlib.suppress(BrokenPipeError):  # no test wants it any more
            print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

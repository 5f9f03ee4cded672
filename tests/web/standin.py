"""`python -m tests.web.standin`: a server that knows no sign, for tests that kill it."""

from __future__ import annotations

import asyncio
import signal
import sys

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import read_settings


async def main() -> None:
    settings = read_settings(sys.argv[1:])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(settings, StandIn()) as server:
        print(f"livegloss ready at {server.url} (stand-in)", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())

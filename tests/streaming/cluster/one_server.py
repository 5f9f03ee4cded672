"""One server without Ray, to compare: `python -m tests.streaming.cluster.one_server MODEL N`.

Prints its URL, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys

from streaming.app import serve
from streaming.bench.measure import loopback_settings
from streaming.bench.peers import parent_gone
from streaming.bench.standin import open_model


async def main(model: str, sessions: int) -> None:
    async with serve(loopback_settings(sessions), open_model(model)) as server:
        print(server.url, flush=True)
        await parent_gone()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

"""What a live session notices of attacks: latency in quiet, and beside 5,000 datagrams and offers.

    python -m tests.streaming.hostile [ROUNDS]

The recogniser is a stand-in of 20 ms. A process of its own sends the datagrams of
test_strangers.py to the session's port within 15 s and, as fast as they are answered, the offers of
test_generated_offers.py. Latency is the server's own: from a frame's arrival to its prediction.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import sys
from collections import Counter
from dataclasses import replace

import aiohttp
import numpy as np

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.streaming.caller import Caller, calling
from tests.streaming.test_strangers import SDP, SETTINGS, address_of, datagrams
from tests.streaming.webrtc.test_generated_offers import mutated

COUNT, SPAN_S = 5000, 15.0


async def attack(url: str, host: str, port: int, name: str) -> None:
    """Send everything; the statuses of the offers are printed."""
    chance = random.Random(15)
    strange = datagrams(chance, COUNT, name.encode())
    offers = [mutated(chance) for _ in range(COUNT)]
    statuses: Counter[int] = Counter()

    async def send_datagrams() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number, data in enumerate(strange):
                stranger.sendto(data, (host, port))
                if number % 25 == 0:
                    await asyncio.sleep(25 * SPAN_S / COUNT)

    async def send_offers() -> None:
        async with aiohttp.ClientSession() as http:
            for offer in offers:
                body = offer.encode("utf-8", "surrogateescape")
                async with http.post(f"{url}/whip", data=body, headers=SDP) as response:
                    statuses[response.status] += 1
                if response.status == 201:
                    await http.delete(url + response.headers["Location"])

    await asyncio.gather(send_datagrams(), send_offers())
    print(f"offers by status: {dict(statuses)}", flush=True)


async def measure(rounds: int) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, max_sessions=8))
    async with (
        serve(settings, StandIn(0.02)) as server,
        aiohttp.ClientSession() as http,
        calling(server.url, http) as caller,
    ):
        await caller.wait_for("prediction", 20)
        name = re.search("a=ice-ufrag:(.+?)\r\n", caller.connection.remoteDescription.sdp)
        assert name is not None
        host, port = address_of(caller)
        for _ in range(rounds):
            before = len(caller.of("prediction"))
            await asyncio.sleep(SPAN_S)
            quiet = p95(caller, before)
            before = len(caller.of("prediction"))
            where = (server.url, host, str(port), name[1])
            attacker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __spec__.name, *where
            )
            await attacker.wait()
            attacked = p95(caller, before)
            print(f"p95 {quiet:.1f} ms quiet, {attacked:.1f} ms attacked: {attacked / quiet:.2f}")


def p95(caller: Caller, first: int) -> float:
    """Milliseconds, of the predictions from number `first` on."""
    return float(
        np.percentile([m["latency_ms"]["total"] for m in caller.of("prediction")[first:]], 95)
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        url, host, port, name = sys.argv[1:]
        asyncio.run(attack(url, host, int(port), name))
    else:
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3))

"""Peers that come and go all the time: each calls, stays a little, and leaves in one of the ways
there are. Started by `streaming.bench.soak`; calls on until its parent hangs up, or kills it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass

import aiohttp

from streaming.bench.children import hung_up, say
from streaming.bench.peers import Peer, PeerTask
from streaming.webrtc.ice import gather_loopback

_STAY_S = (0.5, 6.0)
_AGAIN_S = (0.1, 1.0)
_WAYS = ("bye", "delete", "close", "vanish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What a process of callers is to do."""

    url: str
    recording: str
    at_once: int
    seed: int


async def work(calls: Calls) -> None:
    """Call until the parent hangs up, then let all end, and say how it went."""
    gather_loopback()
    errors: list[str] = []
    counts = dict.fromkeys(_WAYS, 0)
    async with aiohttp.ClientSession() as http:
        end = asyncio.create_task(hung_up(), name="hung up")
        places = [
            asyncio.create_task(_place(calls, number, http, end, counts, errors))
            for number in range(calls.at_once)
        ]
        say({"calling": calls.at_once})
        await asyncio.gather(*places)
    say({"left": counts, "errors": sorted(set(errors))})


async def _place(
    calls: Calls,
    number: int,
    http: aiohttp.ClientSession,
    end: asyncio.Task[None],
    counts: dict[str, int],
    errors: list[str],
) -> None:
    """One caller after the other."""
    chance = random.Random(1000 * calls.seed + number)
    task = PeerTask(url=calls.url, peers=1, duration_s=0, recording=calls.recording)
    while not end.done():
        peer = Peer(task, seed=0)
        try:
            await peer.call(http)
            if peer.heard.error is not None:
                errors.append(peer.heard.error)
            else:
                await asyncio.wait([end], timeout=chance.uniform(*_STAY_S))
                way = chance.choice(_WAYS)
                await _leave(peer, way, http)
                counts[way] += 1
        finally:
            peer.stop_camera()
            await peer.hang_up()
        await asyncio.wait([end], timeout=chance.uniform(*_AGAIN_S))


async def _leave(peer: Peer, way: str, http: aiohttp.ClientSession) -> None:
    match way:
        case "bye":
            peer.results.send(json.dumps({"type": "bye"}))
            await asyncio.sleep(0.1)  # it is on its way: what closes a connection drops it
        case "delete":
            async with http.delete(peer.location):
                pass
        case "vanish":
            peer.vanish()


if __name__ == "__main__":
    asyncio.run(work(Calls(**json.loads(sys.argv[1]))))

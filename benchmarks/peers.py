"""Synthetic cameras that speak the signalling of each server under test.

`python -m benchmarks.peers TASK NAME`: all send the same recording, and differ in how they call and
where they listen.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys

import aiohttp
from aiortc import RTCPeerConnection

from streaming.bench.peers import Peer, Refused, task_from, work

UNREAD = -1  # an answer whose bar code could not be read
_ids = itertools.count()


class ChannelPeer(Peer):
    """Of aiortc's example: an offer as JSON, answers on a data channel."""

    def _open(self, connection: RTCPeerConnection) -> None:
        connection.createDataChannel("chat").on("message", self._hear)

    async def _answer(self, http: aiohttp.ClientSession, offer: str) -> str:
        return await _post(http, f"{self._url}/offer", {"sdp": offer, "type": "offer"})

    def _hear(self, text: str | bytes) -> None:
        picture = json.loads(text)["picture"]
        self.told(UNREAD if picture is None else picture)


class EventsPeer(ChannelPeer):
    """Of FastRTC: an offer with an id as JSON, answers as server-sent events of that id."""

    takes_input = True
    _listening: asyncio.Task[None] | None = None

    def _open(self, connection: RTCPeerConnection) -> None:
        connection.createDataChannel("text")  # FastRTC needs one, and waits for it

    async def _answer(self, http: aiohttp.ClientSession, offer: str) -> str:
        id = f"{os.getpid()}-{next(_ids)}"
        given = {"sdp": offer, "type": "offer", "webrtc_id": id}
        sdp = await _post(http, f"{self._url}/webrtc/offer", given)
        if self.takes_input:
            await http.post(f"{self._url}/input_hook", json={"webrtc_id": id})
        self._listening = asyncio.create_task(self._listen(http, id), name="listen")
        return sdp

    async def _listen(self, http: aiohttp.ClientSession, id: str) -> None:
        query = {"webrtc_id": id}
        timeout = aiohttp.ClientTimeout(total=None)
        async with http.get(f"{self._url}/updates", params=query, timeout=timeout) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    self._hear(line.removeprefix(b"data: "))

    async def hang_up(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await super().hang_up()


class WorkerPeer(EventsPeer):
    """Of the page that stands in for Streamlit's."""

    takes_input = False


PEERS: dict[str, type[Peer]] = {
    "ours": Peer,
    "aiortc": ChannelPeer,
    "careful": ChannelPeer,
    "fastrtc": EventsPeer,
    "streamlit": WorkerPeer,
}


async def _post(http: aiohttp.ClientSession, url: str, given: dict[str, str]) -> str:
    """The SDP that comes back. Raises `Refused`."""
    async with http.post(url, json=given) as response:
        body = await response.text()
    answer = json.loads(body) if response.status == 200 else {}
    if "sdp" not in answer:  # FastRTC refuses with status 200
        raise Refused(f"HTTP {response.status}: {body[:200]}")
    sdp: str = answer["sdp"]
    return sdp


if __name__ == "__main__":
    asyncio.run(work(task_from(sys.argv), PEERS[sys.argv[2]]))

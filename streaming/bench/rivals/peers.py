"""Synthetic cameras that speak the signalling of each server under test.

`python -m streaming.bench.rivals.peers TASK`. All send the same recording; they differ in how they
call and where they receive results.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass

import aiohttp
import msgspec
from aiortc import RTCPeerConnection

from streaming.bench.peers import Peer, PeerTask, Refused, run_peers

UNREAD = -1  # the picture of a result whose number could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalPeerTask:
    """What a process of peers is started with."""

    server: str  # which signalling
    task: PeerTask


class _ChannelPeer(Peer):
    """Of aiortc's example: an offer as JSON, results on a data channel."""

    def _open_channels(self, connection: RTCPeerConnection) -> None:
        connection.createDataChannel("chat").on("message", self._receive)

    async def _signal(self, http: aiohttp.ClientSession, offer: str) -> str:
        return await _post(http, f"{self._url}/offer", {"sdp": offer, "type": "offer"})

    def _receive(self, text: str | bytes) -> None:
        picture = json.loads(text)["picture"]
        self.log_prediction(UNREAD if picture is None else picture)


class _EventsPeer(_ChannelPeer):
    """Of FastRTC and streamlit-webrtc: an offer with an id, server-sent events of that id."""

    _listening: asyncio.Task[None] | None = None

    def _open_channels(self, connection: RTCPeerConnection) -> None:
        connection.createDataChannel("text")  # FastRTC needs one, and waits for it

    async def _signal(self, http: aiohttp.ClientSession, offer: str) -> str:
        id = uuid.uuid4().hex
        body = {"sdp": offer, "type": "offer", "webrtc_id": id}
        sdp = await _post(http, f"{self._url}/webrtc/offer", body)
        self._listening = asyncio.create_task(self._listen(http, id), name="listen")
        return sdp

    async def _listen(self, http: aiohttp.ClientSession, id: str) -> None:
        query = {"webrtc_id": id}
        timeout = aiohttp.ClientTimeout(total=None)
        async with http.get(f"{self._url}/updates", params=query, timeout=timeout) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    self._receive(line.removeprefix(b"data: "))

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await super().close()


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, str]) -> str:
    """Send an offer as JSON; returns the SDP answer. Raises `Refused`."""
    async with http.post(url, json=body) as response:
        text = await response.text()
    answer = json.loads(text) if response.status == 200 else {}
    if "sdp" not in answer:  # FastRTC refuses with status 200
        raise Refused(f"HTTP {response.status}: {text[:200]}")
    sdp: str = answer["sdp"]
    return sdp


if __name__ == "__main__":
    call = msgspec.json.decode(sys.argv[1], type=RivalPeerTask)
    channel_peers = {"livegloss": Peer, "aiortc": _ChannelPeer, "aiortc-careful": _ChannelPeer}
    asyncio.run(run_peers(call.task, channel_peers.get(call.server, _EventsPeer)))

"""Senders that nobody here wrote: what they offer is answered, and their pictures come out.

`offers/` holds what Chromium 156 (an audio track, bundlePolicy max-bundle), Firefox 153, ffmpeg 8's
WHIP muxer, GStreamer 1.22's webrtcbin and libdatachannel (as OBS uses it) offered on 2026-11-29.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.codecs.h264 import H264Encoder
from aiortc.rtp import RtpPacket

from streaming.bench import barcode
from streaming.bench.camera import drawn_pictures
from streaming.webrtc.ice import gather_loopback
from streaming.webrtc.offer import OfferError, check_offer
from streaming.webrtc.peer import BoundedPeerConnection
from tests.streaming.webrtc.answers import check_answer
from tests.streaming.webrtc.test_peer import LOOPBACK, PATIENT, Inbox, connected

OFFERS = {path.stem: path.read_text() for path in (Path(__file__).parent / "offers").glob("*.sdp")}


def bounded(inbox: Any = None) -> BoundedPeerConnection:
    return BoundedPeerConnection(
        on_frame=inbox or (lambda frame: None),
        wants=lambda media_s: True,
        short_side=120,
        fps=30,
        limits=PATIENT,
    )


def changed(name: str, *changes: tuple[str, str]) -> str:
    text = OFFERS[name]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    "text",
    [
        *OFFERS.values(),
        changed("obs", ("opus/48000/2", "G7221/16000"), ("96 H264", "96 VP8")),
        changed("obs", ("SAVPF 111", "SAVPF 0"), ("a=rtpmap:111 opus/48000/2\n", "")),
        changed("gstreamer", ("a=mid:video0\n", ""), ("a=group:BUNDLE video0\n", "")),
        changed("gstreamer", ("a=group:BUNDLE video0\n", "")),
        changed("chromium", ("m=video 9", "m=video 0"), ("a=mid:1\n", "a=mid:1\na=bundle-only\n")),
        changed("ffmpeg", ("packetization-mode=1", "packetization-mode=0")),
    ],
)
async def test_the_sdp_answer_fits_what_was_offered(text: str) -> None:
    gather_loopback()
    server = bounded()
    try:
        check_answer(text, await server.answer(check_offer(text, rules=LOOPBACK)))
    finally:
        await server.close()


def test_there_are_offers() -> None:
    assert set(OFFERS) >= {"chromium", "ffmpeg", "firefox_simulcast", "gstreamer", "obs"}


class EncodedCamera(MediaStreamTrack):
    """Sends H.264 of a given profile; each frame shows its number, two a second are key frames."""

    kind = "video"

    def __init__(self, profile: str, **options: str) -> None:
        super().__init__()
        self.encoder: Any = av.CodecContext.create("libx264", "w")
        self.encoder.width, self.encoder.height, self.encoder.pix_fmt = 320, 240, "yuv420p"
        self.encoder.time_base, self.encoder.profile = Fraction(1, 30), profile
        self.encoder.options = {"tune": "zerolatency", "g": "15", **options}
        self.profile_idc = 0  # of what was sent
        self._numbered = zip(itertools.count(), drawn_pictures((320, 240)), strict=False)

    async def recv(self) -> Any:
        await asyncio.sleep(1 / 30)
        number, image = next(self._numbered)
        barcode.write(image, number % barcode.NUMBERS)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        [packet] = self.encoder.encode(frame)
        data = bytes(packet)
        if (start := data.find(b"\0\0\1\x67")) >= 0:  # a sequence parameter set
            self.profile_idc = data[start + 4]
        return packet


@pytest.mark.parametrize(
    ("profile", "profile_idc", "offered"),
    [
        ("High", 100, "packetization-mode=1;profile-level-id=64001f"),
        ("Main", 77, "packetization-mode=1;profile-level-id=4d001f"),
        ("Main", 77, "packetization-mode=0;profile-level-id=4d001f"),
        ("High", 100, ""),
    ],
)
async def test_h264_of_any_profile_comes_out(
    profile: str, profile_idc: int, offered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather_loopback()
    single = "packetization-mode=1" not in offered
    if single:  # one NAL unit a packet, each small enough for one
        monkeypatch.setattr(H264Encoder, "_packetize", lambda self, units: list(units))
    camera = EncodedCamera(profile, **({"slice-max-size": "1100"} if single else {}))
    sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    inbox = Inbox()
    server = bounded(inbox)
    codecs = RTCRtpReceiver.getCapabilities("video")
    assert codecs is not None
    own = next(c for c in codecs.codecs if c.mimeType == "video/H264")
    sender.addTransceiver(camera, "sendonly").setCodecPreferences([own])
    try:
        await sender.setLocalDescription(await sender.createOffer())
        sdp = sender.localDescription.sdp
        [fmtp] = [line for line in sdp.splitlines() if line.startswith("a=fmtp:")]
        head = fmtp.split(" ")[0]
        other = sdp.replace(f"{fmtp}\r\n", f"{head} {offered}\r\n" if offered else "")
        answer = await server.answer(check_offer(other, rules=LOOPBACK))
        check_answer(other, answer)
        [theirs] = [line for line in answer.splitlines() if line.startswith("a=fmtp:")]
        assert theirs.startswith(f"{head} {offered}")
        answer = answer.replace(theirs, fmtp)  # aiortc would not send what it can't encode
        await sender.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await inbox.until(lambda: len(inbox.frames) >= 20)
    finally:
        await sender.close()
        await server.close()
    assert camera.profile_idc == profile_idc
    numbers = [barcode.read(frame.image) for frame in inbox.frames]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + len(numbers)))
    assert server.counters.decoder_errors == 0


async def test_of_two_layers_of_simulcast_one_is_read() -> None:
    async with connected() as loopback:
        video = loopback.server._video
        assert video is not None
        handle = video._handle_rtp_packet

        async def handle_both(packet: RtpPacket, arrival_time_ms: int) -> None:
            layer = RtpPacket.parse(packet.serialize())
            layer.ssrc, layer.sequence_number = 7, packet.sequence_number ^ 0x4000
            await handle(packet, arrival_time_ms)
            await handle(layer, arrival_time_ms)

        video._handle_rtp_packet = handle_both  # type: ignore[method-assign]
        await loopback.until(lambda: len(loopback.frames) >= 20)
        numbers = loopback.numbers()
        assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + len(numbers)))
        assert loopback.server.counters.other_streams >= 20


async def test_another_stream_is_read_once_the_first_falls_silent() -> None:
    async with connected() as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 3)
        video = loopback.server._video
        assert video is not None
        video._ssrc, video._ssrc_s = 7, time.monotonic()  # as if another one had been first
        seen = len(loopback.frames)
        await loopback.until(lambda: len(loopback.frames) >= seen + 3)
        assert loopback.server.counters.other_streams > 0


@pytest.mark.parametrize(
    "error", [AssertionError(), KeyError("x"), TypeError("x"), struct.error("x"), RecursionError()]
)
async def test_whatever_aiortc_raises_refuses_this_offer_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: RTCPeerConnection, description: RTCSessionDescription) -> None:
        raise error

    monkeypatch.setattr(RTCPeerConnection, "setRemoteDescription", fail)
    server = bounded()
    try:
        with pytest.raises(OfferError, match="can't be answered") as refused:
            await server.answer(check_offer(OFFERS["chromium"], rules=LOOPBACK))
    finally:
        await server.close()
    assert refused.value.status == 400
    [record] = caplog.records
    assert repr(error) in record.getMessage() and record.exc_info is None

"""The bounded receive path between two real peers on 127.0.0.1, with packets lost on purpose."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiortc import (
    RTCCertificate,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.rtp import RtpPacket, is_rtcp

from models.schema import Frame
from streaming.bench import barcode
from streaming.bench.camera import SyntheticCamera, clip_pictures
from streaming.webrtc import peer
from streaming.webrtc.datagrams import SocketSettings
from streaming.webrtc.ice import CandidateRules, gather_loopback
from streaming.webrtc.jitter_buffer import JitterSettings
from streaming.webrtc.offer import OfferError, check_offer, parse_trickle
from streaming.webrtc.peer import BoundedPeerConnection, check_aiortc
from streaming.webrtc.rtp_receiver import ReceiveLimits
from streaming.webrtc.video_decoder import VideoDecoderSettings

LOOPBACK = CandidateRules(loopback=True)
PATIENT = ReceiveLimits(  # so that a busy machine changes nothing
    max_datagram_age_s=60,
    jitter=JitterSettings(wait_s=5, max_wait_s=5),
    decoder=VideoDecoderSettings(max_queued=300, max_age_s=60),
)


class Inbox:
    """Collects the frames of `on_frame`; a test waits for them on the loop."""

    def __init__(self, then: Callable[[Frame], None] = lambda frame: None) -> None:
        self.frames: list[Frame] = []
        self._then = then
        self._came = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._loop.call_soon_threadsafe(self._came.set)
        self._then(frame)

    async def until(self, done: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait until `done`, which is called again with every frame."""
        async with asyncio.timeout(timeout_s):
            while not done():
                self._came.clear()
                await self._came.wait()


@dataclass
class Loopback:
    """A camera's peer, the server's peer, and the frames that came through."""

    camera: SyntheticCamera
    sender: RTCPeerConnection
    server: BoundedPeerConnection
    inbox: Inbox

    @property
    def frames(self) -> list[Frame]:
        return self.inbox.frames

    async def until(self, done: Callable[[], bool]) -> None:
        await self.inbox.until(done)

    def numbers(self) -> list[int | None]:
        return [barcode.read(frame.image) for frame in self.frames]


def lose(peer: RTCPeerConnection, drop: Callable[[RtpPacket], bool]) -> None:
    """Lose the packets of a peer's video for which `drop` is true, retransmissions included.

    Those have an SSRC and a payload type of their own.
    """
    transport: Any = peer.getSenders()[0].transport
    send = transport._send_rtp

    async def send_some(data: bytes) -> None:
        if is_rtcp(data) or not drop(RtpPacket.parse(data)):
            await send(data)

    transport._send_rtp = send_some


@asynccontextmanager
async def connected(
    *,
    codec: str = "VP8",
    camera: SyntheticCamera | None = None,
    wants: Callable[[float], bool] = lambda media_s: True,
    on_frame: Callable[[Frame], None] = lambda frame: None,
    drop: Callable[[RtpPacket], bool] | None = None,
    limits: ReceiveLimits = PATIENT,
    sockets: SocketSettings | None = None,
    rules: CandidateRules = LOOPBACK,
    certificate: RTCCertificate | None = None,
    answered: Callable[[BoundedPeerConnection, str], Awaitable[None]] | None = None,
) -> AsyncIterator[Loopback]:
    """Two peers. `answered` is awaited with the SDP answer before the sender gets it.

    `rules` are those for the offer's candidates, `certificate` is the sender's.
    """
    gather_loopback()
    camera = camera or SyntheticCamera(size=(320, 240))
    sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    if certificate is not None:
        setattr(sender, "_RTCPeerConnection__certificates", [certificate])  # noqa: B010
    inbox = Inbox(on_frame)
    server = BoundedPeerConnection(
        on_frame=inbox, wants=wants, short_side=120, fps=30, limits=limits, sockets=sockets
    )
    loopback = Loopback(camera, sender, server, inbox)
    transceiver = sender.addTransceiver(camera, "sendonly")
    capable = RTCRtpReceiver.getCapabilities("video")
    assert capable is not None
    names = (f"video/{codec}", "video/rtx")
    transceiver.setCodecPreferences([c for c in capable.codecs if c.mimeType in names])
    if drop is not None:
        lose(sender, drop)
    try:
        await sender.setLocalDescription(await sender.createOffer())
        offer = check_offer(sender.localDescription.sdp, rules=rules)
        answer = await server.answer(offer)
        if answered is not None:
            await answered(server, answer)
        await sender.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        yield loopback
    finally:
        await sender.close()
        await server.close()


class Lose:
    """Loses the first packet of the video's frame number `frame`, and all its retransmissions."""

    def __init__(self, frame: int, *, repaired: bool = False) -> None:
        self._frame = frame
        self._repaired = repaired
        self._seen: set[int] = set()
        self._ssrc: int | None = None
        self.sequence: int | None = None
        self.lost_s = 0.0

    def __call__(self, packet: RtpPacket) -> bool:
        if self._ssrc is None:
            self._ssrc = packet.ssrc
        if packet.ssrc != self._ssrc:
            again = int.from_bytes(packet.payload[:2]) == self.sequence
            return again and not self._repaired
        self._seen.add(packet.timestamp)
        if self.sequence is None and len(self._seen) > self._frame:
            self.sequence = packet.sequence_number
            self.lost_s = time.monotonic()
            return True
        return False


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_frames_arrive_with_their_pixels_and_growing_media_time(codec: str) -> None:
    async with connected(codec=codec) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 20)
        frames, numbers = loopback.frames[:20], loopback.numbers()[:20]
    assert None not in numbers
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]
    for frame, number in zip(frames, numbers, strict=True):
        assert frame.image.shape == (120, 160, 3) and frame.image.dtype == np.uint8
        assert number is not None
        assert frame.media_s == pytest.approx((number - (numbers[0] or 0)) / 30, abs=1e-3)
        assert loopback.camera.made_s[number] <= frame.arrival_s <= frame.decoded_s
    assert frames[0].media_s == 0.0
    moving = frames[5].image[-40:].astype(int) - frames[0].image[-40:].astype(int)
    assert abs(moving).max() > 40  # the square below the bar code moved


async def test_a_frame_does_not_wait_for_the_next_one() -> None:
    camera = SyntheticCamera(size=(320, 240), fps=4)
    async with connected(camera=camera) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 5)
        delays = [
            frame.arrival_s - camera.made_s[number]
            for frame, number in zip(loopback.frames, loopback.numbers(), strict=True)
            if number is not None
        ]
    assert sorted(delays)[len(delays) // 2] < 0.2  # waiting for the next would take 0.25 s


async def test_a_repaired_packet_costs_no_frame() -> None:
    lose = Lose(10, repaired=True)
    async with connected(drop=lose) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 20)
        counters = loopback.server.counters
        assert counters.gaps_repaired >= 1 and counters.nacks >= 1
        assert counters.gaps == 0 and counters.key_frames_asked == 0
        numbers = loopback.numbers()[:20]
    assert numbers == list(range(20))


async def test_after_a_packet_lost_for_good_frames_flow_again_within_500_ms() -> None:
    lose = Lose(20)
    async with connected(drop=lose, limits=ReceiveLimits()) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 40)
        counters = loopback.server.counters
        frames = loopback.frames[:]
    assert counters.gaps == 1
    assert counters.key_frames_asked >= 1
    assert counters.dropped.get("no_key", 0) >= 1
    arrivals = [frame.arrival_s for frame in frames if frame.arrival_s > lose.lost_s]
    media = [later.media_s - sooner.media_s for sooner, later in pairwise(frames)]
    first = min(frame.decoded_s for frame in frames if frame.media_s > frames[19].media_s + 0.01)
    assert first - lose.lost_s < 0.5
    assert max(media) < 0.5
    assert arrivals == sorted(arrivals)  # and no burst of stale frames before newer ones
    assert None not in [barcode.read(frame.image) for frame in frames]  # no broken picture


async def test_only_wanted_frames_are_converted() -> None:
    asked: list[float] = []

    def wants(media_s: float) -> bool:
        asked.append(media_s)
        return len(asked) % 3 == 1

    async with connected(wants=wants) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 6)
        counters = loopback.server.counters
        assert counters.frames_decoded > 2 * counters.frames_converted
    assert asked == sorted(asked)


async def test_a_slow_receiver_gets_new_frames_and_the_queue_keeps_its_bound() -> None:
    ages: list[float] = []
    limits = ReceiveLimits(decoder=VideoDecoderSettings(max_queued=8, max_age_s=0.25))

    def slow(frame: Frame) -> None:
        ages.append(time.monotonic() - frame.arrival_s)
        time.sleep(0.12)  # 30 frames a second come in, 8 can be taken

    async with connected(on_frame=slow, limits=limits) as loopback:
        end_s = time.monotonic() + 4

        def done() -> bool:
            level, bound = loopback.server.buffers()["decoder_frames"]
            assert level <= bound == 8
            return time.monotonic() > end_s

        await loopback.until(done)
        counters = loopback.server.counters
    assert len(ages) > 10
    assert max(ages) < 0.25 + 0.1  # an older frame is not converted
    assert max(ages[len(ages) // 2 :]) < max(ages) + 0.05  # and does not grow
    assert counters.dropped.get("stale", 0) + counters.dropped.get("behind", 0) > 0


async def test_the_picture_may_change_its_size() -> None:
    class Turning(SyntheticCamera):
        async def recv(self) -> Any:
            if len(self.made_s) == 12:
                self._pictures = clip_pictures(None, (240, 320))
            return await super().recv()

    async with connected(camera=Turning(size=(320, 240))) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 20)
        shapes = [frame.image.shape[:2] for frame in loopback.frames]
    assert set(shapes) == {(120, 160), (160, 120)}


async def test_a_broken_frame_is_counted_and_a_key_frame_brings_the_picture_back() -> None:
    async with connected() as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 5)
        jitter = loopback.server._video.jitter  # type: ignore[union-attr]
        add = jitter.add

        def spoil(packet: Any, now_s: float) -> Any:
            jitter.add = add  # type: ignore[method-assign]
            frames = add(packet, now_s)
            return [
                type(f)(
                    data=b"\x00\x00\x00\x9d\x01\x2a" + b"\xff" * 40,
                    codec="VP8",
                    rtp=f.rtp,
                    key=True,
                    arrival_s=f.arrival_s,
                )
                for f in frames
            ]

        jitter.add = spoil  # type: ignore[method-assign]
        await loopback.until(lambda: loopback.server.counters.decoder_errors > 0)
        seen = len(loopback.frames)
        await loopback.until(lambda: len(loopback.frames) >= seen + 10)
        assert loopback.server.counters.key_frames_asked >= 1


async def test_an_exception_in_on_frame_does_not_end_the_session() -> None:
    def fail(frame: Frame) -> None:
        if frame.media_s < 0.2:
            raise RuntimeError("on_frame")

    async with connected(on_frame=fail) as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 15)
        assert loopback.server.counters.decoder_errors >= 1
        assert loopback.server.connectionState == "connected"


def _decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "video-decoder"]


async def test_close_leaves_no_thread_and_no_task_and_may_be_repeated() -> None:
    async with connected() as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 3)
        assert len(_decoders()) == 1
        await loopback.server.close()
        await loopback.server.close()
        assert _decoders() == []
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "video-repair" not in names


async def test_close_does_not_block_the_loop_while_on_frame_does() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stuck(frame: Frame) -> None:
        entered.set()
        leave.wait(10)

    async with connected(on_frame=stuck) as loopback:
        assert await asyncio.to_thread(entered.wait, 10)
        closing = asyncio.create_task(loopback.server.close())
        longest = before = 0.0
        before = time.monotonic()
        for _ in range(20):
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        leave.set()
        await closing
        assert longest < 0.5
        assert _decoders() == []


async def test_packets_of_many_streams_are_refused_and_forgotten() -> None:
    async with connected() as loopback:
        await loopback.until(lambda: len(loopback.frames) >= 3)
        video = loopback.server._video
        assert video is not None
        table = video.transport._rtp_router.ssrc_table
        for ssrc in range(1, 200):
            table[ssrc] = video
            await video._handle_rtp_packet(RtpPacket(payload_type=97, ssrc=ssrc), 0)
        assert len(table) < 20
        assert loopback.server.counters.packet_faults > 150
        seen = len(loopback.frames)
        await loopback.until(lambda: len(loopback.frames) >= seen + 3)


async def test_a_second_track_or_audio_is_answered_inactive() -> None:
    gather_loopback()
    sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender.addTransceiver("audio", "sendonly")
    sender.addTransceiver(SyntheticCamera(size=(320, 240)), "sendonly")
    sender.createDataChannel("results")
    inbox = Inbox()
    server = BoundedPeerConnection(on_frame=inbox, wants=lambda t: True, short_side=120, fps=30)
    try:
        await sender.setLocalDescription(await sender.createOffer())
        offer = check_offer(sender.localDescription.sdp, rules=LOOPBACK)
        assert "m=audio" in offer.sdp and "m=application" in offer.sdp
        answer = await server.answer(offer)
        audio = answer[answer.index("m=audio") : answer.index("m=video")]
        assert "a=inactive" in audio
        await sender.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await inbox.until(lambda: len(inbox.frames) >= 3)
    finally:
        await sender.close()
        await server.close()


async def test_the_answer_names_the_certificate_by_one_fingerprint() -> None:
    async def check(server: BoundedPeerConnection, answer: str) -> None:
        assert re.findall(r"^a=fingerprint:(\S+)", answer, re.MULTILINE) == ["sha-256"]

    async with connected(answered=check) as loopback:
        await loopback.inbox.until(lambda: len(loopback.inbox.frames) >= 1)


async def test_candidates_may_come_after_the_offer() -> None:
    gather_loopback()
    sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender.addTransceiver(SyntheticCamera(size=(320, 240)), "sendonly")
    inbox = Inbox()
    server = BoundedPeerConnection(on_frame=inbox, wants=lambda t: True, short_side=120, fps=30)
    try:
        await sender.setLocalDescription(await sender.createOffer())
        lines = sender.localDescription.sdp.splitlines()
        candidates = [line for line in lines if line.startswith("a=candidate")]
        bare = [x for x in lines if "candidate" not in x]
        offer = check_offer("\r\n".join(bare), rules=LOOPBACK)
        answer = await server.answer(offer)
        [mid] = [line for line in bare if line.startswith("a=mid:")]
        body = "\r\n".join([mid, *candidates, "a=end-of-candidates"])
        await server.add_fragment(parse_trickle(body, rules=LOOPBACK))
        with pytest.raises(OfferError, match="No media section"):
            await server.add_fragment(
                parse_trickle("a=mid:other\r\n" + candidates[0], rules=LOOPBACK)
            )
        await sender.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await inbox.until(lambda: len(inbox.frames) >= 3)
    finally:
        await sender.close()
        await server.close()


def test_this_aiortc_has_the_private_names_in_use() -> None:
    check_aiortc()


def test_another_aiortc_is_refused_with_the_missing_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "version", lambda name: "1.17.0")
    monkeypatch.delattr(RTCRtpReceiver, "_send_rtcp_pli")
    with pytest.raises(RuntimeError, match=r"1\.17\.0.*_send_rtcp_pli.*constraints\.txt"):
        check_aiortc()


async def test_every_buffer_has_its_bound() -> None:
    limits = ReceiveLimits(
        max_datagrams=10,
        jitter=JitterSettings(max_packets=20, max_bytes=3000),
        decoder=VideoDecoderSettings(max_queued=4),
    )
    server = BoundedPeerConnection(
        on_frame=lambda frame: None, wants=lambda t: True, short_side=120, fps=30, limits=limits
    )
    assert server.buffers() == {
        "socket_datagrams": (0, 10),
        "jitter_packets": (0, 20),
        "jitter_bytes": (0, 3000),
        "decoder_frames": (0, 4),
    }
    await server.close()

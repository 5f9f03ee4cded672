"""A peer connection with a bounded receive path: a checked SDP offer in, RGB frames out.

    socket -> [DatagramGate, DatagramQueue] -> aiortc: DTLS, SRTP, RTX -> [JitterBuffer]
        -> [VideoDecoder] -> Frame

aiortc's own receive path (version 1.16) has three queues without a bound, holds each frame until
the next one, and waits for lost packets without a time limit. This package keeps aiortc's
transports, bandwidth estimation, reports and retransmission, and replaces the rest. It relies on
private names of aiortc and aioice; `check_aiortc` fails when an upgrade changes them.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Literal

import aioice.ice
import aioice.stun
from aiortc import (
    RTCCertificate,
    RTCConfiguration,
    RTCDtlsFingerprint,
    RTCIceGatherer,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpTransceiver,
    RTCSctpTransport,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcdtlstransport import (
    RTCDtlsParameters,
    RTCDtlsTransport,
    RtpRouter,
    SRTPProtectionProfile,
    State,
)
from aiortc.sdp import candidate_from_sdp
from OpenSSL import SSL

from models.schema import Frame, Resize
from streaming.webrtc.answer import finish_answer
from streaming.webrtc.data_channel import guard
from streaming.webrtc.datagrams import (
    DatagramGate,
    DatagramQueue,
    SocketSettings,
    guard_sockets,
)
from streaming.webrtc.jitter_buffer import ReceiveCounters
from streaming.webrtc.offer import Fragment, Offer, OfferError
from streaming.webrtc.rtp_receiver import ReceiveLimits, RtpReceiver

_CANDIDATES = 64  # of a session, those of its offer and those trickled later together
_FAULTS = 1000  # datagrams of a session that aiortc can't handle
_CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (key, cipher)
    for key in (b"ECDSA", b"RSA")
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
)

_log = logging.getLogger(__name__)


class BoundedPeerConnection(RTCPeerConnection):
    """A peer connection that answers one offer and receives its video within bounds.

    Args:
        on_frame: called with every converted frame, on the session's decoder thread.
        wants: called on that thread with the media time (seconds) of every decoded frame, in
            order: whether to convert it.
        short_side, resize: px; frames are scaled down to it by this rule, see `models.picture`.
        fps: frames a second that windows use; senders are asked for no more.
        ice_servers: STUN and TURN servers to contact.
        sockets: the UDP ports, and the addresses in the SDP answer.
    """

    def __init__(
        self,
        *,
        on_frame: Callable[[Frame], None],
        wants: Callable[[float], bool],
        short_side: int,
        fps: float,
        resize: Resize = "fast",
        ice_servers: Sequence[RTCIceServer] = (),
        sockets: SocketSettings | None = None,
        limits: ReceiveLimits | None = None,
    ) -> None:
        super().__init__(RTCConfiguration(iceServers=list(ice_servers)))
        setattr(self, _mangled("certificates"), [Certificate.generateCertificate()])
        self.counters = ReceiveCounters()
        self._limits = limits or ReceiveLimits()
        self._sockets = sockets or SocketSettings()
        self._gate = DatagramGate(
            self.counters, datagrams_per_s=self._limits.datagrams_per_s, now_s=time.monotonic()
        )
        self._candidates = 0  # of the peer
        self._short_side = short_side
        self._fps = fps
        self._make_receiver = functools.partial(
            RtpReceiver,
            on_frame=on_frame,
            wants=wants,
            short_side=short_side,
            resize=resize,
            limits=self._limits,
            counters=self.counters,
        )
        self._video: RtpReceiver | None = None
        self._queues: list[DatagramQueue] = []
        self._transports: set[RTCDtlsTransport] = set()

    @property
    def stage(self) -> Literal["ice", "dtls", "media"]:
        """What has to succeed next: a path (ICE), encryption over it (DTLS), or only media."""
        states = {transport.state for transport in self._transports}
        if not states or "new" in states:
            return "ice"
        return "dtls" if states & {"connecting", "failed"} else "media"

    @property
    def reached(self) -> bool:
        """Whether an ICE check of the peer, or its response to one of ours, has come."""
        return self._gate.validated

    @property
    def flooding(self) -> bool:
        """Whether the peer sends far more than video, for seconds."""
        return self._gate.flooding

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer of the receive path is, and its bound, by name."""
        video, limits = self._video, self._limits
        return {
            "socket_datagrams": (sum(q.qsize() for q in self._queues), limits.max_datagrams),
            "jitter_packets": (video.jitter.packets if video else 0, limits.jitter.max_packets),
            "jitter_bytes": (video.jitter.bytes if video else 0, limits.jitter.max_bytes),
            "decoder_frames": (video.decoder.queued if video else 0, limits.decoder.max_queued),
        }

    async def answer(self, offer: Offer) -> str:
        """Accept a checked offer and gather candidates. Returns the SDP answer.

        Raises:
            OfferError: aiortc can't accept it, or every port is taken.
            InvalidStateError: this connection was closed.
            OSError: no socket can be opened.
        """
        self._candidates = offer.sdp.count("\na=candidate:")
        try:
            await self.setRemoteDescription(RTCSessionDescription(sdp=offer.sdp, type="offer"))
            self._bound_transports()
            await self.setLocalDescription(await self.createAnswer())
        except (InvalidStateError, OfferError, OSError):
            raise
        except Exception as error:  # whatever it is, this offer ends and the server goes on
            _log.warning("aiortc can't answer a checked offer: %r", error)
            raise OfferError(400, "The offer can't be answered. Make a new one.") from error
        sdp = self.localDescription.sdp
        return finish_answer(sdp, offer, short_side=self._short_side, fps=self._fps)

    async def add_fragment(self, fragment: Fragment) -> None:
        """Add candidates that the peer sent after its offer.

        Raises:
            OfferError: a candidate names no media section of the offer, comes after the end, or is
                one too many.
        """
        mids = {transceiver.mid for transceiver in self.getTransceivers()}
        if self.sctp is not None:
            mids.add(self.sctp.mid)
        for trickled in fragment.candidates:
            if trickled.mid is not None and trickled.mid not in mids:
                raise OfferError(400, f"No media section is called '{trickled.mid}'.")
        ices = [transport.transport for transport in self._transports]
        if fragment.candidates and any(ice.iceGatherer._remote_candidates_end for ice in ices):
            raise OfferError(400, "You have sent the end of candidates: none may follow.")
        if self._candidates + len(fragment.candidates) > _CANDIDATES:
            raise OfferError(429, f"A session has {_CANDIDATES} candidates at most.")
        self._candidates += len(fragment.candidates)
        for trickled in fragment.candidates:
            candidate = candidate_from_sdp(trickled.line.removeprefix("candidate:"))
            candidate.sdpMid = trickled.mid
            candidate.sdpMLineIndex = 0 if trickled.mid is None else None
            await self.addIceCandidate(candidate)
        # Without one candidate aioice would give up, though the peer's own checks may find us.
        if fragment.end and all(ice.getRemoteCandidates() for ice in ices):
            await self.addIceCandidate(None)

    def _bound_transports(self) -> None:
        """Guard the transports and put bounded queues behind the sockets, before any opens."""
        transports = {transceiver.receiver.transport for transceiver in self.getTransceivers()}
        if self.sctp is not None:
            transports.add(self.sctp.transport)
            guard(self.sctp, self.counters, bytes_per_s=self._limits.channel_bytes_per_s)
        for transport in transports:
            _guard_dtls(transport, self.counters)
            queue = DatagramQueue(
                self._limits.max_datagrams, self._limits.max_datagram_age_s, self.counters
            )
            connection = transport.transport._connection
            guard_sockets(connection, self._gate, self._sockets)
            connection._queue = queue
            self._queues.append(queue)
        self._transports = transports

    def _RTCPeerConnection__createTransceiver(
        self, direction: str, kind: str, sender_track: Any = None
    ) -> RTCRtpTransceiver:
        """aiortc's, with our receiver in the transceiver. Audio is not received at all."""
        create = RTCPeerConnection._RTCPeerConnection__createTransceiver  # type: ignore[attr-defined]
        transceiver: RTCRtpTransceiver = create(self, direction, kind, sender_track)
        if kind != "video":
            transceiver.direction = "inactive"
            return transceiver
        self._video = self._make_receiver(transceiver.receiver.transport)
        self._video._set_rtcp_ssrc(transceiver.sender._ssrc)
        setattr(transceiver, "_RTCRtpTransceiver__receiver", self._video)  # noqa: B010
        return transceiver


class Certificate(RTCCertificate):
    """A certificate of the server's, named once; its owner accepts RSA certificates of peers too.

    aiortc offers and accepts cipher suites with ECDSA alone; GStreamer's certificates are RSA. To
    let such peers take the DTLS client's part (`a=setup:passive` in the SDP answer) would do as
    well, but not for those that offer `a=setup:passive` themselves.
    """

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(_CIPHERS)
        return context

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:
        """SHA-256 alone, as browsers have it.

        aiortc adds SHA-384 and SHA-512; libdatachannel (OBS) keeps the last. When our ICE checks
        come before the SDP answer, its handshake begins before it has read the whole of that: then
        it takes the last one for a SHA-256 and gives up ("unknown CA").
        """
        return [one for one in super().getFingerprints() if one.algorithm == "sha-256"]


def _guard_dtls(transport: RTCDtlsTransport, counters: ReceiveCounters) -> None:
    """Keep what aiortc raises about a datagram from ending the transport, `_FAULTS` times, and let
    what it raises about a handshake (such as an unreadable certificate) be a failed handshake."""
    receive_next, start = transport._recv_next, transport.start
    faults = 0

    async def guarded_receive_next() -> None:
        nonlocal faults
        try:
            await receive_next()
        except ConnectionError:
            raise
        except Exception as error:
            counters.datagram_faults += 1
            faults += 1
            if faults > _FAULTS:
                raise ConnectionError("too many malformed datagrams") from error

    async def guarded_start(remoteParameters: RTCDtlsParameters) -> None:
        try:
            await start(remoteParameters)
        except Exception:
            counters.datagram_faults += 1
            transport._set_state(State.FAILED)

    transport._recv_next = guarded_receive_next  # type: ignore[method-assign]
    transport.start = guarded_start  # type: ignore[method-assign]


def _mangled(name: str) -> str:
    """The name under which Python keeps a private attribute of RTCPeerConnection."""
    return f"_RTCPeerConnection__{name}"


# Names that this package relies on: RTCRtpReceiver's attributes, and methods with parameters.
_PRIVATE = (
    *("jitter_buffer", "nack_generator", "remote_bitrate_estimator"),
    *("started", "codecs", "rtx_ssrc", "rtcp_task"),
)
_METHODS: tuple[tuple[Any, str, list[str] | None], ...] = (
    (RTCRtpReceiver, "_handle_rtp_packet", ["self", "packet", "arrival_time_ms"]),
    (
        RemoteBitrateEstimator,
        "add",
        ["self", "arrival_time_ms", "abs_send_time", "payload_size", "ssrc"],
    ),
    (RTCRtpReceiver, "_send_rtcp_nack", ["self", "media_ssrc", "lost"]),
    (RTCRtpReceiver, "_send_rtcp_pli", ["self", "media_ssrc"]),
    (RTCRtpReceiver, "_run_rtcp", ["self"]),
    (RTCRtpReceiver, "_set_rtcp_ssrc", ["self", "ssrc"]),
    (RTCRtpTransceiver, "receiver", None),
    (RTCDtlsTransport, "_register_rtp_receiver", ["self", "receiver", "parameters"]),
    (RTCDtlsTransport, "_recv_next", ["self"]),
    (RTCDtlsTransport, "start", ["self", "remoteParameters"]),
    (RTCDtlsTransport, "_set_state", ["self", "state"]),
    (RTCCertificate, "_create_ssl_context", ["self", "srtp_profiles"]),
    (RtpRouter, "route_rtp", ["self", "packet"]),
    (
        RTCPeerConnection,
        "_RTCPeerConnection__createTransceiver",
        ["self", "direction", "kind", "sender_track"],
    ),
    (RTCSctpTransport, "_handle_data", ["self", "data"]),
    (RTCSctpTransport, "_receive", ["self", "stream_id", "pp_id", "data"]),
    (aioice.ice, "get_host_addresses", ["use_ipv4", "use_ipv6"]),
    (aioice.ice, "server_reflexive_candidate", ["protocol", "stun_server"]),
    (
        aioice.ice,
        "relayed_candidate",
        [
            *("component", "hide_related_address", "protocol_factory", "turn_server"),
            *("turn_username", "turn_password", "turn_ssl", "turn_transport"),
        ],
    ),
    (
        aioice.ice.Connection,
        "get_component_candidates",
        ["self", "component", "addresses", "timeout"],
    ),
    (aioice.ice.Connection, "request_received", ["self", "message", "addr", "protocol"]),
    (aioice.ice.Connection, "data_received", ["self", "data", "component"]),
    (aioice.ice.StunProtocol, "datagram_received", ["self", "data", "addr"]),
    (aioice.ice.StunProtocol, "send_stun", ["self", "message", "addr"]),
    (
        aioice.ice.StunProtocol,
        "request",
        ["self", "request", "addr", "integrity_key", "retransmissions"],
    ),
    (aioice.stun.Transaction, "response_received", ["self", "message", "addr"]),
)
# What stands in their code.
_SOURCE: tuple[tuple[Any, str], ...] = (
    (RTCRtpReceiver, "pli_flag, encoded_frame = self.__jitter_buffer.add(packet)"),
    (RTCPeerConnection, "self.__certificates = ["),
    (RTCIceGatherer, "self._remote_candidates_end = "),
    (RTCSctpTransport, "self._inbound_streams: "),
    (RTCSctpTransport, "self._data_channels: "),
    (RTCSctpTransport, "self._sack_misordered: "),
    (aioice.ice.Connection, "self._queue.put_nowait"),
    (aioice.ice.Connection, "self._protocols: "),
    (aioice.ice.Connection, "self.get_component_candidates("),
    (aioice.ice.StunProtocol, "self.transactions: "),
)


def check_aiortc() -> None:
    """Check that this aiortc and aioice have the private names that this package uses.

    Raises:
        RuntimeError: they don't; the message names what is missing.
    """
    found = version("aiortc")
    missing = [] if found.split(".")[:2] == ["1", "16"] else [f"version 1.16 (found {found})"]
    for owner, name, parameters in _METHODS:
        function = getattr(owner, name, None)
        if function is None:
            missing.append(f"{owner.__name__}.{name}")
        elif parameters is not None and list(inspect.signature(function).parameters) != parameters:
            missing.append(f"{owner.__name__}.{name}({', '.join(parameters)})")
    source = inspect.getsource(RTCRtpReceiver)
    missing += [f"RTCRtpReceiver.__{name}" for name in _PRIVATE if f"self.__{name}" not in source]
    for owner, text in _SOURCE:
        if text not in inspect.getsource(owner):
            missing.append(f"{owner.__name__}: {text}")
    if missing:
        raise RuntimeError(
            "streaming.webrtc.peer is written for aiortc 1.16 and aioice 0.13, and misses "
            + "; ".join(missing)
            + ". Install the versions in constraints.txt."
        )

"""SDP offers and trickled candidates in, checked; the SDP answer out, completed with bit rates.

    HTTP body -> [check_offer] -> peer connection -> [finish_answer] -> HTTP response

Pure functions. No malformed or hostile text reaches a peer connection, and an error tells a person
what is wrong with the offer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from aiortc.codecs import CODECS, is_rtx
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription

from streaming.webrtc.ice import CandidateRules

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31,63}")
_HASHES = {"sha-256", "sha-384", "sha-512"}
_KINDS = ("video", "audio", "application")
_MID = re.compile(r"[\x21-\x7e]{1,64}")
_CANDIDATE = re.compile(
    r"candidate:(\S{1,64}) (\d{1,3}) (\S{1,8}) (\d{1,10}) (\S{1,255}) (\d{1,5})"
    r" typ (\w{1,8})(?: .*)?"
)
_PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
)

# A browser's offer has about 250 lines and 10 candidates.
_MAX_BYTES = 64 * 1024
_MAX_LINES = 1500
_MAX_LINE = 2048  # characters
_MAX_CANDIDATES = 64

# More bits a pixel bring nothing: VP8 at its best real-time quality used 0.29 for clips of signing
# at 426x320 and 15 frames a second, however much more it was allowed (docs/load.md).
_BITS_PER_PIXEL = 0.3
_WIDEST = 16 / 9

Offer = NewType("Offer", str)  # checked and cleaned SDP: one video, and perhaps a data channel


class OfferError(ValueError):
    """A refused offer or trickle fragment; its text tells a person why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class TrickleCandidate:
    """One candidate that was sent after the offer."""

    mid: str | None  # None: for the whole bundle
    line: str  # "candidate:..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A trickle fragment (RFC 8840) after checking."""

    candidates: tuple[TrickleCandidate, ...]
    end: bool  # no more candidates follow


_RULES = CandidateRules()


def check_offer(text: str, rules: CandidateRules = _RULES) -> Offer:
    """Check an offer, and leave out refused candidates.

    Raises:
        OfferError: 413 when it is too large, 400 otherwise.
    """
    lines = _lines(text)
    if lines[0] != "v=0":
        raise OfferError(400, "This is no SDP offer: it does not begin with 'v=0'.")
    cleaned = _clean(lines, rules)
    description = _parse(cleaned)
    sections = {kind: [m for m in description.media if m.kind == kind] for kind in _KINDS}
    if any(media.kind not in _KINDS for media in description.media):
        raise OfferError(400, "The offer may hold video, audio and application sections only.")
    if not sections["video"]:
        raise OfferError(
            400, "The offer has no video. Add a camera track before the offer is made."
        )
    if any(len(found) > 1 for found in sections.values()):
        raise OfferError(400, "The offer may hold one video, one audio and one data section only.")
    _check_bundle(description)
    for media in description.media:
        _check_transport(media)
    _check_video(sections["video"][0])
    if sections["audio"] and not find_common_codecs(
        CODECS["audio"], sections["audio"][0].rtp.codecs
    ):
        raise OfferError(400, "The offer's audio has no codec known here. Leave audio out of it.")
    if sections["application"]:
        _check_data(sections["application"][0])
    return Offer("\r\n".join(cleaned) + "\r\n")


def parse_trickle(text: str, rules: CandidateRules = _RULES) -> Fragment:
    """Check an `application/trickle-ice-sdpfrag` body; refused candidates are left out.

    Raises:
        OfferError: 413 when it is too large, 400 otherwise.
    """
    mid: str | None = None
    end = False
    seen = 0
    candidates: list[TrickleCandidate] = []
    for line in _lines(text):
        name, _, value = line.removeprefix("a=").partition(":")
        if line.startswith("m="):
            mid = None
        elif not line.startswith("a="):
            raise OfferError(400, "A trickle fragment has lines 'm=' and 'a=' only (RFC 8840).")
        elif name == "mid":
            if not _MID.fullmatch(value):
                raise OfferError(400, "A media section's name (a=mid) is malformed.")
            mid = value
        elif name == "ice-ufrag":
            if not _UFRAG.fullmatch(value):
                raise OfferError(400, "The ICE name (a=ice-ufrag) is malformed.")
        elif name == "end-of-candidates":
            end = True
        elif name == "candidate":
            seen += 1
            if seen > _MAX_CANDIDATES:
                raise OfferError(400, f"More than {_MAX_CANDIDATES} candidates.")
            if _allowed(line[2:], rules):
                candidates.append(TrickleCandidate(mid=mid, line=line[2:]))
    return Fragment(candidates=tuple(candidates), end=end)


def finish_answer(sdp: str, *, short_side: int, fps: float) -> str:
    """Complete our SDP answer: limits for the sender's video, and the end of candidates.

    The video needs no more pixels (`short_side` px, 16:9) and frames a second than the encoder
    reads. `max-fs` and `max-fr` (RFC 7741) say so, but browsers built on Chromium ignore them; they
    keep to the bit rate that such a video takes. Without a start bit rate they begin near 280
    kbit/s with a small picture and take 20 s to grow.
    """
    long_side = math.ceil(short_side * _WIDEST)
    bps = round(_BITS_PER_PIXEL * short_side * long_side * fps)
    blocks = math.ceil(short_side / 16) * math.ceil(long_side / 16)
    rates = f"x-google-min-bitrate={bps // 3000};x-google-start-bitrate={2 * bps // 3000}"
    formats = {"VP8": f"max-fr={math.ceil(fps)};max-fs={blocks};{rates}", "H264": rates}
    sections: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    for section in sections[1:]:
        if section[0].startswith("m=video"):
            section[:] = _limited(_with_formats(section, formats), bps)
        has_candidates = any(line.startswith("a=candidate:") for line in section)
        if has_candidates and "a=end-of-candidates" not in section:
            section.append("a=end-of-candidates")
    return "\r\n".join(line for section in sections for line in section) + "\r\n"


# The offer checked


def _lines(text: str) -> list[str]:
    """The lines of a body (at least one), whose size and characters are checked."""
    if len(text) > _MAX_BYTES or len(text.encode("utf-8", "replace")) > _MAX_BYTES:
        raise OfferError(413, f"The body is larger than {_MAX_BYTES // 1024} KB.")
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if lines == [""]:
        raise OfferError(400, "The body is empty.")
    if len(lines) > _MAX_LINES:
        raise OfferError(400, f"More than {_MAX_LINES} lines.")
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE:
            raise OfferError(400, f"Line {number} has more than {_MAX_LINE} characters.")
        if not line.isascii() or not line.isprintable():
            raise OfferError(400, f"Line {number} has characters other than printable ASCII.")
    return lines


def _clean(lines: Iterable[str], rules: CandidateRules) -> list[str]:
    """Leave out refused candidates and empty lines."""
    kept: list[str] = []
    candidates = sections = 0
    for line in lines:
        if line.startswith("m="):
            sections += 1
            if sections > len(_KINDS):
                raise OfferError(400, f"More than {len(_KINDS)} media sections.")
        if line.startswith("a=candidate"):
            candidates += 1
            if candidates > _MAX_CANDIDATES:
                raise OfferError(400, f"More than {_MAX_CANDIDATES} candidates.")
            if not _allowed(line[2:], rules):
                continue
        if line:
            kept.append(line)
    return kept


def _allowed(candidate: str, rules: CandidateRules) -> bool:
    """Whether aioice can use a candidate, and the rules allow its address.

    Raises:
        OfferError: it is malformed.
    """
    match = _CANDIDATE.fullmatch(candidate)
    if match is None or not 0 <= int(match[6]) <= 65535:
        raise OfferError(400, "A candidate is malformed.")
    related = re.search(r" rport (\S+)", candidate)
    if related is not None and not related[1].isdigit():
        raise OfferError(400, "A candidate is malformed.")
    component, transport, host, port, kind = match[2], match[3], match[5], match[6], match[7]
    return (
        component == "1"
        and transport.lower() == "udp"
        and int(port) > 0
        and kind in ("host", "srflx", "relay")
        and rules.allows(host)
    )


def _parse(lines: list[str]) -> SessionDescription:
    try:
        return SessionDescription.parse("\r\n".join(lines) + "\r\n")
    except _PARSE_ERRORS as error:
        raise OfferError(400, "The offer is not well-formed SDP.") from error


def _check_bundle(description: SessionDescription) -> None:
    mids = [media.rtp.muxId for media in description.media]
    if not all(_MID.fullmatch(mid or "") for mid in mids) or len(set(mids)) != len(mids):
        raise OfferError(400, "Every media section needs a name of its own (a=mid).")
    bundles = [group for group in description.group if group.semantic == "BUNDLE"]
    bundled = [str(item) for group in bundles[:1] for item in group.items]
    if len(mids) > 1 and sorted(bundled) != sorted(mids):
        raise OfferError(400, "All media sections must share one transport (a=group:BUNDLE).")
    if bundled and any(mid not in mids for mid in bundled):
        raise OfferError(400, "The bundle names a media section that is not there.")


def _check_transport(media: MediaDescription) -> None:
    if media.ice is None or not _UFRAG.fullmatch(media.ice.usernameFragment or ""):
        raise OfferError(400, "The ICE name (a=ice-ufrag) is missing or malformed.")
    if not _PASSWORD.fullmatch(media.ice.password or ""):
        raise OfferError(400, "The ICE password (a=ice-pwd) is missing or malformed.")
    if media.dtls is None:
        raise OfferError(400, "The DTLS role (a=setup) is missing.")
    prints = [f for f in media.dtls.fingerprints if f.algorithm.lower() in _HASHES]
    if not prints or not all(_FINGERPRINT.fullmatch(f.value) for f in prints):
        raise OfferError(400, "The DTLS fingerprint (a=fingerprint:sha-256 ...) is missing.")
    if media.kind != "application":
        if "SAVP" not in media.profile:
            raise OfferError(400, f"Media must be encrypted (DTLS-SRTP), not {media.profile}.")
        if not media.rtcp_mux:
            raise OfferError(400, "RTP and RTCP must share a port (a=rtcp-mux).")
        if media.direction is None:
            raise OfferError(400, "A media section has no direction (a=sendonly).")


def _check_video(video: MediaDescription) -> None:
    if video.port == 0 or video.direction not in ("sendonly", "sendrecv"):
        raise OfferError(400, "The offer sends no video: its section is switched off or receives.")
    try:
        common = find_common_codecs(CODECS["video"], video.rtp.codecs)
    except _PARSE_ERRORS as error:
        raise OfferError(400, "The offer's video codecs are malformed.") from error
    if all(is_rtx(codec) for codec in common):
        helpers = {"rtx", "red", "ulpfec", "flexfec-03"}
        offered = {codec.name for codec in video.rtp.codecs if codec.name.lower() not in helpers}
        raise OfferError(
            400,
            f"The offer's video codecs ({', '.join(sorted(offered)) or 'none'}) can't be decoded "
            "here. Offer VP8, or H264 in its baseline profile (packetization-mode 1).",
        )


def _check_data(data: MediaDescription) -> None:
    if data.profile not in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP"):
        raise OfferError(400, "The data channel must be UDP/DTLS/SCTP.")
    if data.sctp_port is None or not 0 < data.sctp_port <= 65535:
        raise OfferError(400, "The data channel's port (a=sctp-port) is missing or malformed.")


# The SDP answer completed


def _limited(section: list[str], bps: int) -> list[str]:
    """A media section with a maximum bit rate (RFC 3890)."""
    head = [line for line in section if line[:2] in ("m=", "i=", "c=")]
    rest = [line for line in section if line[:2] not in ("m=", "i=", "c=", "b=")]
    return [*head, f"b=TIAS:{bps}", *rest]


def _with_formats(section: list[str], formats: dict[str, str]) -> list[str]:
    """A video section with these format parameters added, by codec name."""
    names = {
        match[1]: match[2]
        for line in section
        if (match := re.match(r"a=rtpmap:(\d+) (\w+)/", line)) is not None and match[2] in formats
    }
    with_format = {
        match[1] for line in section if (match := re.match(r"a=fmtp:(\d+) ", line)) is not None
    }
    result: list[str] = []
    for line in section:
        match = re.match(r"a=(rtpmap|fmtp):(\d+) ", line)
        if match is None or match[2] not in names:
            result.append(line)
        elif match[1] == "fmtp":
            result.append(f"{line};{formats[names[match[2]]]}")
        else:
            result.append(line)
            if match[2] not in with_format:
                result.append(f"a=fmtp:{match[2]} {formats[names[match[2]]]}")
    return result

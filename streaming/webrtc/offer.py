"""SDP offers and trickled candidates: checked, and offers written anew.

    HTTP body -> [check_offer] -> Offer -> peer connection, `answer.finish_answer`

Pure functions. aiortc never sees the text of a peer: `check_offer` reads the few attributes that a
session needs and writes a new offer of them, so its size has a bound (at most 32 codecs, two header
extensions, two streams) and so has aiortc's work, which grows with the square of some of them.
An error tells a person what is wrong with the offer.

Some of what aiortc is told is a stand-in, since it compares more than we need: every profile of
H.264 can be decoded, and audio is thrown away, so its codec does not matter. `answer.py` puts what
was offered back into the SDP answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streaming.webrtc.ice import CandidateRules

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_MID = re.compile(r"[\x21-\x7e]{1,64}")
_CANDIDATE = re.compile(
    r"candidate:(\S{1,64}) (\d{1,3}) (\S{1,8}) (\d{1,10}) (\S{1,255}) (\d{1,5})"
    r" typ (\w{1,8})(?: .*)?",
    re.ASCII,
)
_MEDIA = re.compile(r"m=([a-z]{1,32}) (\d{1,5})(?:/\d{1,5})? ([A-Z/]{1,32}) (\S.*)", re.ASCII)
_KINDS = ("video", "audio", "application")
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_SETUPS = ("actpass", "active", "passive")

# The attributes that are read, and their values. All others are left out.
_ATTRIBUTES = {
    name: re.compile(pattern, re.ASCII)
    for name, pattern in {
        "bundle-only": "",
        "extmap": r"(\d{1,5})(?:/[a-z]+)? (\S{1,255})(?: .*)?",
        "fingerprint": r"(\S{1,16}) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)",
        "fmtp": r"(\d{1,3})(?: (.*))?",
        "group": r"(\S+)(.*)",
        "ice-lite": "",
        "ice-pwd": r"(.*)",
        "ice-ufrag": r"(.*)",
        "max-message-size": r"(\d{1,10})",
        "mid": r"(.*)",
        "rtcp-fb": r"(\*|\d{1,3}) (\S.*)",
        "rtcp-mux": "",
        "rtpmap": r"(\d{1,3}) ([\w.+-]{1,32})/(\d{1,9}(?:/\d{1,3})?)",
        "sctp-port": r"(\d{1,5})",
        "setup": r"(\w{1,16})",
        "ssrc": r"(\d{1,10})(?: .*)?",
        "ssrc-group": r"(\S{1,16})((?: \d{1,10})*)",
        **dict.fromkeys(_DIRECTIONS, ""),
    }.items()
}

# A browser's offer has about 250 lines and 10 candidates.
_MAX_BYTES = 64 * 1024
_MAX_LINES = 1500
_MAX_LINE = 2048  # characters
_MAX_CANDIDATES = 64
_MAX_FINGERPRINTS = 8
_MAX_NAMED = 5  # codecs in an error's text

# What aiortc knows of a video codec. It takes payload types of the dynamic range only; whether it
# finds a common H.264 depends on the profile, so it is told that of its own.
_DYNAMIC = range(96, 128)
_FEEDBACK = ("nack", "nack pli", "goog-remb")
_EXTENSIONS = (
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
)
_H264 = "packetization-mode=1;profile-level-id=42e01f"
_H264_PARAMETERS = ("level-asymmetry-allowed", "packetization-mode", "profile-level-id")
_HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # bytes
_AUDIO = "96 opus/48000/2"
_REPAIR = ("rtx", "red", "ulpfec", "flexfec-03")  # codecs that repair others


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A checked offer: one video, and perhaps audio and a data channel on the same transport."""

    sdp: str  # for the peer connection, written anew
    h264: Mapping[str, str]  # format parameters by payload type, as offered; "": none
    audio: tuple[str, str] | None  # payload type and what it means ("opus/48000/2"), as offered
    bundle: bool  # whether it groups its sections
    mid: bool  # whether it names them


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

    ufrag: str | None  # of the ICE generation that the candidates belong to, if it says
    candidates: tuple[TrickleCandidate, ...]
    end: bool  # no more candidates follow


_RULES = CandidateRules()


def check_offer(text: str, rules: CandidateRules = _RULES) -> Offer:
    """Check an offer, and write it anew without refused candidates and all that is not needed.

    Raises:
        OfferError: 413 when it is too large, 400 otherwise.
    """
    lines = _lines(text)
    if lines[0] != "v=0":
        raise OfferError(400, "This is no SDP offer: it does not begin with 'v=0'.")
    session, *sections = _read(lines)
    found = {kind: [section for section in sections if section.kind == kind] for kind in _KINDS}
    if any(section.kind not in _KINDS for section in sections):
        raise OfferError(400, "The offer may hold video, audio and application sections only.")
    if not found["video"]:
        raise OfferError(
            400, "The offer has no video. Add a camera track before the offer is made."
        )
    if any(len(same) > 1 for same in found.values()):
        raise OfferError(400, "The offer may hold one video, one audio and one data section only.")
    mids = _mids(sections)
    named = bool(sections[0].all("mid"))
    bundle = _bundle(session, mids) if named else []
    tagged = sections[mids.index(bundle[0])] if bundle else sections[0]  # whose transport is used
    written = ["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    if session.all("ice-lite"):
        written.append("a=ice-lite")
    if bundle:
        written.append(f"a=group:BUNDLE {' '.join(bundle)}")
    written += _transport([tagged, session, *sections])
    h264: dict[str, str] = {}
    audio: tuple[str, str] | None = None
    for mid, section in zip(mids, sections, strict=True):
        if section.kind == "video":
            codecs, h264 = _video(section, session)
            written += [*codecs, *_streams(section)]
        elif section.kind == "audio":
            lines, audio = _audio(section, session)
            written += lines
        else:
            written += _data(section)
        written.append(f"a=mid:{mid}")
        if section is tagged:
            written += _candidates([tagged, *sections], rules)
    sdp = "\r\n".join(written) + "\r\n"
    return Offer(sdp=sdp, h264=h264, audio=audio, bundle=bool(bundle), mid=named)


def ice_name(offer: Offer) -> str:
    """The ICE name (ufrag) of an offer: its ICE generation. Another belongs to an ICE restart."""
    return offer.sdp.partition("a=ice-ufrag:")[2].partition("\r\n")[0]


def parse_trickle(text: str, rules: CandidateRules = _RULES) -> Fragment:
    """Check an `application/trickle-ice-sdpfrag` body; refused candidates are left out.

    Raises:
        OfferError: 413 when it is too large, 400 otherwise.
    """
    mid: str | None = None
    ufrag: str | None = None
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
            ufrag = value
        elif name == "end-of-candidates":
            end = True
        elif name == "candidate":
            seen += 1
            if seen > _MAX_CANDIDATES:
                raise OfferError(400, f"More than {_MAX_CANDIDATES} candidates.")
            if _allowed(line[2:], rules):
                candidates.append(TrickleCandidate(mid=mid, line=line[2:]))
    return Fragment(ufrag=ufrag, candidates=tuple(candidates), end=end)


# The offer read


@dataclass(slots=True, kw_only=True)
class _Section:
    """A media section, or the lines before the first one (`kind` ""): the attributes we read."""

    kind: str = ""
    port: str = ""
    profile: str = ""
    formats: tuple[str, ...] = ()
    candidates: list[str] = field(default_factory=list)  # "candidate:..."
    ended: bool = False  # no more candidates follow
    attributes: dict[str, list[re.Match[str]]] = field(default_factory=dict)

    def all(self, name: str) -> list[re.Match[str]]:
        return self.attributes.get(name, [])

    def value(self, name: str) -> str | None:
        """The value of the first attribute of this name."""
        found = self.attributes.get(name)
        return found[0][1] if found else None


def _lines(text: str) -> list[str]:
    """The lines of a body (at least one), whose size and characters are checked.

    Names for people (s=, i= and the like) may hold any character: nobody reads them.
    """
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
        if line[:2] in ("a=", "m=") and not line.isprintable():
            raise OfferError(400, f"Line {number} has characters that can't be printed.")
    return lines


def _read(lines: Iterable[str]) -> list[_Section]:
    """The session's own lines, then one media section after the other."""
    sections = [_Section()]
    candidates = 0
    for number, text in enumerate(lines, 1):
        line = text.rstrip(" ")
        if line.startswith("m="):
            media = _MEDIA.fullmatch(line)
            if media is None:
                raise OfferError(400, f"Line {number} (m=) is malformed.")
            if len(sections) > len(_KINDS):
                raise OfferError(400, f"More than {len(_KINDS)} media sections.")
            kind, port, profile, formats = media.groups()
            sections.append(
                _Section(kind=kind, port=port, profile=profile, formats=tuple(formats.split()))
            )
        if not line.startswith("a="):
            continue
        name, _, value = line[2:].partition(":")
        if name == "candidate":
            candidates += 1
            if candidates > _MAX_CANDIDATES:
                raise OfferError(400, f"More than {_MAX_CANDIDATES} candidates.")
            sections[-1].candidates.append(line[2:])
        elif name == "end-of-candidates":
            sections[-1].ended = True
        elif name in _ATTRIBUTES:
            match = _ATTRIBUTES[name].fullmatch(value)
            if match is None:
                raise OfferError(400, f"Line {number} (a={name}) is malformed.")
            sections[-1].attributes.setdefault(name, []).append(match)
    return sections


def _allowed(candidate: str, rules: CandidateRules) -> bool:
    """Whether aioice can use a candidate, and the rules allow its address.

    Raises:
        OfferError: it is malformed.
    """
    match = _CANDIDATE.fullmatch(candidate) if candidate.isascii() else None
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


# The offer checked, and written anew


def _mids(sections: list[_Section]) -> list[str]:
    """The name of each media section. A single one needs none, and gets one."""
    mids = [section.value("mid") for section in sections]
    if mids == [None]:
        return ["0"]
    given = [mid for mid in mids if mid is not None and _MID.fullmatch(mid)]
    if len(given) != len(mids) or len(set(given)) != len(given):
        raise OfferError(400, "Every media section needs a name of its own (a=mid).")
    return given


def _bundle(session: _Section, mids: list[str]) -> list[str]:
    """The sections in the bundle, in its order; of more than one section: all.

    A name without a section is left out: ffmpeg's WHIP muxer names audio that it does not send.
    """
    groups = [group for group in session.all("group") if group[1] == "BUNDLE"]
    named = dict.fromkeys(groups[0][2].split()) if groups else {}
    bundle = [mid for mid in named if mid in mids]
    if len(mids) > 1 and len(bundle) != len(mids):
        raise OfferError(400, "All media sections must share one transport (a=group:BUNDLE).")
    return bundle


def _transport(sections: list[_Section]) -> list[str]:
    """The lines of the one transport; of each attribute, the first section that has it counts."""

    def first(name: str) -> _Section:
        return next((section for section in sections if section.all(name)), sections[0])

    ufrag, password = first("ice-ufrag").value("ice-ufrag"), first("ice-pwd").value("ice-pwd")
    if not _UFRAG.fullmatch(ufrag or ""):
        raise OfferError(400, "The ICE name (a=ice-ufrag) is missing or malformed.")
    if not _PASSWORD.fullmatch(password or ""):
        raise OfferError(400, "The ICE password (a=ice-pwd) is missing or malformed.")
    setup = first("setup").value("setup")
    if setup not in _SETUPS:
        raise OfferError(400, f"The DTLS role (a=setup) must be one of {', '.join(_SETUPS)}.")
    prints = dict.fromkeys(
        f"a=fingerprint:{match[1].lower()} {match[2]}"
        for match in first("fingerprint").all("fingerprint")
        if _HASHES.get(match[1].lower()) == len(bytes.fromhex(match[2].replace(":", "")))
    )
    if not prints:
        raise OfferError(
            400, "The DTLS fingerprint (a=fingerprint:sha-256 ...) is missing or malformed."
        )
    if len(prints) > _MAX_FINGERPRINTS:
        raise OfferError(400, f"More than {_MAX_FINGERPRINTS} fingerprints (a=fingerprint).")
    return [f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{password}", f"a=setup:{setup}", *prints]


def _candidates(sections: list[_Section], rules: CandidateRules) -> list[str]:
    """The usable candidates of the first section that has any, and whether more may follow."""
    section = next((section for section in sections if section.candidates), sections[0])
    usable = [one for one in dict.fromkeys(section.candidates) if _allowed(one, rules)]
    # An end without a candidate would make aioice give up before the peer's own checks reach us.
    ended = bool(usable) and section.ended
    return [*(f"a={one}" for one in usable), *(["a=end-of-candidates"] if ended else [])]


def _direction(media: _Section, session: _Section) -> str:
    """The direction of a section, its own or the session's (RFC 8866, 6.7)."""
    given = (name for part in (media, session) for name in _DIRECTIONS if part.all(name))
    return next(given, "sendrecv")


def _payloads(media: _Section) -> dict[int, re.Match[str] | None]:
    """The payload types of a section, in the sender's order, with their `rtpmap`."""
    if "SAVP" not in media.profile:
        raise OfferError(400, f"Media must be encrypted (DTLS-SRTP), not {media.profile}.")
    if not media.all("rtcp-mux"):
        raise OfferError(400, "RTP and RTCP must share a port (a=rtcp-mux).")
    if not all(re.fullmatch(r"[0-9]{1,3}", name) and int(name) < 128 for name in media.formats):
        raise OfferError(400, f"The {media.kind}'s payload types (m=) are malformed.")
    numbers = [int(name) for name in media.formats]
    mapped = [int(match[1]) for match in media.all("rtpmap")]
    for given in (numbers, mapped):
        if len(set(given)) != len(given):
            raise OfferError(400, f"The {media.kind} names a payload type twice.")
    maps = dict(zip(mapped, media.all("rtpmap"), strict=True))
    return {number: maps.get(number) for number in numbers}


def _parameters(text: str) -> dict[str, str]:
    """Format parameters: "apt=96; x" -> {"apt": "96", "x": ""}."""
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name: value for name, _, value in pairs}


@dataclass(slots=True, kw_only=True)
class _Codec:
    """A video codec that we decode."""

    name: str  # "VP8" or "H264"
    parameters: dict[str, str]  # as offered
    repair: int | None = None  # payload type of its retransmissions


def _codecs(video: _Section) -> dict[int, _Codec]:
    """The codecs of a video section that we decode, by payload type, in the sender's order."""
    parameters = {int(match[1]): _parameters(match[2] or "") for match in video.all("fmtp")}
    offered: set[str] = set()
    codecs: dict[int, _Codec] = {}
    repairs: list[tuple[int, str]] = []  # payload types, and what they repair
    for number, match in _payloads(video).items():
        if match is None:
            continue
        offered.add(match[2])
        if match[3] != "90000" or number not in _DYNAMIC:
            continue
        name, given = match[2].upper(), parameters.get(number, {})
        if name == "RTX":
            repairs.append((number, given.get("apt", "")))
        elif name == "VP8" or (name == "H264" and _decodable(given)):
            codecs[number] = _Codec(name=name, parameters=given)
    if not codecs:
        names = sorted(name for name in offered if name.lower() not in _REPAIR)
        named = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
        raise OfferError(
            400,
            f"The offer's video codecs ({named or 'none'}) can't be decoded here. Offer VP8, or "
            "H264 in any profile (packetization-mode 0 or 1), as payload types from 96 to 127.",
        )
    # aiortc knows retransmissions by their SSRC alone. Without RTX, the packet itself comes again.
    for repair, repaired in repairs if _pair(video) else []:
        for number, codec in codecs.items():
            if str(number) == repaired and codec.repair is None:
                codec.repair = repair
    return codecs


def _video(video: _Section, session: _Section) -> tuple[list[str], dict[str, str]]:
    """The video section with the codecs that we decode, and H.264's parameters as offered."""
    direction = _direction(video, session)
    off = video.port == "0" and not video.all("bundle-only")
    if off or direction not in ("sendonly", "sendrecv"):
        raise OfferError(400, "The offer sends no video: its section is switched off or receives.")
    codecs = _codecs(video)
    feedback = {(match[1], match[2].strip()) for match in video.all("rtcp-fb")}
    h264: dict[str, str] = {}
    numbers: list[int] = []
    lines: list[str] = []
    for number, codec in codecs.items():
        numbers.append(number)
        lines.append(f"a=rtpmap:{number} {codec.name}/90000")
        for kind in _FEEDBACK:
            if ("*", kind) in feedback or (str(number), kind) in feedback:
                lines.append(f"a=rtcp-fb:{number} {kind}")
        if codec.name == "H264":
            lines.append(f"a=fmtp:{number} {_H264}")
            kept = [f"{k}={v}" for k, v in codec.parameters.items() if k in _H264_PARAMETERS]
            h264[str(number)] = ";".join(kept)
        if codec.repair is not None:
            numbers.append(codec.repair)
            lines.append(f"a=rtpmap:{codec.repair} rtx/90000")
            lines.append(f"a=fmtp:{codec.repair} apt={number}")
    head = f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, numbers))}"
    return [head, f"a={direction}", "a=rtcp-mux", *lines], h264


def _decodable(parameters: Mapping[str, str]) -> bool:
    """Whether we can decode an H.264 stream: any profile, but no interleaved packets."""
    profile = parameters.get("profile-level-id", "42e01f")
    return (
        parameters.get("packetization-mode", "0") in ("0", "1")
        and re.fullmatch(r"[0-9A-Fa-f]{6}", profile) is not None
        and re.fullmatch(r"[01]?", parameters.get("level-asymmetry-allowed", "")) is not None
    )


def _pair(video: _Section) -> list[str]:
    """The SSRCs of the first stream and of its retransmission; empty: not told."""
    for group in video.all("ssrc-group"):
        streams = group[2].split()
        if group[1] == "FID" and len(streams) == 2 and all(int(s) < 1 << 32 for s in streams):
            return streams
    return []


def _streams(video: _Section) -> list[str]:
    """The header extensions that we use, and the SSRCs of the first stream.

    Of simulcast, neither the layers nor their SSRCs are told to aiortc, and the answer does not
    take them up, so that a sender sends its first layer alone (RFC 8853).
    """
    numbers: dict[str, int] = {}
    for match in video.all("extmap"):
        if 0 < int(match[1]) < 256 and match[2] in _EXTENSIONS:
            numbers.setdefault(match[2], int(match[1]))
    streams = _pair(video) or [s[1] for s in video.all("ssrc")[:1] if int(s[1]) < 1 << 32]
    return [
        *(f"a=extmap:{number} {name}" for name, number in numbers.items()),
        *(f"a=ssrc:{stream} cname:-" for stream in streams),
    ]


def _audio(audio: _Section, session: _Section) -> tuple[list[str], tuple[str, str]]:
    """The audio section with a stand-in for its first codec, and that codec as offered."""
    number, match = next(iter(_payloads(audio).items()))
    head = f"m=audio 9 UDP/TLS/RTP/SAVPF {_AUDIO.split()[0]}"
    lines = [head, f"a={_direction(audio, session)}", "a=rtcp-mux", f"a=rtpmap:{_AUDIO}"]
    return lines, (str(number), f"{match[2]}/{match[3]}" if match else "")


def _data(data: _Section) -> list[str]:
    if data.profile not in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP"):
        raise OfferError(400, "The data channel must be UDP/DTLS/SCTP.")
    port, size = data.value("sctp-port"), data.value("max-message-size")
    if port is None or not 0 < int(port) <= 65535:
        raise OfferError(400, "The data channel's port (a=sctp-port) is missing or malformed.")
    lines = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", f"a=sctp-port:{int(port)}"]
    return [*lines, *([f"a=max-message-size:{int(size)}"] if size is not None else [])]

"""The SDP answer, completed: what was offered in place of stand-ins, limits for the video.

    Offer, aiortc's SDP answer -> [finish_answer] -> HTTP response

Pure functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from streaming.webrtc.offer import Offer

# More bits a pixel bring nothing: VP8 at its best real-time quality used 0.29 for clips of signing
# at 426x320 and 15 frames a second, however much more it was allowed (docs/load.md).
_BITS_PER_PIXEL = 0.3
_WIDEST = 16 / 9


def finish_answer(sdp: str, offer: Offer, *, short_side: int, fps: float) -> str:
    """Complete our SDP answer: what was offered in place of stand-ins, limits for the video.

    The video needs no more pixels (`short_side` px, 16:9) and frames a second than the encoder
    reads. `max-fs` and `max-fr` (RFC 7741) say so, but browsers built on Chromium ignore them; they
    keep to the bit rate that such a video takes. Without a start bit rate they begin near 280
    kbit/s with a small picture and take 20 s to grow. The end of candidates is added, too.
    """
    long_side = math.ceil(short_side * _WIDEST)
    bps = round(_BITS_PER_PIXEL * short_side * long_side * fps)
    blocks = math.ceil(short_side / 16) * math.ceil(long_side / 16)
    rates = f"x-google-min-bitrate={bps // 3000};x-google-start-bitrate={2 * bps // 3000}"
    limits = {"VP8": f"max-fr={math.ceil(fps)};max-fs={blocks};{rates}", "H264": rates}
    sections: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        if line.startswith("a=group:BUNDLE") and not offer.bundle:
            continue
        if line.startswith("a=mid:") and not offer.mid:
            continue
        sections[-1].append(line)
    for section in sections[1:]:
        if section[0].startswith("m=video"):
            section[:] = _limited([*_with_formats(section, offer.h264, limits)], bps)
        elif section[0].startswith("m=audio") and offer.audio is not None:
            section[:] = _with_audio(section, *offer.audio)
        has_candidates = any(line.startswith("a=candidate:") for line in section)
        if has_candidates and "a=end-of-candidates" not in section:
            section.append("a=end-of-candidates")
    return "\r\n".join(line for section in sections for line in section) + "\r\n"


def _limited(section: list[str], bps: int) -> list[str]:
    """A media section with a maximum bit rate (RFC 3890)."""
    head = [line for line in section if line[:2] in ("m=", "i=", "c=")]
    rest = [line for line in section if line[:2] not in ("m=", "i=", "c=", "b=")]
    return [*head, f"b=TIAS:{bps}", *rest]


def _with_formats(
    section: list[str], h264: Mapping[str, str], limits: Mapping[str, str]
) -> Iterator[str]:
    """A video section with the format parameters of its codecs: as offered, then our limits."""
    names = {
        match[1]: match[2]
        for line in section
        if (match := re.match(r"a=rtpmap:(\d+) (\w+)/", line)) is not None and match[2] in limits
    }
    for line in section:
        match = re.match(r"a=(rtpmap|fmtp):(\d+) ", line)
        if match is None or match[2] not in names:
            yield line
        elif match[1] == "rtpmap":
            number = match[2]
            given = h264.get(number, "")
            yield line
            yield f"a=fmtp:{number} {given}{';' if given else ''}{limits[names[number]]}"


def _with_audio(section: list[str], number: str, meaning: str) -> Iterator[str]:
    """An audio section with the offered codec in place of the stand-in."""
    stand_in = section[0].rpartition(" ")[2]
    for line in section:
        if line.startswith("m="):
            yield f"{line.removesuffix(stand_in)}{number}"
        elif not line.startswith(f"a=rtpmap:{stand_in} "):
            yield line
        elif meaning:
            yield f"a=rtpmap:{number} {meaning}"

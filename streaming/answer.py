"""Our answer's text, completed: what video is asked for, and the end of candidates."""

from __future__ import annotations

import math
import re

# Bits a pixel beyond which nothing is gained: VP8 at its finest, in real time, took 0.29 for clips
# of signing at 426x320 and 15 a second, however much more it was allowed (docs/load.md).
_BITS = 0.3
_WIDEST = 16 / 9


def finish_answer(sdp: str, *, short_side: int, fps: float) -> str:
    """Complete our answer: what a sender's video should be like, and the end of candidates.

    As many pixels (px of `short_side`, 16:9) and pictures a second as are looked at: `max-fs` and
    `max-fr` (RFC 7741), which browsers built on Chromium ignore, and the bit rate that this takes,
    which they keep to. Without a rate to start with, they begin near 280 kbit/s with a small
    picture and take 20 s to grow.
    """
    long_side = math.ceil(short_side * _WIDEST)
    bps = round(_BITS * short_side * long_side * fps)
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


def _limited(section: list[str], bps: int) -> list[str]:
    """A media section that takes so many bits a second at most (RFC 3890)."""
    head = [line for line in section if line[:2] in ("m=", "i=", "c=")]
    rest = [line for line in section if line[:2] not in ("m=", "i=", "c=", "b=")]
    return [*head, f"b=TIAS:{bps}", *rest]


def _with_formats(section: list[str], formats: dict[str, str]) -> list[str]:
    """A video section whose codecs carry these parameters as well, by their names."""
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

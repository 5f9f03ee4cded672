"""Whether an SDP answer fits an offer, by the rules that browsers hold answers to."""

from __future__ import annotations

import re


def sections(sdp: str) -> list[list[str]]:
    """The session's lines, then those of each media section."""
    found: list[list[str]] = [[]]
    for line in sdp.replace("\r\n", "\n").split("\n"):
        if line.startswith("m="):
            found.append([])
        found[-1].append(line)
    return found


def check_answer(offer: str, answer: str) -> None:
    """Check an answer of ours to an offer that was accepted (RFC 3264, 8829, 9143, 6184)."""
    assert len(answer) < 16_384
    (session, *offered), (own, *answered) = sections(offer), sections(answer)
    assert len(answered) == len(offered)
    mids = [_values(section, "a=mid:")[:1] for section in offered]
    assert [_values(section, "a=mid:") for section in answered] == mids
    groups = [line.split() for line in session if line.startswith("a=group:BUNDLE")]
    named = {mid for mid in [*groups, []][0][1:] if [mid] in mids}
    ours = [set(line.split()[1:]) for line in own if line.startswith("a=group:BUNDLE")]
    assert ours == ([named] if named else [])
    for one, two in zip(offered, answered, strict=True):
        kind, _, _, *formats = two[0].split()
        assert kind == one[0].split()[0]
        assert not [line for line in two if line.startswith(("a=rid", "a=simulcast"))]
        assert "a=setup:active" in two or "a=setup:passive" in two
        if kind == "m=application":
            continue
        assert formats and set(formats) <= set(one[0].split()[3:])
        assert len(set(formats)) == len(formats)
        directions = {
            line[2:]
            for line in two
            if re.fullmatch("a=(sendrecv|inactive|sendonly|recvonly)", line)
        }
        assert directions == {"inactive" if kind == "m=audio" else "recvonly"}
        for line in two:
            if match := re.match(r"a=(rtpmap|extmap):(\d+) (\S+)", line):
                given = [
                    _values(one, f"a={match[1]}:{match[2]}{direction} ")
                    for direction in ("", "/sendonly", "/sendrecv")
                ]
                assert any(
                    value.split()[0].lower() == match[3].lower() for some in given for value in some
                ), line
        for number in formats:
            mapped = (_values(one, f"a=rtpmap:{number} ") or [""])[0].split("/")[0].upper()
            names = {"H264": ("profile-level-id", "packetization-mode"), "RTX": ("apt",)}
            was, now = _format(one, number), _format(two, number)
            for name in names.get(mapped, ()):
                assert was.get(name) == now.get(name)


def _values(section: list[str], prefix: str) -> list[str]:
    return [line.removeprefix(prefix) for line in section if line.startswith(prefix)]


def _format(section: list[str], number: str) -> dict[str, str]:
    *_, text = "", *_values(section, f"a=fmtp:{number} ")
    parts = [part.strip().partition("=") for part in text.split(";")]
    return {name: value for name, _, value in parts}

"""Thousands of damaged and hostile offers: each is refused in words or answered, and quickly.

Time is the processor time of this thread, which is the event loop's: other processes cost none.
"""

from __future__ import annotations

import gc
import logging
import random
import re
import time
from collections.abc import Iterator

import pytest

from streaming.webrtc.ice import gather_loopback
from streaming.webrtc.offer import Offer, OfferError, check_offer
from tests.streaming.webrtc.answers import check_answer
from tests.streaming.webrtc.test_foreign_senders import OFFERS, bounded
from tests.streaming.webrtc.test_peer import LOOPBACK

CPU_S = 0.05  # what one offer may take of the loop, from check to answer
ANSWERED_EACH = 12  # of the accepted offers one in so many is answered
NUMBERS = ("0", "-1", "65536", "4294967296", "9" * 18, "9" * 1800)
PRINTABLE = " :;=/*,.-+0123456789{}%$'\"\\éAZaz"
VALUES = (*"\x00\t\u2028\U0001f44b", "", "a" * 2000, *PRINTABLE)


def mutated(rng: random.Random) -> str:
    """A real offer with a few lines removed, repeated, exchanged, mixed in or damaged."""
    lines = OFFERS[rng.choice(sorted(OFFERS))].splitlines()
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[at : at + rng.choice((1, 1, 3, 20))]
            case 1:
                lines[at:at] = lines[at : at + rng.choice((1, 3, 40))] * rng.choice((1, 2, 900))
            case 2:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                others = OFFERS[rng.choice(sorted(OFFERS))].splitlines()
                start = rng.randrange(len(others))
                lines[at:at] = others[start : start + rng.choice((1, 1, 10, 60))]
            case 4:
                lines[at] = re.sub(r"\d+", lambda _: rng.choice(NUMBERS), lines[at], count=1)
            case 5:
                place = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:place] + rng.choice(VALUES) + lines[at][place:]
            case 6:
                lines[at] = lines[at][: rng.randint(0, len(lines[at]))]
            case 7:
                noise = "".join(rng.choices(PRINTABLE, k=rng.randint(1, 30)))
                lines[at] = lines[at].partition(":")[0] + ":" + noise
        if not lines:
            break
    return rng.choice(("\n", "\r\n")).join(lines)


def repeated(*codec: str, to: int = 1300) -> list[str]:
    """These lines for every payload type of the dynamic range; then the last one till `to`."""
    lines = [line.replace("PT", str(number)) for number in range(96, 128) for line in codec]
    return lines + lines[-1:] * (to - len(lines))


HEAVY = {
    "feedback": [
        *repeated("a=rtpmap:PT H264/90000", to=0),
        *(f"a=rtcp-fb:* nack {number}" for number in range(1300)),
    ],
    "own feedback": repeated("a=rtpmap:PT VP8/90000", "a=rtcp-fb:PT nack", "a=rtcp-fb:PT nack pli"),
    "format": repeated("a=rtpmap:PT H264/90000", "a=fmtp:PT " + ";" * 1700, to=0),
    "streams": [
        *repeated("a=rtpmap:PT VP8/90000", to=0),
        *(f"a=ssrc:{number} cname:x" for number in range(1300)),
    ],
    "groups": [
        *repeated("a=rtpmap:PT VP8/90000", to=0),
        *(f"a=ssrc-group:FID {number} {number}" for number in range(1300)),
    ],
    "extensions": repeated(
        "a=rtpmap:PT VP8/90000", "a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid", to=1000
    ),
    "rids": [
        *repeated("a=rtpmap:PT VP8/90000", to=0),
        *(f"a=rid:{number} send" for number in range(1300)),
    ],
    "repairs": [
        *(f"a=rtpmap:{number} VP8/90000" for number in range(96, 112)),
        *(f"a=rtpmap:{number} rtx/90000" for number in range(112, 128)),
        *(f"a=fmtp:{number} apt={number - 16}" for number in range(112, 128)),
        *["a=ssrc-group:FID 1 2"] * 1300,
    ],
}
CANDIDATES = [f"a=candidate:{n} 1 udp {n} 127.0.{n}.1 {n + 1} typ host" for n in range(64)]


def heavy(lines: list[str]) -> str:
    """The largest offer with these lines in its video: three sections, 64 candidates."""
    text = OFFERS["chromium"]
    audio, _, _ = text.partition("m=video")
    audio = re.sub(r"a=candidate.*\n", "", audio)
    data = text[text.index("m=application") :]
    video = [
        f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, range(96, 128)))}",
        *("a=mid:1", "a=sendonly", "a=rtcp-mux"),
    ]
    return "\n".join([audio + "\n".join(CANDIDATES), *video, *lines, data])


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """A collection takes long where there are many objects; it is no part of an offer's time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def answered(text: str) -> tuple[Offer, str, float]:
    """An offer checked and answered: with the answer and the seconds that both took."""
    begun_s = time.thread_time()
    offer = check_offer(text, rules=LOOPBACK)
    server = bounded()
    try:
        answer = await server.answer(offer)
        return offer, answer, time.thread_time() - begun_s
    finally:
        await server.close()


async def test_damaged_offers_are_refused_in_words_or_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gather_loopback()
    rng = random.Random(15)
    refused: dict[str, int] = {}
    accepted = 0
    with caplog.at_level(logging.WARNING):
        for _ in range(5000):
            text = mutated(rng)
            begun_s = time.thread_time()
            try:
                check_offer(text, rules=LOOPBACK)
            except OfferError as error:
                assert error.status in (400, 413)
                assert re.fullmatch(r"[A-Z][^\x00-\x1f]{10,300}\.", str(error))
                kind = re.sub(r"Line \d+", "Line", str(error))
                refused[kind] = refused.get(kind, 0) + 1
            else:
                accepted += 1
                if accepted % ANSWERED_EACH == 0:
                    _, answer, took_s = await answered(text)
                    check_answer(text, answer)
                    assert took_s < CPU_S, text
                continue
            assert time.thread_time() - begun_s < CPU_S, text
    assert accepted > 1000 and len(refused) > 20  # the damage is neither too small nor too large
    assert not caplog.records


@pytest.mark.parametrize("lines", HEAVY.values(), ids=HEAVY)
async def test_no_offer_within_the_limits_holds_the_loop(lines: list[str]) -> None:
    gather_loopback()
    tries = [await answered(heavy(lines)) for _ in range(3)]
    assert tries[0][0].sdp.count("a=rtpmap:") == 33
    check_answer(heavy(lines), tries[0][1])
    assert min(seconds for _, _, seconds in tries) < CPU_S

"""SDP offers: a browser's passes, others are refused with a reason; the SDP answer completed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from aiortc.codecs import CODECS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from streaming.webrtc.answer import finish_answer
from streaming.webrtc.ice import CandidateRules
from streaming.webrtc.offer import Offer, OfferError, check_offer, parse_trickle

FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
TRANSPORT = [
    "a=ice-ufrag:Xk3f",
    "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    f"a=fingerprint:{FINGERPRINT}",
    "a=setup:actpass",
]
PUBLIC = "a=candidate:1 1 udp 2113937151 198.51.100.7 50000 typ host"
VP8 = ["a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli"]
H264 = [
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
]


def video(codec: list[str] | None = None, direction: str = "sendonly", mid: str = "0") -> list[str]:
    return [
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        *TRANSPORT,
        f"a={direction}",
        "a=rtcp-mux",
        *(VP8 if codec is None else codec),
        "a=ssrc:1234 cname:x",
    ]


def data(mid: str = "1") -> list[str]:
    return [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        *TRANSPORT,
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ]


def audio(mid: str = "2") -> list[str]:
    return [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        f"a=mid:{mid}",
        *TRANSPORT,
        "a=sendonly",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
    ]


def offer(*sections: list[str], group: str | None = None) -> str:
    mids = [line[6:] for section in sections for line in section if line.startswith("a=mid:")]
    bundle = "a=group:BUNDLE " + " ".join(mids) if group is None else group
    head = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", bundle]
    return "\r\n".join([*head, *(line for section in sections for line in section)]) + "\r\n"


def test_an_offer_is_written_anew_with_what_a_session_needs() -> None:
    extras = [
        "a=extmap:3/sendonly urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:4 urn:3gpp:video-orientation",
        "a=rtcp-fb:96 transport-cc",
        "a=msid:- camera",
        "a=rtpmap:97 VP9/90000",
        PUBLIC,
    ]
    checked = check_offer(offer([*video(), *extras], data()))
    assert checked.sdp.splitlines() == [
        "v=0",
        "o=- 0 0 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        *TRANSPORT[:2],
        "a=setup:actpass",
        f"a=fingerprint:{FINGERPRINT}",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=sendonly",
        "a=rtcp-mux",
        *VP8,
        "a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=ssrc:1234 cname:-",
        "a=mid:0",
        PUBLIC,
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
        "a=mid:1",
    ]


def without(text: str, *lines: str) -> str:
    """An offer without every line that begins with one of these."""
    kept = [line for line in text.splitlines() if not line.startswith(lines)]
    return "\r\n".join(kept) + "\r\n"


def h264(parameters: str | None) -> list[str]:
    return [H264[0], *([f"a=fmtp:96 {parameters}"] if parameters is not None else [])]


@pytest.mark.parametrize(
    "text",
    [
        offer(video(), data()).replace("\r\n", "\n"),
        offer(audio(), video()),
        offer(video(H264)),
        *(
            offer(video([H264[0], H264[1].replace("42e01f", profile)]))
            for profile in ("42001f", "4d001f", "64001F", "640c34", "f4001f", "640009")
        ),
        offer(video([H264[0], H264[1].replace("mode=1", "mode=0")])),
        offer(video(h264(None))),
        offer(video([*VP8, "a=fmtp:96"])),
        offer(video([*VP8, "a=fmtp:96 "])).replace("a=rtcp-mux", "a=rtcp-mux "),
        offer(video(h264("packetization-mode=1; profile-level-id=640c1f; sprop=Z0LAFQ==,aM48"))),
        offer(video(["a=rtpmap:96 vp8/90000"])),
        offer(video([*VP8, "a=fmtp:97 x=1", "a=rtpmap:98 VP8/90000"])),
        offer(video(), audio()).replace("opus/48000/2", "speex/16000"),
        without(offer(video(), audio()), "a=rtpmap:111").replace("SAVPF 111", "SAVPF 9 0 8"),
        offer(video(), group="a=group:BUNDLE 0 1"),
        offer(audio("0"), video(mid="1"), group="a=group:LS 0 1\r\na=group:BUNDLE 1 0 7 8"),
        without(offer(video()), "a=mid", "a=group"),
        without(offer(video()), "a=sendonly"),
        offer(video()).replace("s=-", "s=Séance\u00a0: 手話 \u200d\U0001f44b\r\ni=\x85\x07"),
        offer(video()).replace("cname:x", "cname:Büro"),
        offer([*video(), "a=rid:h send", "a=rid:l send", "a=simulcast:send h;l"]),
        offer(video(), data()).replace("m=application 9", "m=application 0"),
        offer(data("0"), [*video(mid="1"), "a=bundle-only"]).replace("m=video 9", "m=video 0"),
        "\r\n".join(
            [*offer().splitlines()[:4], "a=group:BUNDLE 0 1", *TRANSPORT]
            + [line for line in [*video(), *data()] if line not in TRANSPORT]
        ),
        "\r\n".join(
            [*offer().splitlines()[:4], "a=group:BUNDLE 0 1", *video()]
            + [line for line in data() if line not in TRANSPORT]
        ),
    ],
)  # fmt: skip
def test_what_real_clients_offer_is_accepted(text: str) -> None:
    checked = check_offer(text)
    description = SessionDescription.parse(checked.sdp)
    for media in description.media:
        assert media.ice is not None and media.ice.usernameFragment == "Xk3f"
        assert media.dtls is not None and len(media.dtls.fingerprints) == 1
        assert media.kind == "application" or find_common_codecs(
            CODECS[media.kind], media.rtp.codecs
        )


def test_each_h264_payload_keeps_what_was_offered() -> None:
    offered = {
        "97": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
        "98": "packetization-mode=0;profile-level-id=4d001f",
        "99": "",
    }
    codecs = [
        *VP8,
        *(f"a=rtpmap:{number} H264/90000" for number in [*offered, "100"]),
        *(f"a=fmtp:{number} sprop=Z0; {given}" for number, given in offered.items()),
        "a=fmtp:100 packetization-mode=2;profile-level-id=42e01f",
    ]
    text = offer(video(codecs)).replace("SAVPF 96", "SAVPF 96 97 98 99 100")
    checked = check_offer(text)
    assert checked.h264 == offered
    [media] = SessionDescription.parse(checked.sdp).media
    common = find_common_codecs(CODECS["video"], media.rtp.codecs)
    assert [codec.payloadType for codec in common] == [96, 97, 98, 99]


def test_the_senders_order_of_payload_types_stays_and_others_are_left_out() -> None:
    codecs = ["a=rtpmap:39 H264/90000", *VP8, *H264[:1], "a=rtpmap:101 VP8/8000"]
    codecs[4] = "a=rtpmap:100 H264/90000"
    text = offer(video(codecs)).replace("SAVPF 96", "SAVPF 101 100 39 72 96")
    assert "m=video 9 UDP/TLS/RTP/SAVPF 100 96\r\n" in check_offer(text).sdp


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["a=ssrc-group:FID 1 2", "a=ssrc:1 cname:x", "a=ssrc:2 cname:x"], ["1", "2"]),
        (["a=ssrc-group:SIM 1 3", "a=ssrc-group:FID 1 2", "a=ssrc-group:FID 3 4"], ["1", "2"]),
        (["a=ssrc-group:SIM 1 3", "a=ssrc:1 cname:x", "a=ssrc:3 cname:x"], ["1"]),
        (["a=ssrc-group:FEC-FR 1 2", "a=ssrc:1 cname:x", "a=ssrc:2 cname:x"], ["1"]),
        (["a=ssrc-group:FID 1 9999999999", "a=ssrc:9999999999 cname:x"], []),
        ([], []),
    ],
)
def test_one_layer_is_taken_and_retransmission_where_its_stream_is_known(
    lines: list[str], kept: list[str]
) -> None:
    codecs = [*VP8, "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", *lines]
    text = without(offer(video(codecs)), "a=ssrc:1234").replace("SAVPF 96", "SAVPF 96 97")
    [media] = SessionDescription.parse(check_offer(text).sdp).media
    assert [str(stream.ssrc) for stream in media.ssrc] == kept
    assert [codec.name for codec in media.rtp.codecs] == ["VP8", "rtx"][: 1 + (len(kept) == 2)]


def test_each_codec_keeps_its_first_retransmission() -> None:
    codecs = [
        *VP8,
        "a=rtpmap:98 H264/90000",
        *(f"a=rtpmap:{number} rtx/90000" for number in (97, 99, 100, 101, 102)),
        *("a=fmtp:97 apt=98", "a=fmtp:99 apt=96", "a=fmtp:100 apt=96", "a=fmtp:101 apt=110"),
        "a=ssrc-group:FID 1 2",
    ]
    text = offer(video(codecs)).replace("SAVPF 96", "SAVPF 96 97 98 99 100 101 102")
    [media] = SessionDescription.parse(check_offer(text).sdp).media
    common = find_common_codecs(CODECS["video"], media.rtp.codecs)
    repaired = {codec.payloadType: codec.parameters.get("apt") for codec in common}
    assert repaired == {96: None, 99: 96, 98: None, 97: 98}


def test_an_end_without_candidates_is_left_out() -> None:
    unusable = PUBLIC.replace("198.51.100.7", "3b2c.local")
    for candidate, ended in ((unusable, 0), (PUBLIC, 1)):
        text = offer([*video(), candidate, "a=end-of-candidates"], data())
        assert check_offer(text).sdp.count("a=end-of-candidates") == ended


@pytest.mark.parametrize(
    ("bundle", "one", "two", "ports"),
    [
        ("0 1", [1, 2], [3], [1, 2]),
        ("1 0", [1, 2], [3], [3]),
        ("0 1", [], [3, 4, 3], [3, 4]),
    ],
)
def test_candidates_are_those_of_the_section_whose_transport_is_used(
    bundle: str, one: list[int], two: list[int], ports: list[int]
) -> None:
    sections = [
        [*section, *(PUBLIC.replace("50000", str(port)) for port in given)]
        for section, given in ((audio("0"), one), (video(mid="1"), two))
    ]
    checked = check_offer(offer(*sections, group=f"a=group:BUNDLE {bundle}"))
    media = {media.rtp.muxId: media for media in SessionDescription.parse(checked.sdp).media}
    tagged, other = (media[mid].ice_candidates for mid in bundle.split())
    assert [candidate.port for candidate in tagged] == ports and other == []


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("a=rtcp-fb:* nack pli", ["a=rtcp-fb:96 nack pli"]),
        ("a=rtcp-fb:96 goog-remb", ["a=rtcp-fb:96 goog-remb"]),
        ("a=rtcp-fb:97 nack", []),
        ("a=extmap:255 urn:ietf:params:rtp-hdrext:sdes:mid",
         ["a=extmap:255 urn:ietf:params:rtp-hdrext:sdes:mid"]),
        ("a=extmap:256 urn:ietf:params:rtp-hdrext:sdes:mid", []),
    ],
)  # fmt: skip
def test_feedback_and_header_extensions_that_aiortc_knows_are_kept(
    line: str, kept: list[str]
) -> None:
    lines = check_offer(offer(video([VP8[0], line]))).sdp.splitlines()
    assert [line for line in lines if line.startswith(("a=rtcp-fb", "a=extmap"))] == kept


def test_an_ice_lite_peer_is_known_as_one() -> None:
    text = offer(video()).replace("t=0 0", "t=0 0\r\na=ice-lite")
    for one, lite in ((text, True), (offer(video()), False)):
        [media] = SessionDescription.parse(check_offer(one).sdp).media
        assert media.ice is not None and media.ice.iceLite == lite


def test_an_error_names_a_few_codecs_only() -> None:
    numbers = range(96, 128)
    maps = [f"a=rtpmap:{number} codec{number}/90000" for number in numbers]
    text = offer(video(maps)).replace("SAVPF 96", f"SAVPF {' '.join(map(str, numbers))}")
    with pytest.raises(OfferError, match=r"\((codec\d+, ){5}\.\.\.\)"):
        check_offer(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\r\n\r\n", "empty"),
        ("hello", "no SDP"),
        ('{"sdp": "v=0"}', "no SDP"),
        ("v=0\r\n", "no video"),
        (offer(video())[:300], "missing|malformed"),
        (offer(data()), "no video"),
        (offer(video(), video(mid="1")), "one video"),
        (offer(video(), data(), data("2")), "one data"),
        (offer(video(), audio(), audio("3")), "one audio"),
        (offer(*[video(mid=str(n)) for n in range(50)]), "More than 3"),
        (offer(video(["a=rtpmap:96 VP9/90000"])), "VP9.*can't be decoded here.*VP8"),
        (offer(video(["a=rtpmap:96 AV1/90000"])), "AV1.*can't be decoded"),
        (offer(video([])), "none.*can't be decoded"),
        (offer(video([H264[0], H264[1].replace("42e01f", "zz")])), "H264.*can't be decoded"),
        (offer(video([H264[0], H264[1].replace("mode=1", "mode=2")])), "packetization-mode 0 or 1"),
        (offer(video([f"a=rtpmap:35 {VP8[0][12:]}"])).replace("SAVPF 96", "SAVPF 35"),
         "VP8.*from 96 to 127"),
        (offer(video([*VP8, VP8[0]])), "payload type twice"),
        (offer(video(VP8 * 300)), "payload type twice"),
        (offer(video()).replace("SAVPF 96", "SAVPF 96 97 96"), "payload type twice"),
        (offer(video()).replace("SAVPF 96", "SAVPF 128"), "payload types .* malformed"),
        (offer(video()).replace("SAVPF 96", "SAVPF x"), "payload types .* malformed"),
        (offer([*video(), *(f"a=fingerprint:sha-256 {':'.join([f'{n:02X}'] * 32)}"
                            for n in range(9))]), "More than 8 fingerprints"),
        (offer(video(direction="recvonly")), "sends no video"),
        (offer(video(direction="inactive")), "sends no video"),
        (offer(video()).replace("m=video 9", "m=video 0"), "sends no video"),
        (offer(video()).replace(f"a=fingerprint:{FINGERPRINT}\r\n", ""), "fingerprint"),
        (offer(video()).replace("sha-256", "sha-1"), "fingerprint"),
        (offer(video()).replace(":AB:AB", ":AB:XY", 1), "fingerprint"),
        (offer(video()).replace(":AB:AB", ":AB", 1), "fingerprint"),
        (offer(video()).replace("a=ice-ufrag:Xk3f\r\n", ""), "ice-ufrag"),
        (offer(video()).replace("Xk3f", "X"), "ice-ufrag"),
        (offer(video()).replace("Xk3f", "X k3f"), "ice-ufrag"),
        (offer(video()).replace("a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", ""), "ice-pwd"),
        (offer(video()).replace("a=setup:actpass\r\n", ""), "setup"),
        (offer(video()).replace("actpass", "whatever"), "setup.*one of actpass"),
        (offer(video()).replace("a=rtcp-mux\r\n", ""), "rtcp-mux"),
        (offer(video()).replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "encrypted"),
        (offer(video(), data(), group="a=group:BUNDLE 0"), "BUNDLE"),
        (offer(video(), data(), group="a=x"), "BUNDLE"),
        (offer(video(), data(mid="0")), "a=mid"),
        (offer(video(), data()).replace("a=mid:0\r\n", ""), "a=mid"),
        (offer(video()).replace("a=mid:0", "a=mid:0 1"), "a=mid"),
        (offer(video(), data()).replace("a=sctp-port:5000\r\n", ""), "sctp-port"),
        (offer(video(), data()).replace("5000", "0"), "sctp-port"),
        (offer(video(), data()).replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"),
         "UDP/DTLS/SCTP"),
        (offer(video(), audio()).replace("SAVPF 111", "SAVPF opus"), "audio's payload types"),
        (offer([*video(), "a=fmtp:x"]), r"Line 19 \(a=fmtp\) is malformed"),
        (offer([*video(), "a=extmap:x y"]), r"\(a=extmap\) is malformed"),
        (offer([*video(), "a=ssrc:"]), r"\(a=ssrc\) is malformed"),
        (offer([*video(), "a=rtpmap:98"]), r"\(a=rtpmap\) is malformed"),
        (offer([*video(), "a=setup"]), r"\(a=setup\) is malformed"),
        (offer(video()).replace("m=video 9", "m=video x"), r"Line 6 \(m=\) is malformed"),
        (offer(video()).replace("SAVPF 96", "SAVPF 72"), "can't be decoded"),
        (offer([*video(), "m=text 9 UDP/TLS/RTP/SAVPF 96", "a=mid:7"]), "sections only"),
        (offer([*video(), "a=candidate:x"]), "candidate is malformed"),
        (offer([*video(), PUBLIC + " rport x"]), "candidate is malformed"),
        (offer([*video(), PUBLIC + " rport \u00b2"]), "candidate is malformed"),
        (offer([*video(), PUBLIC.replace("50000", "99999")]), "candidate is malformed"),
        (offer([*video(), *[PUBLIC] * 65]), "More than 64 candidates"),
        (offer([*video(), "a=x:" + "y" * 3000]), "more than 2048"),
        (offer([*video(), *["a=x"] * 1500]), "More than 1500 lines"),
        (offer([*video(), "a=\x00"]), "printed"),
        (offer([*video(), "a=name:\u2028m=video"]), "printed"),
        (offer([*video(), "a=x\x0bm=video"]), "printed"),
    ],
)  # fmt: skip
def test_an_offer_that_cannot_work_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(OfferError, match=reason) as refused:
        check_offer(text)
    assert refused.value.status == 400


@pytest.mark.parametrize("filler", [PUBLIC + "\r\n", "a=\u00e9\r\n", "x"])
def test_a_large_offer_is_refused_before_it_is_read(filler: str) -> None:
    with pytest.raises(OfferError, match="64 KB") as refused:
        check_offer(offer(video()) + filler * (900_000 // len(filler)))
    assert refused.value.status == 413


def test_the_limit_is_in_bytes() -> None:
    with pytest.raises(OfferError) as refused:
        check_offer("v=0\n" + "\u20ac" * 22_000)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("candidate", "rules", "kept"),
    [
        (PUBLIC, CandidateRules(), True),
        (PUBLIC.replace("198.51.100.7", "8.8.8.8"), CandidateRules(private=False), True),
        (PUBLIC.replace("198.51.100.7", "192.168.1.4"), CandidateRules(), True),
        (PUBLIC.replace("198.51.100.7", "192.168.1.4"), CandidateRules(private=False), False),
        (PUBLIC.replace("198.51.100.7", "10.0.0.1"), CandidateRules(private=False), False),
        (PUBLIC.replace("198.51.100.7", "fd00::1"), CandidateRules(private=False), False),
        (PUBLIC.replace("198.51.100.7", "::ffff:10.0.0.1"), CandidateRules(private=False), False),
        (PUBLIC.replace("198.51.100.7", "127.0.0.1"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "::ffff:127.0.0.1"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "127.0.0.1"), CandidateRules(loopback=True), True),
        (PUBLIC.replace("198.51.100.7", "169.254.169.254"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "fe80::1"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "224.0.0.1"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "0.0.0.0"), CandidateRules(), False),
        (PUBLIC.replace("198.51.100.7", "3b2c.local"), CandidateRules(loopback=True), False),
        (PUBLIC.replace("198.51.100.7", "example.org"), CandidateRules(), False),
        (PUBLIC.replace("udp", "tcp") + " tcptype active", CandidateRules(), False),
        (PUBLIC.replace("1 1 udp", "1 2 udp"), CandidateRules(), False),
        (PUBLIC.replace("typ host", "typ prflx"), CandidateRules(), False),
        (PUBLIC.replace("50000", "0"), CandidateRules(), False),
        (PUBLIC + " raddr 10.0.0.1 rport 9 generation 0", CandidateRules(), True),
    ],
)
def test_only_addresses_that_the_rules_allow_are_kept(
    candidate: str, rules: CandidateRules, kept: bool
) -> None:
    checked = check_offer(offer([*video(), candidate]), rules=rules)
    assert checked.sdp.count("a=candidate") == int(kept)
    assert (candidate in checked.sdp) == kept
    fragment = parse_trickle(f"a=mid:0\r\n{candidate}\r\n", rules=rules)
    assert [c.line for c in fragment.candidates] == ([candidate[2:]] if kept else [])


def test_a_trickle_fragment_names_the_section_and_the_end() -> None:
    fragment = parse_trickle(
        "a=ice-ufrag:Xk3f\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
        f"m=video 9 RTP/AVP 0\r\na=mid:0\r\n{PUBLIC}\r\na=end-of-candidates\r\n"
    )
    assert fragment.end
    assert [(c.mid, c.line) for c in fragment.candidates] == [("0", PUBLIC[2:])]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("v=0\r\n", 400),
        ("a=candidate:nonsense\r\n", 400),
        ("a=mid:\r\n", 400),
        ("a=ice-ufrag:!\r\n", 400),
        (f"{PUBLIC}\r\n" * 65, 400),
        ("a=x\r\n" * 20_000, 413),
    ],
)
def test_a_malformed_fragment_is_refused(body: str, status: int) -> None:
    with pytest.raises(OfferError) as refused:
        parse_trickle(body)
    assert refused.value.status == status


CHECKS: list[Callable[[str], object]] = [check_offer, parse_trickle]


@pytest.mark.parametrize("check", CHECKS)
@given(text=st.text(max_size=400))
def test_garbage_is_an_offer_error_or_fine_and_nothing_else(
    check: Callable[[str], object], text: str
) -> None:
    try:
        check(text)
    except OfferError as error:
        assert error.status in (400, 413)
        assert str(error)


@given(
    cut=st.integers(0, 900),
    place=st.integers(0, 900),
    noise=st.text(
        st.characters(codec="ascii", exclude_categories=["Cc"]) | st.just("\n"), max_size=40
    ),
    removed=st.integers(0, 30),
)
def test_a_damaged_offer_is_an_offer_error_or_fine_and_nothing_else(
    cut: int, place: int, noise: str, removed: int
) -> None:
    text = offer([*video(), PUBLIC], data())
    damaged = (text[:place] + noise + text[place + removed :])[: len(text) + len(noise) - cut]
    try:
        checked = check_offer(damaged)
    except OfferError as error:
        assert str(error)
    else:
        assert SessionDescription.parse(checked.sdp).media


ANSWER = """v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1
m=video 50000 UDP/TLS/RTP/SAVPF 96 97 98
c=IN IP4 198.51.100.7
a=recvonly
a=mid:0
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 H264/90000
a=fmtp:98 packetization-mode=1;profile-level-id=42e01f
a=candidate:1 1 udp 2113937151 198.51.100.7 50000 typ host
a=ice-ufrag:Xk3f
a=ice-pwd:abcdefghijklmnopqrstuvwx
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:1
a=sctp-port:5000
a=ice-ufrag:Xk3f
a=ice-pwd:abcdefghijklmnopqrstuvwx
""".replace("\n", "\r\n")
RATES = "x-google-min-bitrate=273;x-google-start-bitrate=546"
LIMITS = f"max-fr=15;max-fs=720;{RATES}"  # 569x320: 36 x 20 blocks
OFFER = Offer(
    sdp="", h264={"98": "profile-level-id=640c1f"}, audio=("9", ""), bundle=True, mid=True
)


def test_the_sdp_answer_limits_the_video_to_what_is_used() -> None:
    lines = finish_answer(ANSWER, OFFER, short_side=320, fps=15).splitlines()
    assert f"a=fmtp:96 {LIMITS}" in lines
    assert f"a=fmtp:98 profile-level-id=640c1f;{RATES}" in lines
    assert "a=fmtp:97 apt=96" in lines
    video = lines.index("m=video 50000 UDP/TLS/RTP/SAVPF 96 97 98")
    assert lines[video + 1 : video + 3] == ["c=IN IP4 198.51.100.7", "b=TIAS:819360"]
    assert sum(line.startswith("b=") for line in lines) == 1
    parsed = SessionDescription.parse("\r\n".join(lines))
    vp8, _, h264 = parsed.media[0].rtp.codecs
    assert (vp8.parameters["max-fr"], vp8.parameters["max-fs"]) == (15, 720)
    assert h264.parameters["profile-level-id"] == "640c1f"


def test_a_larger_model_allows_more() -> None:
    small = finish_answer(ANSWER, OFFER, short_side=256, fps=8)
    large = finish_answer(ANSWER, OFFER, short_side=438, fps=15.5)
    assert "max-fr=8;max-fs=464;" in small and "max-fr=16;max-fs=1372;" in large


def test_candidates_end_once() -> None:
    finished = finish_answer(ANSWER, OFFER, short_side=320, fps=15)
    again = finish_answer(finished, OFFER, short_side=320, fps=15)
    assert again.count("a=end-of-candidates") == again.count("b=TIAS") == 1
    assert finished.index("a=end-of-candidates") < finished.index("m=application")
    assert finished.endswith("\r\n")


def test_the_sdp_answer_names_and_groups_nothing_that_the_offer_does_not() -> None:
    plain = dataclasses.replace(OFFER, bundle=False, mid=False)
    assert "a=mid" in finish_answer(ANSWER, OFFER, short_side=320, fps=15)
    finished = finish_answer(ANSWER, plain, short_side=320, fps=15)
    assert "a=mid" not in finished and "BUNDLE" not in finished


@pytest.mark.parametrize(
    ("audio", "lines"),
    [
        (("111", "opus/48000/2"), ["m=audio 7 X 111", "a=rtpmap:111 opus/48000/2"]),
        (("9", ""), ["m=audio 7 X 9"]),
    ],
)
def test_the_sdp_answer_names_the_audio_codec_that_was_offered(
    audio: tuple[str, str], lines: list[str]
) -> None:
    section = "m=audio 7 X 96\r\na=rtpmap:96 opus/48000/2\r\n"
    given = dataclasses.replace(OFFER, audio=audio)
    finished = finish_answer(section + ANSWER, given, short_side=320, fps=15).splitlines()
    assert finished[: len(lines)] == lines

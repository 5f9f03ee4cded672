"""What is added to our answer."""

from __future__ import annotations

from aiortc.sdp import SessionDescription

from streaming.webrtc.offer import finish_answer

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


def test_senders_are_asked_for_what_is_looked_at() -> None:
    lines = finish_answer(ANSWER, short_side=320, fps=15).splitlines()
    assert f"a=fmtp:96 {LIMITS}" in lines
    assert f"a=fmtp:98 packetization-mode=1;profile-level-id=42e01f;{RATES}" in lines
    assert "a=fmtp:97 apt=96" in lines
    video = lines.index("m=video 50000 UDP/TLS/RTP/SAVPF 96 97 98")
    assert lines[video + 1 : video + 3] == ["c=IN IP4 198.51.100.7", "b=TIAS:819360"]
    assert sum(line.startswith("b=") for line in lines) == 1
    parsed = SessionDescription.parse("\r\n".join(lines))
    vp8, _, h264 = parsed.media[0].rtp.codecs
    assert (vp8.parameters["max-fr"], vp8.parameters["max-fs"]) == (15, 720)
    assert h264.parameters["profile-level-id"] == "42e01f"


def test_a_larger_model_asks_for_more() -> None:
    small = finish_answer(ANSWER, short_side=256, fps=8)
    large = finish_answer(ANSWER, short_side=438, fps=15.5)
    assert "max-fr=8;max-fs=464;" in small and "max-fr=16;max-fs=1372;" in large


def test_candidates_have_an_end_and_only_one() -> None:
    finished = finish_answer(ANSWER, short_side=320, fps=15)
    again = finish_answer(finished, short_side=320, fps=15)
    assert again.count("a=end-of-candidates") == again.count("b=TIAS") == 1
    assert finished.index("a=end-of-candidates") < finished.index("m=application")
    assert finished.endswith("\r\n")

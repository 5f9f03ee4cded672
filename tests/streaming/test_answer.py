"""What is added to our answer."""

from __future__ import annotations

from aiortc.sdp import SessionDescription

from streaming.answer import finish_answer

ANSWER = """v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1
m=video 50000 UDP/TLS/RTP/SAVPF 96 97 98
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
RATES = "x-google-min-bitrate=300;x-google-start-bitrate=700;x-google-max-bitrate=1200"


def test_every_video_codec_is_told_its_bit_rate() -> None:
    lines = finish_answer(ANSWER, start_kbps=700, max_kbps=1200).splitlines()
    assert f"a=fmtp:96 {RATES}" in lines
    assert f"a=fmtp:98 packetization-mode=1;profile-level-id=42e01f;{RATES}" in lines
    assert "a=fmtp:97 apt=96" in lines
    parsed = SessionDescription.parse("\r\n".join(lines))
    vp8, _, h264 = parsed.media[0].rtp.codecs
    assert vp8.parameters["x-google-max-bitrate"] == "1200"
    assert h264.parameters["profile-level-id"] == "42e01f"


def test_candidates_have_an_end_and_only_one() -> None:
    finished = finish_answer(finish_answer(ANSWER))
    assert finished.count("a=end-of-candidates") == 1
    assert finished.index("a=end-of-candidates") < finished.index("m=application")
    assert finished.endswith("\r\n")

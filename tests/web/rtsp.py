"""A camera that speaks RTSP, as far as one reader over TCP needs it (RFC 2326, RFC 6184)."""

from __future__ import annotations

import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np

FPS = 30
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n"
)


def _pictures(levels: Sequence[int]) -> Iterator[list[bytes]]:
    """The NAL units of each picture: a second of each level, in H.264."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), FPS
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
    for number, level in enumerate(np.repeat(levels, FPS)):
        picture = av.VideoFrame.from_ndarray(np.full((240, 320, 3), level, np.uint8), "rgb24")
        picture.pts = number
        for packet in encoder.encode(picture):
            parts = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
            yield [part for part in parts if part]


class _Camera(socketserver.StreamRequestHandler):
    levels: Sequence[int] = ()

    def handle(self) -> None:
        while line := self.rfile.readline().decode().split():
            headers = {}
            while header := self.rfile.readline().strip().decode():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            self._answer(line[0], line[1], headers)
            if line[0] == "PLAY":
                return self._play()

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> None:
        extra, body = {
            "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n", ""),
            "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Base: {url}/\r\n", _SDP),
            "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
        }.get(method, ("Session: 1\r\n", ""))
        head = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nContent-Length: {len(body)}\r\n"
        self.wfile.write(f"{head}{extra}\r\n{body}".encode())

    def _play(self) -> None:
        began_s = time.monotonic()
        place = 0
        for number, units in enumerate(_pictures(self.levels)):
            time.sleep(max(0.0, began_s + number / FPS - time.monotonic()))  # a camera's own pace
            for unit in units:
                assert len(unit) < 60_000, "too large for one packet over TCP"
                marker = 0x80 if unit is units[-1] else 0
                rtp = struct.pack(">BBHII", 0x80, 96 | marker, place, number * 90_000 // FPS, 1)
                place += 1
                packet = rtp + unit
                try:
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the reader has hung up


@contextmanager
def rtsp_camera(*levels: int) -> Iterator[str]:
    """A camera that shows each level for a second; its address."""
    handler = type("Camera", (_Camera,), {"levels": levels})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.server_address[1]}/live"
        finally:
            server.shutdown()
            thread.join()

"""Senders that are no browsers, as people stream with them: each has its signs read."""

from __future__ import annotations

import pytest

from streaming.server import Server
from tests.clients.install import FOLDER, GSTREAMER, missing
from tests.clients.senders import ffmpeg_camera, read_signs


def needs(*names: str) -> pytest.MarkDecorator:
    problem = missing(*names)
    return pytest.mark.skipif(problem is not None, reason=str(problem))


@needs("gstreamer")
@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_gstreamer(server: Server, codec: str) -> None:
    """webrtcbin: an RSA certificate, and an offer of one codec."""
    read = await read_signs(server, *GSTREAMER, codec, f"{server.url}/whip")
    assert sorted(read.signs) == ["bright", "dark"] and read.predictions > 10
    assert read.end_reason == "deleted"


@needs("ffmpeg8")
async def test_ffmpeg(server: Server) -> None:
    """The WHIP muxer with video alone: BUNDLE names a media section that is not there, H.264 High,
    ICE checks without a priority."""
    encoder = "-map 0:v -c:v libx264 -preset veryfast -bf 0 -g 15 -b:v 500k -pix_fmt yuv420p"
    whip = ["-f", "whip", f"{server.url}/whip"]
    read = await read_signs(server, *ffmpeg_camera(), *encoder.split(), *whip)
    assert sorted(read.signs) == ["bright", "dark"] and read.predictions > 10
    assert read.end_reason == "deleted"


@needs("node", "node-datachannel", "ffmpeg8")
@pytest.mark.parametrize("shape", ["vp8", "obs"])
async def test_libdatachannel(server: Server, shape: str) -> None:
    """VP8 alone; and what OBS, which is built on it, offers: Opus and H.264, no trickle."""
    script = str(FOLDER / "libdatachannel.mjs")
    read = await read_signs(server, "node", script, shape, f"{server.url}/whip", *ffmpeg_camera())
    assert sorted(read.signs) == ["bright", "dark"] and read.predictions > 10
    assert read.end_reason == "deleted"

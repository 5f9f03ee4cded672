"""Senders that are no browsers, as people stream with them: each has its signs read."""

from __future__ import annotations

import pytest

from tests.clients.install import FOLDER, GSTREAMER, missing
from tests.clients.senders import Reading, ffmpeg_camera, read_signs
from tests.service.client import Service
from tests.service.serving import TOKEN


def needs(*names: str) -> pytest.MarkDecorator:
    problem = missing(*names)
    return pytest.mark.skipif(problem is not None, reason=str(problem))


def check(read: Reading) -> None:
    assert sorted(read.signs) == ["bright", "dark"] and read.predictions > 10
    assert read.end_reasons == ["deleted"]


@needs("gstreamer")
@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_gstreamer(service: Service, codec: str) -> None:
    """webrtcbin: an RSA certificate, and an offer of one codec."""
    check(await read_signs(service, lambda url: [*GSTREAMER, codec, url]))


@needs("ffmpeg8")
async def test_ffmpeg(service: Service) -> None:
    """The WHIP muxer with video alone: BUNDLE names a media section that is not there, H.264 High,
    ICE checks without a priority."""
    encoder = "-map 0:v -c:v libx264 -preset veryfast -bf 0 -g 15 -b:v 500k -pix_fmt yuv420p"
    command = [*ffmpeg_camera(), *encoder.split(), "-f", "whip", "-authorization", TOKEN]
    check(await read_signs(service, lambda url: [*command, url]))


@needs("node", "node-datachannel", "ffmpeg8")
@pytest.mark.parametrize("shape", ["vp8", "obs"])
async def test_libdatachannel(service: Service, shape: str) -> None:
    """VP8 alone; and what OBS, which is built on it, offers: Opus and H.264, no trickle."""
    script = str(FOLDER / "libdatachannel.mjs")
    check(await read_signs(service, lambda url: ["node", script, shape, url, *ffmpeg_camera()]))

"""Pictures that were encoded beforehand: the same ones, in time, each with its number."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from streaming.bench import barcode
from streaming.bench.camera import RecordedCamera, record
from streaming.bench.peers import PeerLog


async def test_a_recording_is_sent_in_time_over_and_over(tmp_path: Path) -> None:
    path = tmp_path / "camera.ivf"
    grey = (np.full((96, 128, 3), 112, np.uint8) for _ in itertools.count())
    record(path, grey, frames=8, fps=60)
    camera = RecordedCamera(path)
    began_s = time.monotonic()
    packets = [await camera.recv() for _ in range(12)]
    assert time.monotonic() - began_s >= 11 / 60
    assert [packet.pts for packet in packets] == [1500 * number for number in range(12)]
    assert camera.made_s == sorted(camera.made_s) and len(camera.made_s) == 12
    decoder = av.CodecContext.create("vp8", "r")
    pictures = [frame for packet in packets for frame in decoder.decode(av.Packet(bytes(packet)))]
    images = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in pictures]
    assert [barcode.read(image) for image in images] == [*range(8), *range(4)]
    camera.stop()
    with pytest.raises(MediaStreamError):
        await camera.recv()


def test_a_number_that_came_again_is_the_newest_picture_before() -> None:
    heard = PeerLog(made_s=[float(n) for n in range(20)], pictures=8)
    assert heard.made(3, came_s=3.5) == 3
    assert heard.made(3, came_s=11.5) == 11
    assert heard.made(3, came_s=100.0) == 19
    assert heard.made(3, came_s=2.9) is None
    assert heard.made(8, came_s=100.0) is None

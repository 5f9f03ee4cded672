"""Pictures that were encoded beforehand: the same ones, in time, each with its number."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from streaming import barcode
from streaming.recording import RecordedCamera, record


async def test_a_recording_is_sent_once_in_time_and_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "camera.ivf"
    grey = (np.full((96, 128, 3), 112, np.uint8) for _ in itertools.count())
    record(path, grey, frames=12, fps=60)
    camera = RecordedCamera(path)
    began_s = time.monotonic()
    packets = [await camera.recv() for _ in range(12)]
    assert time.monotonic() - began_s >= 11 / 60
    assert [packet.pts for packet in packets] == [1500 * number for number in range(12)]
    assert camera.made_s == sorted(camera.made_s) and len(camera.made_s) == 12
    with pytest.raises(MediaStreamError):
        await camera.recv()
    decoder = av.CodecContext.create("vp8", "r")
    pictures = [frame for packet in packets for frame in decoder.decode(av.Packet(bytes(packet)))]
    images = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in pictures]
    assert [barcode.read(image) for image in images] == list(range(12))

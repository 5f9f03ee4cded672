"""The cameras of benchmarks and tests: frames in time, each with its number."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from streaming.bench import barcode
from streaming.bench.camera import RecordedCamera, SyntheticCamera, clip_pictures, record


async def test_frames_come_at_their_rate_with_their_number() -> None:
    camera = SyntheticCamera(fps=50, size=(128, 96))
    began_s = time.monotonic()
    frames = [await camera.recv() for _ in range(4)]
    assert time.monotonic() - began_s >= 3 / 50
    assert [frame.pts for frame in frames] == [0, 1800, 3600, 5400]
    pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
    assert [barcode.read(picture) for picture in pictures] == [0, 1, 2, 3]
    assert len(camera.made_s) == 4
    camera.stop()
    with pytest.raises(MediaStreamError):
        await camera.recv()


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


def test_a_clip_is_sent_over_and_over(data_dir: Path) -> None:
    clip = next(iter(sorted((data_dir / "clips").glob("*.mp4"))))
    with av.open(str(clip)) as container:
        count = sum(1 for _ in container.decode(video=0))
    pictures = clip_pictures(str(clip), (160, 120))
    played = [next(pictures) for _ in range(count + 1)]
    assert played[0].shape == (120, 160, 3)
    assert np.array_equal(played[0], played[count])
    assert played[0] is not played[count]  # each may be drawn on


def test_a_file_that_is_no_video_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises((OSError, av.FFmpegError)):
        clip_pictures(str(path), (160, 120))


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (256, 192), (128, 96), (90, 160)])
def test_a_bar_code_is_read_at_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for number in (0, 1, 4242, 65535):
        barcode.write(image, number)
        assert barcode.read(image) == number
    barcode.write(image, 65536 + 7)
    assert barcode.read(image) == 7


@pytest.mark.parametrize("level", [0, 112, 255])
def test_no_bar_code_is_read_from_a_plain_picture(level: int) -> None:
    assert barcode.read(np.full((240, 320, 3), level, np.uint8)) is None


def test_a_spoilt_block_is_noticed() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    barcode.write(image, 1234)
    image[:30, :32] = 255 - image[:30, :32]
    assert barcode.read(image) is None

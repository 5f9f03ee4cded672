"""Video files as phones, broadcasters, editors and music programs leave them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from offline.data.videos import (
    PictureClock,
    VideoError,
    VideoPart,
    container_times,
    is_video,
    read_video,
)
from tests.offline.clips import picture, write_clip

# a, b, c, d of a display matrix: where a picture's red corner is shown, and if its sides change.
ORIENTATIONS = {
    (1, 0, 0, 1): ((0, 0), False),
    (-1, 0, 0, 1): ((0, -1), False),  # mirrored left and right
    (1, 0, 0, -1): ((-1, 0), False),  # upside down, mirrored
    (-1, 0, 0, -1): ((-1, -1), False),
    (0, 1, 1, 0): ((0, 0), True),  # transposed
    (0, 1, -1, 0): ((0, -1), True),
    (0, -1, 1, 0): ((-1, 0), True),
    (0, -1, -1, 0): ((-1, -1), True),
}


def with_matrix(path: Path, matrix: Sequence[int]) -> Path:
    """The MP4 at `path`, with another display matrix in its track."""
    a, b, c, d = (65536 * number for number in matrix)
    unity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    data, at = path.read_bytes(), path.read_bytes().rindex(unity)
    other = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(data[:at] + other + data[at + len(other) :])
    return path


def image_of(path: Path) -> NDArray[np.uint8]:
    return next(read_video(path, 320)).image


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_turned_and_mirrored(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    corner, turned = ORIENTATIONS[matrix]
    image = image_of(with_matrix(write_clip(tmp_path / "a.mp4", 3), matrix))
    assert image.shape[:2] == ((64, 48) if turned else (48, 64))
    rows, columns = np.nonzero(image[..., 0].astype(int) - image[..., 1] > 120)
    height, width = image.shape[:2]
    assert (rows.mean() > height / 2, columns.mean() > width / 2) == tuple(n < 0 for n in corner)


@pytest.mark.parametrize("name", ["hflip", "vflip", "transpose"])
def test_the_mirrored_cases(cases: Path, name: str) -> None:
    path = cases / "mirrored_matrix" / f"{name}.mp4"
    with av.open(str(path)) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    want = {"hflip": coded[:, ::-1], "vflip": coded[::-1], "transpose": coded.swapaxes(0, 1)}[name]
    image = image_of(path)
    assert image.shape == want.shape and np.abs(image - want).mean() < 2
    if name != "transpose":  # its sides change, so nothing else can be meant
        assert np.abs(image - coded).mean() > 2


def test_a_matrix_of_zeros_turns_nothing(tmp_path: Path) -> None:
    path = with_matrix(write_clip(tmp_path / "a.mp4", 3), (0, 0, 0, 0))
    assert image_of(path).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.ts", "libx264", "mpegts"),
        ("a.mts", "mpeg2video", "mpegts"),
        ("a.vob", "mpeg2video", "vob"),
        ("a.mpg", "mpeg1video", "mpeg"),
    ],
)
@pytest.mark.parametrize("lengths", [(20, 30, 25), (40, 3, 3, 3), (5, 60)])
def test_joined_parts_go_on(
    tmp_path: Path, name: str, codec: str, container: str, lengths: tuple[int, ...]
) -> None:
    parts = [
        write_clip(tmp_path / f"{i}.part", n, fps=25, codec=codec, format=container).read_bytes()
        for i, n in enumerate(lengths)
    ]
    (tmp_path / name).write_bytes(b"".join(parts))
    times = [frame.media_s for frame in read_video(tmp_path / name, 320)]
    assert sum(lengths) - 3 * len(lengths) <= len(times) <= sum(lengths)
    assert times[0] == 0 and times[-1] == pytest.approx(len(times) / 25, abs=0.3)
    assert max(np.diff(times)) < 0.3
    assert container_times(tmp_path / name) == []  # so that the pictures themselves are counted


@pytest.mark.parametrize("starts", [(0, 3600), (3600, 0), (80000, 12.5), (0, 11)])
def test_parts_whose_times_lie_far_apart(tmp_path: Path, starts: tuple[float, float]) -> None:
    parts = []
    for start in starts:
        times = [start + number / 25 for number in range(20)]
        parts.append(write_clip(tmp_path / "part.ts", times, fps=25).read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    shown = [frame.media_s for frame in read_video(tmp_path / "a.ts", 320)]
    np.testing.assert_allclose(shown, np.arange(40) / 25, atol=0.01)


STEADY = [n / 10 for n in range(20)]


@pytest.mark.parametrize(
    ("stated", "want"),
    [
        (STEADY, STEADY),
        ([None] * 4, [0, 0.04, 0.08, 0.12]),
        ([7, 7.1, 7.1, 7.08, 7.2], [0, 0.1, None, None, 0.2]),  # repeated, or back a little
        ([0, 0.1, 0.2, 0, 0.1, 0.2], STEADY[:6]),  # starts anew
        ([0, 0.1, 0, 0.1, 0, 0.1], STEADY[:6]),  # again and again
        ([0, 0.1, 9.0], [0, 0.1, 9.0]),  # a pause
        ([0, 0.1, 5000.1, 5000.2], STEADY[:4]),
        ([0, 0.1, 5000, 0.3, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),  # one picture's wrong time
        ([5, 5.1, 0, 5.3, 5.4], [0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_the_media_clock(stated: list[float | None], want: list[float | None]) -> None:
    clock = PictureClock(25)
    shown = [clock.media_s(time_s) for time_s in stated]
    assert [None if s is None else round(s, 6) for s in shown] == want


def write_cover(
    path: Path,
    codec: str = "mjpeg",
    *,
    attached: bool = False,
    covers: int = 1,
    video: int = 20,
    sound: bool = False,
) -> Path:
    """A file whose first stream is so many pictures of 32x32, and its second a video of 64x48."""
    with av.open(str(path), "w") as container:
        cover: Any = container.add_stream(codec, rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        if attached:
            cover.disposition = Disposition.attached_pic
        stream: Any = container.add_stream("libx264", rate=10) if video else None
        if stream:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        audio: Any = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        black = np.zeros((32, 32, 3), np.uint8)
        for own, images in (
            (cover, [black] * covers),
            (stream, [picture(i) for i in range(video)]),
        ):
            for index, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 1 if own is cover else 10)
                container.mux(own.encode(frame))
            if own:
                container.mux(own.encode())
        if audio:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux([*audio.encode(silence), *audio.encode()])
    return path


@pytest.mark.parametrize(
    ("name", "codec", "attached", "covers"),
    [
        ("a.mp4", "mjpeg", True, 1),
        ("a.mp4", "png", True, 1),
        ("a.mov", "png", False, 1),
        ("a.mkv", "mjpeg", True, 1),
        ("a.mkv", "mjpeg", False, 1),
        ("a.mkv", "mjpeg", False, 3),  # thumbnails
        ("a.mkv", "libx264", False, 1),
    ],
)
def test_a_picture_before_the_video(
    tmp_path: Path, name: str, codec: str, attached: bool, covers: int
) -> None:
    path = write_cover(tmp_path / name, codec, attached=attached, covers=covers)
    frames = list(read_video(path, 320))
    assert len(frames) == 20 and frames[0].image.shape == (48, 64, 3)
    assert len(container_times(path)) == 20


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "png"), ("a.mp4", "mjpeg"), ("a.mkv", "mjpeg")]
)
def test_a_song_with_a_cover_is_no_clip(
    tmp_path: Path, name: str, codec: str, attached: bool
) -> None:
    path = write_cover(tmp_path / name, codec, attached=attached, video=0, sound=True)
    with pytest.raises(VideoError, match=r"no video in it, only a picture"):
        list(read_video(path, 320))
    assert not is_video(path)


@pytest.mark.parametrize(
    ("codec", "pixels", "container"),
    [
        ("png", "rgb24", "image2pipe"),
        ("mjpeg", "yuvj420p", "image2pipe"),
        ("bmp", "bgr24", "image2pipe"),
        ("apng", "rgb24", "apng"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_photograph_under_the_name_of_a_video(
    tmp_path: Path, codec: str, pixels: str, container: str, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        frame = av.VideoFrame.from_ndarray(picture(1), format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        file.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(VideoError, match="picture"):
        list(read_video(path, 320))


@pytest.mark.parametrize(
    "name",
    [
        *(b"a:b.mp4", b"http:x.mp4", b"file:x.mp4", b"50%d%%.mp4", b"caf\xe9.mp4", b"a\nb.mp4"),
        *(b"-i.mp4", b"a|b.mp4", b"'.mp4", b"concat:a.mp4", "\u00fc.mp4".encode(), b" .mp4"),
    ],
)
def test_any_name(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "plain.mp4", 4).rename(os.fsdecode(name))
    for path in (Path(os.fsdecode(name)), tmp_path / os.fsdecode(name)):
        assert len(list(read_video(path, 320))) == 4
        assert len(container_times(path)) == 4


def shades(source: Path | VideoPart) -> list[int]:
    """Which pictures of `write_clip`'s come, counted from 1."""
    return [round((int(f.image[40, 60, 0]) - 40) / 10) + 1 for f in read_video(source, 320)]


@pytest.mark.parametrize(
    ("first", "last", "want"),
    [
        (5, 9, range(5, 10)),
        (1, 4, range(1, 5)),
        (5, None, range(5, 13)),
        (1, 12, range(1, 13)),
        (12, 12, [12]),
        (5, 13, range(1, 13)),  # the file is cut already: it has fewer than 13
        (300, 311, range(1, 13)),
        (13, None, range(1, 13)),
    ],
)
def test_a_part_of_a_video(
    tmp_path: Path, first: int, last: int | None, want: Sequence[int]
) -> None:
    path = write_clip(tmp_path / "a.mp4", 12)
    part = VideoPart(path=path, first=first, last=last)
    assert shades(part) == list(want)
    times = [frame.media_s for frame in read_video(part, 320)]
    np.testing.assert_allclose(times, np.arange(len(times)) / 10, atol=1e-6)
    np.testing.assert_allclose(container_times(part), times, atol=1e-6)

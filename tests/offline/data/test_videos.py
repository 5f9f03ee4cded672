from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from models.window import FrameSampler
from offline.data.videos import VideoError, read_video
from tests.offline.clips import picture, write_clip


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif", "a.avi"])
def test_containers(tmp_path: Path, name: str) -> None:
    codec = {"webm": "libvpx", "gif": "gif", "avi": "mjpeg"}.get(name[2:], "libx264")
    frames = list(read_video(write_clip(tmp_path / name, 10, codec=codec), 320))
    np.testing.assert_allclose([f.media_s for f in frames], np.arange(10) / 10, atol=0.011)
    for index, frame in enumerate(frames):
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        assert frame.image.shape == (48, 64, 3)
        want = picture(index)
        np.testing.assert_allclose(frame.image[40, 60], want[40, 60], atol=60)
        np.testing.assert_allclose(frame.image[10, 10], want[10, 10], atol=60)


@pytest.mark.parametrize(
    "name", ["metadata_not_utf8.mp4", "deaf.mkv", "letter_u.gif", "shock.webm"]
)
def test_odd_files_from_the_web(data_dir: Path, name: str) -> None:
    times = []
    for frame in read_video(data_dir / "odd" / name, 120):
        assert min(frame.image.shape[:2]) <= 120
        times.append(frame.media_s)
    assert times and times[0] == 0
    assert (np.diff(times) > 0).all()


def test_times_are_the_files_own_and_start_at_zero(tmp_path: Path) -> None:
    times = [5.0, 5.1, 5.35, 5.4, 6.2]
    frames = list(read_video(write_clip(tmp_path / "vfr.mkv", times), 320))
    np.testing.assert_allclose([f.media_s for f in frames], np.array(times) - 5, atol=0.002)


def test_only_wanted_frames_come(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, fps=30)
    asked = []

    def wants(media_s: float) -> bool:
        asked.append(media_s)
        return sampler.wants(media_s)

    sampler = FrameSampler(10)
    frames = list(read_video(path, 320, wants))
    assert len(asked) == 60
    np.testing.assert_allclose([f.media_s for f in frames], np.arange(20) / 10, atol=0.002)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (100, 100)])
def test_the_short_side_is_limited_and_the_shape_kept(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    frame = next(read_video(write_clip(tmp_path / "a.mp4", 2, size=size), 50))
    assert frame.image.shape[:2] == (size[1] // 2, size[0] // 2)
    frame = next(read_video(tmp_path / "a.mp4", 500))
    assert frame.image.shape[:2] == (size[1], size[0])


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))]
)
def test_a_turned_phone(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 3, rotation=rotation)
    image = next(read_video(path, 320)).image
    assert image.shape[:2] == ((48, 64) if rotation % 180 == 0 else (64, 48))
    red = image[corner].astype(int)
    assert red[0] > 200 and red[1] < 60, "the red quarter is not where it belongs"


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 3, aspect=Fraction(2, 1))
    assert next(read_video(path, 320)).image.shape == (48, 128, 3)


def test_one_frame(tmp_path: Path) -> None:
    frames = list(read_video(write_clip(tmp_path / "a.mp4", 1), 320))
    assert [f.media_s for f in frames] == [0]


def test_frames_without_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "raw.h264", 10, format="h264", fps=25)
    times = [f.media_s for f in read_video(path, 320)]
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)
    assert times[0] == 0 and len(times) == 10


def test_a_file_that_breaks_off_gives_what_is_there(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 200, size=(320, 240))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames = list(read_video(path, 320))
    assert 1 <= len(frames) < 200


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"hello, I am text", "not a video"), (b"\x00" * 5000, "not a video")],
)
def test_files_that_are_no_video(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=says) as caught:
        list(read_video(path, 320))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 50)
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(VideoError):
        list(read_video(path, 320))


def test_sound_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match="no video in it"):
        list(read_video(tmp_path / "a.mka", 320))


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4", "a.ts"])
@pytest.mark.parametrize("text", [HLS, "ffconcat version 1.0\nfile {other}\n"])
def test_a_playlist_makes_nobody_read_other_files(tmp_path: Path, name: str, text: str) -> None:
    other = write_clip(tmp_path / "other.ts")
    (tmp_path / name).write_text(text.format(other=other.name))
    with pytest.raises(VideoError, match="not a video file"):
        list(read_video(tmp_path / name, 320))


def test_a_name_is_never_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "other.ts")
    trap = tmp_path / "concat:other.ts"
    trap.write_text("no video")
    with pytest.raises(VideoError, match="not a video file"):
        list(read_video(trap.name, 320))
    write_clip(tmp_path / "own.ts", 3).rename(trap)
    assert len(list(read_video(trap.name, 320))) == 3


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(VideoError, match="no such file"):
            list(read_video(path, 320))

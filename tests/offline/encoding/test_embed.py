from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.picture import PictureScaler
from models.schema import Clip, Embedding, EncoderSpec
from models.window import FrameSampler, windows
from offline.data.labels import LabelledVideo
from offline.data.videos import read_pictures, read_video
from offline.encoding.embed import (
    DecodedWindows,
    EncodedVideo,
    EncodeTask,
    VariantRows,
    WindowPlan,
    decode_windows,
    encode_whole_video,
    encode_windows,
    encoder_identity,
    row_per_frame,
    ticks,
)
from tests.offline.clips import write_clip


class GreyEncoder:
    """Returns the grey level of each frame and the range of its pixels, D = 2."""

    def __init__(self, kind: str, frames: int = 4, fps: float = 10.0) -> None:
        self.spec = EncoderSpec(
            kind=kind, source="test", revision="1", dim=2, frames=frames, fps=fps, short_side=32
        )
        self.device = "cpu"
        self.forgotten: list[str] = []
        self.clips: list[Clip] = []

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self.clips += clips
        return [
            Embedding(
                features=np.array(
                    [[f.image[-4:, -4:].mean(), np.ptp(f.image)] for f in clip.frames], np.float32
                ),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def close(self) -> None: ...


def task_of(path: Path, *variants: str) -> EncodeTask:
    video = LabelledVideo(video_id="a", path=path, gloss="x")
    return EncodeTask(video=video, variants=variants)


def window(path: Path) -> DecodedWindows:
    decoded = decode_windows(task_of(path, "original"), GreyEncoder("vjepa2").spec)
    assert isinstance(decoded, DecodedWindows)
    return decoded


def embed(encoder: GreyEncoder, path: Path, *variants: str) -> Sequence[VariantRows]:
    task = task_of(path, *variants)
    if row_per_frame(encoder.spec):
        return encode_whole_video(encoder, task).rows
    decoded = decode_windows(task, encoder.spec)
    assert isinstance(decoded, DecodedWindows)
    return encode_windows(encoder, [decoded])[0].rows


def test_a_row_a_tick_of_the_whole_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 30, fps=30)  # every third frame stands for a tick
    encoder = GreyEncoder("landmarks")
    [done] = embed(encoder, path, "original")
    assert done.rows.shape == (10, 2) and done.frames == 10
    grey = 40 + 10 * (np.arange(0, 30, 3) % 20)
    np.testing.assert_allclose(done.rows[:, 0], grey, atol=8)
    assert len(encoder.forgotten) == 1


def test_a_tick_without_a_frame_repeats_the_row_and_the_object(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [0.0, 0.1, 0.8, 0.9])
    encoder = GreyEncoder("landmarks")
    [done] = embed(encoder, path, "bw")
    assert len(done.rows) == 10 and done.frames == 4
    frames = [frame for clip in encoder.clips for frame in clip.frames]
    assert len({id(f) for f in frames[1:8]}) == 1  # across chunks of 4, and changed only once
    np.testing.assert_allclose(done.rows[1:8], done.rows[1:2].repeat(7, 0))


def test_rows_are_those_of_the_live_windows(tmp_path: Path) -> None:
    """The last tick of every live window is the row that the store has for it."""
    path = write_clip(tmp_path / "a.mkv", [0.0, 0.04, 0.12, 0.5, 0.51, 0.58, 0.7, 0.9, 1.3])
    encoder = GreyEncoder("landmarks")
    [stored] = embed(encoder, path, "original")
    cut = list(windows("s", read_video(path, 32), encoder.spec, 0.05))
    for clip, features in zip(cut, encoder.encode(cut), strict=True):
        last = FrameSampler(10.0).tick(clip.end_s)
        steps = np.arange(last - 3, last + 1).clip(min=0)
        np.testing.assert_array_equal(features.features, stored.rows[steps])


@pytest.mark.parametrize(("count", "first"), [(10, 3), (4, 0), (2, 0)])
def test_the_middle_window(tmp_path: Path, count: int, first: int) -> None:
    path = write_clip(tmp_path / "a.mp4", count)
    encoder = GreyEncoder("vjepa2")
    original, grey = embed(encoder, path, "original", "bw")
    assert original.rows.shape == (4, 2) and original.frames == min(4, count)
    ticks = np.arange(first, first + 4) if count >= 4 else np.array([0, 0, 0, 1])
    np.testing.assert_allclose(original.rows[:, 0], 40 + 10.0 * ticks, atol=8)
    assert grey.rows[0, 1] < original.rows[0, 1]  # the red is gone
    assert len(set(map(id, encoder.clips[1].frames))) == min(4, count)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.gif", "a.mov", "raw.h264"])
def test_the_middle_by_stated_times_is_the_middle_by_counting(tmp_path: Path, name: str) -> None:
    codec = {".gif": "gif", ".webm": "libvpx"}.get(Path(name).suffix, "libx264")
    times = [0.0, 0.1, 0.15, 0.2, 0.5, 0.55, 0.62, 0.9, 1.0, 1.1, 1.3, 1.35]
    path = write_clip(tmp_path / name, times, codec=codec)
    encoder = GreyEncoder("vjepa2")
    shown = list(ticks(path, encoder.spec))
    first = (len(shown) - 4) // 2
    frames = window(path).clips[0].frames
    want = [frame.media_s for frame in shown[first : first + 4]]
    assert [frame.media_s for frame in frames] == want


def test_times_that_lie_do_not_lose_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", 10)
    want = [frame.media_s for frame in window(path).clips[0].frames]
    monkeypatch.setattr("offline.encoding.embed.container_times", lambda _: [0.0, 0.1, 9.0])
    assert [frame.media_s for frame in window(path).clips[0].frames] == want


def test_only_the_window_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 40)
    converted: list[tuple[int, ...]] = []
    rgb = PictureScaler.rgb

    def counted(self: PictureScaler, *args: Any) -> Any:
        image = rgb(self, *args)
        converted.append(image.shape)
        return image

    monkeypatch.setattr(PictureScaler, "rgb", counted)
    window(path)
    assert converted.count((32, 43, 3)) == 4
    assert converted.count((48, 64, 3)) == 40  # for the fingerprint


def windows_of(
    path: Path, plan: WindowPlan, size: tuple[int, int] = (64, 48)
) -> tuple[DecodedWindows, VariantRows]:
    task = EncodeTask(video=task_of(path).video, variants=("original", "bw"), plan=plan)
    encoder = GreyEncoder("vjepa2")
    decoded = decode_windows(task, encoder.spec)
    assert isinstance(decoded, DecodedWindows)
    [done] = encode_windows(encoder, [decoded])
    assert done.plan == plan and {rows.windows for rows in done.rows} == {decoded.windows}
    return decoded, done.rows[0]


@pytest.mark.parametrize(
    ("count", "segments", "firsts"),
    [
        (20, 3, [0, 8, 16]),  # from the first tick to the last
        (6, 5, [0, 1, 2]),  # there are no more than three
        (9, 2, [0, 5]),
        (4, 3, [0]),
        (3, 3, [-1]),  # begins with a repeat, as live
        (20, 1, [8]),
    ],
)
def test_windows_are_spread_over_the_video(
    tmp_path: Path, count: int, segments: int, firsts: list[int]
) -> None:
    path = write_clip(tmp_path / "a.mp4", count)
    _, done = windows_of(path, WindowPlan(segments=segments))
    assert done.windows == len(firsts) and done.rows.shape == (4 * len(firsts), 2)
    shown = np.maximum(np.concatenate([np.arange(first, first + 4) for first in firsts]), 0)
    np.testing.assert_allclose(done.rows[:, 0], 40 + 10.0 * (shown % 20), atol=8)
    assert done.frames == len(set(shown.tolist()))


def test_a_video_is_decoded_once_for_all_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = write_clip(tmp_path / "a.mp4", 40), []

    def counted(path: Path) -> Any:
        opened.append(path)
        return read_pictures(path)

    monkeypatch.setattr("offline.encoding.embed.read_pictures", counted)
    decoded, _ = windows_of(path, WindowPlan(segments=3, views=2))
    assert len(opened) == 2  # one of them is not begun: it would count the pictures
    ids = {id(frame.image.base) for clip in decoded.clips[:6] for frame in clip.frames}
    assert len(ids) == 12  # pictures in memory: views are parts of them


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (48, 48)])
def test_views_are_squares_along_the_long_side(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 4, size=size)
    decoded, done = windows_of(path, WindowPlan(views=3))
    seen = [clip.frames[0].image for clip in decoded.clips[: decoded.windows]]
    if size == (48, 48):
        assert done.windows == 1  # a square has one view
        return
    first, whole, last = seen
    assert done.windows == 3 and first.shape == last.shape == (32, 32, 3)
    assert max(whole.shape) == 43  # as live: the encoder takes its middle
    start, end = (whole[:, :32], whole[:, -32:]) if size[0] > 48 else (whole[:32], whole[-32:])
    np.testing.assert_array_equal(first, start)
    np.testing.assert_array_equal(last, end)


def test_windows_and_rule_are_part_of_the_identity() -> None:
    spec = GreyEncoder("vjepa2").spec
    plain = encoder_identity(spec)
    assert plain == encoder_identity(spec, plan=WindowPlan())
    others = {
        encoder_identity(spec, plan=WindowPlan(segments=2)),
        encoder_identity(spec, plan=WindowPlan(views=2)),
        encoder_identity(replace(spec, resize="exact")),
    }
    assert len(others | {plain}) == 4


def test_variants_differ(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 5)
    encoder = GreyEncoder("landmarks")
    embed(encoder, path, "original", "gaussian", "bw")
    original, gaussian, bw = (
        clip.frames[0].image.astype(int) for clip in encoder.clips if clip.start_s == 0
    )
    assert np.ptp(bw, axis=2).max() == 0
    assert 0 < np.abs(original - gaussian).max()
    assert original.shape == gaussian.shape == bw.shape


def test_a_video_of_hours_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [5.0 * number for number in range(130)])
    whole = encode_whole_video(GreyEncoder("landmarks"), task_of(path, "original"))
    middle = decode_windows(task_of(path, "original"), GreyEncoder("vjepa2").spec)
    for result in (whole, middle):
        assert isinstance(result, EncodedVideo) and "longer than 600 s" in result.error

"""Clips to train on: which are drawn, how they are changed, and how many are kept in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.schema import EncoderSpec
from models.vjepa2.preprocess import crop_pictures
from offline.data.examples import read_examples
from offline.data.index import Entry, write_index
from offline.data.labels import LabelledVideo
from offline.data.videos import VideoError
from offline.encoding.embed import DecodedWindows, EncodeTask, decode_windows, encoder_identity
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.finetuning.drawing import Drawing, KeptClip, KeptVideos, cut_ticks, placing
from tests.offline.clips import write_clip

SPEC = EncoderSpec(kind="vjepa2", source="s", revision="r", dim=8, frames=4, fps=8.0, short_side=36)
CROP = 32
NOTHING = ChangeSettings(
    zoom=0, shift=0, turn=0, colour=0, speed=0, shift_s=0, mirror=0, mixup=0
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_clip(folder / f"{n}.mp4", n, fps=16) for n in (4, 20, 40)]


def drawing(
    videos: list[Path], changes: ChangeSettings, limit: float = 1e9, **settings: object
) -> Drawing:
    clips = KeptVideos(videos, SPEC, CROP, limit)
    known = replace(FinetuneSettings(batch=6, workers=2), **settings)  # type: ignore[arg-type]
    return Drawing(clips, range(3), [0, 1, 2], [1.0, 1.0, 1.0], 3, known, changes)


def test_unchanged_clips_are_nearly_those_that_are_encoded(videos: list[Path]) -> None:
    """But for the resampling, and for ticks of twice the rate."""
    clips = KeptVideos(videos, SPEC, CROP, 1e9)
    draws = drawing(videos, NOTHING)
    for number in range(3):
        changed = draws._changed(number, np.random.default_rng(0)).astype(float)
        assert changed.shape == (4, CROP, CROP, 3)
        away = np.abs(changed - clips.window(number)).mean()
        assert away < 12, number  # two neighbouring pictures are 10 levels apart
    # Each change alone is seen.
    for name in ("zoom", "shift", "turn", "colour", "mirror"):
        one = replace(NOTHING, **{name: 0.5 if name != "mirror" else 1.0})
        if name == "turn":
            one = replace(NOTHING, turn=90.0)
        other = drawing(videos, one)._changed(1, np.random.default_rng(0)).astype(float)
        plain = draws._changed(1, np.random.default_rng(0))
        assert np.abs(other - plain).mean() > 0.4, name


def test_mirroring_swaps_left_and_right() -> None:
    draw = np.random.default_rng(0)
    plain = placing((48, 64), CROP, NOTHING, draw)
    mirrored = placing((48, 64), CROP, replace(NOTHING, mirror=1), draw)
    corner = np.array([10.0, 5.0, 1.0])
    x, y = plain @ corner
    assert mirrored @ corner == pytest.approx((CROP - 1 - x, y))


def test_a_clip_is_the_same_whoever_draws_it(videos: list[Path]) -> None:
    one, other = (drawing(videos, ChangeSettings(), limit) for limit in (1e9, 0))
    for step, place in ((1, 0), (1, 5), (7, 2)):
        (a, target), (b, same) = one.draw(step, place), other.draw(step, place)
        assert (a == b).all() and (target == same).all()
        assert target.sum() == pytest.approx(1, abs=1e-5)
    assert not (one.draw(1, 0)[0] == one.draw(2, 0)[0]).all()


def test_processes_and_parts_share_a_step(videos: list[Path]) -> None:
    """All together draw what one process draws at once."""
    whole = [parts[0] for parts in drawing(videos, ChangeSettings()).steps(1, 3)]
    shared = [
        list(drawing(videos, ChangeSettings(), accumulate=3).steps(1, 3, rank, 2))
        for rank in (0, 1)
    ]
    for step in range(3):
        parts = [shared[rank][step][part] for part in range(3) for rank in (0, 1)]
        assert (np.concatenate([p.pictures for p in parts]) == whole[step].pictures).all()
        assert (np.concatenate([p.target for p in parts]) == whole[step].target).all()


def test_a_training_goes_on_where_it_stopped(videos: list[Path]) -> None:
    whole = list(drawing(videos, ChangeSettings()).steps(1, 4))
    rest = list(drawing(videos, ChangeSettings()).steps(3, 4))
    assert [(p[0].pictures == q[0].pictures).all() for p, q in zip(whole[2:], rest, strict=True)]


def test_memory_is_bounded(videos: list[Path]) -> None:
    room = KeptVideos(videos, SPEC, CROP, 1e9)
    size = room.clip(0).pictures.nbytes
    assert room.clip(0) is room.clip(0)
    clips = KeptVideos(videos, SPEC, CROP, size)
    assert clips.clip(0) is clips.clip(0)
    assert clips.clip(1) is not clips.clip(1)  # decoded each time
    assert clips.window(0) is not clips.window(0)
    assert (clips.clip(1).pictures == room.clip(1).pictures).all()


@pytest.mark.parametrize("there", [3, 8, 12])
def test_speed_and_time_shift_stay_in_the_video(there: int) -> None:
    """12 ticks, of which the last `there` are the video's; a window has 4 of every second."""
    first = 12 - there
    clip = KeptClip(
        pictures=np.zeros((there, 2, 2, 3), np.uint8),
        ticks=np.maximum(np.arange(12) - first, 0),
        first=first,
    )
    draw = np.random.default_rng(0)
    plain = cut_ticks(clip, SPEC, NOTHING, draw).tolist()
    wanted = {3: [0, 0, 0, 2], 8: [0, 2, 4, 6], 12: [2, 4, 6, 8]}[there]
    assert all(abs(a - b) <= 1 for a, b in zip(plain, wanted, strict=True)), plain
    seen = {
        tuple(cut_ticks(clip, SPEC, ChangeSettings(speed=0.5, shift_s=0.3), draw).tolist())
        for _ in range(50)
    }
    assert len(seen) > (5 if there > 3 else 1)
    for ticks in seen:
        assert list(ticks) == sorted(ticks) and 0 <= ticks[0] and ticks[-1] < there


def test_the_part_of_a_video_that_was_encoded_is_learnt(tmp_path: Path) -> None:
    """As the column `encoder` of the index states it; WLASL's sources hold many signs."""
    path = write_clip(tmp_path / "source.mp4", 60)
    video = LabelledVideo(video_id="a", path=path, gloss="tree", frames=(41, 46))
    decoded = decode_windows(EncodeTask(video=video, variants=("original",)), SPEC)
    assert isinstance(decoded, DecodedWindows)
    np.save(tmp_path / "a.npy", np.zeros((2, SPEC.dim), np.float32))
    entry = Entry(video_id="a", gloss="tree", path_to_npy_file="a.npy", video="source.mp4",
                  encoder=encoder_identity(SPEC, video))  # fmt: skip
    write_index(tmp_path / "index.csv", [entry])
    [example] = read_examples(tmp_path / "index.csv")
    assert example.source is not None
    clips = KeptVideos([example.source, path], SPEC, CROP, 1e9)
    encoded = crop_pictures([frame.image for frame in decoded.clips[0].frames], CROP)
    assert (clips.window(0) == encoded).all()
    assert not (clips.window(1) == encoded).all()
    shades = clips.clip(0).pictures[:, -1, -1, 0]  # of pictures 41 to 46: 40, 50 … 90
    assert shades.min() > 30 and shades.max() < 100


def test_a_video_that_is_lost_stops_the_training(tmp_path: Path, videos: list[Path]) -> None:
    gone = write_clip(tmp_path / "gone.mp4", 10)
    clips = KeptVideos([gone], SPEC, CROP, 0)
    clips.clip(0)
    gone.unlink()
    draws = Drawing(clips, [0], [0], [1.0], 1, FinetuneSettings(batch=2), NOTHING)
    with pytest.raises(VideoError, match="no such file"):
        list(draws.steps(1, 1))

"""The landmark encoder on a real clip: causal, cached, symmetric, bounded, hard to crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks import layout
from models.landmarks.detectors import Hand
from models.landmarks.encoder import LandmarkEncoder, landmark_spec
from models.landmarks.networks import MediapipeError, Region
from models.landmarks.track import Track
from models.schema import Clip, Frame, Seen
from models.window import FrameSampler
from offline.data.videos import read_video
from tests import clips

SPEC = landmark_spec(frames=8)


@pytest.fixture(scope="module")
def encoder() -> Iterator[LandmarkEncoder]:
    try:
        encoder = LandmarkEncoder(SPEC)
    except MediapipeError as exc:
        pytest.skip(str(exc))
    yield encoder
    encoder.close()


@pytest.fixture(scope="module")
def frames(data_dir: Path) -> tuple[Frame, ...]:
    """Half a second of somebody signing with both hands, at the encoder's rate."""
    return tuple(read(data_dir / "clips" / "help-named_help_db4255.mp4", 1.5, 8))


def read(path: Path, start_s: float, count: int) -> Iterator[Frame]:
    sampler = FrameSampler(SPEC.fps)
    with av.open(str(path), metadata_errors="ignore") as video:
        for picture in video.decode(video=0):
            if count and picture.time >= start_s and sampler.wants(picture.time):
                count -= 1
                image = np.asarray(picture.to_ndarray(format="rgb24", threads=1), np.uint8)
                yield Frame(image=image, media_s=picture.time)


def clip_of(frames: Sequence[Frame], stream: str) -> Clip:
    """A window that ends at the last frame; missing ticks before repeat the first."""
    padded = (frames[0],) * (SPEC.frames - len(frames)) + tuple(frames)
    end_s = frames[-1].media_s
    return Clip(stream=stream, frames=padded, start_s=end_s - SPEC.window_s, end_s=end_s)


def rows_of(encoder: LandmarkEncoder, frames: Sequence[Frame]) -> NDArray[np.float32]:
    (embedding,) = encoder.encode([clip_of(frames, "rows")])
    encoder.forget("rows")
    return embedding.features


class Calls:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.count = 0
        method = getattr(owner, name)

        def counted(*args: object) -> object:
            self.count += 1
            return method(*args)

        monkeypatch.setattr(owner, name, counted)


def test_rows_have_the_layout_and_make_sense(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    rows = rows_of(encoder, frames)
    assert rows.shape == (SPEC.frames, layout.DIM)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    body = rows[:, layout.BODY].reshape(-1, 13, 2)
    left, right = (body[:, layout.BODY_POINTS.index(f"{s}_shoulder")] for s in ("left", "right"))
    assert np.allclose(left - right, (1, 0), atol=0.2)  # a signer's left is the picture's right
    assert (body[:, layout.BODY_POINTS.index("nose"), 1] < -0.3).all()  # above the shoulders
    assert rows[:, layout.SEEN].mean() > 0.5
    for part, wrist in ((layout.LEFT_HAND, "left_wrist"), (layout.RIGHT_HAND, "right_wrist")):
        hand = rows[:, part].reshape(-1, 21, 3)
        seen = hand.any(axis=(1, 2))
        apart = hand[seen, layout.HAND_WRIST, :2] - body[seen, layout.BODY_POINTS.index(wrist)]
        assert np.median(np.hypot(*apart.T)) < 0.25
        assert not hand[:, layout.HAND_WRIST, 2].any()


def test_where_the_signer_is_agrees_with_the_row(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    height, width = frames[0].image.shape[:2]
    size = np.array([width, height])
    for count in (1, 5, 8):
        (embedding,) = encoder.encode([clip_of(frames[:count], "seen")])
        assert embedding.seen is not None and embedding.seen.signer is not None
        assert embedding.seen.aspect == width / height
        signer = embedding.seen.signer
        body = embedding.features[-1, layout.BODY].reshape(13, 2)
        left, right = (np.array(shoulder) * size for shoulder in signer.shoulders)
        unit = np.hypot(*(left - right))
        for name, points in (("elbow", signer.elbows), ("wrist", signer.wrists)):
            for side, point in zip(("left", "right"), points, strict=True):
                row = body[layout.BODY_POINTS.index(f"{side}_{name}")]
                placed = (np.array(point) * size - (left + right) / 2) / unit
                assert np.allclose(placed, row, atol=0.1)  # the row's frame follows slowly
        nose = body[layout.BODY_POINTS.index("nose")] * unit / size
        nose += (left + right) / 2 / size
        assert signer.head[0] < nose[0] < signer.head[2] and signer.head[1] < nose[1]
        assert signer.head[1] < signer.head[3] < left[1] / height
        seen = embedding.features[-1, layout.SEEN] == 1
        assert [hand is not None for hand in signer.hands] == seen.tolist()
    encoder.forget("seen")


def test_later_frames_change_nothing(encoder: LandmarkEncoder, frames: tuple[Frame, ...]) -> None:
    whole = rows_of(encoder, frames)
    part = rows_of(encoder, frames[:5])
    assert np.array_equal(part[-5:], whole[:5])


def test_no_frame_is_processed_twice(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Calls(monkeypatch, Track, "row")
    (first,) = encoder.encode([clip_of(frames[:6], "twice")])
    assert runs.count == 6
    (again,) = encoder.encode([clip_of(frames[:6], "twice")])
    assert runs.count == 6
    assert np.array_equal(first.features, again.features)
    (later,) = encoder.encode([clip_of(frames, "twice")])
    assert runs.count == 6 + 2
    assert np.array_equal(later.features[:6], first.features[2:])
    encoder.forget("twice")
    encoder.encode([clip_of(frames[:6], "twice")])
    assert runs.count == 6 + 2 + 6
    encoder.forget("twice")
    encoder.forget("never heard of")


def test_frames_that_were_prepared_are_not_processed_again(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(encoder, frames)
    runs = Calls(monkeypatch, Track, "row")
    for count in (3, 4, 7):
        encoder.prepare([clip_of(frames[:count], "early")])
        assert runs.count == count
    (embedding,) = encoder.encode([clip_of(frames, "early")])
    encoder.forget("early")
    assert runs.count == len(frames)
    np.testing.assert_array_equal(embedding.features, whole)


def test_alone_and_in_a_batch_are_the_same(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    alone = rows_of(encoder, frames[:4]), rows_of(encoder, frames[4:])
    both = encoder.encode([clip_of(frames[:4], "a"), clip_of(frames[4:], "b")])
    for embedding, expected in zip(both, alone, strict=True):
        assert np.array_equal(embedding.features, expected)
    for stream in "ab":
        encoder.forget(stream)


def test_streams_of_a_batch_at_once_are_the_same(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    starts = (0, 2, 4, 0)
    alone = [rows_of(encoder, frames[start:]) for start in starts]
    at_once = LandmarkEncoder(SPEC, threads=2)
    names = ("a", "b", "c", "a")  # the last one has the first one's frames
    for _ in range(2):
        batch = [clip_of(frames[n:], name) for n, name in zip(starts, names, strict=True)]
        for embedding, expected in zip(at_once.encode(batch), alone, strict=True):
            assert np.array_equal(embedding.features, expected)
    at_once.close()


def test_hands_are_found_in_each_frame_and_the_body_in_every_other(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = Calls(monkeypatch, encoder._bodies, "locate")
    rows = rows_of(encoder, frames)
    assert rows[:, layout.SEEN].all()
    assert bodies.count == len(frames) / 2
    shoulder = layout.BODY_POINTS.index("left_shoulder")
    body = rows[:, layout.BODY].reshape(-1, 13, 2)
    assert np.array_equal(body[::2, shoulder], body[1::2, shoulder])
    for part, name in ((layout.LEFT_HAND, "left_wrist"), (layout.RIGHT_HAND, "right_wrist")):
        moved = np.diff(rows[:, part][:, :2], axis=0)[::2]  # from a found body to a held one
        wrist = body[:, layout.BODY_POINTS.index(name)]
        assert np.abs(moved).max() > 0
        assert np.allclose(np.diff(wrist, axis=0)[::2], moved, atol=1e-4)


def test_a_missing_hand_is_searched_in_each_frame_unless_it_is_lowered(
    encoder: LandmarkEncoder, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_dir / "negatives" / "ntu_standing_person.mp4"
    searched: list[int] = []
    find_hand = Track._find_hand

    def found(track: Track, *args: Any) -> Hand | None:
        searched.append(args[-2])
        return find_hand(track, *args)

    monkeypatch.setattr(Track, "_find_hand", found)
    monkeypatch.setattr(encoder._hands, "locate", lambda *_: None)  # neither hand is ever found
    rows_of(encoder, tuple(read(path, 0.0, 8)))
    assert searched == [0, 1] * 2
    monkeypatch.setattr(layout, "LOW", 2.0)  # now these count as raised
    searched.clear()
    rows_of(encoder, tuple(read(path, 0.0, 8)))
    assert searched == [0, 1] * 8


def test_the_other_hand_found_in_place_of_a_missing_one_is_still_missing(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    palm = Region(-1.0, -1.0, 1.0)
    left: Hand | None = None
    searches = 0
    find_hand, locate = Track._find_hand, encoder._hands.locate

    def found(track: Track, *args: Any) -> Hand | None:
        nonlocal left
        if args[-2]:
            return None
        left = find_hand(track, *args)
        return left

    def palms(*_: object) -> list[Region]:
        nonlocal searches
        searches += 1
        return [palm]

    monkeypatch.setattr(Track, "_find_hand", found)
    monkeypatch.setattr(encoder._hands, "palms", palms)
    monkeypatch.setattr(
        encoder._hands,
        "locate",
        lambda image, region: left if region.x == palm.x else locate(image, region),
    )
    rows = rows_of(encoder, frames)
    assert rows[:, layout.SEEN].tolist() == [[1, 0]] * 8
    assert searches == 2  # as it is missed, and four frames later


@pytest.mark.parametrize("jump_s", [-5.0, 1.5])
def test_a_jump_of_the_clock_starts_anew(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], jump_s: float
) -> None:
    fresh = rows_of(encoder, frames[4:6])
    moved = [replace(frame, media_s=frame.media_s + jump_s) for frame in frames[4:6]]
    encoder.encode([clip_of(frames[:4], "jump")])
    (after,) = encoder.encode([clip_of(moved, "jump")])
    encoder.forget("jump")
    assert np.allclose(after.features[-2:], fresh[-2:], atol=1e-5)


def test_a_mirrored_signer_gives_mirrored_rows(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    flipped = [replace(f, image=np.ascontiguousarray(f.image[:, ::-1])) for f in frames]
    rows, mirrored = rows_of(encoder, frames), layout.mirrored(rows_of(encoder, flipped))
    assert (rows[:, layout.SEEN] == mirrored[:, layout.SEEN]).mean() >= 0.9
    both = (rows[:, layout.SEEN] == 1) & (mirrored[:, layout.SEEN] == 1)
    for side, part in enumerate((layout.LEFT_HAND, layout.RIGHT_HAND)):
        apart = (rows - mirrored)[both[:, side], part].reshape(-1, 21, 3)
        assert not apart.size or np.median(np.hypot(apart[..., 0], apart[..., 1])) < 0.05
    assert np.median(np.abs(rows - mirrored)[:, layout.BODY]) < 0.04


def test_work_for_one_clip_has_a_bound(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = LandmarkEncoder(SPEC, max_new_frames=3)
    runs = Calls(monkeypatch, Track, "row")
    (embedding,) = bounded.encode([clip_of(frames, "late")])
    assert runs.count == 3
    whole = rows_of(encoder, frames)
    assert np.array_equal(embedding.features[0], whole[0])
    held = (np.diff(embedding.features, axis=0) == 0).all(axis=1)
    assert held.sum() == SPEC.frames - 3
    assert not held[-1]  # the newest frame is processed
    bounded.close()


def test_streams_have_a_bound(frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = LandmarkEncoder(SPEC, max_tracks=2)
    runs = Calls(monkeypatch, Track, "row")
    for stream, expected in (("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 3), ("b", 4)):
        bounded.encode([clip_of(frames[:1], stream)])
        assert runs.count == expected  # "b" was unused for longest when "c" came
    bounded.close()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (30, 4000), (4000, 30), (17, 20000)])
@pytest.mark.filterwarnings("error")
def test_odd_pictures_do_no_harm(encoder: LandmarkEncoder, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    odd = [Frame(image=noise, media_s=i / 15) for i in range(2)]
    assert np.isfinite(rows_of(encoder, odd)).all()


def test_a_size_that_changes_mid_stream_does_no_harm(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...]
) -> None:
    small = [replace(f, image=np.ascontiguousarray(f.image[::2, ::2])) for f in frames[3:]]
    rows = rows_of(encoder, [*frames[:3], *small])
    assert np.isfinite(rows).all()
    assert rows[-1].any()


def test_a_signer_who_is_near_at_once_is_found_at_once(
    encoder: LandmarkEncoder, data_dir: Path
) -> None:
    """What lies where the small body was is not taken for it."""
    path = data_dir / "clips" / "apple-wlasl_03003_783b65.mp4"
    near = tuple(read_video(path, SPEC.short_side, FrameSampler(SPEC.fps).wants))[:8]
    (embedding,) = encoder.encode([clip_of(near, "near")])
    encoder.forget("near")
    far = [replace(frame, image=clips.far_away(frame.image, 1 / 5, 128)) for frame in near[:5]]
    (jumped,) = encoder.encode([clip_of([*far, *near[5:]], "jump")])
    encoder.forget("jump")
    assert embedding.seen and embedding.seen.signer and jumped.seen and jumped.seen.signer
    np.testing.assert_allclose(
        jumped.seen.signer.shoulders, embedding.seen.signer.shoulders, atol=0.05
    )


def test_nobody_gives_zeros(encoder: LandmarkEncoder) -> None:
    grey = Frame(image=np.full((240, 320, 3), 90, np.uint8), media_s=0.0)
    (embedding,) = encoder.encode([clip_of([grey], "nobody")])
    encoder.forget("nobody")
    assert not embedding.features.any()
    assert embedding.seen == Seen(aspect=4 / 3, signer=None)


def test_where_nobody_is_somebody_is_searched_in_every_fourth_frame(
    encoder: LandmarkEncoder, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = Calls(monkeypatch, encoder._bodies, "detect")
    grey = np.full_like(frames[0].image, 90)
    rows = rows_of(encoder, [*(replace(frame, image=grey) for frame in frames[:2]), *frames[2:]])
    assert searches.count == 2
    assert np.array_equal(rows.any(axis=1), [False] * 4 + [True] * 4)


def test_a_model_of_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="train it again"):
        LandmarkEncoder(replace(SPEC, revision="0.10.21+rows0"))
    with pytest.raises(ValueError, match="not a landmark encoder"):
        LandmarkEncoder(replace(SPEC, dim=7))
    with pytest.raises(ValueError, match="max_new_frames"):
        LandmarkEncoder(SPEC, max_new_frames=0)

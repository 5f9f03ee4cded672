from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks import layout
from models.landmarks.encoder import landmark_spec
from offline.data.labels import LabelledVideo
from offline.encoding import landmark_files
from offline.encoding.embed import EncodeTask, encoder_identity
from offline.encoding.landmark_files import (
    LandmarkFileError,
    encode_landmarks,
    read_landmarks,
    rows_of,
)

SPEC = landmark_spec()
HOLISTIC = [0, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
FRAMES = 12
ASPECT = 2.0


def points() -> dict[str, NDArray[np.float32]]:
    """A body in the middle of a picture twice as wide as high, whose right hand moves."""
    body = np.full((FRAMES, 13, 2), [0.5, 0.2], np.float32)
    body[:, 7:] = [[0.6, 0.5], [0.4, 0.5], [0.65, 0.7], [0.35, 0.7], [0.6, 0.8], [0.4, 0.8]]
    hand = np.random.default_rng(0).uniform(-0.02, 0.02, (21, 3)).astype(np.float32)
    right = hand + np.array([0.45, 0.5, 0], np.float32)
    right = right + np.linspace(0, 0.1, FRAMES, dtype=np.float32)[:, None, None]
    left = np.full((FRAMES, 21, 3), np.nan, np.float32)
    return {"body": body, "left": left, "right": right}


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **{**points(), "aspect": ASPECT, **arrays})
    return path


def as_holistic(found: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    pose = np.full((FRAMES, 33, 4), 0.5, np.float32)
    pose[:, HOLISTIC, :2] = found["body"]
    return {"left": found["left"], "right": found["right"], "pose": pose}


def write_row(path: Path) -> Path:
    """The same as a tutorial's .npy: what was not found is zeros."""
    parts = as_holistic(points())
    face = np.zeros((FRAMES, 468 * 3), np.float32)
    flat = [parts["pose"].reshape(FRAMES, -1), face]
    flat += [np.nan_to_num(parts[side]).reshape(FRAMES, -1) for side in ("left", "right")]
    np.save(path, np.concatenate(flat, axis=1))
    return path


def rows(path: Path, fps: float = 15.0) -> NDArray[np.float32]:
    return rows_of(read_landmarks(path, fps, ASPECT), SPEC)[0]


def test_rows_are_in_the_bodys_own_coordinates(tmp_path: Path) -> None:
    made, found = rows(write_npz(tmp_path / "a.npz")), points()
    assert made.shape == (FRAMES, layout.DIM) and made.dtype == np.float32
    # The shoulders are 0.2 picture widths, 0.4 heights apart, around (0.5, 0.5).
    body = (found["body"] - 0.5) * [ASPECT, 1] / 0.4
    np.testing.assert_allclose(made[:, layout.BODY].reshape(-1, 13, 2), body, atol=1e-5)
    hand = (found["right"] - [0.5, 0.5, 0]) * [ASPECT, 1, ASPECT] / 0.4
    hand[..., 2] -= hand[:, :1, 2]
    np.testing.assert_allclose(made[:, layout.RIGHT_HAND].reshape(-1, 21, 3), hand, atol=1e-5)
    assert not made[:, layout.LEFT_HAND].any()
    assert made[:, layout.SEEN].tolist() == [[0, 1]] * FRAMES


def test_all_kinds_of_files_give_the_same_rows(tmp_path: Path) -> None:
    made = rows(write_npz(tmp_path / "a.npz"))
    np.savez(tmp_path / "holistic.npz", **as_holistic(points()))  # type: ignore[arg-type]
    np.testing.assert_allclose(rows(tmp_path / "holistic.npz"), made, atol=1e-5)
    np.testing.assert_allclose(rows(write_row(tmp_path / "a.npy")), made, atol=1e-5)


def test_a_still_body_without_elbows(tmp_path: Path) -> None:
    whole = rows(write_npz(tmp_path / "a.npz"))
    made = rows(write_npz(tmp_path / "b.npz", body=points()["body"][0, :9]))
    same = np.ones(layout.DIM, bool)
    same[18:26] = False  # elbows and wrists
    np.testing.assert_allclose(made[:, same], whole[:, same], atol=1e-6)
    assert not made[:, 18:24].any()  # elbows, and the wrist of the hand that is not seen
    np.testing.assert_array_equal(made[:, 24:26], made[:, layout.RIGHT_HAND][:, :2])


def test_what_is_not_known_is_zeros_and_a_lost_hand_is_held(tmp_path: Path) -> None:
    found = points()
    found["body"][3] = np.nan
    found["right"][5:, 7] = np.nan
    found["right"][9, 0, 0] = 1e30  # no measurement
    made = rows(write_npz(tmp_path / "a.npz", **found))
    assert not made[3].any()
    assert made[4, layout.RIGHT_SEEN] == 1 and not made[5:, layout.RIGHT_SEEN].any()
    held = 5 + int(layout.HOLD_S * 15)
    hands = made[:, layout.RIGHT_HAND]
    assert (hands[5:held] == hands[4]).all() and not hands[held:].any()


def test_frames_become_ticks_by_the_files_own_times(tmp_path: Path) -> None:
    assert len(rows(write_npz(tmp_path / "a.npz"), fps=30)) == FRAMES // 2
    assert len(rows(write_npz(tmp_path / "b.npz", fps=30.0), fps=7.5)) == FRAMES // 2
    times = 100 + np.arange(FRAMES) / 7.5
    made, frames = rows_of(read_landmarks(write_npz(tmp_path / "c.npz", t=times), 30, None), SPEC)
    assert (len(made), frames) == (2 * FRAMES - 1, FRAMES)
    np.testing.assert_array_equal(made[0], made[1])  # a tick without a frame repeats the last one


def bomb(path: Path) -> None:
    """Four megabytes of zeros in four kilobytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("left.npy", bytes(2**22))


def boast(path: Path) -> None:
    """An array whose header promises 21 TB."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**36, 21, 3)}
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("left.npy", content.getvalue() + bytes(100))


def encrypted(path: Path) -> None:
    write_npz(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def objects(path: Path) -> None:
    np.savez(path, left=np.array([{}]), allow_pickle=True)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (bomb, "4 MB of arrays"),
        (boast, "no landmarks to read"),
        (encrypted, "no landmarks to read"),
        (objects, "Object arrays|allow_pickle"),
        (lambda path: path.write_bytes(b""), "no landmarks to read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "not a zip file"),
        (lambda path: np.savez(path, embedding=np.zeros(3)), "no array `left`"),
        (lambda path: None, "no such file"),
    ],
)
def test_hostile_files_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], says: str
) -> None:
    monkeypatch.setattr(landmark_files, "_MOST_BYTES", 2**20)
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(LandmarkFileError, match=says) as caught:
        read_landmarks(path, 25, 1)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"left": np.zeros((FRAMES, 20, 3))}, "hands of shape"),
        ({"right": np.zeros((FRAMES + 1, 21, 3))}, "hands of shape"),
        ({"left": np.zeros(3), "right": np.zeros(3)}, "hands of shape"),
        ({"right": np.full((FRAMES, 21, 3), "a")}, "`right` is of <U1"),
        ({"body": np.zeros((FRAMES, 10, 2))}, "a body of shape"),
        ({"body": np.zeros((FRAMES - 1, 9, 2))}, "no landmarks to read"),
        ({"body": np.float64(3)}, "no landmarks to read"),
        ({"pose": np.zeros((FRAMES, 12, 2))}, "out of bounds"),
        ({"t": np.full(FRAMES, np.nan)}, "`t` is not 12 times in order"),
        ({"t": np.arange(FRAMES)[::-1]}, "`t` is not 12 times in order"),
        ({"t": np.repeat([-1e308, 1e308], FRAMES // 2)}, "more than 600 s"),
        ({"fps": 0.0}, "rate is 0"),
        ({"fps": np.nan}, "rate is nan"),
        ({"aspect": np.float64(1e300)}, "aspect .* is inf"),
        ({"aspect": np.ones(2)}, "no landmarks to read"),
        ({name: np.zeros((0, 21, 3)) for name in ("left", "right")}, "no landmarks to read"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    path = write_npz(tmp_path / "a.npz", **changed)
    with pytest.raises(LandmarkFileError, match=says):
        read_landmarks(path, 25, None)


def test_what_a_file_does_not_state_must_be_given(tmp_path: Path) -> None:
    path = write_row(tmp_path / "a.npy")
    with pytest.raises(LandmarkFileError, match="no aspect: give --aspect"):
        read_landmarks(path, 25, None)
    with pytest.raises(LandmarkFileError, match="no fps: give --landmark-fps"):
        read_landmarks(path, None, 1)
    np.save(path, np.zeros((4, 154), np.float32))
    with pytest.raises(LandmarkFileError, match=r"\(4, 154\) is not \(frames, 1662\)"):
        read_landmarks(path, 25, 1)


def test_huge_numbers_make_finite_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    found = {name: array.astype(np.float64) for name, array in points().items()}
    for array in found.values():
        array *= 10.0 ** draw.integers(-300, 300, array.shape)
    assert np.isfinite(rows(write_npz(tmp_path / "a.npz", **found))).all()


def test_other_variants_are_refused(tmp_path: Path) -> None:
    video = LabelledVideo(video_id="a", path=write_npz(tmp_path / "a.npz"), gloss="b", fps=25)
    made = encode_landmarks(EncodeTask(video=video, variants=("original", "bw")), SPEC)
    assert [rows.variant for rows in made.rows] == ["original"] and made.fingerprint is None
    assert made.error == f"{video.path}: landmarks have no variant bw"


@pytest.mark.parametrize(
    ("frames", "count"), [((4, 9), 6), ((10, None), 3), ((4, FRAMES + 1), FRAMES)]
)
def test_only_the_frames_of_the_sign(
    tmp_path: Path, frames: tuple[int, int | None], count: int
) -> None:
    path = write_npz(tmp_path / "a.npz")
    video = LabelledVideo(video_id="a", path=path, gloss="b", fps=SPEC.fps, frames=frames)
    made = encode_landmarks(EncodeTask(video=video, variants=("original",)), SPEC)
    assert made.rows[0].frames == len(made.rows[0].rows) == count


def test_rows_depend_on_what_was_given() -> None:
    given = [(25.0, None), (15.0, None), (25.0, 4 / 3), (25.0, 16 / 9)]
    for name, count in (("a.npz", 4), ("a.mp4", 1)):
        videos = [
            LabelledVideo(video_id="a", path=Path(name), gloss="b", fps=fps, aspect=aspect)
            for fps, aspect in given
        ]
        assert len({encoder_identity(SPEC, video) for video in videos}) == count


def test_the_real_files(data_dir: Path) -> None:
    wlasl = sorted((data_dir / "wlasl" / "landmarks").glob("*.npz"))[::1000]
    webcam = sorted((data_dir / "webcam" / "landmarks").glob("*.npz"))[::200]
    for path in wlasl + webcam:  # one of the webcam shows no hand
        made = rows_of(read_landmarks(path, 25, None), SPEC)[0]
        assert np.isfinite(made).all(), path
        assert made[:, layout.BODY].any(axis=1).mean() > 0.9, path
        assert np.abs(made).max() < 8, path
        assert path not in wlasl or layout.raised(made).any(), path

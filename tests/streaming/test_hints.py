"""Hints on real clips that are cropped, scaled and darkened: sent once, and over when solved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks.encoder import LandmarkEncoder, landmark_spec
from models.landmarks.networks import MediapipeError
from models.schema import Clip, Frame, Seen, Signer
from models.window import FrameSampler
from offline.data.videos import read_video
from streaming.hints import OK, TOO_DARK, Hints
from streaming.messages import Hint
from tests import clips

Picture = NDArray[np.uint8]
FPS = 10.0  # looks a second: the built-in model's windows
# One near, one far; the hands of both rest below the picture's edge at first.
CLIPS = ("apple-wlasl_03003_783b65.mp4", "book-named_book_23d8ef.mp4")


@pytest.fixture(scope="module")
def encoder() -> Iterator[LandmarkEncoder]:
    try:
        encoder = LandmarkEncoder(landmark_spec(frames=1))
    except MediapipeError as exc:
        pytest.skip(str(exc))
    yield encoder
    encoder.close()


@pytest.fixture(params=CLIPS)
def pictures(request: pytest.FixtureRequest, data_dir: Path) -> list[Picture]:
    path = data_dir / "clips" / request.param
    return [frame.image for frame in read_video(path, 320, FrameSampler(FPS).wants)]


def seen_in(encoder: LandmarkEncoder, frame: Frame) -> Seen:
    clip = Clip(stream="hints", frames=(frame,), start_s=frame.media_s - 0.1, end_s=frame.media_s)
    (embedding,) = encoder.encode([clip])
    assert embedding.seen is not None
    return embedding.seen


def sent(
    pictures: Sequence[Picture], encoder: LandmarkEncoder | None = None
) -> list[tuple[float, Hint]]:
    """The hints for the pictures, and when. Without an encoder nobody can locate the signer."""
    hints, found = Hints(), []
    for n, picture in enumerate(pictures):
        frame = Frame(image=np.ascontiguousarray(picture), media_s=n / FPS)
        hint = hints.update(frame, seen_in(encoder, frame) if encoder else None)
        if hint is not None:
            found.append((n / FPS, hint))
    if encoder:
        encoder.forget("hints")
    return found


def played(pictures: Sequence[Picture], seconds: float) -> list[Picture]:
    """The clip again and again, forwards and backwards, so that nothing jumps."""
    there_and_back = [*pictures, *reversed(pictures)]
    times = round(seconds * FPS) // len(there_and_back) + 1
    return (there_and_back * times)[: round(seconds * FPS)]


Change = Callable[[Picture, Signer, float], Picture]  # picture, its first signer, shoulder width px


def no_room(picture: Picture, signer: Signer, unit: float) -> Picture:
    """Cut off just below the shoulders."""
    return picture[: round(signer.shoulders[0][1] * len(picture) + 0.3 * unit)]


def head_off(picture: Picture, signer: Signer, unit: float) -> Picture:
    """Cut off through the eyes."""
    _, top, _, bottom = signer.head
    return picture[round((top + bottom) / 2 * len(picture)) :]


def half_gone(picture: Picture, signer: Signer, unit: float) -> Picture:
    """Only the right half of the signer."""
    left, _, right, _ = signer.head
    return picture[:, round((left + right) / 2 * picture.shape[1]) :]


def near(picture: Picture, signer: Signer, unit: float) -> Picture:
    """Nothing but head and shoulders."""
    left, top, right, _ = signer.head
    x, y = (left + right) / 2 * picture.shape[1], top * len(picture)
    rows = slice(max(0, round(y - 0.1 * unit)), round(y + 1.1 * unit))
    return picture[rows, max(0, round(x - 0.75 * unit)) : round(x + 0.75 * unit)]


def far(picture: Picture, signer: Signer, unit: float) -> Picture:
    """So small that the shoulders have a ninth of the picture's height."""
    return clips.far_away(picture, len(picture) / 9 / unit, round(float(picture[:8].mean())))


def dark(picture: Picture, signer: Signer, unit: float) -> Picture:
    return (picture * 0.15).astype(np.uint8)


def empty(picture: Picture, signer: Signer, unit: float) -> Picture:
    return np.full_like(picture, 150)


@pytest.mark.parametrize(
    ("change", "code", "edge"),
    [
        (no_room, "hands-out", "bottom"),
        (head_off, "face-out", "top"),
        (half_gone, "face-out", "left"),
        (near, "too-near", "bottom"),
        (far, "too-far", None),
        (dark, "too-dark", None),
        (empty, "no-signer", None),
    ],
)
def test_a_problem_is_sent_once_and_over_when_solved(
    encoder: LandmarkEncoder, pictures: list[Picture], change: Change, code: str, edge: str | None
) -> None:
    signer = seen_in(encoder, Frame(image=pictures[0], media_s=0.0)).signer
    encoder.forget("hints")
    assert signer is not None
    unit = abs(signer.shoulders[0][0] - signer.shoulders[1][0]) * pictures[0].shape[1]
    fine = played(pictures, 4)
    bad = [change(picture, signer, unit) for picture in played(pictures, 4)]
    found = sent([*bad, *fine], encoder)
    assert [(hint.code, hint.edge) for _, hint in found] == [(code, edge), ("ok", None)]
    assert 1.8 <= found[0][0] <= 3
    assert 4.9 <= found[1][0] <= 5.5


def test_a_fine_picture_needs_no_hint(encoder: LandmarkEncoder, pictures: list[Picture]) -> None:
    assert sent(played(pictures, 8), encoder) == []


def test_hands_may_rest_below_the_edge(encoder: LandmarkEncoder, pictures: list[Picture]) -> None:
    signer = seen_in(encoder, Frame(image=pictures[0], media_s=0.0)).signer
    encoder.forget("hints")
    assert signer is not None and min(y for _, y in signer.wrists) > 0.95
    elbow = min(y for _, y in signer.elbows)
    cut = pictures[0][: round(elbow * len(pictures[0]))]  # neither hand nor forearm
    assert sent([cut] * 80, encoder) == []


SIGNER = Signer(
    head=(0.42, 0.1, 0.58, 0.45),
    shoulders=((0.65, 0.55), (0.35, 0.55)),
    elbows=((0.7, 0.9), (0.3, 0.9)),
    wrists=((0.6, 0.7), (0.4, 0.7)),
    hands=((0.5, 0.5, 0.6, 0.7), None),
)
GREY = np.full((48, 64, 3), 90, np.uint8)


def wrists(right: tuple[float, float]) -> Seen:
    signer = Signer(
        head=SIGNER.head,
        shoulders=SIGNER.shoulders,
        elbows=SIGNER.elbows,
        wrists=(SIGNER.wrists[0], right),
        hands=SIGNER.hands,
    )
    return Seen(aspect=4 / 3, signer=signer)


@pytest.mark.parametrize(
    ("wrist", "edge"),
    [
        ((-0.05, 0.6), "left"),
        ((1.05, 0.6), "right"),
        ((0.3, -0.1), "top"),
        ((0.3, 1.1), None),  # in the lap
        ((-0.1, 1.1), None),
    ],
)
def test_a_hand_in_use_outside_the_picture(wrist: tuple[float, float], edge: str | None) -> None:
    hints = Hints()
    found = [
        hint
        for n in range(40)
        if (hint := hints.update(Frame(image=GREY, media_s=n / FPS), wrists(wrist)))
    ]
    assert [(hint.code, hint.edge) for hint in found] == ([("hands-out", edge)] if edge else [])


def grey(levels: Sequence[int]) -> list[Picture]:
    return [np.full((48, 64, 3), level, np.uint8) for level in levels]


def test_a_dark_room_is_sent_once() -> None:
    assert sent(grey([10] * 130)) == [(1.9, TOO_DARK)]


def test_light_ends_it() -> None:
    assert sent(grey([10] * 20 + [90] * 30)) == [(1.9, TOO_DARK), (2.9, OK)]


def test_a_lit_room_needs_no_hint() -> None:
    assert sent(grey([90] * 200)) == []


def test_a_hand_on_the_lens_is_no_dark_room() -> None:
    assert sent(grey(([10] * 10 + [90] * 15) * 5)) == []


def test_a_clock_set_back_or_that_jumps_is_followed() -> None:
    hints = Hints()
    image = np.zeros((48, 64, 3), np.uint8)
    times = [100.0, 1.0, *(20 + n / FPS for n in range(30))]
    found = [hint for s in times if (hint := hints.update(Frame(image=image, media_s=s), None))]
    assert found == [TOO_DARK]
    assert hints.update(Frame(image=image + 90, media_s=2.0), None) is None

"""models.fusion: parts that are blind by themselves, their windows, and what goes wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.bundle import Bundle
from models.classifier import Classifier
from models.faults import NotANumber
from models.fusion import FusedRecognizer, cut
from models.recognizer import Recognizer
from models.schema import Frame, Seen
from models.window import windows
from offline.exporting.bundle_export import fused_spec, write_fused
from tests.models.blind_parts import GLOSSES, SPECS, PartEncoder, part_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("fused")
    parts = [part_bundle(root / f"part{n}", n) for n in (0, 1)]
    return write_fused(root / "both", "both", parts, [1.0, 1.0], {})


@pytest.fixture
def encoders() -> list[PartEncoder]:
    return [PartEncoder(0), PartEncoder(1)]


@pytest.fixture
def fused(bundle: Bundle, encoders: list[PartEncoder]) -> FusedRecognizer:
    waiting = iter(encoders)
    return FusedRecognizer.of(
        bundle, lambda part: Recognizer(part, next(waiting), Classifier(part, "cpu"))
    )


def frames(number: int, seconds: float = 2.0, fps: float = 30.0) -> list[Frame]:
    """A stream that shows gloss `number`."""
    image = np.full((8, 8, 3), number, np.uint8)
    times = np.arange(round(seconds * fps)) / fps
    return [Frame(image=image.copy(), media_s=float(time)) for time in times]


def test_together_the_parts_know_what_each_is_blind_to(fused: FusedRecognizer) -> None:
    clips = [list(windows(f"{n}", frames(n), fused.spec, 0.5))[-1] for n in range(4)]
    said = fused.recognise(clips)
    assert [GLOSSES[int(one.probabilities.argmax())] for one in said] == list(GLOSSES)
    assert all(one.probabilities.max() > 0.8 for one in said)
    for part, own in zip(fused._parts, ({0, 1}, {2, 3}), strict=True):
        alone = part.recognise([cut(clip, part.spec) for clip in clips])
        sure = {n for n, one in enumerate(alone) if one.probabilities.max() > 0.6}
        assert sure == own
    for one, clip in zip(said, clips, strict=True):
        assert (one.stream, one.start_s, one.end_s) == (clip.stream, clip.start_s, clip.end_s)
        assert one.attention.shape == (fused.spec.frames,)
        assert one.attention.sum() == pytest.approx(1, abs=1e-6)
        assert one.stages_s.keys() == {"encode", "classify"}


def test_a_batch_of_many_sessions_is_one_batch_for_each_part(
    fused: FusedRecognizer, encoders: list[PartEncoder]
) -> None:
    clips = [list(windows(f"{n}", frames(n), fused.spec, 0.5))[-1] for n in range(4)]
    together = fused.recognise(clips)
    assert [[clip.stream for clip in one.given] for one in encoders] == [["0", "1", "2", "3"]] * 2
    for clip, answer in zip(clips, together, strict=True):
        [alone] = fused.recognise([clip])
        np.testing.assert_array_equal(alone.probabilities, answer.probabilities)


def test_each_part_gets_the_frames_that_it_would_have_got_alone() -> None:
    spec = fused_spec(SPECS)
    assert (spec.frames, spec.fps, spec.short_side) == (12, 10.0, 48)
    assert (spec.kind, spec.dim) == ("landmarks+vjepa2", 8)
    stream = frames(0, seconds=4, fps=30)
    clips = list(windows("s", stream, spec, 0.1))[20:]
    as_dense = list(windows("s", stream, SPECS[0], 0.1))[20:]
    assert [cut(one, SPECS[0]).frames for one in clips] == [one.frames for one in as_dense]
    # The other part's ticks begin where it says; a tick's first frame is one of those at 10 fps.
    coarse = cut(clips[-1], SPECS[1])
    ticks = [int(frame.media_s * 4 + 0.3) for frame in coarse.frames]
    assert ticks == list(range(ticks[-1] - 3, ticks[-1] + 1))
    assert clips[-1].end_s - coarse.end_s < 1 / 4
    again = cut(clips[-2], SPECS[1])
    assert len({*coarse.frames} & {*again.frames}) >= 3  # windows that overlap share their frames


def test_the_longest_window_holds_all() -> None:
    longer = dataclasses.replace(SPECS[1], frames=16)  # four seconds of four frames
    spec = fused_spec([SPECS[0], longer])
    assert (spec.frames, spec.fps, spec.window_s) == (40, 10.0, 4.0)
    clip = list(windows("s", frames(0, seconds=6), spec, 0.5))[-1]
    assert len(cut(clip, SPECS[0]).frames) == 12
    assert cut(clip, SPECS[0]).frames == clip.frames[-12:]
    assert len({*cut(clip, longer).frames}) == 16


def test_attention_is_spread_over_the_window(
    fused: FusedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = list(windows("s", frames(0), fused.spec, 0.5))[-1]
    [answer] = fused.recognise([clip])
    # Even in both parts; the second's window is a second long, of a clip of 1.2.
    np.testing.assert_allclose(answer.attention[:2], 1 / 24, rtol=1e-4)
    assert (answer.attention[2:] > 1 / 12).all()


def test_a_clip_without_a_number_takes_no_other_s_answer(fused: FusedRecognizer) -> None:
    good, bad = (list(windows(f"{n}", frames(n), fused.spec, 0.5))[-1] for n in (2, 9))
    with pytest.raises(NotANumber) as told:
        fused.recognise([bad, good])
    nothing, answer = told.value.answers
    assert nothing is None and answer is not None and answer.stream == "2"
    assert fused.recognise([]) == []


def test_what_one_part_has_seen_is_told(
    fused: FusedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = fused._parts[1]
    whole, saw = second.recognise, Seen(aspect=1.5, signer=None)
    monkeypatch.setattr(
        second,
        "recognise",
        lambda clips: [dataclasses.replace(o, seen=saw, resting=False) for o in whole(clips)],
    )
    [answer] = fused.recognise([list(windows("s", frames(0), fused.spec, 0.5))[-1]])
    assert answer.seen is saw and answer.resting is False


def test_it_warms_forgets_and_closes_every_part(
    fused: FusedRecognizer, encoders: list[PartEncoder]
) -> None:
    assert fused.device == "cpu"
    fused.spec  # noqa: B018
    with pytest.raises(NotANumber):  # grey shows no gloss here
        fused.warm(2)
    assert [len(one.given) for one in encoders] == [2, 2]
    fused.forget("s")
    fused.close()
    assert [one.closed for one in encoders] == [True, True]


def test_a_part_that_does_not_open_closes_the_others(bundle: Bundle) -> None:
    first = PartEncoder(0)

    def open_part(part: Bundle) -> Recognizer:
        if part.encoder.kind == "vjepa2":
            raise OSError("no weights")
        return Recognizer(part, first, Classifier(part, "cpu"))

    with pytest.raises(OSError, match="no weights"):
        FusedRecognizer.of(bundle, open_part)
    assert first.closed

"""Fused recognisers: parts that confuse glosses by themselves, their windows, and failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, BundleError
from models.card import spec_as_card
from models.classifier import Classifier
from models.faults import NotANumber
from models.fusion import FusedRecognizer, cut, fuse
from models.recognizer import Recognizer
from models.schema import Clip, Frame, Seen
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
    return FusedRecognizer.open(
        bundle, lambda part: Recognizer(part, next(waiting), Classifier(part, "cpu"))
    )


def frames(number: int, seconds: float = 2.0, fps: float = 30.0) -> list[Frame]:
    """A stream that shows gloss `number`."""
    image = np.full((8, 8, 3), number, np.uint8)
    times = np.arange(round(seconds * fps)) / fps
    return [Frame(image=image.copy(), media_s=float(time)) for time in times]


def test_together_the_parts_distinguish_what_each_confuses(fused: FusedRecognizer) -> None:
    clips = [list(windows(f"{n}", frames(n), fused.spec, 0.5))[-1] for n in range(4)]
    predictions = fused.recognise(clips)
    assert [GLOSSES[int(one.probabilities.argmax())] for one in predictions] == list(GLOSSES)
    assert all(one.probabilities.max() > 0.8 for one in predictions)
    for part, own in zip(fused._parts, ({0, 1}, {2, 3}), strict=True):
        alone = part.recognise([cut(clip, part.spec) for clip in clips])
        sure = {n for n, one in enumerate(alone) if one.probabilities.max() > 0.6}
        assert sure == own
    for one, clip in zip(predictions, clips, strict=True):
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
    for clip, prediction in zip(clips, together, strict=True):
        [alone] = fused.recognise([clip])
        np.testing.assert_array_equal(alone.probabilities, prediction.probabilities)


def test_a_part_that_computes_frame_by_frame_may_begin_early(
    fused: FusedRecognizer, encoders: list[PartEncoder], bundle: Bundle
) -> None:
    assert fused.prepare is None

    class Early(PartEncoder):
        def prepare(self, clips: Sequence[Clip]) -> None:
            self.given += clips

    early = Early(0)
    waiting = iter([early, encoders[1]])
    other = FusedRecognizer.open(
        bundle, lambda part: Recognizer(part, next(waiting), Classifier(part, "cpu"))
    )
    clip = list(windows("s", frames(0), other.spec, 0.5))[-1]
    assert other.prepare is not None
    other.prepare([clip])
    assert [one.frames for one in early.given] == [cut(clip, early.spec).frames]
    assert not encoders[1].given


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


def test_parts_that_share_pictures_share_the_rule(tmp_path: Path) -> None:
    """Pictures are resized once for all parts: exactly for one part is exactly for none other."""
    exact = spec_as_card(dataclasses.replace(SPECS[1], resize="exact"))
    parts = [part_bundle(tmp_path / "0", 0), part_bundle(tmp_path / "1", 1, encoder=exact)]
    with pytest.raises(BundleError, match="--resize exact"):
        write_fused(tmp_path / "both", "both", parts, [1.0, 1.0], {})
    same = [parts[1], part_bundle(tmp_path / "2", 1, encoder=exact)]
    assert write_fused(tmp_path / "two", "two", same, [1.0, 1.0], {}).encoder.resize == "exact"


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
    [prediction] = fused.recognise([clip])
    # Even in both parts; the second's window is a second long, of a clip of 1.2.
    np.testing.assert_allclose(prediction.attention[:2], 1 / 24, rtol=1e-4)
    assert (prediction.attention[2:] > 1 / 12).all()


def test_a_nan_in_one_clip_leaves_the_other_s_prediction(fused: FusedRecognizer) -> None:
    good, bad = (list(windows(f"{n}", frames(n), fused.spec, 0.5))[-1] for n in (2, 9))
    with pytest.raises(NotANumber) as caught:
        fused.recognise([bad, good])
    nothing, prediction = caught.value.predictions
    assert nothing is None and prediction is not None and prediction.stream == "2"
    assert fused.recognise([]) == []


def test_seen_and_resting_come_from_the_part_that_has_them(
    fused: FusedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = fused._parts[1]
    recognise, seen = second.recognise, Seen(aspect=1.5, signer=None)
    monkeypatch.setattr(
        second,
        "recognise",
        lambda clips: [dataclasses.replace(o, seen=seen, resting=False) for o in recognise(clips)],
    )
    [prediction] = fused.recognise([list(windows("s", frames(0), fused.spec, 0.5))[-1]])
    assert prediction.seen is seen and prediction.resting is False


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
        FusedRecognizer.open(bundle, open_part)
    assert first.closed


ONE = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
OTHER = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], np.float32)


def test_weights_of_one_multiply() -> None:
    want = ONE * OTHER
    np.testing.assert_allclose(fuse([ONE, OTHER], [1, 1]), want / want.sum(1)[:, None], rtol=1e-5)


def test_a_weight_of_zero_leaves_the_other_part_alone() -> None:
    np.testing.assert_allclose(fuse([ONE, OTHER], [0, 1]), OTHER, rtol=1e-5)


def test_a_weight_is_a_temperature() -> None:
    want = np.sqrt(ONE) / np.sqrt(ONE).sum(1)[:, None]
    np.testing.assert_allclose(fuse([ONE, OTHER], [0.5, 0]), want, rtol=1e-5)


def test_no_part_rules_a_class_out_alone() -> None:
    sure = np.array([[0.0, 1.0, 0.0]], np.float32)
    other = np.array([[1 - 2e-9, 1e-9, 1e-9]], np.float32)
    assert fuse([sure, other], [1, 1.1])[0].argmax() == 0


def test_as_many_weights_as_parts() -> None:
    with pytest.raises(ValueError, match="shorter"):
        fuse([ONE, OTHER], [1.0])

"""How soon last words come: figures on made-up signs, and real held-out clips by media time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.landmarks.networks import MediapipeError
from models.recognizer import Recognizer
from models.schema import Sign
from offline.evaluation.time_to_decision import SignEnd, SignLog, decision_figures, false_signs
from offline.scoring.video_predictions import read_predictions
from offline.time_to_decision import (
    AFTER_S,
    BEFORE_S,
    DECODER_WAYS,
    end_of,
    hear,
    main,
    read_manifest,
)
from tests import clips

_END = SignEnd(moved_s=2.0, lowering_s=1.8, clip_s=2.5)


def sign(id: int, gloss: str, *, final: bool, p: float = 0.8) -> Sign:
    return Sign(id=id, gloss=gloss, p=p, alternatives=(), start_s=1, end_s=2, final=final)


def heard(*signs: tuple[float, Sign], gloss: str = "book", whole: str = "book") -> SignLog:
    return SignLog(video="a.mp4", gloss=gloss, whole=whole, end=_END, signs=signs)


def test_delays_are_those_of_the_sign_that_answers_the_clip() -> None:
    one = heard(
        (1.0, sign(1, "drink", final=False, p=0.9)),
        (1.2, sign(1, "drink", final=True, p=0.9)),
        (1.5, sign(2, "help", final=False)),
        (1.9, sign(2, "book", final=False)),
        (2.4, sign(2, "book", final=True)),
    )
    found = decision_figures([one])
    assert found["first_s"]["p50"] == pytest.approx(-0.5)
    assert found["first_right_s"]["p50"] == pytest.approx(-0.1)
    assert found["final_s"]["p50"] == pytest.approx(0.4)
    assert found["final_from_lowering_s"]["p50"] == pytest.approx(0.6)
    assert found["final_before_end"] == 0
    assert found["right"]["share"] == found["more_than_one"]["share"] == 1


def test_clips_are_right_wrong_or_nothing() -> None:
    found = decision_figures(
        [
            heard((2.1, sign(1, "book", final=True))),
            heard((1.1, sign(1, "drink", final=True)), whole="drink"),
            heard(),
            heard(whole="drink"),
        ]
    )
    shares = [found[name]["share"] for name in ("right", "wrong", "nothing", "whole_clip_right")]
    assert shares == [0.25, 0.25, 0.5, 0.5]
    assert found["told"] == 2 and found["right_of_told"]["share"] == 0.5
    assert found["final_before_end"] == 1


def test_more_signs_of_a_clip_are_the_same_once_more_or_another_one() -> None:
    found = decision_figures(
        [
            heard((1.0, sign(1, "book", final=True)), (2.1, sign(2, "book", final=True))),
            heard((1.0, sign(1, "book", final=True)), (1.5, sign(2, "drink", final=True))),
            heard((1.0, sign(1, "help", final=True)), (2.6, sign(2, "book", final=True))),
            heard((2.1, sign(1, "book", final=True))),
        ]
    )
    assert found["more_than_one"]["share"] == 0.75
    assert found["more_signs"] == {"again": 1, "other": 2, "other_after_end": 1}


def test_false_signs_are_those_of_other_signs_and_of_nobody() -> None:
    told = heard((2.1, sign(1, "book", final=False)), gloss="")
    found = false_signs([told, heard(gloss=""), heard(gloss=""), told], 3, 90.0)
    assert found["outside"] == 4 and found["outside_taken_for_known"]["share"] == 0.5
    assert found["false_signs_per_min"] == 2.0
    assert set(false_signs([], 0, 0.0).values()) == {0, None}


def test_nothing_told_is_an_error_and_so_is_a_bundle_without_held_out_clips(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="told"):
        decision_figures([heard()])
    assert main(["builtin", "--data", str(data_dir)]) == 2
    assert "held-out" in capsys.readouterr().err


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    try:
        recognizer = Recognizer.open(clips.HELD_OUT, "cpu")
    except MediapipeError as exc:
        pytest.skip(str(exc))
    yield recognizer
    recognizer.close()


@pytest.mark.timeout(120)
def test_the_last_word_on_a_held_out_clip_comes_soon_after_its_end(
    data_dir: Path, recognizer: Recognizer
) -> None:
    """In media time, so that it does not depend on the machine."""
    chosen = clips.one_a_gloss(clips.held_out(data_dir))[:6]
    manifest = read_manifest(data_dir)
    delays: dict[str, list[float]] = {way: [] for way in DECODER_WAYS}
    for clip in chosen:
        said = list(read_predictions(recognizer, clip.path, still_s=(BEFORE_S, AFTER_S)))
        end = end_of(data_dir, manifest[clip.path.name])
        for way, one in hear(recognizer, said, clip.path.name, clip.gloss, end).items():
            if one.answer is not None:
                delays[way].append(one.answer[0] - end.moved_s)
    soon, late = (delays[way] for way in DECODER_WAYS)
    assert len(soon) == len(late) >= 4
    assert np.median(soon) <= 0.6 and max(soon) <= 1.2, soon
    assert np.median(late) - np.median(soon) >= 0.5


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("recognizer")  # skips where the networks can't be had
def test_the_command_reads_what_the_bundle_did_not_learn_from(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(clips.HELD_OUT, bundle)
    card = json.loads((bundle / "card.json").read_text())
    card["data"]["held_out_clips"] = card["data"]["held_out_clips"][1:2]
    card["data"]["held_out_groups"] = ["idle/pool", "wlasl:89"]  # a clip each that is none of its
    (bundle / "card.json").write_text(json.dumps(card))
    report, keep = tmp_path / "report.json", tmp_path / "kept"
    command = [str(bundle), "--data", str(data_dir), "--report", str(report), "--keep", str(keep)]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.5 < found["idle_s"] < 2
    for way in DECODER_WAYS:
        assert found[way]["clips"] == found[way]["outside"] == 1
    assert [clip["gloss"] for clip in json.loads(report.read_text())["clips"]] == ["apple"]
    files = sorted(keep.glob("*/*.npz"))
    assert len(files) == 3
    before = [file.stat().st_mtime_ns for file in files]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found
    assert [file.stat().st_mtime_ns for file in files] == before, "nothing is read twice"
    files[0].write_bytes(b"cut")
    assert main(command) == 2
    assert str(files[0]) in capsys.readouterr().err

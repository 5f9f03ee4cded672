"""Time to decision by its command, on real held-out clips and in media time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.landmarks.networks import MediapipeError
from models.recognizer import Recognizer
from offline.evaluation.time_to_decision import read_clip, read_manifest
from offline.time_to_decision import main
from tests import clips


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    try:
        recognizer = Recognizer.open(clips.HELD_OUT, "cpu")
    except MediapipeError as exc:
        pytest.skip(str(exc))
    yield recognizer
    recognizer.close()


def test_a_held_out_clip_is_decided_soon_after_its_end(
    data_dir: Path, recognizer: Recognizer
) -> None:
    """In media time, so that a slow machine changes nothing; rounding may move it by a frame."""
    chosen = clips.one_a_gloss(clips.held_out(data_dir))[:6]
    manifest = read_manifest(data_dir)
    delays = []
    for clip in chosen:
        _, log = read_clip(recognizer, data_dir, manifest[clip.path.name], clip.gloss)
        if log.decision is not None:
            delays.append(log.decision[0] - log.end.moved_s)
    assert len(delays) >= 4
    assert np.median(delays) <= 0.6 and max(delays) <= 1.3, delays


@pytest.mark.usefixtures("recognizer")  # skips where the networks can't be had
def test_the_command_reads_what_the_bundle_was_not_trained_on(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(clips.HELD_OUT, bundle)
    card = json.loads((bundle / "card.json").read_text())
    chosen = clips.one_a_gloss(clips.held_out(data_dir))[:3]
    card["data"]["held_out_clips"] = [
        *({"video": clip.path.name, "gloss": clip.gloss} for clip in chosen),
        {"video": "00336.npz", "gloss": "abdomen"},  # landmarks: there is nothing to play
    ]
    card["data"]["held_out_groups"] = ["idle/pool"]
    (bundle / "card.json").write_text(json.dumps(card))
    report = tmp_path / "report.json"
    assert main([str(bundle), "--data", str(data_dir), "--report", str(report)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.5 < found["idle_s"] < 2
    assert found["clips"] == 3 and found["false_signs_per_min"] is not None
    glosses = [clip["gloss"] for clip in json.loads(report.read_text())["clips"]]
    assert glosses == [clip.gloss for clip in chosen]


def test_a_bundle_without_held_out_clips_is_refused(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["builtin", "--data", str(data_dir)]) == 2
    assert "held-out" in capsys.readouterr().err

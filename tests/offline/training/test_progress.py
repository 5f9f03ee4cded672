"""What a training shows of itself: lines in a log, TensorBoard's events, curves as CSV and PNG."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.heads import make_head
from offline.training.progress import Progress, draw_curves, write_curve
from offline.training.trainer import FittedHead, ScoredStep


def fitted(curve: list[ScoredStep]) -> FittedHead:
    head = make_head({"kind": "gloss", "dim": 4, "classes": 2})
    return FittedHead(head=head, losses=[0.7, 0.6, 0.5, 0.4], curve=curve, candidates=[], epoch=1,
                      epochs=2, waited=0, validated=0)  # fmt: skip


def test_a_log_has_its_last_step_and_tensorboard_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(str(tmp_path))
    for step in range(1, 5):
        progress(step, 4, 1 / step, (0.75, -0.5) if step % 2 == 0 else None)
    progress.close()
    told = capsys.readouterr().err
    assert told == "step 4/4  loss 0.250  held back: 75.0 % right, loss 0.500 \n"
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/training")][1] == (2, 0.5)
    assert [(e.step, e.value) for e in events.Scalars("accuracy/held_back")] == [
        (2, 0.75), (4, 0.75)]  # fmt: skip


def test_each_head_has_its_number_its_curve_and_its_own_pace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    progress = Progress(str(tmp_path), heads=2)
    for head in (1, 2):
        for step in (1, 2, 3):
            now_s[0] += 60
            progress(step, 3, float(head), head=head)
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "head 1/2  step 1/3  loss 1.000 ",
        "head 1/2  step 2/3  loss 1.000  4 min left ",
        "head 1/2  step 3/3  loss 1.000  3 min left ",
        "head 2/2  step 1/3  loss 2.000 ",
        "head 2/2  step 2/3  loss 2.000  1 min left ",
        "head 2/2  step 3/3  loss 2.000 ",
    ]
    events = EventAccumulator(str(tmp_path)).Reload()
    for head in (1, 2):
        assert [e.value for e in events.Scalars(f"loss/training/{head}")] == [head] * 3


def test_curves_have_a_line_a_step_and_a_picture(tmp_path: Path) -> None:
    scored = [ScoredStep(step=2, epoch=1, top1=0.5, loss=0.8)]
    write_curve([fitted(scored), fitted([])], tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["head", "step", "epoch", "loss", "held_back_top1", "held_back_loss"]
    assert lines[2] == ["0", "2", "1.000", "0.6000", "0.5000", "0.8000"]
    assert lines[6] == ["1", "2", "1.000", "0.6000", "", ""] and len(lines) == 9
    for name, heads in (("with", [fitted(scored)]), ("without", [fitted([]), fitted([])])):
        draw_curves(heads, 2, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000

"""The whole command: a tiny teacher's index in, a checkpoint that everything else can load out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.schema import Clip, Frame
from models.vjepa2.encoder import VJEPA2Encoder
from models.vjepa2.weights import vjepa2_spec
from offline import distil, encode
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.whole_way import coloured


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny V-JEPA 2 over ten clips, red or green, by five signers."""
    root = tmp_path_factory.mktemp("teacher")
    (root / "videos").mkdir()
    lines = ["path,gloss,signer"]
    for seed in range(10):
        gloss = ("tree", "floor")[seed % 2]
        coloured(root / "videos" / f"{seed}.mp4", gloss, seed)
        lines.append(f"{seed}.mp4,{gloss},signer{seed // 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    where = ["--videos", str(root / "videos"), "--labels", str(root / "labels.csv")]
    teacher = f"vjepa2:{make_checkpoint(root / 'checkpoint')}"
    how = ["--encoder", teacher, "--frames", "4", "--device", "cpu", "--out", str(root / "rows")]
    assert encode.main([*where, *how]) == 0
    return root / "rows" / "index.csv"


def command(index: Path, out: Path, *more: str) -> int:
    size = ["--width", "16", "--depth", "1", "--heads", "1", "--crop", "32", "--frames", "4"]
    how = ["--batch", "8", "--epochs", "40", "--lr", "5e-3", "--threads", "1", "--device", "cpu"]
    return distil.main(["--index", str(index), "--out", str(out), *size, *how, *more])


def last_line(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_student_that_everything_can_load(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    assert command(index, out, "--licence", "mine") == 0
    told = last_line(capsys)
    card = json.loads((out / distil.CARD).read_text())
    assert told["videos"] == card["data"]["videos"] == 8
    assert card["loss"][-1] < 0.5 * card["loss"][0]
    assert told["held_out_r2"] == card["learnt"]["held_out"]["r2"] > 0.5  # colours tell them
    assert (card["licence"], card["teacher"]["kind"]) == ("mine", "vjepa2")
    assert len(card["data"]["held_out_groups"]) == 1
    assert sorted(p.name for p in out.iterdir()) == [
        "config.json", distil.CARD, "model.safetensors"
    ]  # fmt: skip

    encoder = VJEPA2Encoder.open(vjepa2_spec(str(out), frames=4), "cpu")
    frame = Frame(image=np.full((36, 48, 3), 200, np.uint8), media_s=0)
    [one] = encoder.encode([Clip(stream="", frames=(frame,) * 4, start_s=0, end_s=0.5)])
    assert one.features.shape == (2, 16) and np.isfinite(one.features).all()
    assert command(index, out) == 2  # never over another checkpoint
    assert "there is a checkpoint already" in capsys.readouterr().err


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    few = ["--epochs", "6"]
    assert command(index, tmp_path / "whole", *few) == 0

    class CutOff(BaseException):
        pass

    monkeypatch.setattr(distil, "_SAVE_EVERY_S", -1.0)
    save = torch.save

    def cut(state: dict[str, Any], file: Path) -> None:
        save(state, file)
        if state["step"] == 3:
            raise CutOff

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(CutOff):
        command(index, tmp_path / "part", *few)
    monkeypatch.undo()
    capsys.readouterr()
    assert command(index, tmp_path / "part", "--epochs", "7") == 2
    assert "of a run with other settings" in capsys.readouterr().err
    assert command(index, tmp_path / "part", *few) == 0
    assert "going on after 2 steps" in capsys.readouterr().out
    whole, part = (tmp_path / name / "model.safetensors" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--crop", "30"], "multiple of 16"),
        (["--frames", "5"], "even"),
        (["--heads", "3"], "heads"),
        (["--depth", "0"], "--depth must be at least 1"),
        (["--epochs", "0"], "above 0"),
        (["--fold", "5"], "--fold must be 0 to 4"),
        (["--device", "tpu"], "no device"),
        (["--min-clips", "99"], "no gloss has 99 clips"),
        (["--memory-gb", "0"], "--memory-gb"),
        (["--index", "/nowhere/index.csv"], "can't be read"),
    ],
)
def test_wrong_use_is_one_clear_line(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert command(index, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error

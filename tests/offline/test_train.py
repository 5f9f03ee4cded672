"""Training by its command, on indexes small enough for seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offline import evaluate, few_shot, train
from offline.training.checkpoint import load_checkpoint
from tests.offline.indexes import GLOSSES, write_index
from tests.offline.made_up import LANDMARK_OPTIONS as _LANDMARKS
from tests.offline.made_up import last_line as _last_line


def _train(index: Path, out: Path, *options: str) -> int:
    return train.main(["--index", str(index), "--out", str(out), *options])


def test_learns_two_signs_and_idle_from_signers_it_is_not_tested_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = write_index(tmp_path), tmp_path / "head.pt"
    # Fold 1 keeps out one signer of six; fold 0 two, and four are too few to learn from.
    assert _train(index, model, *_LANDMARKS, "--epochs", "25", "--fold", "1") == 0
    result = _last_line(capsys)
    assert result["kept_out_top1"] == 1.0
    card = load_checkpoint(model).card
    assert card["glosses"] == list(GLOSSES)
    assert card["head"]["idle"] is True
    held_out = set(card["data"]["held_out_groups"])
    assert held_out and card["data"]["signer_groups"] + len(held_out) <= 8
    assert (tmp_path / "head_loss.png").stat().st_size > 1000
    assert (tmp_path / "head_confusion.png").stat().st_size > 1000


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_default_head_learns_from_rows_of_any_float(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: type[np.floating]
) -> None:
    index = write_index(tmp_path, kind="vjepa2", dtype=dtype)
    model = tmp_path / "head.pt"
    options = ("--epochs", "6", "--lr", "1e-3", "--batch", "8", "--min-clips", "4")
    assert _train(index, model, *options) == 0
    assert _last_line(capsys)["kept_out_top1"] == 1.0
    assert load_checkpoint(model).card["head"]["idle"] is False


def _late(folder: Path) -> Path:
    """An index with two windows a clip, the first of which shows nothing."""
    index = write_index(folder, kind="vjepa2")
    with index.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        rows = np.load(folder / line["path_to_npy_file"])
        np.save(folder / line["path_to_npy_file"], np.concatenate([np.full_like(rows, 0.5), rows]))
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*lines[0], "windows"])
        writer.writeheader()
        writer.writerows({**line, "windows": 2} for line in lines)
    return index


def test_a_late_sign_is_learnt_and_read_from_several_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = _late(tmp_path), tmp_path / "head.pt"
    how = ("--epochs", "12", "--lr", "1e-3", "--batch", "8", "--min-clips", "4", "--threads", "1")
    several = ("--lr", "1e-4", "1e-3", "--resume", str(tmp_path / "state"))
    assert _train(index, model, *how, *several) == 0
    assert _last_line(capsys)["kept_out_top1"] == 1.0
    how = (*how[:1], "6", *how[2:])
    folds = ("--cross-validate", "3", "--report", str(tmp_path / "report"))
    assert evaluate.main(["--index", str(index), *how, *folds]) == 0
    assert _last_line(capsys)["top1"] > 0.9
    episodes = ("--sets", "2", "--folds", "2", "--ways", "2", "--takes", "1")
    assert few_shot.main(["--index", str(index), *how, *episodes, "--epochs", "1"]) == 0
    assert _last_line(capsys)["known_before"]["clips"] > 0


def test_the_same_seed_gives_the_same_head(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    states = []
    for name in ("a.pt", "b.pt"):
        assert _train(index, tmp_path / name, *_LANDMARKS, "--epochs", "1", "--seed", "7") == 0
        states.append(torch.load(tmp_path / name, weights_only=True)["states"][0])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--hold-out-groups", "nobody"), "nobody"),
        (("--leave-out", "nobody"), "nobody"),
        (("--min-clips", "99"), "--min-clips"),
        (("--card", "missing.json"), "missing.json"),
        (("--device", "abacus"), "--device abacus"),
    ],
)
def test_wrong_use_ends_with_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    index = write_index(tmp_path)
    basic = ("--head", "landmarks", "--epochs", "0.1", "--batch", "4")
    assert _train(index, tmp_path / "head.pt", *basic, *options) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


@pytest.mark.parametrize(
    "options", [("--fold", "9"), ("--lr", "0"), ("--mixup", "2"), ("--x", "1")]
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as refused:
        _train(tmp_path / "missing.csv", tmp_path / "head.pt", *options)
    assert refused.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_a_broken_embedding_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_index(tmp_path)
    with index.open(newline="", encoding="utf-8") as stream:
        broken = next(csv.DictReader(stream))["path_to_npy_file"]
    (tmp_path / broken).write_bytes(b"not numbers")
    assert _train(index, tmp_path / "head.pt") == 2
    assert broken in capsys.readouterr().err


def test_a_head_whose_card_describes_another_is_refused(tmp_path: Path) -> None:
    index, model = write_index(tmp_path), tmp_path / "head.pt"
    assert _train(index, model, *_LANDMARKS, "--epochs", "0.1") == 0
    card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    card["head"]["args"]["width"] = 40
    model.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ValueError, match=r"head\.pt: not a trained head"):
        load_checkpoint(model)


def test_the_attentive_head_is_trained_and_chosen_by_signers_held_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = write_index(tmp_path, kind="vjepa2", dtype=np.float16), tmp_path / "head.pt"
    options = (
        *("--head", "attentive", "--batch", "8", "--epochs", "40"),
        *("--min-clips", "4", "--threads", "1"),
        *("--lr", "1e-6", "3e-3", "--patience", "30", "--resume", str(tmp_path / "state")),
    )
    assert _train(index, model, *options) == 0
    # No score: these classes differ by a constant, which the probe's LayerNorm takes off.
    assert _last_line(capsys)["clips"] > 0
    [chosen_from] = load_checkpoint(model).card["metrics"]["chosen_from"]
    assert [one["lr"] for one in chosen_from] == [1e-6, 3e-3]
    assert not list(tmp_path.glob("state*"))


def test_a_video_whose_variants_straddle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = write_index(tmp_path, kind="vjepa2")
    lines = index.read_text(encoding="utf-8").splitlines()
    planted = [f"{line},original" for line in lines[1:]]
    planted[0] = "clip-0,down,0.npy,signer 0,train,original"
    planted.append("clip-0,down,0.npy,signer 0,test,bw")
    index.write_text("\n".join([f"{lines[0]},variant", *planted]), encoding="utf-8")
    assert _train(index, tmp_path / "head.pt", "--split", "official", "--min-clips", "1") == 2
    error = capsys.readouterr().err
    assert "clip-0 (original" in error and "clip-0 (bw" in error


def test_out_of_memory_ends_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_index(tmp_path, kind="vjepa2")
    huge = ("--batch", str(10**15), "--min-clips", "4")
    assert _train(index, tmp_path / "head.pt", *huge) == 2
    error = capsys.readouterr().err.strip()
    assert "halve --batch" in error and "\n" not in error

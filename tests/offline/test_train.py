"""Training by its command, on indexes small enough for seconds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models.files import sha256
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
    how = ("--epochs", "25", "--fold", "1", "--validation", "none")
    assert _train(index, model, *_LANDMARKS, *how) == 0
    result = _last_line(capsys)
    assert result["kept_out_top1"] == 1.0 and result["warning"] is None
    card = load_checkpoint(model).card
    assert card["glosses"] == list(GLOSSES)
    assert card["head"]["idle"] is True
    held_out = set(card["data"]["held_out_groups"])
    assert held_out and card["data"]["signer_groups"] + len(held_out) <= 8
    assert (tmp_path / "head_curve.png").stat().st_size > 1000
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
    card = load_checkpoint(model).card
    assert (card["head"]["idle"], card["head"]["kind"]) == (False, "gloss")


def _rewrite(
    index: Path, changed: Callable[[int, dict[str, str]], dict[str, str]], most: int | None = None
) -> None:
    """Write the index anew: its first lines, `most` or all, as `changed(number, line)` has them."""
    with index.open(newline="", encoding="utf-8") as stream:
        lines = [changed(*numbered) for numbered in enumerate(csv.DictReader(stream))][:most]
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def _late(folder: Path) -> Path:
    """An index with two windows a clip, the first of which shows nothing."""
    index = write_index(folder, kind="vjepa2")

    def late(_: int, line: dict[str, str]) -> dict[str, str]:
        rows = np.load(folder / line["path_to_npy_file"])
        np.save(folder / line["path_to_npy_file"], np.concatenate([np.full_like(rows, 0.5), rows]))
        return line | {"windows": "2"}

    _rewrite(index, late)
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
    assert _last_line(capsys)["taught"][0]["known_before"]["clips"] > 0


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
        (("--head", "gloss", "--width", "64"), "--width is of the head landmarks, not of gloss"),
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
    "options",
    [
        ("--fold", "9"),
        ("--lr", "0"),
        ("--mixup", "2"),
        ("--x", "1"),
        ("--least-steps", "0"),
        ("--width", "6"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as refused:
        _train(tmp_path / "missing.csv", tmp_path / "head.pt", *options)
    assert refused.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_broken_embeddings_are_named_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = write_index(tmp_path), tmp_path / "head.pt"
    (tmp_path / "0.npy").write_bytes(b"not numbers")
    (tmp_path / "1.npy").unlink()
    np.save(tmp_path / "2.npy", np.full((4, 154), np.nan, np.float32))
    assert _train(index, model, *_LANDMARKS, "--epochs", "0.1") == 0
    captured = capsys.readouterr()
    assert "3 of 31 rows are skipped" in captured.err
    assert all(f"{number}.npy" in captured.err for number in range(3))
    assert json.loads(captured.out.splitlines()[-1])["skipped"] == 3
    assert load_checkpoint(model).card["data"]["skipped"] == 3
    for file in tmp_path.glob("*.npy"):
        file.write_bytes(b"")
    assert _train(index, model) == 2
    assert "none of its 31 files can be used" in capsys.readouterr().err


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


def test_a_data_set_of_one_gloss_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, glosses = write_index(tmp_path), tmp_path / "glosses.txt"
    glosses.write_text("up\n", encoding="utf-8")
    assert _train(index, tmp_path / "head.pt", "--glosses", str(glosses)) == 2
    error = capsys.readouterr().err.strip()
    assert "only the gloss up" in error and "\n" not in error


def test_the_demos_flags_still_run_and_the_result_is_said_to_be_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = write_index(tmp_path)
    flags = ("--batch", "32", "--epochs", "10", "--lr", "1e-4", "--min-clips", "4")
    assert _train(index, tmp_path / "head.pt", *flags, "--threads", "1") == 0
    captured = capsys.readouterr()
    warning = json.loads(captured.out.splitlines()[-1])["warning"]
    assert "leave out --batch, --epochs, --lr" in warning
    assert captured.err.strip().splitlines()[-1] == f"train: {warning}"


def test_the_labels_own_split_validates_and_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named as others name it; rows in no split are told, and only `test` is scored."""
    index, model = write_index(tmp_path, kind="vjepa2"), tmp_path / "head.pt"
    names = ["Train", "training", "validation", "dev", "TEST", "train"]
    splits = ["" if number == 23 else names[number // 2 % 6] for number in range(24)]
    _rewrite(index, lambda n, line: line | {"split": splits[n % 24]}, most=24)
    options = ("--split", "official", "--epochs", "4", "--threads", "1")
    assert _train(index, model, *options) == 0
    captured = capsys.readouterr()
    assert "1 videos are in no split, so they neither train nor test: clip-23" in captured.out
    result = json.loads(captured.out.splitlines()[-1])
    assert (result["clips"], result["held_back_clips"], result["kept_out_clips"]) == (11, 8, 4)
    kept_out = {c["video_id"] for c in load_checkpoint(model).card["data"]["held_out_clips"]}
    assert kept_out == {"clip-8", "clip-9", "clip-20", "clip-21"}
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace(",TEST", ",tset"), encoding="utf-8")
    assert _train(index, model, *options) == 2
    assert "line 10: no split is called 'tset'" in capsys.readouterr().err


def test_a_gloss_without_a_clip_to_learn_from_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of WLASL's clips are gone: of some of its 2,000 glosses, all but those in `test`."""
    index, model = write_index(tmp_path, kind="vjepa2"), tmp_path / "head.pt"
    gone = {"split": "test", "gloss": "rare"}
    _rewrite(index, lambda n, line: line | (gone if n == 0 else {"split": "train"}))
    options = ("--split", "official", "--epochs", "2", "--min-clips", "1", "--threads", "1")
    assert _train(index, model, *options) == 0
    told = "1 gloss has no clip to learn from, so it is left out: rare"
    assert told in capsys.readouterr().out
    assert "rare" not in load_checkpoint(model).card["glosses"]


@pytest.mark.parametrize("option", ["--out", "--resume", "--tensorboard"])
def test_a_place_that_cannot_be_written_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    index, place = write_index(tmp_path), "/dev/null/head.pt"
    places = {"--out": str(tmp_path / "head.pt"), option: place}
    options = [word for pair in places.items() for word in pair]
    assert train.main(["--index", str(index), *options]) == 2
    captured = capsys.readouterr()
    assert "can't be written" in captured.err and "clips to train on" not in captured.out


def test_typing_errors_are_told_before_torch_is_loaded() -> None:
    """And a run file's, and a place that cannot be written."""
    for module, options in (
        ("train", "['--index', 'x', '--epoch', '3']"),
        ("train", "['--index', 'x', '--config', 'none.yaml']"),
        ("train", "['--index', 'x', '--out', '/dev/null/a.pt']"),
        ("finetune", "['--index', 'x', '--out', '/dev/null/a.pt']"),
        ("evaluate", "['--index', 'x', '--cross-validat', '3']"),
    ):
        code = (
            f"import sys\nfrom offline import {module} as command\n"
            f"try:\n    status = command.main({options})\n"
            "except SystemExit as exc:\n    status = exc.code\n"
            "assert status == 2 and 'torch' not in sys.modules, status"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_sigterm_ends_with_a_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """A process of its own, ended when its first state is there."""
    index, state = write_index(tmp_path), tmp_path / "state"
    options = ["--index", str(index), *_LANDMARKS, "--epochs", "5", "--resume", str(state)]
    command = [sys.executable, "-m", "offline.train", *options, "--out"]
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, signal\nfrom offline import train\nfrom offline.training import trainer\n"
        "learn = trainer.CandidateHead.learn\n"
        "def at(self, batch, step, *rest):\n"
        "    if step == 7:\n        signal.raise_signal(signal.SIGTERM)\n"
        "    return learn(self, batch, step, *rest)\n"
        "trainer.CandidateHead.learn = at\nsys.exit(train.main(sys.argv[1:]))"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", code, *command[3:], str(tmp_path / "a.pt")],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert stopped.returncode == 130, stopped.stderr
    last = stopped.stderr.strip().splitlines()[-1]
    assert last.startswith("train: interrupted after step 7 of ")
    assert last.endswith(f"the state is in {state}: the same command goes on from there")
    assert torch.load(state, weights_only=True)["parts"][0]["step"] == 7
    assert train.main([*command[3:], str(tmp_path / "a.pt")]) == 0
    assert not state.exists()
    assert train.main(["--index", str(index), *_LANDMARKS, "--epochs", "5", "--out",
                       str(tmp_path / "b.pt")]) == 0  # fmt: skip
    a, b = (
        torch.load(tmp_path / name, weights_only=True)["states"][0] for name in ("a.pt", "b.pt")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_beside_the_head_lie_its_curve_and_a_run_file_that_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = write_index(tmp_path), tmp_path / "head.pt"
    options = ("--epochs", "2", "--lr", "1e-3", "3e-3", "--heads", "2")
    assert _train(index, model, *_LANDMARKS[:5], *options, "--threads", "1") == 0
    with (tmp_path / "head_curve.csv").open(newline="") as stream:
        curve = list(csv.DictReader(stream))
    assert {line["head"] for line in curve} == {"0", "1"}
    held_back = [line for line in curve if line["held_back_top1"]]
    assert held_back and all(0 <= float(line["held_back_top1"]) <= 1 for line in held_back)
    run = yaml.safe_load((tmp_path / "head_run.yaml").read_text())
    assert (run["batch"], run["lr"], run["least-steps"]) == (64, [1e-3, 3e-3], 1)
    assert run["made"]["sha256"]["index"] == sha256(index)
    assert run["made"]["versions"]["torch"] == torch.__version__
    again = tmp_path / "again.pt"
    config = ("--config", str(tmp_path / "head_run.yaml"))
    assert train.main([*config, "--out", str(again)]) == 0
    a, b = (torch.load(file, weights_only=True)["states"] for file in (model, again))
    assert all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)
    capsys.readouterr()
    index.write_text(index.read_text() + "\n")
    assert train.main([*config, "--out", str(again), "--epochs", "0.1"]) == 0
    assert "is not what it was in that run" in capsys.readouterr().err


def test_out_of_memory_ends_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_index(tmp_path, kind="vjepa2")
    huge = ("--batch", str(10**15), "--min-clips", "4")
    assert _train(index, tmp_path / "head.pt", *huge) == 2
    error = capsys.readouterr().err.strip()
    assert "halve --batch" in error and "\n" not in error

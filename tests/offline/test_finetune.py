"""Fine-tuning by its command, around a tiny V-JEPA 2: learnt, cut off, shared, exported, served."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.recognizer import Recognizer
from offline import export, finetune, predict
from offline.data.index import Entry, read_index, write_index
from offline.training.checkpoint import load_checkpoint
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.offline.made_up import last_line
from tests.whole_way import coloured

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--threads", "1", "--workers", "1", "--device", "cpu", "--split", "official")


def options(way: Path, out: Path, *more: str) -> list[str]:
    index = ["--index", str(way / "embeddings" / "index.csv"), "--out", str(out)]
    return [*index, *SMALL, "--batch", "4", "--lr", "3e-3", *more]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The tensors of a result: the encoder's and the head's."""
    encoder = load_file(out.with_name(f"{out.stem}-encoder") / "model.safetensors")
    return {**encoder, **load_checkpoint(out).head.state_dict()}


def check_learnt(way: Path, out: Path, capsys: pytest.CaptureFixture[str], how: list[str]) -> None:
    """The result of a training to its last epoch is right about unseen clips."""
    more = ["--epochs", "15", "--encoder-lr", "1e-3", "--colour", "0.1", "--validation", "none"]
    assert finetune.main(options(way, out, *more, *how)) == 0
    result = last_line(capsys)
    assert (result["clips"], result["kept_out_clips"], result["skipped"]) == (8, 2, 0)
    assert result["loss"] < 0.6  # ln 2 is chance
    assert result["kept_out_top1"] == 1.0
    card = load_checkpoint(out).card
    before = json.loads((way / "embeddings" / "encode_report.json").read_text())["encoder"]
    assert card["encoder"]["revision"] != before["revision"]
    assert card["metrics"]["fine_tuned"]["from"]["revision"] == before["revision"]
    for name in ("curve", "confusion"):
        assert out.with_name(f"{out.stem}_{name}.png").stat().st_size > 1000


def test_last_blocks_learn(way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_learnt(way, tmp_path / "tuned.pt", capsys, ["--unfreeze", "1"])


def test_low_rank_updates_from_videos_to_a_bundle_that_reads_them(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bundle = tmp_path / "tuned.pt", tmp_path / "bundle"
    check_learnt(way, out, capsys, ["--lora", "2", "--head", "gloss"])
    moved = ["--model", str(out), "--out", str(bundle), "--with-encoder", "--name", "tuned"]
    assert export.main(moved) == 0
    Recognizer.open(bundle, "cpu").close()
    capsys.readouterr()
    files = [str(coloured(tmp_path / f"{g}.mp4", g, 30)) for g in ("tree", "floor")]
    assert predict.main(["--model", str(bundle), "--device", "cpu", "--json", *files]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["top"][0]["gloss"] for one in said] == ["tree", "floor"]


def ended(way: Path, out: Path, step: int, number: int, *more: str) -> tuple[int, str]:
    """Status and stderr of a process that gets signal `number` before a step, from 0."""
    code = (
        "import os, signal, sys\nfrom offline import finetune\n"
        "from offline.finetuning import loop\n"
        "learn = loop._learn\n"
        "def at(tuning, *rest):\n"
        f"    if tuning.step == {step}:\n        os.kill(os.getpid(), {number:d})\n"
        "    return learn(tuning, *rest)\n"
        "loop._learn = at\nsys.exit(finetune.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *options(way, out, *more)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stderr


def test_killed_and_resumed_it_has_the_same_weights(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit, dropout and the choice of the best epoch included."""
    more = ["--unfreeze", "all", "--dropout", "0.2", "--validation", "signers", "--epochs", "8"]
    whole, cut, state = tmp_path / "whole.pt", tmp_path / "cut.pt", tmp_path / "state"
    resume = ("--resume", str(state))
    status, told = ended(way, cut, 7, signal.SIGKILL, *more, *resume)
    assert status == -signal.SIGKILL, told
    done = torch.load(state, weights_only=True)["parts"][0]["step"]
    assert done == 6 and not cut.exists()  # the last epoch's end: its clips are two steps

    # Other options of the training refuse the state; more threads that decode do not.
    args = options(way, cut, *more, *resume)
    assert finetune.main([*args, "--lr", "1e-3"]) == 2
    assert "is the state of another training" in capsys.readouterr().err
    assert finetune.main([*args, "--workers", "3", "--memory-gb", "0"]) == 0
    assert not state.exists()
    resumed = last_line(capsys)
    assert finetune.main(options(way, whole, *more)) == 0
    assert last_line(capsys)["loss"] == resumed["loss"]
    want, got = weights(whole), weights(cut)
    assert want.keys() == got.keys()
    assert all(torch.equal(tensor, got[name]) for name, tensor in want.items())


def test_interrupted_it_keeps_the_step_and_says_how_it_goes_on(way: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    more = ["--epochs", "9", "--validation", "none", "--resume", str(state)]
    status, said = ended(way, tmp_path / "tuned.pt", 4, signal.SIGTERM, *more)
    assert status == 130, said
    goes_on = f"the state is in {state}: the same command goes on from there"
    assert said.splitlines()[-1].endswith(f"interrupted after step 5 of 18; {goes_on}")
    assert torch.load(state, weights_only=True)["parts"][0]["step"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_two_processes_learn_what_one_does(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By torch's launcher, of the same batch, in parts: but for rounding."""
    more = ["--unfreeze", "all", "--dropout", "0", "--epochs", "2", "--seed", "3"]
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    args = options(way, two, *more, "--accumulate", "2")
    launcher = ["--standalone", "--nproc-per-node", "2", "-m", "offline.finetune", *args]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launcher],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout.splitlines()[-1])
    assert finetune.main(options(way, one, *more)) == 0
    assert shared["loss"] == pytest.approx(last_line(capsys)["loss"], abs=2e-4)
    want, got = weights(one), weights(two)
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, atol=2e-4, rtol=1e-3)


def test_a_start_from_a_trained_head(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--start", str(way / "head.pt"), "--epochs", "1", "--lr", "1e-6"]
    assert finetune.main(options(way, tmp_path / "tuned.pt", *start, "--encoder-lr", "1e-6")) == 0
    assert last_line(capsys)["kept_out_top1"] == 1.0  # at once: the head knew
    assert load_checkpoint(tmp_path / "tuned.pt").card["head"]["kind"] == "gloss"
    other = make_checkpoint(tmp_path / "wide", hidden_size=48)
    wide = options(way, tmp_path / "wide.pt", *start, "--encoder", f"vjepa2:{other}")
    assert finetune.main(wide) == 2
    assert "a head for another encoder" in capsys.readouterr().err


def test_broken_videos_are_skipped_and_named(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = read_index(way / "embeddings" / "index.csv")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    folder = Path(shutil.copytree(way / "embeddings", tmp_path / "index"))
    changed = dict(zip((e.video_id for e in entries), ("broken.mp4", "gone.mp4"), strict=False))

    def lose(videos: dict[str, str]) -> None:
        lines: list[Entry] = []
        for e in entries:
            lost = videos.get(e.video_id)
            lines.append(replace(e, video=str(tmp_path / lost)) if lost else e)
        write_index(folder / "index.csv", lines)

    lose(changed)
    args = ["--index", str(folder / "index.csv"), *SMALL, "--batch", "4", "--epochs", "1"]
    assert finetune.main([*args, "--out", str(tmp_path / "out.pt")]) == 0
    told = capsys.readouterr()
    assert "broken.mp4: not a video file" in told.err and "gone.mp4: no such file" in told.err
    result = json.loads(told.out.splitlines()[-1])
    assert (result["skipped"], result["clips"]) == (2, 6)
    lose({e.video_id: "gone.mp4" for e in entries})
    assert finetune.main([*args, "--out", str(tmp_path / "none.pt")]) == 2
    assert "no clip to train on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--unfreeze", "9"], "--unfreeze 9: the encoder has 2 blocks"),
        (["--encoder", "landmarks"], "a landmarks encoder can't be fine-tuned"),
        (["--encoder", "vjepa2:/nowhere"], "/nowhere: no such folder"),
        (["--start", "/nowhere.pt"], "/nowhere.pt: not a trained head"),
        (["--hold-out-groups", "nobody"], "--hold-out-groups: no clip of nobody"),
        (["--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_what_can_not_be_trained_is_told(
    way: Path, tmp_path: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune.main(options(way, tmp_path / "out.pt", *more)) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--unfreeze", "2", "--lora", "4"], "give either --lora or --unfreeze"),
        (["--unfreeze", "some"], "--unfreeze must be all or a number of blocks, not some"),
        (["--batch", "6", "--accumulate", "4"], "--batch 6 is no multiple of --accumulate"),
        (["--mirror", "2"], "--mirror must be from 0 to 1"),
        (["--out", "tuned"], "--out tuned: must end in .pt"),
        (["--lr", "nan"], "--lr must be above 0"),
    ],
)
def test_options_out_of_range(
    more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        finetune.main(["--index", "index.csv", *more])
    assert says in capsys.readouterr().err


def test_a_result_is_not_written_over(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tuned-encoder").mkdir()
    assert finetune.main(options(way, tmp_path / "tuned.pt")) == 2
    assert "tuned-encoder: is there already; give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--resume", "--tensorboard"])
def test_a_place_that_cannot_be_written_is_told_before_training(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"--out": "tuned.pt", option: "/dev/null/tuned.pt"}
    args = [word for pair in places.items() for word in pair]
    assert finetune.main(["--index", "/nowhere/index.csv", *args]) == 2
    assert "/dev/null/tuned.pt" in capsys.readouterr().err


def test_the_labels_own_split_a_card_and_a_run_file_that_repeats_it(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Val chooses the epoch, test alone is kept out, who is in no split does neither. Of several
    windows the middle one is learnt."""
    folder = Path(shutil.copytree(way / "embeddings", tmp_path / "index"))
    splits = {"0": "", "5": "val", "6": "val", "7": "val"}
    entries = read_index(folder / "index.csv")
    lines = [replace(e, split=splits.get(Path(e.video).stem, e.split)) for e in entries]
    write_index(folder / "index.csv", [replace(e, windows=2) for e in lines])
    (tmp_path / "card.json").write_text('{"licence": "C-UDA", "data": {"from": "WLASL"}}')
    args = ["--index", str(folder / "index.csv"), *SMALL, "--batch", "4", "--epochs", "3"]
    args += ["--card", str(tmp_path / "card.json"), "--out"]
    first, again = tmp_path / "first.pt", tmp_path / "again.pt"
    assert finetune.main([*args, str(first), "--threshold", "0.3"]) == 0
    told = capsys.readouterr().out
    assert "1 videos are in no split, so they neither train nor test" in told
    result = json.loads(told.splitlines()[-1])
    counts = ("clips", "held_back_clips", "kept_out_clips", "epochs")
    assert [result[name] for name in counts] == [4, 3, 2, 3]
    card = load_checkpoint(first).card
    assert card["licence"] == "C-UDA" and card["calibration"]["threshold"] == 0.3
    assert card["data"]["from"] == "WLASL" and card["data"]["held_back_clips"] == 3
    tested = {Path(clip["video"]).stem for clip in card["data"]["held_out_clips"]}
    assert tested == {"8", "9"}
    with (tmp_path / "first_curve.csv").open(newline="") as stream:
        curve = list(csv.DictReader(stream))
    assert [line["epoch"] for line in curve if line["held_back_top1"]] == [
        "1.000", "2.000", "3.000"]  # fmt: skip
    config = ["--config", str(tmp_path / "first_run.yaml"), "--out", str(again)]
    write_index(folder / "index.csv", lines)
    assert finetune.main(config) == 0
    assert "index.csv is not what it was in that run" in capsys.readouterr().err
    a, b = (load_checkpoint(path).background for path in (first, again))
    assert (a == b).all()
    want, got = weights(first), weights(again)
    assert all(torch.equal(tensor, got[name]) for name, tensor in want.items())

    (tmp_path / "card.json").write_text("[1]")
    assert finetune.main([*args, str(tmp_path / "other.pt")]) == 2
    assert "card.json: no object with the fields of a card" in capsys.readouterr().err


def test_out_of_memory_has_advice(
    way: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left(*args: object, **more: object) -> Iterator[None]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("offline.finetuning.loop.tune", none_left)
    assert finetune.main(options(way, tmp_path / "tuned.pt", "--accumulate", "2")) == 2
    told = capsys.readouterr().err
    assert "out of memory: give --accumulate 4, --checkpointing or a smaller --batch" in told

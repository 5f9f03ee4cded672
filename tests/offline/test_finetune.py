"""Fine-tuning by its command, around a tiny V-JEPA 2: learnt, cut off, shared, exported, served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
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


def command(args: list[str]) -> list[str]:
    return [sys.executable, "-m", "offline.finetune", *args]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [["--unfreeze", "1"], ["--lora", "2", "--head", "gloss"]])
def test_from_videos_to_a_bundle_that_reads_them(
    way: Path, tmp_path: Path, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned.pt"
    more = ["--epochs", "15", "--encoder-lr", "1e-3", "--colour", "0.1", *how]
    assert finetune.main(options(way, out, *more)) == 0
    result = last_line(capsys)
    assert (result["clips"], result["kept_out_clips"], result["skipped"]) == (8, 2, 0)
    assert result["loss"] < 0.6  # ln 2 is chance
    assert result["kept_out_top1"] == 1.0
    card = load_checkpoint(out).card
    before = json.loads((way / "embeddings" / "encode_report.json").read_text())["encoder"]
    assert card["encoder"]["revision"] != before["revision"]
    assert card["metrics"]["fine_tuned"]["from"]["revision"] == before["revision"]
    assert (tmp_path / "tuned_curve.png").stat().st_size > 1000

    bundle = tmp_path / "bundle"
    moved = ["--model", str(out), "--out", str(bundle), "--with-encoder", "--name", "tuned"]
    assert export.main(moved) == 0
    Recognizer.open(bundle, "cpu").close()
    capsys.readouterr()
    files = [str(coloured(tmp_path / f"{g}.mp4", g, 30)) for g in ("tree", "floor")]
    assert predict.main(["--model", str(bundle), "--device", "cpu", "--json", *files]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["top"][0]["gloss"] for one in said] == ["tree", "floor"]


@pytest.mark.timeout(300)
def test_killed_and_resumed_it_has_the_same_weights(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit, dropout and the choice of the best epoch included."""
    more = ["--unfreeze", "all", "--dropout", "0.2", "--validation", "signers", "--epochs", "40"]
    whole, cut, state = tmp_path / "whole.pt", tmp_path / "cut.pt", tmp_path / "state"
    args = options(way, cut, *more, "--resume", str(state))
    run = subprocess.Popen(command(args), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while not state.exists() and run.poll() is None:
        time.sleep(0.001)
    run.kill()
    output = run.communicate()[0]
    assert run.returncode == -signal.SIGKILL, output
    done = torch.load(state, weights_only=True)["parts"][0]["step"]
    assert 0 < done < 40 * 2 and not cut.exists()

    # Other options of the training refuse the state; more threads that decode do not.
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


@pytest.mark.timeout(300)
def test_two_processes_learn_what_one_does(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By torch's launcher, of the same batch, in parts: but for rounding."""
    more = ["--unfreeze", "all", "--dropout", "0", "--epochs", "3", "--seed", "3"]
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


def test_ctrl_c_says_how_it_goes_on(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"

    def stop() -> None:
        while not state.exists():
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    more = ["--epochs", "200", "--resume", str(state)]
    assert finetune.main(options(way, tmp_path / "tuned.pt", *more)) == 130
    thread.join()
    assert f"stopped; the same command goes on from {state}" in capsys.readouterr().err
    assert state.exists()


def test_out_of_memory_has_advice(
    way: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left(*args: object, **more: object) -> Iterator[None]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("offline.finetuning.loop.tune", none_left)
    assert finetune.main(options(way, tmp_path / "tuned.pt", "--accumulate", "2")) == 2
    told = capsys.readouterr().err
    assert "out of memory: give --accumulate 4, --checkpointing or a smaller --batch" in told

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.vjepa2.encoder import VJEPA2Encoder
from models.vjepa2.weights import vjepa2_spec
from models.window import windows
from offline.encode import main
from offline.videos import read_video
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.offline.clips import write_clip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vjepa2"))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "none").mkdir(parents=True)
    for number in range(3):
        write_clip(folder / f"{number}.mp4", 4 + 3 * number)
    write_clip(folder / "none" / "still.mp4", 5)
    (folder / "empty.mp4").touch()
    (folder / "labels.csv").write_text(
        "path,gloss,split,signer\n0.mp4,book,train,anna\n1.mp4,book,test,ben\n"
        "2.mp4,drink,train,anna\nempty.mp4,drink,,\nlost.mp4,drink,,\n"
    )
    return folder


def encode(videos: Path, checkpoint: Path, out: Path, *more: str) -> int:
    return main(
        [
            *("--videos", str(videos), "--labels", str(videos / "labels.csv"), "--out", str(out)),
            *("--encoder", f"vjepa2:{checkpoint}", "--frames", "4", "--device", "cpu", *more),
        ]
    )


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def report(out: Path) -> Any:
    return json.loads((out / "encode_report.json").read_text())


def test_encodes_lists_and_reports(
    videos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ["--variants", "original,gaussian,bw", "--negatives", str(videos / "none")]
    assert encode(videos, checkpoint, out, *more) == 0
    lines = index(out)
    assert len(lines) == 4 * 3
    first = next(x for x in lines if x["video_id"] == "1" and x["variant"] == "original")
    assert (first["gloss"], first["split"], first["signer"]) == ("book", "test", "ben")
    assert {x["gloss"] for x in lines} == {"book", "drink", "idle"}
    rows = np.load(out / first["path_to_npy_file"])
    assert rows.shape == (2, 32) and rows.dtype == np.float32

    spec = vjepa2_spec(str(checkpoint), frames=4)
    cut = list(windows("s", read_video(videos / "0.mp4", spec.short_side), spec, 0.01))
    [live] = VJEPA2Encoder.open(spec, "cpu").encode(cut[-1:])  # 4 ticks long: its last live window
    stored = np.load(out / "embeddings" / "0.original.npy")
    np.testing.assert_allclose(stored, live.features, atol=1e-5)

    told = report(out)
    assert (told["videos"], told["done"], told["skipped"]) == (6, 4, 2)
    why = {x["video_id"]: x["why"] for x in told["why_skipped"]}
    assert "empty" in why["empty"] and "no such file" in why["lost"]
    assert told["encoder"]["dim"] == 32
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("disk: about") for line in printed)
    assert json.loads(printed[-1])["done"] == 4


def test_goes_on_where_it_was_cut_off(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert encode(videos, checkpoint, out, "--limit", "2") == 0
    old = (out / "embeddings" / "0.original.npy").stat().st_mtime_ns
    assert encode(videos, checkpoint, out) == 0
    assert (report(out)["done"], report(out)["kept"]) == (1, 2)
    assert (out / "embeddings" / "0.original.npy").stat().st_mtime_ns == old

    broken = out / "embeddings" / "1.original.npy"
    broken.write_bytes(broken.read_bytes()[:-4])
    labels = videos / "labels.csv"
    labels.write_text(labels.read_text().replace("0.mp4,book", "0.mp4,read"))
    assert encode(videos, checkpoint, out) == 0
    assert (report(out)["done"], report(out)["corrupt"]) == (1, 1)
    assert "1.original.npy: SHA-256 differs" in report(out)["made_again"][0]
    assert np.load(broken).shape == (2, 32)
    assert index(out)[0]["gloss"] == "read"  # today's label

    other = make_checkpoint(tmp_path / "other", seed=1)
    assert encode(videos, other, out) == 0
    assert (report(out)["done"], report(out)["kept"]) == (3, 0)  # rows of another encoder


@pytest.mark.timeout(300)  # two processes import torch
def test_workers_give_the_same_rows(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert encode(videos, checkpoint, tmp_path / "one") == 0
    assert encode(videos, checkpoint, tmp_path / "two", "--workers", "2") == 0
    for line in index(tmp_path / "one"):
        name = line["path_to_npy_file"]
        a, b = np.load(tmp_path / "one" / name), np.load(tmp_path / "two" / name)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert len(index(tmp_path / "two")) == 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--variants", "sepia"], "no variant 'sepia'"),
        (["--encoder", "clip"], "no encoder 'clip'"),
        (["--encoder", "vjepa2:/nowhere"], "no such folder"),
        (["--labels", "/nowhere.csv"], "can't be read"),
        (["--frames", "5"], "would lose the last"),
        (["--workers", "0"], "at least 1"),
        (["--limit", "-1"], "at least 1"),
    ],
)
def test_wrong_use_is_one_clear_line(
    videos: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    says: str,
) -> None:
    assert encode(videos, checkpoint, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_nothing_encoded(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    (videos / "labels.csv").write_text("path,gloss\nempty.mp4,a\n")
    assert encode(videos, checkpoint, tmp_path / "out") == 1

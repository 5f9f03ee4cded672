"""offline.export --with-encoder: the graphs in a bundle, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.bundle import open_bundle
from models.recognizer import Recognizer
from models.vjepa2.graph import FLOAT32, Candidate, open_graph
from models.vjepa2.weights import vjepa2_spec
from models.window import windows
from offline import export
from offline.exporting.agreement import compare
from offline.exporting.real_clips import read_clips
from offline.videos import read_video
from tests.models.tiny_graphs import pictures
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.whole_way import coloured


def run(way: Path, out: Path, *flags: str) -> int:
    return export.main(["--model", str(way / "head.pt"), "--out", str(out), *flags])


@pytest.fixture(scope="module")
def quantised(way: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of graphs alone, int8 too."""
    out = tmp_path_factory.mktemp("quantised") / "bundle"
    index = way / "embeddings" / "index.csv"
    flags = ["--with-encoder", "graph", "--int8", "--calibrate", str(index), "--clips", "5"]
    assert run(way, out, *flags) == 0
    return out


def test_a_bundle_of_graphs_alone(quantised: Path, tmp_path: Path) -> None:
    bundle = open_bundle(quantised)
    assert [file.name for file in bundle.graphs] == ["float32.onnx", "int8.onnx"]
    assert sorted(file.name for file in (quantised / "encoder").iterdir()) == [
        "float32.onnx",
        "int8.onnx",
    ]
    assert [one.name for one in quantised.parent.iterdir()] == ["bundle"]  # no scratch is left
    recognizer = Recognizer.open(quantised, "cpu")
    for seed, gloss in ((20, "tree"), (21, "floor")):
        path = coloured(tmp_path / f"{seed}.mp4", gloss, seed)
        frames = read_video(path, recognizer.spec.short_side)
        for one in recognizer.recognise(list(windows("s", frames, recognizer.spec, 0.5))):
            assert recognizer.bundle.glosses[int(one.probabilities.argmax())] == gloss
    recognizer.close()
    with pytest.raises(ValueError, match=r"cuda runs the encoder's weights"):
        Recognizer.open(quantised, "cuda")


def test_the_card_says_how_the_graphs_compare(quantised: Path) -> None:
    figures = {one["name"]: one for one in open_bundle(quantised).card["metrics"]["graphs"]}
    assert {"openvino-float32", "openvino-int8", "onnxruntime-float32", "onnxruntime-int8"} <= set(
        figures
    )
    assert figures["openvino-float32"]["difference"] <= 1e-4
    assert 0.9 <= figures["openvino-int8"]["cosine"] < 1
    assert figures["openvino-int8"]["same"] >= 0.7
    assert figures["openvino-int8"]["clips"] == 5
    assert figures["openvino-float32"]["clips"] == 6  # and noise


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--int8"], "go with --with-encoder"),
        (["--with-encoder", "--int8"], "calibrated on real clips: give --calibrate INDEX.csv"),
        (["--with-encoder", "weights", "--int8"], "--int8 is a graph"),
        (["--with-encoder", "--calibrate", "none.csv"], "none.csv: no such file"),
        (["--with-encoder", "--clips", "0"], "--clips must be at least 1"),
    ],
)
def test_what_int8_needs(
    way: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: Sequence[str],
    says: str,
) -> None:
    assert run(way, tmp_path / "bundle", *flags) == 2
    err = capsys.readouterr().err.splitlines()
    assert says in err[-1]
    assert list(tmp_path.iterdir()) == []


def test_int8_without_nncf(
    way: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    index = str(way / "embeddings" / "index.csv")
    flags = ["--with-encoder", "graph", "--int8", "--calibrate", index, "--clips", "2"]
    assert run(way, tmp_path / "bundle", *flags) == 2
    assert "--int8 needs nncf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_room(
    way: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert run(way, tmp_path / "bundle", "--with-encoder") == 2
    assert "MB are needed, 0 are free" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_encoder_to_take_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--encoder", "landmarks", "--out", str(tmp_path / "bundle"), "--with-encoder"]
    assert export.main(flags) == 2
    assert "a landmarks encoder comes with livegloss" in capsys.readouterr().err


def test_a_graph_that_differs_from_torch_is_refused(quantised: Path, tmp_path: Path) -> None:
    model = onnx.load(quantised / "encoder" / FLOAT32)
    largest = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(largest).copy()
    clip = pictures(1)
    way = Candidate(runtime="openvino", precision="float32", file=quantised / "encoder" / FLOAT32)
    want = open_graph(way, 1)(clip)[None]
    assert compare(way, [clip], want, None, 1).difference == 0
    largest.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), largest.name))
    onnx.save(model, tmp_path / FLOAT32)
    wrong = Candidate(runtime="openvino", precision="float32", file=tmp_path / FLOAT32)
    with pytest.raises(ValueError, match="more than float32 explains, so nothing was written"):
        compare(wrong, [clip], want, None, 1)
    other = Candidate(runtime="onnxruntime", precision="float32", file=way.file)
    flipped = [clip, pictures(2)]
    says = np.eye(2, dtype=np.float32)
    answers = iter([says, says[::-1]])  # a head that says something else
    both = np.stack([open_graph(other, 1)(one) for one in flipped])
    with pytest.raises(ValueError, match="the same first answer 0%"):
        compare(other, flipped, both, lambda features: next(answers), 1)
    with pytest.raises(ValueError, match="more than float32 explains"):
        compare(way, [clip], want * np.float32("nan"), None, 1)


def test_clips_are_the_same_each_time_and_of_other_videos(way: Path, tmp_path: Path) -> None:
    spec = vjepa2_spec(str(way / "checkpoint"), frames=4)
    index = way / "embeddings" / "index.csv"
    clips = read_clips(index, spec, 32, 10)
    assert {clip.shape for clip in clips} == {(4, 32, 32, 3)}
    again = read_clips(index, spec, 32, 3)
    assert all((a == b).all() for a, b in zip(clips[:3], again, strict=True))
    assert len({clip.tobytes() for clip in clips}) == 10

    with pytest.raises(ValueError, match="10 clips can be read, 11 are needed: it lists only 10"):
        read_clips(index, spec, 32, 11)
    with pytest.raises(ValueError, match="no index of videos"):
        read_clips(way / "labels.csv", spec, 32, 1)

    lines = index.read_text().splitlines()
    broken = tmp_path / "index.csv"
    (tmp_path / "near.mp4").write_bytes((way / "videos" / "1.mp4").read_bytes())
    column = lines[0].split(",").index("video")
    rows = [line.split(",") for line in lines[:3]]
    rows[1][column], rows[2][column] = "near.mp4", "gone.mp4"  # one beside the index, one lost
    broken.write_text("\n".join(",".join(row) for row in rows))
    assert len(read_clips(broken, spec, 32, 1)) == 1
    with pytest.raises(ValueError, match=r"1 clips can be read, 2 are needed: .*gone\.mp4"):
        read_clips(broken, spec, 32, 2)


def test_an_untrained_bundle_with_its_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", frames_per_clip=16)
    flags = ["--encoder", f"vjepa2-tokens:{checkpoint}", "--out", str(tmp_path / "bundle")]
    assert export.main([*flags, "--with-encoder"]) == 0
    bundle = open_bundle(tmp_path / "bundle")
    assert sorted(file.name for file in (bundle.path / "encoder").iterdir()) == [
        "config.json",
        "float32.onnx",
        "model.safetensors",
    ]
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("openvino-float32: ") and "same" not in out[0]
    assert json.loads(out[-1])["bundle"] == str(bundle.path)

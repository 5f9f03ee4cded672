"""offline.export --with-encoder: the graphs in a bundle, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from models.bundle import open_bundle
from models.encoders import graph_variants
from models.recognizer import Recognizer
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.graph_engine import FLOAT32, INT8, GraphVariant, has_bfloat16, open_graph
from models.window import windows
from offline import export
from offline.data.videos import read_video
from offline.exporting import encoder_export
from offline.exporting.parity import Agreement, compare, crop_clips
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
    flags = ["--with-encoder", "graph", "--int8", "--index", str(index), "--clips", "5"]
    assert run(way, out, *flags) == 0
    return out


def test_a_bundle_of_graphs_alone(quantised: Path, tmp_path: Path) -> None:
    bundle = open_bundle(quantised)
    files = ["float32.onnx", "int8.onnx"]
    assert {variant.file.name for variant in graph_variants(bundle)} == set(files)
    assert sorted(file.name for file in (quantised / "encoder").iterdir()) == files
    assert [path.name for path in quantised.parent.iterdir()] == ["bundle"]  # no scratch is left
    recognizer = Recognizer.open(quantised, "cpu")
    for seed, gloss in ((20, "tree"), (21, "floor")):
        path = coloured(tmp_path / f"{seed}.mp4", gloss, seed)
        frames = read_video(path, recognizer.spec.short_side)
        for found in recognizer.recognise(list(windows("s", frames, recognizer.spec, 0.5))):
            assert recognizer.bundle.glosses[int(found.probabilities.argmax())] == gloss
    recognizer.close()
    with pytest.raises(ValueError, match=r"cuda runs the encoder's weights"):
        Recognizer.open(quantised, "cuda")


def test_the_card_says_how_the_graphs_compare(quantised: Path) -> None:
    figures = {graph["name"]: graph for graph in open_bundle(quantised).card["metrics"]["graphs"]}
    for runtime in ("openvino", "onnxruntime"):
        assert {f"{runtime}-float32", f"{runtime}-int8"} <= set(figures)
    assert figures["openvino-float32"]["difference"] <= 1e-4
    assert 0.999 <= figures["openvino-int8"]["cosine"] < 1
    for graph in figures.values():
        assert graph["same"] == graph["same_but_ties"] == graph["clips"] == 5 and graph["taken"]


@pytest.mark.parametrize("file", [FLOAT32, INT8])
def test_what_a_graph_says_of_itself(quantised: Path, file: str) -> None:
    session = ort.InferenceSession(quantised / "encoder" / file, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["inputs"]) == {"pictures": ["B", 4, 32, 32, 3]}
    assert json.loads(about["outputs"]) == {"features": ["B", 2, 32]}
    assert session.get_inputs()[0].shape[1:] == [4, 32, 32, 3]
    assert session.get_outputs()[0].shape[1:] == [2, 32]
    spec = open_bundle(quantised).encoder
    assert about["pictures"].startswith("uint8, RGB")
    assert "short side to 36 px" in about["resize"]
    assert (int(about["frames"]), float(about["fps"]), float(about["window_s"])) == (4, 8.0, 0.5)
    assert (about["encoder"], about["encoder_revision"]) == (spec.kind, spec.revision)
    assert about["encoder_source"] == "checkpoint"  # not where it lay on this machine


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--int8"], "go with --with-encoder"),
        (["--with-encoder", "--int8"], "compared with torch on real clips: give --index INDEX.csv"),
        (["--with-encoder", "weights", "--int8"], "--int8 is a graph"),
        (["--with-encoder", "--index", "none.csv"], "none.csv: no such file"),
    ],
)
def test_what_int8_needs(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert run(way, tmp_path / "bundle", *flags) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def other_classes(*args: Any, anyway: bool, **more: Any) -> Agreement:
    """As `compare`, but bfloat16 and int8 are found to name another first five of one clip."""
    found = compare(*args, anyway=anyway, **more)
    if found.name.endswith("float32"):
        return found
    return replace(found, same_but_ties=found.clips - 1, agrees=False, taken=anyway)


@pytest.mark.parametrize("anyway", [False, True])
def test_what_names_other_classes_is_left_out(
    way: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    anyway: bool,
) -> None:
    monkeypatch.setattr(encoder_export, "compare", other_classes)
    index = str(way / "embeddings" / "index.csv")
    flags = ["--with-encoder", "graph", "--index", index, "--clips", "2"]
    assert run(way, tmp_path / "bundle", *flags, "--int8", *(["anyway"] if anyway else [])) == 0
    bundle = open_bundle(tmp_path / "bundle")
    names = {variant.name for variant in graph_variants(bundle)}
    assert ("openvino-int8" in names) == ("onnxruntime-int8" in names) == anyway
    assert "openvino-float32" in names
    assert ("openvino-bfloat16" in names) == (not has_bfloat16())  # nothing else is known of it
    assert (bundle.path / "encoder" / INT8).exists() == anyway
    figures = {graph["name"]: graph for graph in bundle.card["metrics"]["graphs"]}
    assert figures["openvino-int8"]["same_but_ties"] == 1  # the card has it in both cases
    printed = capsys.readouterr().out
    left_out = (
        "openvino-int8 is left out: it names another first five than torch in 1 of 2 clips; "
        "--int8 anyway takes it\n"
    )
    assert (left_out in printed) != anyway
    assert ("openvino-bfloat16 is left out" in printed) == has_bfloat16()


def test_an_encoder_that_can_not_be_put_in(
    way: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--encoder", "landmarks", "--out", str(tmp_path / "bundle"), "--with-encoder"]
    assert export.main(flags) == 2
    assert "a landmarks encoder comes with livegloss" in capsys.readouterr().err
    full = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert run(way, tmp_path / "bundle", "--with-encoder") == 2
    assert "MB are needed, 0 are free" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_torch_is_refused(quantised: Path, tmp_path: Path) -> None:
    model = onnx.load(quantised / "encoder" / FLOAT32)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(largest).copy()
    clip = pictures(1)
    right = GraphVariant.of("openvino-float32", quantised / "encoder")
    want = open_graph(right, 1)(clip)[None]
    assert compare(right, [clip], want, None, 1).difference == 0
    largest.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), largest.name))
    onnx.save(model, tmp_path / FLOAT32)
    wrong = GraphVariant.of("openvino-float32", tmp_path)
    with pytest.raises(ValueError, match="more than float32 explains, so nothing was written"):
        compare(wrong, [clip], want, None, 1)
    other = GraphVariant.of("onnxruntime-float32", quantised / "encoder")
    flipped = [clip, pictures(2)]
    logits = np.eye(2, dtype=np.float32)
    outputs = iter([logits, logits[::-1]])  # a head that returns something else
    both = np.stack([open_graph(other, 1)(clip) for clip in flipped])
    with pytest.raises(ValueError, match="the same first class in 0,"):
        compare(other, flipped, both, lambda features: next(outputs), 1)
    with pytest.raises(ValueError, match="more than float32 explains"):
        compare(right, [clip], want * np.float32("nan"), None, 1)


def test_near_ties_are_reported_and_the_rest_is_not_taken(quantised: Path) -> None:
    eighth = GraphVariant.of("onnxruntime-int8", quantised / "encoder")
    clips = [pictures(1), pictures(2)]
    want = np.stack([open_graph(eighth, 1)(clip) for clip in clips])
    by_torch = np.array([[3, 2, 1], [3, 2.985, 1]], np.float32)

    def found(second: Sequence[float], **more: bool) -> Agreement:
        outputs = iter([np.array([by_torch[0], second], np.float32), by_torch])
        return compare(eighth, clips, want, lambda features: next(outputs), 1, **more)

    near = found([3, 3.01, 1])
    assert (near.same, near.same_five, near.same_but_ties) == (1, 1, 2)
    assert near.taken and near.agrees and near.logit == pytest.approx(0.025, abs=1e-5)
    far = found([3, 0.9, 1])
    assert (far.same, far.same_five, far.same_but_ties) == (2, 1, 1)
    assert not far.taken and not far.agrees
    anyway = found([3, 0.9, 1], anyway=True)
    assert anyway.taken and not anyway.agrees
    unlike = compare(eighth, clips, -want, None, 1)
    assert unlike.same is None and not unlike.taken


def test_clips_are_the_same_each_time_and_of_other_videos(way: Path, tmp_path: Path) -> None:
    spec = vjepa2_spec(str(way / "checkpoint"), frames=4)
    index = way / "embeddings" / "index.csv"
    clips = crop_clips(index, spec, 32, 10)
    assert {clip.shape for clip in clips} == {(4, 32, 32, 3)}
    again = crop_clips(index, spec, 32, 3)
    assert all((a == b).all() for a, b in zip(clips[:3], again, strict=True))
    assert len({clip.tobytes() for clip in clips}) == 10

    with pytest.raises(ValueError, match="10 clips can be read, 11 are needed: it lists only 10"):
        crop_clips(index, spec, 32, 11)
    with pytest.raises(ValueError, match="has no column video_id"):
        crop_clips(way / "labels.csv", spec, 32, 1)

    lines = index.read_text().splitlines()
    broken = tmp_path / "index.csv"
    (tmp_path / "near.mp4").write_bytes((way / "videos" / "1.mp4").read_bytes())
    column = lines[0].split(",").index("video")
    rows = [line.split(",") for line in lines[:3]]
    rows[1][column], rows[2][column] = "near.mp4", "gone.mp4"  # one beside the index, one lost
    broken.write_text("\n".join(",".join(row) for row in rows))
    assert len(crop_clips(broken, spec, 32, 1)) == 1
    with pytest.raises(ValueError, match=r"1 clips can be read, 2 are needed: .*gone\.mp4"):
        crop_clips(broken, spec, 32, 2)


def test_an_untrained_bundle_with_its_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", frames_per_clip=16)
    flags = ["--encoder", f"vjepa2-tokens:{checkpoint}", "--out", str(tmp_path / "bundle")]
    assert export.main([*flags, "--with-encoder"]) == 0
    bundle = open_bundle(tmp_path / "bundle")
    files = ["config.json", "float32.onnx", "model.safetensors"]
    assert sorted(file.name for file in (bundle.path / "encoder").iterdir()) == files
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("openvino-float32: ") and "same" not in out[0]
    assert json.loads(out[-1])["bundle"] == str(bundle.path)

"""offline.export --edge and --check: every exported form of a model against torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bundle import BundleError, open_bundle
from offline import export
from offline.data.examples import read_spec
from offline.exporting import bundle_export
from offline.exporting.parity import read_windows
from offline.training.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import ROOT
from tests.offline.indexes import write_index


@pytest.fixture(scope="module")
def edge(way: Path, web: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the head for phones and pages, and without an encoder."""
    out = tmp_path_factory.mktemp("edge") / "bundle"
    assert export.main(["--model", str(way / "head.pt"), "--out", str(out), "--edge"]) == 0
    return out


def check(model: Path, bundle: Path, index: Path, clips: int) -> int:
    paths = ["--model", str(model), "--out", str(bundle), "--check", str(index)]
    return export.main([*paths, "--clips", str(clips)])


def test_a_bundle_for_phones_and_pages(edge: Path, tmp_path: Path) -> None:
    agreements = open_bundle(edge).card["metrics"]["edge"]
    files = {"litert": "head.tflite", "onnxruntime-web": "head.onnx"}
    assert {found["name"]: found["file"] for found in agreements} == files
    assert all(found["logit"] < 1e-4 and found["clips"] for found in agreements)
    copy = shutil.copytree(edge, tmp_path / "copy")
    (copy / "head.tflite").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"head\.tflite: SHA-256 differs"):
        open_bundle(copy)


def test_the_head_agrees_with_torch_in_every_runtime(
    way: Path, edge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(way / "head.pt", edge, way / "embeddings" / "index.csv", 9) == 0
    title, columns, *rows, last = capsys.readouterr().out.splitlines()
    summary = json.loads(last)
    names = [found["name"] for found in summary["agreements"]]
    assert names == ["onnxruntime", "openvino", "litert", "onnxruntime-web"]
    for found in summary["agreements"]:
        assert found["same_but_ties"] == found["clips"] == summary["clips"] == 9
    assert title.startswith("9 clips of ") and columns.split()[:2] == ["form", "file"]
    assert [row.split()[0] for row in rows] == names
    assert all(row.split()[4:7] == ["9/9"] * 3 for row in rows)


def test_the_graphs_of_the_encoder_agree_with_torch(
    way: Path, web: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(way / "head.pt", way / "bundle", way / "embeddings" / "index.csv", 3) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    graphs = {found["name"]: found for found in summary["agreements"] if found["cosine"]}
    assert {"openvino-float32", "onnxruntime-float32"} <= set(graphs)
    assert all(found["same_but_ties"] == found["clips"] == 3 for found in graphs.values())


def test_a_head_with_other_predictions_is_found(
    way: Path, edge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load_checkpoint(way / "head.pt")
    head: Any = trained.head.heads[0]
    with torch.no_grad():
        head.classify[-1].bias += torch.tensor([0.0, 9.0])
    other = save_checkpoint(tmp_path / "other.pt", [head], trained.card, trained.background)
    assert check(other, edge, way / "embeddings" / "index.csv", 10) == 1
    out, err = capsys.readouterr()
    assert out.count("5/10") == 3 * 4  # all forms: first class, first five, but for ties
    assert "onnxruntime, openvino, litert, onnxruntime-web differ from torch" in err


def test_landmark_clips_are_cut_to_windows_and_padded(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    np.save(tmp_path / "0.npy", np.load(tmp_path / "0.npy")[:5])
    spec = read_spec(index)
    features, mask = read_windows(index, spec, 28)
    assert features.shape == (28, 16, spec.dim)
    assert sorted(set(mask.sum(1).tolist())) == [5, 16]
    assert (features[~mask] == 0).all()
    again, _ = read_windows(index, spec, 28)
    assert (again == features).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--clips", "11"], "has 10 clips, 11 are needed"),
        (["--out", "none"], "no such bundle folder"),
        (["--model", "none.pt"], "none.pt: no such file"),
        (["--check", "none.csv"], "none.csv: no such file"),
    ],
)
def test_what_can_not_be_compared(
    way: Path, capsys: pytest.CaptureFixture[str], changes: list[str], says: str
) -> None:
    given = {
        "--model": str(way / "head.pt"),
        "--out": str(way / "bundle"),
        "--check": str(way / "embeddings" / "index.csv"),
        **dict([changes]),
    }
    assert export.main([word for pair in given.items() for word in pair]) == 2
    assert says in capsys.readouterr().err


def test_runtimes_that_are_not_installed_are_told(
    way: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no Node.js
    assert check(way / "head.pt", way / "bundle", way / "embeddings" / "index.csv", 3) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert any(row.startswith("onnxruntime-web       not compared: Node.js is not") for row in rows)
    summary = json.loads(last)
    assert summary["not_installed"].keys() == {"onnxruntime-web"}
    assert {"onnxruntime", "openvino"} <= {found["name"] for found in summary["agreements"]}


def test_rows_and_heads_of_something_else(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of as many features, so that they could be compared, to no avail."""
    rows = shutil.copytree(way / "embeddings", tmp_path / "rows")
    report = json.loads((rows / "encode_report.json").read_text())
    report["encoder"]["revision"] = "sha256:another"
    (rows / "encode_report.json").write_text(json.dumps(report))
    assert check(way / "head.pt", way / "bundle", rows / "index.csv", 3) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "index.csv: rows of another encoder, vjepa2 sha256:another, 4 frames" in line
    trained = load_checkpoint(way / "head.pt")
    heads: Any = trained.head.heads
    card = {**trained.card, "glosses": ["sky", "floor"]}
    other = save_checkpoint(tmp_path / "other.pt", list(heads), card, trained.background)
    assert check(other, way / "bundle", way / "embeddings" / "index.csv", 3) == 2
    assert "other.pt: has other glosses than" in capsys.readouterr().err


def test_mistakes_are_told_before_torch_loads_and_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    (tmp_path / "b.pt").touch()
    (tmp_path / "b.json").touch()
    cases = {
        "--model none.pt --out x": "none.pt: no such file",
        "--model a.pt --out x": "a.json: no such file",
        "--model b.pt --out x --report r.json": "r.json: no such file",
        "--model b.pt --out x --with-encoder --index i.csv": "i.csv: no such file",
        "--model b.pt --out x --check i.csv": "i.csv: no such file",
        "--model b.pt --out x --check b.json": "x: no such bundle folder",
        "--model b.pt --out full": "full: exists and is no bundle",
        "--model b.pt --out a.pt/x": "a.pt",
        "--encoder vjepa2:./vitl --out x": "./vitl: no such folder or file",
        "--classifier ./vitl --out x": "./vitl: no such folder or file",
    }
    code = (
        "import sys; from offline import export\n"
        "for line in sys.argv[1:]: assert export.main(line.split()) == 2\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *cases],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line, says in zip(done.stderr.splitlines(), cases.values(), strict=True):
        assert line.startswith("offline.export: ") and says in line
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt", "b.json", "b.pt", "full"]


def test_edge_without_what_it_needs(
    way: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["--out", str(tmp_path / "bundle"), "--edge"]
    with pytest.raises(SystemExit, match="2"):
        export.main(["--encoder", "landmarks", *to])
    assert "--edge is for a head of offline.train" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))  # no Node.js
    assert export.main(["--model", str(way / "head.pt"), *to]) == 2
    assert "run python -m offline.exporting.web_runtime" in capsys.readouterr().err
    monkeypatch.setattr(bundle_export, "find_spec", lambda name: None)
    assert export.main(["--model", str(way / "head.pt"), *to]) == 2
    assert "--edge needs ai_edge_litert" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

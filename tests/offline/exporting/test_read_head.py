"""docs/reference/read_head.py: an outsider's script agrees with offline.predict."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.bundle import BUILTIN, open_bundle, write_bundle
from models.classifier import Classifier
from models.onnx_file import with_metadata
from models.schema import Embedding
from offline import encode, predict
from tests import clips

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "read_head.py"
# Nothing of ours, no torch and no onnx can be imported by what runs behind this.
ALONE = """
import runpy, sys
class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("models", "offline", "streaming", "web", "torch", "onnx"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nobody())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def read_head(head: Path, rows: Path, tmp_path: Path) -> list[tuple[str, float]]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(SCRIPT), str(head), str(rows)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [(gloss, p) for gloss, p in json.loads(done.stdout)]


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 30


@pytest.fixture(scope="module")
def encoded(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[clips.LabelledClip, Path]]:
    """Two short videos, and the rows that offline.encode stored of each.

    Of 24 frames a second or more: of 20, predict's windows end at other frames than rows do.
    """
    root = tmp_path_factory.mktemp("encoded")
    fast = [clip for clip in clips.held_out(data_dir) if "-wlasl_" in clip.path.name]
    chosen = sorted(fast, key=lambda clip: clip.path.stat().st_size)[:2]
    labels = "\n".join(f"{clip.path.name},{clip.gloss}" for clip in chosen)
    (root / "labels.csv").write_text(f"path,gloss\n{labels}\n")
    where = ["--videos", str(data_dir / "clips"), "--labels", str(root / "labels.csv")]
    assert encode.main([*where, "--workers", "1", "--out", str(root)]) == 0
    with (root / "index.csv").open(newline="", encoding="utf-8") as stream:
        lines = csv.DictReader(stream)
        rows = {Path(line["video"]).name: root / line["path_to_npy_file"] for line in lines}
    return [(clip, rows[clip.path.name]) for clip in chosen]


@pytest.mark.parametrize("bundle", [BUILTIN, clips.HELD_OUT], ids=lambda path: path.name)
def test_it_agrees_with_predict(
    bundle: Path,
    encoded: list[tuple[clips.LabelledClip, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same five glosses, as probable."""
    videos = [str(clip.path) for clip, _ in encoded]
    assert predict.main(["--model", str(bundle), "--device", "cpu", "--json", *videos]) == 0
    for (_, rows), found in zip(encoded, json.loads(capsys.readouterr().out), strict=True):
        want = [(one["gloss"], one["p"]) for one in found["top"]]
        got = read_head(bundle / "head.onnx", rows, tmp_path)
        assert [gloss for gloss, _ in got] == [gloss for gloss, _ in want]
        assert [p for _, p in got] == pytest.approx([p for _, p in want], abs=2e-4)


def test_rows_of_whole_windows(way: Path, tmp_path: Path) -> None:
    """Of V-JEPA 2: what offline.encode stored of the video's middle, and the same window twice."""
    bundle = open_bundle(way / "bundle")
    rows = way / "embeddings" / "embeddings" / "8.original.npy"
    embedding = Embedding(features=np.load(rows), start_s=0.0, end_s=1.0)
    p = Classifier(bundle, "cpu").classify([embedding]).probabilities[0]
    got = dict(read_head(way / "bundle" / "head.onnx", rows, tmp_path))
    best = int(p.argmax())
    # Two glosses and 0.02 spread over them, as for each window of a clip.
    want = (p[best] + 0.01) / (p.sum() + 0.02)
    assert got[bundle.glosses[best]] == pytest.approx(want, abs=2e-4)
    np.save(tmp_path / "twice.npy", np.concatenate([np.load(rows)] * 2))
    assert dict(read_head(way / "bundle" / "head.onnx", tmp_path / "twice.npy", tmp_path)) == got


def test_what_a_head_says_of_itself() -> None:
    for folder in (BUILTIN, clips.HELD_OUT):
        bundle = open_bundle(folder)
        session = ort.InferenceSession(folder / "head.onnx", providers=["CPUExecutionProvider"])
        about: dict[str, Any] = session.get_modelmeta().custom_metadata_map
        assert json.loads(about["glosses"]) == list(bundle.glosses)
        assert float(about["temperature"]) == bundle.temperature
        assert about["probabilities"] == "softmax(logits / temperature)"
        assert int(about["idle_class"]) == len(bundle.glosses)
        assert "no normalisation" in about["features"]
        assert (int(about["frames"]), float(about["fps"])) == (32, 15.0)
        assert float(about["window_s"]) == bundle.encoder.window_s
        assert json.loads(about["inputs"])["features"] == ["B", "T", 154]
        assert (about["name"], about["licence"]) == (bundle.name, bundle.card["licence"])
        assert (about["encoder"], about["encoder_revision"]) == (
            bundle.encoder.kind,
            bundle.encoder.revision,
        )
        assert about["version"].startswith("livegloss ")
        names = [port.name for port in session.get_inputs()]
        assert names == list(json.loads(about["inputs"]))


def test_nothing_of_ours_needs_it(tmp_path: Path) -> None:
    """Heads of bundles from before have none, and taught signs outlive other metadata."""
    bundle = open_bundle(clips.HELD_OUT)
    plain = with_metadata((clips.HELD_OUT / "head.onnx").read_bytes(), {})
    assert not onnx.load_from_string(plain).metadata_props
    card = {k: v for k, v in bundle.card.items() if k not in ("files", "format")}
    files: dict[str, bytes | Path] = {
        "head.onnx": plain,
        "background.npy": clips.HELD_OUT / "background.npy",
    }
    again = write_bundle(tmp_path / "b", card=card, glosses=bundle.glosses, files=files)
    assert again.space.id == bundle.space.id
    rows = Embedding(features=np.ones((8, 154), np.float32), start_s=0.0, end_s=1.0)
    both = [Classifier(one, "cpu").classify([rows]).probabilities for one in (bundle, again)]
    assert (both[0] == both[1]).all()

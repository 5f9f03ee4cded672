"""Videos -> encode -> train -> export -> predict, around a tiny V-JEPA 2: every command, run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import BundleError
from models.classifier import Classifier
from models.heads import LandmarkClassifier
from models.recognizer import Recognizer
from models.schema import Embedding
from models.window import windows
from offline import export, predict
from offline.data.videos import read_video
from offline.exporting.head_export import onnx_difference, to_onnx
from offline.training.checkpoint import load_checkpoint
from tests.whole_way import coloured


def test_the_bundle_answers_rightly_and_alone(way: Path, tmp_path: Path) -> None:
    """Without the checkpoint it was made from, and from another folder."""
    moved = shutil.copytree(way / "bundle", tmp_path / "moved")
    recognizer = Recognizer.open(moved, "cpu")
    try:
        assert recognizer.bundle.name == "colours"
        assert set(recognizer.bundle.glosses) == {"tree", "floor"}
        recognizer.warm()
        for seed, gloss in ((20, "tree"), (21, "floor")):
            path = coloured(tmp_path / f"{seed}.mp4", gloss, seed)
            frames = read_video(path, recognizer.spec.short_side)
            clips = list(windows("s", frames, recognizer.spec, 0.25))
            said = recognizer.recognise(clips)
            assert len(said) > 3
            for one in said:
                assert recognizer.bundle.glosses[int(one.probabilities.argmax())] == gloss
                assert one.attention.shape == (2,)
                assert one.probabilities.sum() + one.idle == pytest.approx(1, abs=1e-5)
    finally:
        recognizer.close()


def test_onnx_answers_as_torch_does(way: Path) -> None:
    trained = load_checkpoint(way / "head.pt")
    head, card = trained.head, trained.card
    recognizer = Recognizer.open(way / "bundle", "cpu")
    rows = np.load(way / "embeddings" / "embeddings" / "0.original.npy")
    with torch.inference_mode():
        logits, *_ = head(torch.from_numpy(rows)[None], torch.ones(1, len(rows), dtype=torch.bool))
    want = (logits / card["calibration"]["temperature"]).softmax(1).numpy()
    classifier = Classifier(recognizer.bundle, "cpu")
    got = classifier.classify([Embedding(features=rows, start_s=0.0, end_s=1.0)]).probabilities
    np.testing.assert_allclose(got, want, atol=1e-5)
    recognizer.close()


def test_a_changed_checkpoint_in_the_bundle_is_refused(way: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(way / "bundle", tmp_path / "copy")
    weights = copy / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match=r"model\.safetensors: SHA-256 differs"):
        Recognizer.open(copy, "cpu")


def test_predict_as_json(way: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(way / "videos" / "9.mp4"), str(way / "none.mp4"), str(way / "videos" / "8.mp4")]
    status = predict.main(["--model", str(way / "bundle"), "--device", "cpu", "--json", *files])
    assert status == 1  # one can't be read
    floor, none, tree = json.loads(capsys.readouterr().out)
    assert [floor["video"], none["video"], tree["video"]] == files
    assert set(none) == {"video", "error"} and "no such file" in none["error"]
    assert floor["top"][0]["gloss"] == "floor" and tree["top"][0]["gloss"] == "tree"
    assert sum(c["p"] for c in tree["top"]) == pytest.approx(1, abs=1e-3)
    [sign] = tree["signs"]
    assert set(sign) == {
        "type",
        "id",
        "gloss",
        "p",
        "alternatives",
        "start_s",
        "end_s",
        "final",
    }
    assert (sign["type"], sign["gloss"], sign["final"]) == ("sign", "tree", True)
    assert 0 <= sign["start_s"] < sign["end_s"] <= 2


def test_predict_for_people(way: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(["--model", str(way / "bundle"), str(way / "videos" / "8.mp4")]) == 0
    video, top, sign = capsys.readouterr().out.splitlines()
    assert video.endswith("8.mp4") and top.split()[:2] == ["top", "tree"]
    assert sign.split()[0] == "sign" and "tree" in sign


def test_predict_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(["--model", str(tmp_path / "none"), "a.mp4"]) == 2
    assert "no such bundle folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--threshold", "0"], "threshold must lie in"),
        (["--hop-s", "0"], "--hop-s must be more than 0"),
        (["--top-k", "0"], "--top-k must be at least 1"),
        (["--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_predict_with_a_wrong_option(
    way: Path, capsys: pytest.CaptureFixture[str], option: list[str], says: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(predict.main(["--model", str(way / "bundle"), *option, "a.mp4"]))
    assert says in capsys.readouterr().err


def test_export_refuses_what_it_can_not_do(
    way: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "bundle")]
    assert export.main(["--model", str(tmp_path / "none.pt"), *out]) == 2
    assert "none.pt" in capsys.readouterr().err
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("precious")
    assert export.main(["--model", str(way / "head.pt"), *out]) == 2
    assert "is no bundle" in capsys.readouterr().err


def test_a_network_that_differs_from_torch_is_not_exported(way: Path) -> None:
    head = load_checkpoint(way / "head.pt").head
    content = (way / "bundle" / "head.onnx").read_bytes()
    assert onnx_difference(head, content, 32, 2) < 1e-5
    with torch.no_grad():
        next(head.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="ONNX and torch differ"):
        onnx_difference(head, content, 32, 2)


def test_the_landmark_head_exports() -> None:
    torch.manual_seed(0)
    head = LandmarkClassifier(classes=5, width=32, blocks=1).eval()
    assert onnx_difference(head, to_onnx(head, 154), 154, 32) < 1e-4

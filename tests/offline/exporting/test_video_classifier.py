"""offline.export --classifier: transformers' V-JEPA 2 with its own head, as a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from models.bundle import open_bundle
from models.fusion import open_recognizer
from models.recognizer import Recognizer
from models.vjepa2.preprocess import preprocess
from models.vjepa2.source import locate
from models.window import windows
from offline import export, predict
from offline.data.videos import read_video
from offline.exporting.video_classifier import read_video_classifier
from tests.hub_server import FIRST, ask, serving
from tests.models.tiny_vjepa2 import make_checkpoint, make_classifier
from tests.whole_way import coloured

LABELS = ["Holding it", "", "Holding it", "Tearing\x1b[2J\n it", "e\u0301", "f"]
GLOSSES = ("Holding it", "class 1", "Holding it (2)", "Tearing [2J it", "\u00e9", "f")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier") / "ssv2", LABELS)


@pytest.fixture(scope="module")
def bundle(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, made of a hub's model, with the encoder's weights and graph."""
    root = tmp_path_factory.mktemp("classified")
    given = ["--classifier", "me/ssv2", "--out", str(root / "bundle"), "--fps", "10"]
    with serving() as served, pytest.MonkeyPatch.context() as monkeypatch:
        ask(served.url, root / "cache", monkeypatch)
        served.add("me/ssv2", classifier)
        assert export.main([*given, "--with-encoder"]) == 0
    shutil.rmtree(root / "cache")  # nothing of it is needed any more
    return root / "bundle"


def test_the_bundle_says_what_it_is(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.glosses == GLOSSES
    assert (opened.name, opened.idle, opened.temperature) == ("ssv2", False, 1.0)
    spec = opened.encoder
    assert (spec.kind, spec.frames, spec.fps) == ("vjepa2-tokens", 4, 10.0)
    assert spec.revision == FIRST  # the hub's commit, though the weights are here
    assert opened.card["encoder"]["source"] == "bundle:encoder"
    assert opened.card["data"]["source"] == "me/ssv2"


@pytest.mark.parametrize("graph", [False, True])
def test_probabilities_are_those_of_transformers(
    classifier: Path, bundle: Path, tmp_path: Path, graph: bool
) -> None:
    """On clips of drawn videos, by the weights and by the graph that a CPU runs."""
    opened = open_bundle(bundle)
    if graph:
        recognizer = Recognizer.open(bundle, "cpu")
    else:
        from models.classifier import Classifier
        from models.encoders import open_encoder

        head = Classifier(opened, "cpu")
        recognizer = Recognizer(opened, open_encoder(opened.encoder, "cpu"), head)
    model: Any = VJEPA2ForVideoClassification.from_pretrained(classifier)
    seen = set()
    for seed, gloss in ((1, "tree"), (2, "floor")):
        path = coloured(tmp_path / f"{seed}.mp4", gloss, seed)
        frames = read_video(path, opened.encoder.short_side)
        clips = list(windows("s", frames, opened.encoder, 0.4))
        videos = np.stack([preprocess([f.image for f in c.frames], 32) for c in clips])
        with torch.inference_mode():
            want = model.eval()(torch.from_numpy(videos)).logits.softmax(1).numpy()
        said = recognizer.recognise(clips)
        assert all(one.attention.shape == (2,) for one in said)  # not one a patch, which are 8
        assert all(one.attention.sum() == pytest.approx(1, abs=1e-5) for one in said)
        got = np.stack([one.probabilities for one in said])
        assert len(got) > 3
        if not graph or "bfloat16" not in _engine(recognizer):
            np.testing.assert_allclose(got, want, atol=2e-5)
        else:
            np.testing.assert_allclose(got, want, atol=0.02)
        first_five = np.argsort(-want, 1)[:, :5]
        if not graph:
            assert (np.argsort(-got, 1)[:, :5] == first_five).all()
        seen.update(first_five[:, 0].tolist())
    assert len(seen) > 1  # a head that sees nothing would pass too
    recognizer.close()


def _engine(recognizer: Recognizer) -> str:
    return str(recognizer._encoder._engine.name)  # type: ignore[attr-defined]


def test_it_is_served_and_predicts(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recognizer = open_recognizer(str(bundle), "cpu")
    recognizer.warm()
    recognizer.close()
    video = coloured(tmp_path / "tree.mp4", "tree", 1)
    assert predict.main(["--model", str(bundle), "--device", "cpu", "--json", str(video)]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert len(found["top"]) == 5 and found["top"][0]["gloss"] in open_bundle(bundle).glosses


def test_labels_that_are_no_glosses_are_told(classifier: Path) -> None:
    found = read_video_classifier(locate(str(classifier)))
    assert found.glosses == GLOSSES
    assert found.renamed == tuple(zip(LABELS[1:5], found.glosses[1:5], strict=True))
    assert found.frames == 4


Weights = dict[str, Tensor]
_QUERY = "pooler.cross_attention_layer.cross_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop(_QUERY), f"the checkpoint lacks {_QUERY}"),
        (lambda w: w.pop("classifier.bias"), "the checkpoint lacks classifier.bias"),
        (
            lambda w: w.update({"classifier.weight": torch.zeros(5, 32)}),
            "classifier.weight is (5, 32) in the checkpoint, not (6, 32)",
        ),
        (
            lambda w: w.update({_QUERY: torch.zeros(32, 16)}),
            f"{_QUERY} is (32, 16) in the checkpoint, not (32, 32)",
        ),
        (
            lambda w: w.update({"pooler.extra": torch.zeros(1)}),
            "the checkpoint has pooler.extra, which is not the head's",
        ),
        (
            lambda w: [w.pop(name) for name in list(w) if ".self_attention_layers.1." in name],
            "the checkpoint has 1 of 2 pooler.self_attention_layers.",
        ),
    ],
)
def test_what_is_wrong_is_named(
    classifier: Path, tmp_path: Path, change: Callable[[Weights], object], says: str
) -> None:
    folder = shutil.copytree(classifier, tmp_path / "broken")
    weights = {name: t.clone() for name, t in load_file(folder / "model.safetensors").items()}
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError) as caught:
        read_video_classifier(locate(str(folder)))
    assert str(caught.value).startswith(f"{folder}: {says}") and "\n" not in str(caught.value)


def test_configs_that_ask_for_something_else(classifier: Path, tmp_path: Path) -> None:
    config = json.loads((classifier / "config.json").read_text())
    for changes, says in (
        ({"architectures": ["VJEPA2Model"]}, "has no head of its own"),
        ({"problem_type": "multi_label_classification"}, "gives a clip several labels at once"),
        ({"id2label": {"0": "a", "2": "b"}}, "does not count from 0 on"),
        ({"num_pooler_layers": 10**9}, f"has 2 of {10**9} pooler"),
    ):
        folder = shutil.copytree(classifier, tmp_path / "other", dirs_exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(ValueError, match=says):
            read_video_classifier(locate(str(folder)))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--classifier", "{plain}"], "has no head of its own, it is no VJEPA2ForVideoClassificat"),
        (["--classifier", "{tmp}/none"], "none: no such folder or file, nor a hub id"),
        (["--classifier", "{plain}", "--edge"], "--edge is for a head of offline.train"),
        (["--classifier", "{plain}", "--encoder", "landmarks"], "give one of --model, --classif"),
        (["--classifier", "{plain}", "--frames", "0"], "--frames must be more than 0"),
    ],
)
def test_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], says: str
) -> None:
    plain = make_checkpoint(tmp_path / "plain")
    words = [word.format(plain=plain, tmp=tmp_path) for word in given]
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(export.main([*words, "--out", str(tmp_path / "out")]))
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_encoder_whose_head_is_left_out(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--encoder", f"vjepa2:{classifier}", "--frames", "4", "--out", str(tmp_path / "out")]
    assert export.main(given) == 0
    assert "has a head of its own, which is left out; --classifier takes it" in (
        capsys.readouterr().out
    )
    assert open_bundle(tmp_path / "out").glosses == ()

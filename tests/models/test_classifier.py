from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.bundle import Bundle, BundleError, write_bundle
from models.classifier import Classifier, softmax
from models.schema import Embedding
from tests.models.bundles import small_bundle, small_card
from tests.models.heads_onnx import mean_head


def embedding(rows: int, seed: int) -> Embedding:
    features = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return Embedding(features=features, start_s=0.0, end_s=1.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


def test_probabilities_are_the_softmax_at_the_cards_temperature(bundle: Bundle) -> None:
    clips = [embedding(8, 1), embedding(3, 2)]
    output = Classifier(bundle).classify(clips)
    probabilities, attention = output.probabilities, output.attention
    assert probabilities.dtype == np.float32
    for row, clip in zip(probabilities, clips, strict=True):
        powers = np.exp(clip.features.mean(0) / bundle.temperature)
        np.testing.assert_allclose(row, powers / powers.sum(), atol=1e-6)
    assert [len(a) for a in attention] == [8, 3]
    np.testing.assert_allclose(attention[1], 1 / 3, atol=1e-6)


def test_a_clip_gets_the_same_output_alone_and_padded(bundle: Bundle) -> None:
    classifier = Classifier(bundle)
    short, long = embedding(2, 3), embedding(50, 4)
    alone = classifier.classify([short]).probabilities
    together = classifier.classify([long, short]).probabilities
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)


def test_features_left_on_their_device_get_the_same_output(bundle: Bundle) -> None:
    classifier = Classifier(bundle, "cpu")
    features = np.stack([embedding(8, seed).features for seed in range(3)])
    want = classifier.classify([embedding(8, seed) for seed in range(3)])
    still = features.copy()
    still.setflags(write=False)  # as engines other than torch may give them
    for given in (features, still, torch.from_numpy(features)):
        got = classifier.classify_on_device(given)
        np.testing.assert_array_equal(got.probabilities, want.probabilities)
        np.testing.assert_array_equal(got.attention, want.attention)
        assert got.embeddings is None


@pytest.mark.parametrize("shape", [(2, 4, 2), (4, 3), (1, 0, 3), (0, 4, 3)])
def test_features_on_a_device_of_the_wrong_shape(bundle: Bundle, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the head takes"):
        Classifier(bundle).classify_on_device(torch.zeros(shape))


def test_cuda_falls_back_to_the_cpu_where_there_is_none(bundle: Bundle) -> None:
    classifier = Classifier(bundle, "cuda")
    assert classifier.device in ("cpu", "cuda:0")
    assert classifier.classify([embedding(8, 1)]).probabilities.shape == (1, 3)


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cuda:x", ""])
def test_an_unknown_device(bundle: Bundle, device: str) -> None:
    with pytest.raises(ValueError, match="no device"):
        Classifier(bundle, device)


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (3,)])
def test_features_of_the_wrong_shape(bundle: Bundle, shape: tuple[int, ...]) -> None:
    wrong = Embedding(features=np.zeros(shape, np.float32), start_s=0.0, end_s=1.0)
    with pytest.raises(ValueError, match="the head takes"):
        Classifier(bundle).classify([wrong])


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"no network", "can't load it"),
        (mean_head(np.eye(4, dtype=np.float32)), r"not \(B, T, 3\)"),
        (mean_head(np.eye(3, 5, dtype=np.float32)), "the card has 3 classes"),
        (mean_head(np.eye(3, dtype=np.float32), free_axes=False), "with B and T free"),
    ],
)
def test_a_head_that_does_not_fit_its_card(bundle: Bundle, head: bytes, says: str) -> None:
    assert bundle.head_path
    bundle.head_path.write_bytes(head)
    with pytest.raises(BundleError, match=says):
        Classifier(bundle)


def test_softmax_of_large_logits() -> None:
    logits = np.array([[1e4, 1e4, -1e4]], np.float32)
    np.testing.assert_allclose(softmax(logits), np.array([[0.5, 0.5, 0]]))


def test_a_head_that_fails_prints_nothing_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime would write the names in the file, as they are, to the terminal."""
    head = onnx.load_from_string(mean_head(np.eye(3, dtype=np.float32)))
    rows = onnx.numpy_helper.from_array(np.array([0, 1, 99]), "rows")  # the last is not there
    head.graph.initializer[0].name = "given"
    head.graph.initializer.append(rows)
    gather = onnx.helper.make_node("Gather", ["given", "rows"], ["weights"], "\x1b[31mred")
    head.graph.node.insert(0, gather)
    files: dict[str, bytes | Path] = {"head.onnx": head.SerializeToString()}
    bundle = write_bundle(tmp_path / "b", card=small_card(), glosses=["a", "b"], files=files)
    with pytest.raises(Exception, match="Gather"):
        Classifier(bundle).classify([embedding(8, 1)])
    assert capfd.readouterr().err == ""

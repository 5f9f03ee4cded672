from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.encoder import on_host, open_fastest_graph
from models.vjepa2.graph_engine import (
    FLOAT32,
    WAYS,
    GraphEngine,
    GraphVariant,
    has_bfloat16,
    spare_cores,
)
from models.vjepa2.torch_engine import TorchEngine
from tests.models.heads_onnx import mean_head
from tests.models.tiny_graphs import make_graphs, pictures
from tests.models.tiny_vjepa2 import make_checkpoint

SIDE = 36  # px: what a crop of 32 is cut from


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EncoderSpec:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return vjepa2_spec(str(folder), frames=4)


@pytest.fixture(scope="module")
def folder(spec: EncoderSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    make_graphs(folder, spec)
    return folder


def clip(seed: int, frames: int = 4) -> list[NDArray[np.uint8]]:
    return list(pictures(seed, SIDE, frames))


@pytest.mark.parametrize(
    ("name", "difference", "cosine"),
    [
        ("openvino-float32", 1e-4, 0.9999),
        ("onnxruntime-float32", 1e-4, 0.9999),
        ("openvino-bfloat16", 0.2, 0.999),
        ("openvino-int8", 0.2, 0.999),
        ("onnxruntime-int8", 0.2, 0.999),
    ],
)
def test_computes_the_same_as_torch(
    spec: EncoderSpec, folder: Path, name: str, difference: float, cosine: float
) -> None:
    engine = GraphEngine(spec, GraphVariant.of(name, folder), threads=1)
    clips = [clip(seed) for seed in range(20, 24)]
    got, want = engine.encode(clips), on_host(TorchEngine.open(spec, "cpu").encode(clips))
    assert got.shape == want.shape == (4, 2, 32) and got.dtype == np.float32
    assert np.abs(got - want).max() <= difference
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    assert ((got * want).sum(-1) / lengths).min() >= cosine
    assert (engine.name, engine.device) == (name.replace("-", " "), "cpu")


@pytest.mark.parametrize("name", WAYS)
def test_a_clip_is_the_same_alone_and_in_any_batch(
    spec: EncoderSpec, folder: Path, name: str
) -> None:
    engine = GraphEngine(spec, GraphVariant.of(name, folder), threads=spare_cores())
    clips = [clip(seed) for seed in range(5)]
    together = engine.encode(clips)
    for one, among in zip(clips, together, strict=True):
        np.testing.assert_array_equal(engine.encode([one])[0], among)
    np.testing.assert_array_equal(engine.encode(clips[::-1])[::-1], together)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_tokens(spec: EncoderSpec, tmp_path: Path) -> None:
    tokens = replace(spec, kind="vjepa2-tokens")
    make_graphs(tmp_path, tokens, int8=False)
    got = GraphEngine(tokens, GraphVariant.of("openvino-float32", tmp_path)).encode([clip(1)])
    assert got.shape == (1, 8, 32)  # 2 steps of 2 x 2 patches
    np.testing.assert_allclose(
        got, on_host(TorchEngine.open(tokens, "cpu").encode([clip(1)])), atol=1e-4
    )
    with pytest.raises(ValueError, match=r"returns features \(8, 32\), which is no vjepa2 of 4"):
        GraphEngine(spec, GraphVariant.of("openvino-float32", tmp_path))


def test_clips_of_another_length_and_after_the_end(spec: EncoderSpec, folder: Path) -> None:
    engine = GraphEngine(spec, GraphVariant.of("openvino-float32", folder))
    with pytest.raises(ValueError, match="6 frames, not 4"):
        engine.encode([clip(1), clip(2, frames=6)])
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.encode([clip(1)])


@pytest.mark.parametrize("name", ["openvino-float32", "onnxruntime-float32"])
def test_the_graph_of_another_encoder(spec: EncoderSpec, folder: Path, name: str) -> None:
    for wrong in (
        replace(spec, frames=8, fps=16.0),
        replace(spec, short_side=292),
        replace(spec, dim=64),
    ):
        with pytest.raises(
            ValueError, match=r"float32\.onnx: takes pictures \(4, 32, 32, 3\)"
        ) as e:
            GraphEngine(wrong, GraphVariant.of(name, folder))
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("content", ["cut", "empty", "text", "head", "fixed"])
def test_a_file_that_is_no_encoder(
    spec: EncoderSpec, folder: Path, tmp_path: Path, runtime: str, content: str
) -> None:
    file = tmp_path / FLOAT32
    file.write_bytes(
        {
            "cut": (folder / FLOAT32).read_bytes()[:5000],
            "empty": b"",
            "text": b"float32.onnx: see attachment\n" * 50,
            "head": mean_head(np.eye(3, dtype=np.float32)),
            "fixed": mean_head(np.eye(3, dtype=np.float32), free_axes=False),
        }[content]
    )
    says = "an encoder takes pictures" if content in ("head", "fixed") else "can't open it"
    with pytest.raises(ValueError, match=rf"float32\.onnx: .*{says}") as caught:
        GraphEngine(spec, GraphVariant(runtime=runtime, precision="float32", file=file))
    assert "\n" not in str(caught.value)


def test_the_fastest_is_chosen_and_logged(
    spec: EncoderSpec, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = open_fastest_graph(spec, [GraphVariant.of(way, folder) for way in WAYS])
    assert f"V-JEPA 2 runs by {engine.name}, " in caplog.text
    assert "openvino-int8 " in caplog.text
    assert has_bfloat16() == ("openvino-bfloat16" in caplog.text)
    assert engine.encode([clip(1)]).shape == (1, 2, 32)

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import VJEPA2Model

from models.encoders import open_encoder
from models.schema import Clip, Frame
from models.vjepa2 import encoder as vjepa2
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.encoder import (
    VJEPA2Encoder,
    fastest,
    on_host,
    open_vjepa2_engine,
    usable_variants,
)
from models.vjepa2.graph_engine import WAYS, GraphVariant, spare_cores
from models.vjepa2.preprocess import Pictures, preprocess
from models.vjepa2.torch_engine import TorchEngine
from tests.models.tiny_graphs import make_graphs
from tests.models.tiny_vjepa2 import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vjepa2"))


@pytest.fixture(scope="module")
def graphs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[GraphVariant]:
    folder = tmp_path_factory.mktemp("graphs")
    make_graphs(folder, vjepa2_spec(str(checkpoint), frames=4), int8=False)
    return [GraphVariant.of(way, folder) for way in WAYS if not way.endswith("int8")]


def clip(seed: int, frames: int = 4) -> Clip:
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (36, 50, 3), np.uint8) for _ in range(frames)]
    return Clip(
        stream="s",
        frames=tuple(Frame(image=image, media_s=i / 8) for i, image in enumerate(images)),
        start_s=0.0,
        end_s=frames / 8,
    )


def test_equals_the_model_called_directly(checkpoint: Path) -> None:
    one = clip(1)
    spec = vjepa2_spec(str(checkpoint), kind="vjepa2-tokens", frames=4)
    assert (spec.dim, spec.short_side, spec.window_s) == (32, 36, 0.5)
    [tokens] = open_encoder(spec, "cpu").encode([one])
    model = VJEPA2Model.from_pretrained(checkpoint)
    video = torch.from_numpy(preprocess([f.image for f in one.frames], 32))[None]
    with torch.no_grad():
        want = model.get_vision_features(video)[0].numpy()  # 2 steps of 2 x 2 patches
    assert tokens.features.shape == want.shape == (8, 32)
    np.testing.assert_allclose(tokens.features, want, atol=1e-5)

    [pooled] = open_encoder(replace(spec, kind="vjepa2"), "cpu").encode([one])
    np.testing.assert_allclose(pooled.features, want.reshape(2, 4, 32).mean(1), atol=1e-5)
    assert (pooled.start_s, pooled.end_s) == (0.0, 0.5)
    assert pooled.features.dtype == np.float32


def test_a_clip_is_the_same_alone_and_in_any_batch(checkpoint: Path) -> None:
    encoder = VJEPA2Encoder.open(vjepa2_spec(str(checkpoint), frames=4), "cpu")
    clips = [clip(seed) for seed in range(11)]  # more than fit one batch
    together = encoder.encode(clips)
    assert len(together) == 11
    for one, among in zip(clips, together, strict=True):
        np.testing.assert_allclose(encoder.encode([one])[0].features, among.features, atol=1e-5)
    assert np.abs(together[0].features - together[1].features).max() > 1e-3
    assert encoder.encode([]) == []


def test_bfloat16_is_close(checkpoint: Path) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=4)
    full = VJEPA2Encoder.open(spec, "cpu").encode([clip(1)])[0].features
    engine = TorchEngine.open(spec, "cpu", "bfloat16")
    half = VJEPA2Encoder(spec, engine).encode([clip(1)])[0].features
    assert half.dtype == np.float32
    assert np.abs(full - half).mean() < 0.05 * np.abs(full).mean() + 0.02


def test_frames_that_the_model_would_drop_silently(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="would lose the last"):
        vjepa2_spec(str(checkpoint), frames=5)
    encoder = VJEPA2Encoder.open(vjepa2_spec(str(checkpoint), frames=4), "cpu")
    with pytest.raises(ValueError, match="6 frames, not 4"):
        encoder.encode([clip(1, frames=6)])


def test_another_size_than_the_checkpoints(checkpoint: Path) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=4)
    for wrong in (replace(spec, short_side=292), replace(spec, dim=64)):
        with pytest.raises(ValueError, match="dim and short_side"):
            VJEPA2Encoder.open(wrong, "cpu")


def test_other_weights_than_those_trained_with(checkpoint: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    spec = replace(vjepa2_spec(str(checkpoint), frames=4), source=str(other))
    with pytest.raises(ValueError, match="not the checkpoint"):
        VJEPA2Encoder.open(spec, "cpu")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder"):
        vjepa2_spec(str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"no config\.json"):
        vjepa2_spec(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="of type 'bert'"):
        vjepa2_spec(str(tmp_path))


def test_cut_weights(tmp_path: Path) -> None:
    weights = make_checkpoint(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    spec = vjepa2_spec(str(tmp_path), frames=4)
    with pytest.raises(OSError, match=r"model\.safetensors: cut or damaged"):
        VJEPA2Encoder.open(spec, "cpu")


def test_a_cpu_runs_the_graph_where_there_is_one(
    checkpoint: Path, graphs: list[GraphVariant], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=4)
    want = open_vjepa2_engine(spec, "cpu")
    assert want.name == "torch float32"
    assert torch.get_num_threads() == spare_cores()  # media has the rest
    pictures = [frame.image for frame in clip(1).frames]
    monkeypatch.setattr(vjepa2, "has_gpu", lambda: False)
    for device in ("cpu", "auto"):
        engine = open_vjepa2_engine(spec, device, graphs)
        assert "torch" not in engine.name and engine.device == "cpu"
        got, exact = (on_host(one.encode([pictures])) for one in (engine, want))
        np.testing.assert_allclose(got, exact, atol=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what happens where there is no GPU")
def test_a_gpu_that_torch_can_not_use(
    checkpoint: Path,
    graphs: list[GraphVariant],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=4)
    monkeypatch.setattr(vjepa2, "has_gpu", lambda: True)
    assert open_vjepa2_engine(spec, "auto", graphs).device == "cpu"
    assert "the GPU is not used: there is no cuda here" in caplog.text
    with pytest.raises(ValueError, match="cuda:0 runs the encoder's weights: there is no cuda:0"):
        open_vjepa2_engine(spec, "cuda:0", graphs)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps"])
def test_no_such_device(checkpoint: Path, device: str) -> None:
    with pytest.raises(ValueError, match=r"no device|there is no"):
        VJEPA2Encoder.open(vjepa2_spec(str(checkpoint), frames=4), device)


def test_without_torch_it_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=4)
    monkeypatch.delitem(sys.modules, "models.vjepa2.torch_engine")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r'needs torch: pip install "livegloss\[gpu\]"'):
        open_encoder(spec, "cpu")


def names(ways: Sequence[GraphVariant]) -> list[str]:
    return [one.name for one in ways]


def test_what_may_be_the_fastest() -> None:
    all_ways = [GraphVariant.of(way, Path("b/encoder")) for way in WAYS]
    all_here = ("openvino", "onnxruntime")
    assert names(usable_variants(all_ways, all_here, bfloat16=True)) == [
        "openvino-int8",
        "openvino-bfloat16",
        "onnxruntime-int8",
    ]
    assert names(usable_variants(all_ways, all_here, bfloat16=False)) == [
        "openvino-int8",
        "openvino-float32",
        "onnxruntime-int8",
        "onnxruntime-float32",
    ]
    whole = [way for way in all_ways if way.precision != "int8"]
    assert names(usable_variants(whole, all_here, bfloat16=True)) == ["openvino-bfloat16"]
    exact = [way for way in whole if way.precision != "bfloat16"]  # a bundle that forbids it
    assert names(usable_variants(exact, all_here, bfloat16=True)) == [
        "openvino-float32",
        "onnxruntime-float32",
    ]
    assert names(usable_variants(all_ways, ("onnxruntime",), bfloat16=True)) == [
        "onnxruntime-int8",
        "onnxruntime-float32",
    ]
    assert usable_variants(all_ways, (), bfloat16=True) == []


class Timed:
    """An engine that takes `seconds` a run, of a clock that only it moves."""

    device = "cpu"

    def __init__(self, clock: list[float], name: str, seconds: float) -> None:
        self.name = name
        self.clock, self.seconds, self.runs, self.closed = clock, seconds, 0, False

    def encode(self, clips: Sequence[Pictures]) -> NDArray[np.float32]:
        self.clock[0] += self.seconds
        self.runs += 1
        return np.zeros((len(clips), 1, 1), np.float32)

    def close(self) -> None:
        self.closed = True


def race(*seconds: float | None) -> tuple[str, dict[str, float], list[Timed]]:
    """Engines of so many seconds a run, None for one that can't be opened: who won, and all."""
    clock = [0.0]
    opened: list[Timed] = []

    def open_engine(way: GraphVariant) -> Timed:
        took = seconds[int(way.precision)]
        if took is None:
            raise ValueError(f"{way.name} can't be opened")
        opened.append(Timed(clock, way.name, took))
        return opened[-1]

    ways = [
        GraphVariant(runtime="r", precision=str(i), file=Path("x")) for i, _ in enumerate(seconds)
    ]
    best, took = fastest(ways, open_engine, [[]], clock=lambda: clock[0])
    assert [one.closed for one in opened] == [one.name != best.name for one in opened]
    return best.name, took, opened


def test_the_fastest_is_taken_and_the_others_are_closed() -> None:
    best, took, opened = race(0.2, 0.1, 0.14, 0.3)
    assert best == "r-1"
    assert took == pytest.approx({"r-0": 0.2, "r-1": 0.1, "r-2": 0.14, "r-3": 0.3})
    assert [one.runs for one in opened] == [4, 4, 4, 1]  # one that can't win is not run again


def test_a_large_model_is_tried_once() -> None:
    best, took, opened = race(30.0, 1.0, 1.0)
    assert (best, list(took), opened[0].runs) == ("r-0", ["r-0"], 1)


def test_what_can_not_be_opened_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert race(None, 0.1)[0] == "r-1"
    assert "r-0 can't be opened" in caplog.text
    with pytest.raises(ValueError, match="r-0 can't be opened"):
        race(None, None)
    with pytest.raises(ValueError, match="nothing here runs"):
        race()

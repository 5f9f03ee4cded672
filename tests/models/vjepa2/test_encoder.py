from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VJEPA2Model

from models.encoders import open_encoder
from models.schema import Clip, Frame
from models.vjepa2 import encoder as vjepa2
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.encoder import VJEPA2Encoder, open_vjepa2_engine
from models.vjepa2.engine import on_host
from models.vjepa2.graph import WAYS, GraphVariant, spare_cores
from models.vjepa2.preprocess import preprocess
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
    with pytest.raises(OSError, match="can't load its weights"):
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

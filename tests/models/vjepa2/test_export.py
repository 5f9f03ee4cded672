from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.vjepa2 import export
from models.vjepa2.checkpoint import load_weights, vjepa2_spec
from models.vjepa2.graph import FLOAT32, INT8, WAYS, GraphVariant, open_graph
from models.vjepa2.graph_engine import GraphEngine
from models.vjepa2.model import PictureEncoder
from models.vjepa2.rounding import rounded_weights
from tests.models.tiny_graphs import make_graphs, pictures
from tests.models.tiny_vjepa2 import make_checkpoint


def test_weights_that_one_file_can_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ViT-g in float32 has: they lie beside the graph, for both runtimes."""
    monkeypatch.setattr(export, "_ONE_FILE", 1000)
    spec = vjepa2_spec(str(make_checkpoint(tmp_path / "checkpoint")), frames=4)
    (tmp_path / "graphs").mkdir()
    files = make_graphs(tmp_path / "graphs", spec)
    assert [file.name for file in files] == [
        FLOAT32,
        f"{FLOAT32}.data",
        INT8,
        f"{INT8}.data",
    ]
    clips = [list(pictures(1, 36))]
    got = {
        way: GraphEngine(spec, GraphVariant.of(way, tmp_path / "graphs")).encode(clips)
        for way in WAYS
    }
    np.testing.assert_allclose(got["openvino-float32"], got["onnxruntime-float32"], atol=1e-4)
    np.testing.assert_allclose(got["openvino-int8"], got["onnxruntime-int8"], atol=0.05)


@pytest.mark.parametrize("inputs", [True, False])
def test_8_bits_are_a_quarter_as_large_and_nearly_as_exact(tmp_path: Path, inputs: bool) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", hidden_size=96, num_hidden_layers=3)
    encoder = PictureEncoder(
        load_weights(vjepa2_spec(str(checkpoint), frames=4), torch.float32), pooled=True
    )
    clips = [pictures(seed) for seed in range(12)]
    [whole] = export.write_encoder(encoder, tmp_path / FLOAT32)
    layers = rounded_weights(encoder, clips[:8])
    [eighth] = export.write_int8(whole, layers, tmp_path / INT8, inputs=inputs)
    assert eighth.stat().st_size < 0.35 * whole.stat().st_size
    exact = open_graph(GraphVariant.of("onnxruntime-float32", tmp_path), 1)
    want = np.stack([exact(clip) for clip in clips[8:]])
    for way in ("openvino-int8", "onnxruntime-int8"):
        graph = open_graph(GraphVariant.of(way, tmp_path), 1)
        got = np.stack([graph(clip) for clip in clips[8:]])
        off = np.linalg.norm(got - want) / np.linalg.norm(want - want.mean(0))
        assert 0 < off < 0.05

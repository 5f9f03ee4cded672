from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.vjepa2 import graph_export
from models.vjepa2.graph import FLOAT32, INT8, WAYS, Candidate
from models.vjepa2.graph_engine import GraphEngine
from models.vjepa2.picture_encoder import PictureEncoder
from models.vjepa2.weights import load_weights, vjepa2_spec
from tests.models.tiny_graphs import make_graphs, pictures
from tests.models.tiny_vjepa2 import make_checkpoint


def test_weights_that_one_file_can_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ViT-g in float32 has: they lie beside the graph, for both runtimes."""
    monkeypatch.setattr(graph_export, "_ONE_FILE", 1000)
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
        way: GraphEngine(spec, Candidate.of(way, tmp_path / "graphs")).encode(clips) for way in WAYS
    }
    np.testing.assert_allclose(got["openvino-float32"], got["onnxruntime-float32"], atol=1e-4)
    np.testing.assert_allclose(got["openvino-int8"], got["onnxruntime-int8"], atol=0.05)


def test_int8_needs_clips(tmp_path: Path) -> None:
    spec = vjepa2_spec(str(make_checkpoint(tmp_path / "checkpoint")), frames=4)
    encoder = PictureEncoder(load_weights(spec, torch.float32), pooled=True)
    with pytest.raises(ValueError, match="needs clips to be calibrated on"):
        graph_export.write_int8(tmp_path / FLOAT32, encoder, [], tmp_path / INT8)

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from models import onnx_file
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.graph_engine import FLOAT32, INT8, WAYS, GraphEngine, GraphVariant, open_graph
from tests.models.heads_onnx import mean_head
from tests.models.tiny_graphs import make_graphs, pictures
from tests.models.tiny_vjepa2 import make_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def test_weights_that_one_file_can_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of ViT-g in float32: they lie beside the graph, for both runtimes."""
    monkeypatch.setattr(onnx_file, "_MAX_ONE_FILE", 1000)
    spec = vjepa2_spec(str(make_checkpoint(tmp_path / "checkpoint")), frames=4)
    (tmp_path / "graphs").mkdir()
    files = make_graphs(tmp_path / "graphs", spec)
    assert [file.name for file in files] == [FLOAT32, f"{FLOAT32}.data", INT8, f"{INT8}.data"]
    clips = [list(pictures(1, 36))]
    got = {
        name: GraphEngine(spec, GraphVariant.of(name, tmp_path / "graphs")).encode(clips)
        for name in WAYS
    }
    np.testing.assert_allclose(got["openvino-float32"], got["onnxruntime-float32"], atol=1e-4)
    np.testing.assert_allclose(got["openvino-int8"], got["onnxruntime-int8"], atol=0.05)


def test_8_bits_are_a_third_as_large_and_nearly_as_exact(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", hidden_size=96, num_hidden_layers=3)
    float32, int8 = make_graphs(tmp_path, vjepa2_spec(str(checkpoint), frames=4))
    assert int8.stat().st_size < 0.36 * float32.stat().st_size
    clips = [pictures(seed) for seed in range(8, 12)]
    exact = open_graph(GraphVariant.of("onnxruntime-float32", tmp_path), 1)
    want = np.stack([exact(clip) for clip in clips])
    for name in ("openvino-int8", "onnxruntime-int8"):
        graph = open_graph(GraphVariant.of(name, tmp_path), 1)
        got = np.stack([graph(clip) for clip in clips])
        error = np.linalg.norm(got - want) / np.linalg.norm(want - want.mean(0))
        assert 0 < error < 0.03


def test_the_libraries_log_is_not_configured(tmp_path: Path) -> None:
    """Its module would print a line for each layer."""
    code = "import logging; from pathlib import Path; from models.onnx_file import write_int8\n"
    code += "write_int8(Path('float32.onnx'), Path('int8.onnx')); assert not logging.root.handlers"
    onnx.save(onnx.load_from_string(mean_head(np.eye(3, dtype=np.float32))), tmp_path / FLOAT32)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")

"""How encoders are opened, and on which devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import write_bundle
from models.encoders import devices, graph_variants, open_encoder
from tests.models.bundles import SPEC, small_card
from tests.models.heads_onnx import mean_head

VJEPA2 = dataclasses.replace(SPEC, kind="vjepa2")


@pytest.mark.parametrize(
    ("gpus", "name", "opened"),
    [
        (2, "cuda", ["cuda:0", "cuda:1"]),
        (2, "cuda:1", ["cuda:1"]),
        (2, "auto", ["auto"]),
        (2, "cpu", ["cpu"]),
        (0, "cuda", ["cuda"]),  # opening it says that there is none
    ],
)
def test_cuda_without_a_number_means_every_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, opened: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices(VJEPA2, name) == opened


def test_an_encoder_that_keeps_state_of_a_stream_has_one_device() -> None:
    assert devices(SPEC, "cuda") == ["cuda"]


def test_an_encoder_of_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="no encoder of kind 'clip'"):
        open_encoder(dataclasses.replace(SPEC, kind="clip"))


def test_graphs_in_a_bundle_make_variants_unless_its_card_refuses_them(tmp_path: Path) -> None:
    card = small_card()
    files: dict[str, bytes | Path] = {"head.onnx": mean_head(np.eye(3, dtype=np.float32))}
    bundle = write_bundle(tmp_path / "b", card=card, glosses=["a", "b"], files=files)
    assert graph_variants(bundle) == ()
    files["encoder/float32.onnx"] = b"graph"
    bundle = write_bundle(tmp_path / "b", card=card, glosses=["a", "b"], files=files)
    everything = {"openvino-float32", "openvino-bfloat16", "onnxruntime-float32"}
    assert {variant.name for variant in graph_variants(bundle)} == everything
    [file] = {variant.file for variant in graph_variants(bundle)}
    assert file == bundle.path / "encoder" / "float32.onnx"
    for figures in ([{"name": "openvino-bfloat16", "taken": False}, {"name": []}, 1], 2, {"a": 1}):
        card["metrics"] = {"graphs": figures}
        bundle = write_bundle(tmp_path / "b", card=card, glosses=["a", "b"], files=files)
        refused = {"openvino-bfloat16"} if isinstance(figures, list) else set()
        assert {variant.name for variant in graph_variants(bundle)} == everything - refused

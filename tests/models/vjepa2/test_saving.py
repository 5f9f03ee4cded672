"""An encoder that was trained further is a checkpoint like the one that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Model

from models.vjepa2.checkpoint import load_weights, vjepa2_spec
from models.vjepa2.model import VideoTransformer
from models.vjepa2.saving import save_encoder
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.models.vjepa2.test_checkpoint import save


def trained(model: VideoTransformer) -> VideoTransformer:
    """The same with other numbers in every tensor."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def test_transformers_reads_what_was_trained_further(tmp_path: Path) -> None:
    start = vjepa2_spec(str(make_checkpoint(tmp_path / "start")), frames=4)
    model = trained(load_weights(start, torch.float32))
    spec = save_encoder(model, start, tmp_path / "tuned")
    assert spec.source == str(tmp_path / "tuned") and spec.revision != start.revision
    assert (spec.dim, spec.frames, spec.fps) == (start.dim, start.frames, start.fps)
    again = load_weights(spec, torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    theirs: Any = VJEPA2Model.from_pretrained(tmp_path / "tuned")
    theirs.eval()
    video = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        tokens = theirs(video, skip_predictor=True).last_hidden_state
        torch.testing.assert_close(model(video), tokens, atol=1e-5, rtol=1e-4)


def test_a_file_of_2_1_is_a_file_again(tmp_path: Path) -> None:
    start = vjepa2_spec(str(save(tmp_path / "start.pt")), frames=2)
    model = trained(load_weights(start, torch.float32))
    spec = save_encoder(model, start, tmp_path / "tuned")
    assert spec.source == str(tmp_path / "tuned.pt") and spec.revision != start.revision
    again = load_weights(spec, torch.float32)
    assert again.shape == model.shape and again.modality is not None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name

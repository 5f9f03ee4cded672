"""Makes V-JEPA 2 checkpoints of random weights that run in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model


def make_checkpoint(folder: Path, *, crop: int = 32, seed: int = 0, **changes: Any) -> Path:
    """Save a model of 2 layers, 32 features, `crop` px, 4 frames to `folder`."""
    torch.manual_seed(seed)
    VJEPA2Model(_config(crop_size=crop, **changes)).save_pretrained(folder)
    return folder


def make_classifier(folder: Path, labels: Sequence[str], **changes: Any) -> Path:
    """Save the same with a head of two pooler layers for `labels`, some biases not zero."""
    torch.manual_seed(0)
    config = _config(num_pooler_layers=2, id2label=dict(enumerate(labels)), **changes)
    model = VJEPA2ForVideoClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # zeros and ones of a new model would hide a wrong order
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def _config(**changes: Any) -> VJEPA2Config:
    return VJEPA2Config(
        **{
            "crop_size": 32,
            "frames_per_clip": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "pred_hidden_size": 16,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
            "initializer_range": 0.2,  # random features that differ between clips
            **changes,
        }
    )

"""Makes a V-JEPA 2 checkpoint of random weights that runs in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model


def make_checkpoint(folder: Path, *, crop: int = 32, seed: int = 0, **changes: Any) -> Path:
    """Save a model of 2 layers, 32 features, `crop` px, 4 frames to `folder`."""
    torch.manual_seed(seed)
    config = VJEPA2Config(
        **{
            "crop_size": crop,
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
    VJEPA2Model(config).save_pretrained(folder)
    return folder

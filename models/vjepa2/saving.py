"""Writes an encoder that was trained further as a checkpoint like the one that it came from.

    VideoTransformer with other weights + spec of its start -> [saving] -> folder or .pt, its spec

Whatever reads published checkpoints reads these: our commands, and transformers for version 2.0.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.files import replacing
from models.schema import EncoderSpec
from models.vjepa2.checkpoint import read_checkpoint_file, read_config, vjepa2_spec
from models.vjepa2.model import VideoTransformer
from models.vjepa2.source import locate
from models.vjepa2.state_dicts import published


def save_encoder(model: VideoTransformer, start: EncoderSpec, stem: Path) -> EncoderSpec:
    """Write `model` as `stem`/ (2.0, a folder) or `stem`.pt (2.1); returns the spec that pins it.

    `start` is the spec of the checkpoint that the training began with. Weights are float32.

    Raises:
        OSError: the disk is full, or `start` is not there any more.
    """
    source = Path(start.source).expanduser()
    if source.is_file():
        _, weights = read_checkpoint_file(source)
        target = stem.with_name(f"{stem.name}.pt")
        content = published(model.state_dict(), model.shape, weights)
        with replacing(target) as file:
            torch.save({"ema_encoder": content, "crop_size": model.video_size[-1]}, file)
    else:
        target = stem
        target.mkdir(parents=True, exist_ok=True)
        config = read_config(locate(start.source, start.revision, weights=False))
        config.architectures, config.dtype = ["VJEPA2Model"], "float32"
        config.save_pretrained(target)
        named = published(model.state_dict(), model.shape, {})
        file_name = target / "model.safetensors"
        save_file(
            {f"encoder.{name}": tensor for name, tensor in named.items()},
            file_name,
            metadata={"format": "pt"},
        )
        shutil.copymode(target / "config.json", file_name)  # it is written for its owner alone
    found = vjepa2_spec(str(target), kind=start.kind, frames=start.frames, fps=start.fps)
    return replace(found, resize=start.resize)

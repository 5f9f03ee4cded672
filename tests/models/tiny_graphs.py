"""Makes the graphs of a tiny V-JEPA 2 encoder, as `offline.export --with-encoder` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.onnx_file import write_int8
from models.schema import EncoderSpec
from models.vjepa2.checkpoint import load_weights
from models.vjepa2.graph_engine import FLOAT32, INT8
from models.vjepa2.model import PictureEncoder

CROP = 32  # px, see `tests.models.tiny_vjepa2`


def pictures(seed: int, side: int = CROP, frames: int = 4) -> NDArray[np.uint8]:
    """(T, H, W, C) A random colour and noise."""
    draw = np.random.default_rng(seed)
    colour = draw.integers(40, 216, 3)
    return (colour + draw.integers(-40, 40, (frames, side, side, 3))).astype(np.uint8)


def make_graphs(folder: Path, spec: EncoderSpec, *, int8: bool = True) -> list[Path]:
    """Write float32.onnx and int8.onnx to `folder`."""
    encoder = PictureEncoder(load_weights(spec, torch.float32), pooled=spec.kind == "vjepa2")
    files = encoder.export(folder / FLOAT32)
    return files + write_int8(folder / FLOAT32, folder / INT8) if int8 else files

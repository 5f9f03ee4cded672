"""Reads a V-JEPA 2.1 checkpoint as facebookresearch/vjepa2 publishes it: one `.pt` file.

    file -> which encoder in it, its shape -> its weights, for `models.vjepa2.state_dicts`

The file is of a training run: beside the encoder it has a predictor, an optimiser and more, which
are left alone. Only tensors and plain values are ever unpickled. 2.0 comes from transformers.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.vjepa2.video_transformer import Shape

CROP = 384  # px, of all four sizes that are published

# Heads of a width, which the file does not tell: vit_base, vit_large, vit_giant_xformers and
# vit_gigantic_xformers of app/vjepa_2_1/models/vision_transformer.py.
_HEADS = {768: 12, 1024: 16, 1408: 22, 1664: 26}
# What is published is the encoder's mean over its training. By src/hub/backbones.py it has the
# first name in B and L, the second in g and G.
_ENCODERS = ("ema_encoder", "target_encoder")
_PICKLE = 16 * 2**20  # bytes of names and sizes; those of G's whole training are below 1 MB


def read_file(path: Path) -> tuple[Shape, dict[str, Tensor]]:
    """The shape and the weights of the encoder in `path`. The weights stay in the file: copy them.

    Raises:
        OSError: it can't be read, or is cut.
        ValueError: it is no such checkpoint.
    """
    held = _opened(path)
    found = [name for name in _ENCODERS if isinstance(held, dict) and name in held]
    if not found:
        raise ValueError(f"{path}: has no {' and no '.join(_ENCODERS)}, so it is not V-JEPA 2.1")
    weights = _tensors(path, held[found[0]])
    if "video_mod_embed" not in weights:
        raise ValueError(
            f"{path}: not V-JEPA 2.1; give 2.0 as transformers saves it, in a folder or by hub id"
        )
    for name in ("patch_embed.proj.bias", "blocks.0.mlp.fc1.bias"):
        if name not in weights or weights[name].ndim != 1:
            raise ValueError(f"{path}: the checkpoint lacks {name}, or it is no bias")
    width, hidden = len(weights["patch_embed.proj.bias"]), len(weights["blocks.0.mlp.fc1.bias"])
    if width not in _HEADS:
        raise ValueError(f"{path}: {width} features; V-JEPA 2.1 has {', '.join(map(str, _HEADS))}")
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    shape = Shape(width=width, depth=depth, heads=_HEADS[width], hidden=hidden, version="2.1")
    return shape, weights


def _opened(path: Path) -> Any:
    """What `torch.save` wrote to `path`, if that is tensors and plain values alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as exc:
        raise OSError(f"{path}: cut, or not written by torch.save; copy it again") from exc
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path}: compressed, as torch.save never does")
    if sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")) > _PICKLE:
        raise ValueError(f"{path}: more than {_PICKLE >> 20} MB of pickle; it was not opened")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as exc:  # its text tells how to run what is in the file
        raise ValueError(f"{path}: has more than tensors in it; it was not opened") from exc
    except Exception as exc:  # a hostile pickle raises what it likes
        raise OSError(f"{path}: damaged ({type(exc).__name__}); copy it again") from exc


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """`state` without the names of the wrappers that it was trained in."""
    if not isinstance(state, dict):
        raise ValueError(f"{path}: its encoder is no state dict")
    weights = {}
    for name, tensor in state.items():
        if not (
            isinstance(name, str)
            and isinstance(tensor, Tensor)
            and tensor.layout is torch.strided
            and tensor.device.type == "cpu"
            and tensor.is_floating_point()
            and tensor.is_contiguous()  # so no larger than what the file holds
        ):
            raise ValueError(f"{path}: {name!r} is no plain tensor of weights")
        weights[name.removeprefix("module.").removeprefix("backbone.")] = tensor
    if len(weights) != len(state):
        raise ValueError(f"{path}: two weights of one name")
    return weights

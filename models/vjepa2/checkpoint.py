"""Finds, pins, checks and loads the weights of a V-JEPA 2 encoder. Needs torch and transformers.

    folder, hub id or .pt file -> spec that pins it -> VideoTransformer with its weights

Folders and hub ids hold V-JEPA 2.0 as transformers saves it. A `.pt` file is V-JEPA 2.1 as
facebookresearch/vjepa2 publishes it: the state of a training run, of which only the encoder is
read. From it only tensors and plain values are unpickled, never code.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model
from transformers.utils import logging

from models.files import sha256
from models.schema import EncoderSpec
from models.vjepa2.model import Shape, VideoTransformer
from models.vjepa2.preprocess import resized_short_side
from models.vjepa2.state_dicts import converted

_KINDS = ("vjepa2", "vjepa2-tokens")
_PUBLISHED_CROP = 384  # px, of all four sizes that are published

# Attention heads by width, which the file does not contain: vit_base, vit_large, vit_giant_xformers
# and vit_gigantic_xformers of app/vjepa_2_1/models/vision_transformer.py.
_HEADS = {768: 12, 1024: 16, 1408: 22, 1664: 26}
# The encoder's moving average, which is the published one. By src/hub/backbones.py it has the first
# name in B and L, the second in g and G.
_ENCODERS = ("ema_encoder", "target_encoder")
_MAX_PICKLE = 16 * 2**20  # bytes of names and sizes; G's whole training run has less than 1 MB


def vjepa2_spec(
    source: str, *, kind: str = "vjepa2", frames: int = 16, fps: float = 8.0, revision: str = ""
) -> EncoderSpec:
    """The spec of the checkpoint `source`: a folder, a file, or a hub id with a `revision` or none.

    The spec pins its present content: a folder or file by SHA-256, a hub id by its commit.

    Raises:
        OSError: no such folder, file or hub id.
        ValueError: not a V-JEPA 2 checkpoint, or it does not take `frames`.
    """
    path = _path(source)
    shape, crop, revision = _inspect(source, path, revision)
    if not revision:
        raise ValueError(f"{source}: the hub names no commit; give a revision to pin")
    spec = EncoderSpec(
        kind=kind,
        source=source if path is None else str(path),
        revision=revision,
        dim=shape.width,
        frames=frames,
        fps=fps,
        short_side=resized_short_side(crop),
    )
    _check_fits(spec, shape, crop)
    return spec


def load_weights(spec: EncoderSpec, dtype: torch.dtype) -> VideoTransformer:
    """The encoder that `spec` pins, for clips of its size, on the CPU.

    Raises:
        OSError: the checkpoint is not there, or is cut.
        ValueError: it is not the one that `spec` pins, or does not fit it.
    """
    path = _path(spec.source)
    shape, crop, revision = _inspect(spec.source, path, spec.revision)
    if path is not None and revision != spec.revision:
        raise ValueError(f"{path}: not the checkpoint that the model was trained with")
    _check_fits(spec, shape, crop)
    if path is not None and path.is_file():
        _, mapped = read_checkpoint_file(path)  # copied, since the file may change
        weights = {name: weight.to(dtype, copy=True) for name, weight in mapped.items()}
    else:
        weights = _by_transformers(spec, path, dtype)
    try:
        state_dict = converted(weights, shape)
    except ValueError as exc:
        raise ValueError(f"{spec.source}: {exc}") from exc
    side = crop // shape.patch
    return VideoTransformer.loaded(state_dict, shape, (spec.frames // shape.tubelet, side, side))


def _path(source: str) -> Path | None:
    """The checkpoint's folder or file, or None for a hub id ("owner/name")."""
    path = Path(source).expanduser()
    if path.is_dir() or path.is_file():
        return path.resolve()
    if source.startswith(("/", ".", "~")) or source.endswith(".pt") or source.count("/") != 1:
        raise FileNotFoundError(f"{source}: no such folder or file, nor a hub id like owner/name")
    return None


def _inspect(source: str, path: Path | None, revision: str) -> tuple[Shape, int, str]:
    """The checkpoint's shape, its crop (px) and its revision ("" if there is none)."""
    if path is not None and path.is_file():
        return read_checkpoint_file(path)[0], _PUBLISHED_CROP, f"sha256:{sha256(path)}"
    config = _config(source, path, revision)
    pin = _fingerprint(path) if path else getattr(config, "_commit_hash", None) or revision
    return Shape.of(config), config.crop_size, pin


def _config(source: str, folder: Path | None, revision: str) -> VJEPA2Config:
    if folder is not None and not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json in it, so it is no V-JEPA 2 checkpoint")
    name = str(folder or source)
    pinned: dict[str, Any] = {} if folder is not None or not revision else {"revision": revision}
    try:
        config, _ = VJEPA2Config.get_config_dict(name, **pinned)
        model_type = config.get("model_type")
        if model_type != VJEPA2Config.model_type:
            raise ValueError(f"{name}: a checkpoint of type {model_type!r}, not of V-JEPA 2")
        return VJEPA2Config.from_pretrained(name, **pinned)
    except OSError as exc:
        raise OSError(f"{name}: can't read its config: {_first_line(exc)}") from exc


def _check_fits(spec: EncoderSpec, shape: Shape, crop: int) -> None:
    """Raise ValueError for what the model would accept silently and compute wrongly."""
    if spec.kind not in _KINDS:
        raise ValueError(f"no V-JEPA 2 encoder of kind {spec.kind!r}; there are {_KINDS}")
    if spec.frames % shape.tubelet:
        raise ValueError(
            f"V-JEPA 2 takes frames by {shape.tubelet}: {spec.frames} would lose the last"
        )
    if crop % shape.patch:
        raise ValueError(f"crop_size {crop} is no multiple of {shape.patch}")
    sizes = (shape.width, resized_short_side(crop))
    if (spec.dim, spec.short_side) != sizes:
        raise ValueError(
            f"{spec.source} has dim and short_side {sizes}, not {(spec.dim, spec.short_side)}"
        )


def _by_transformers(
    spec: EncoderSpec, folder: Path | None, dtype: torch.dtype
) -> dict[str, Tensor]:
    name = str(folder or spec.source)
    pinned: dict[str, Any] = {} if folder is not None else {"revision": spec.revision}
    loader: Any = VJEPA2Model
    # No table of the predictor's weights, which are not used, and no bar in a log.
    logs: Any = logging
    verbosity, bar = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        model, report = loader.from_pretrained(
            name,
            dtype=dtype,
            use_safetensors=True,  # never a pickle
            output_loading_info=True,
            **pinned,
        )
    except (OSError, RuntimeError, SafetensorError) as exc:
        raise OSError(f"{name}: can't load its weights: {_first_line(exc)}") from exc
    finally:
        logs.set_verbosity(verbosity)
        if bar:
            logs.enable_progress_bar()
    missing = [key for key in report["missing_keys"] if key.startswith("encoder.")]
    if missing or report["mismatched_keys"]:
        count = len(missing)
        raise ValueError(f"{name}: weights are missing or of another shape ({count} missing)")
    weights: dict[str, Tensor] = model.encoder.state_dict()
    return weights


def _fingerprint(folder: Path) -> str:
    """One SHA-256 over the config and the weights in `folder`."""
    total = hashlib.sha256()
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{folder}: no .safetensors file in it, so it is no checkpoint")
    for file in [folder / "config.json", *weights]:
        total.update(f"{file.name} {sha256(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _first_line(exc: BaseException) -> str:
    """The first line of an error of transformers, whose errors are long."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), repr(exc))


def read_checkpoint_file(path: Path) -> tuple[Shape, dict[str, Tensor]]:
    """The shape and weights of the 2.1 encoder in `path`. The weights are mapped: copy them.

    Raises:
        OSError: it can't be read, or is cut.
        ValueError: it is no such checkpoint.
    """
    content = _opened(path)
    names = [name for name in _ENCODERS if isinstance(content, dict) and name in content]
    if not names:
        raise ValueError(f"{path}: has no {' and no '.join(_ENCODERS)}, so it is not V-JEPA 2.1")
    weights = _tensors(path, content[names[0]])
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
    """What `torch.save` wrote to `path`, provided that it is tensors and plain values."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as exc:
        raise OSError(f"{path}: cut, or not written by torch.save; copy it again") from exc
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path}: compressed, as torch.save never does")
    if sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")) > _MAX_PICKLE:
        raise ValueError(f"{path}: more than {_MAX_PICKLE >> 20} MB of pickle; it was not opened")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as exc:  # its text says how to run the code
        raise ValueError(f"{path}: has more than tensors in it; it was not opened") from exc
    except Exception as exc:  # a hostile pickle raises what it likes
        raise OSError(f"{path}: damaged ({type(exc).__name__}); copy it again") from exc


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """`state`, checked, without the prefixes of the modules that it was trained in."""
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
            and tensor.is_contiguous()  # so no larger than the file
        ):
            raise ValueError(f"{path}: {name!r} is no plain tensor of weights")
        weights[name.removeprefix("module.").removeprefix("backbone.")] = tensor
    if len(weights) != len(state):
        raise ValueError(f"{path}: two weights of one name")
    return weights

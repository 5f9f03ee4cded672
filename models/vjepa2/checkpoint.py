"""Finds, pins, checks and loads the weights of a V-JEPA 2 encoder. Needs torch and transformers.

    folder, hub id or .pt file -> spec that pins it -> VideoTransformer with its weights

Folders and hub ids hold V-JEPA 2.0 as transformers saves it, the model alone or a classifier with
it, in one safetensors file or several. A `.pt` file is V-JEPA 2.0 or 2.1 as
facebookresearch/vjepa2 publishes it: the state of a training run, of which only the encoder is
read. From it only tensors and plain values are unpickled, never code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import VJEPA2Config

from models.files import sha256
from models.hub import is_commit
from models.schema import EncoderSpec
from models.vjepa2.model import Shape, Version, VideoTransformer
from models.vjepa2.preprocess import resized_short_side
from models.vjepa2.source import Source, locate
from models.vjepa2.state_dicts import converted

_KINDS = ("vjepa2", "vjepa2-tokens")
_ENCODER = "encoder."  # how the names of the encoder's tensors begin in a folder, ...
CLASSIFIED = "vjepa2."  # ... and before that in the folder of a classifier

# Attention heads by width, which a .pt file does not contain: vit_base, vit_large, vit_huge,
# vit_giant_xformers and vit_gigantic_xformers of src/models/vision_transformer.py (2.0) and
# app/vjepa_2_1/models/vision_transformer.py.
_HEADS: dict[Version, dict[int, int]] = {
    "2.0": {1024: 16, 1280: 16, 1408: 22},
    "2.1": {768: 12, 1024: 16, 1408: 22, 1664: 26},
}
# The encoder's moving average, which is the published one. By src/hub/backbones.py it has the first
# name in 2.1's B and L, the second in the others. A run without one has the last.
_ENCODERS = ("ema_encoder", "target_encoder", "encoder")
_MAX_PICKLE = 16 * 2**20  # bytes of names and sizes; G's whole training run has less than 1 MB
_MAX_INDEX = 16 * 2**20  # bytes of the list of a checkpoint's shards


def vjepa2_spec(
    source: str, *, kind: str = "vjepa2", frames: int = 16, fps: float = 8.0, revision: str = ""
) -> EncoderSpec:
    """The spec of the checkpoint `source`: a folder, a file, or a hub id like owner/name@revision.

    The spec pins its present content: a folder or file by SHA-256, a hub id by its commit.

    Raises:
        OSError: no such folder, file or hub id, or the hub can't be reached.
        ValueError: not a V-JEPA 2 checkpoint, or it does not take `frames`.
    """
    found = locate(source, revision, weights=False)
    shape, crop, pin = _inspect(found)
    spec = EncoderSpec(
        kind=kind,
        source=found.name,
        revision=pin,
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
    found = locate(spec.source, spec.revision)
    shape, crop, revision = _inspect(found)
    # A bundle that holds files of a hub's commit has checked them itself.
    of_hub = is_commit(spec.revision) and Path(spec.source).is_absolute()
    if revision != spec.revision and not of_hub:
        raise ValueError(f"{found.name}: not the checkpoint that the model was trained with")
    _check_fits(spec, shape, crop)
    if found.path.is_file():
        _, mapped = read_checkpoint_file(found.path)  # copied, since the file may change
        weights = {name: weight.to(dtype, copy=True) for name, weight in mapped.items()}
    else:
        weights = read_tensors(found.path, _encoder_name, dtype)
    try:
        state_dict = converted(weights, shape)
    except ValueError as exc:
        raise ValueError(f"{spec.source}: {exc}") from exc
    side = crop // shape.patch
    return VideoTransformer.loaded(state_dict, shape, (spec.frames // shape.tubelet, side, side))


def _encoder_name(name: str) -> str | None:
    """What a folder's tensor `name` is called within the encoder; None: it is of another part."""
    name = name.removeprefix(CLASSIFIED)
    return name.removeprefix(_ENCODER) if name.startswith(_ENCODER) else None


def _inspect(found: Source) -> tuple[Shape, int, str]:
    """The checkpoint's shape, its crop (px) and its revision."""
    if found.path.is_file():
        shape, _ = read_checkpoint_file(found.path)
        return shape, _crop(found.path, shape), f"sha256:{sha256(found.path)}"
    config = read_config(found)
    return Shape.of(config), config.crop_size, found.commit or _fingerprint(found.path)


def read_config(found: Source) -> VJEPA2Config:
    """The `config.json` of a checkpoint's folder.

    Raises:
        OSError: it can't be read.
        ValueError: there is none, or none of V-JEPA 2.
    """
    file = found.path / "config.json"
    if not file.is_file():
        raise ValueError(f"{found.name}: no config.json in it, so it is no V-JEPA 2 checkpoint")
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        model_type = fields.get("model_type")
    except (ValueError, RecursionError, AttributeError) as exc:
        raise ValueError(f"{found.name}: its config.json is no JSON object") from exc
    if model_type != VJEPA2Config.model_type:
        raise ValueError(f"{found.name}: a checkpoint of type {model_type!r}, not of V-JEPA 2")
    try:
        config: VJEPA2Config = VJEPA2Config.from_dict(fields)
    except Exception as exc:  # it checks each field, by exceptions of several libraries
        raise ValueError(f"{found.name}: its config.json: {_one_line(exc)}") from exc
    return config


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


def read_tensors(
    folder: Path, rename: Callable[[str], str | None], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Those tensors in a folder's safetensors files that `rename` gives a name, in `dtype`.

    Raises:
        OSError: a file is missing, cut or damaged.
        ValueError: there are no weights, or a tensor is not of floating point.
    """
    tensors = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():
                    if (ours := rename(name)) is None:
                        continue
                    tensor = stored.get_tensor(name)
                    if not tensor.is_floating_point():
                        raise ValueError(f"{file}: {name} is {tensor.dtype}, not floating point")
                    tensors[ours] = tensor.to(dtype, copy=True)  # mapped: the file may change
        except SafetensorError as exc:
            raise OSError(f"{file}: cut or damaged ({_one_line(exc)}); copy it again") from exc
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    """The files in which transformers would look for the weights."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise ValueError(f"{folder}: has no model.safetensors; pickled weights are never opened")
    if index.stat().st_size > _MAX_INDEX:
        raise ValueError(f"{index}: more than {_MAX_INDEX >> 20} MB of names")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"{index}: lists no files of weights") from exc
    for file in files:
        if file.parent != folder or not file.is_file():
            raise OSError(f"{file}: missing, though {index.name} lists it")
    return files


def _fingerprint(folder: Path) -> str:
    """One SHA-256 over the config and the weights in `folder`."""
    total = hashlib.sha256()
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{folder}: no .safetensors file in it, so it is no checkpoint")
    for file in [folder / "config.json", *weights]:
        total.update(f"{file.name} {sha256(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _one_line(exc: BaseException) -> str:
    """An error of a library, which may have several lines, as one."""
    return " ".join(str(exc).split())[:300] or repr(exc)


def read_checkpoint_file(path: Path) -> tuple[Shape, dict[str, Tensor]]:
    """The shape and weights of the encoder in the `.pt` file `path`. They are mapped: copy them.

    Raises:
        OSError: it can't be read, or is cut.
        ValueError: it is no such checkpoint.
    """
    content = _opened(path)
    names = [name for name in _ENCODERS if isinstance(content, dict) and name in content]
    if not names:
        raise ValueError(
            f"{path}: has no {', '.join(_ENCODERS[:-1])} or {_ENCODERS[-1]}, so it is not V-JEPA 2"
        )
    weights = _tensors(path, content[names[0]])
    version: Version = "2.1" if "video_mod_embed" in weights else "2.0"
    for name in ("patch_embed.proj.bias", "blocks.0.mlp.fc1.bias"):
        if name not in weights or weights[name].ndim != 1:
            raise ValueError(f"{path}: the checkpoint lacks {name}, or it is no bias")
    width, hidden = len(weights["patch_embed.proj.bias"]), len(weights["blocks.0.mlp.fc1.bias"])
    heads = _HEADS[version]
    if width not in heads:
        raise ValueError(
            f"{path}: {width} features; V-JEPA {version} has {', '.join(map(str, heads))}"
        )
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    shape = Shape(width=width, depth=depth, heads=heads[width], hidden=hidden, version=version)
    return shape, weights


def _crop(path: Path, shape: Shape) -> int:
    """The crop (px) of a `.pt` file: its `crop_size`, which no published file states.

    All of 2.1 are for 384 px. Of 2.0 only vitg-384.pt is, the others are for 256.
    """
    stated = _opened(path).get("crop_size")
    if isinstance(stated, int) and stated > 0:
        return stated
    return 384 if shape.version == "2.1" or "384" in path.stem else 256


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

"""Finds, pins, checks and loads the weights of a V-JEPA 2 encoder. Needs torch and transformers.

folder or hub id -> spec that pins it -> VideoTransformer with its weights
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import VJEPA2Config, VJEPA2Model

from models.preprocess import resized_short_side
from models.schema import EncoderSpec
from models.state_dicts import converted
from models.video_transformer import Shape, VideoTransformer

KINDS = ("vjepa2", "vjepa2-tokens")


def vjepa2_spec(
    source: str, *, kind: str = "vjepa2", frames: int = 16, fps: float = 8.0, revision: str = ""
) -> EncoderSpec:
    """The spec of the checkpoint `source`: a folder, or a hub id with an optional `revision`.

    The spec pins what is there now: a folder by the SHA-256 of its files, a hub id by its commit.

    Raises:
        OSError: no such folder or hub id.
        ValueError: not a V-JEPA 2 checkpoint, or it does not take `frames`.
    """
    folder = _folder(source)
    config = _config(source, folder, revision)
    if folder is not None:
        source, revision = str(folder), _fingerprint(folder)
    else:
        revision = getattr(config, "_commit_hash", None) or revision
        if not revision:
            raise ValueError(f"{source}: the hub tells no commit; give a revision to pin")
    spec = EncoderSpec(
        kind=kind,
        source=source,
        revision=revision,
        dim=config.hidden_size,
        frames=frames,
        fps=fps,
        short_side=resized_short_side(config.crop_size),
    )
    _check_fits(spec, config)
    return spec


def load_weights(spec: EncoderSpec, dtype: torch.dtype) -> VideoTransformer:
    """The encoder that `spec` pins, for clips of its size, on the CPU.

    Raises:
        OSError: the checkpoint is not there, or is cut.
        ValueError: it is not the one that `spec` pins, or does not fit it.
    """
    folder = _folder(spec.source)
    config = _config(spec.source, folder, spec.revision)
    _check_fits(spec, config)
    if folder is not None and _fingerprint(folder) != spec.revision:
        raise ValueError(f"{folder}: not the checkpoint that the model was trained with")
    return _load(spec, folder, dtype)


def _folder(source: str) -> Path | None:
    """The checkpoint's folder, or None for a hub id ("owner/name")."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise FileNotFoundError(f"{source}: no such folder, and not a hub id like owner/name")
    return None


def _config(source: str, folder: Path | None, revision: str) -> VJEPA2Config:
    if folder is not None and not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json in it, so it is no V-JEPA 2 checkpoint")
    where = str(folder or source)
    pinned: dict[str, Any] = {} if folder is not None or not revision else {"revision": revision}
    try:
        found, _ = VJEPA2Config.get_config_dict(where, **pinned)
        kind = found.get("model_type")
        if kind != VJEPA2Config.model_type:
            raise ValueError(f"{where}: a checkpoint of type {kind!r}, not of V-JEPA 2")
        return VJEPA2Config.from_pretrained(where, **pinned)
    except OSError as exc:
        raise OSError(f"{where}: can't read its config: {_line(exc)}") from exc


def _check_fits(spec: EncoderSpec, config: VJEPA2Config) -> None:
    """The model would take all of these without a word, and answer wrongly."""
    if spec.kind not in KINDS:
        raise ValueError(f"no V-JEPA 2 encoder of kind {spec.kind!r}; there are {', '.join(KINDS)}")
    if spec.frames % config.tubelet_size:
        raise ValueError(
            f"V-JEPA 2 takes frames by {config.tubelet_size}: {spec.frames} would lose the last"
        )
    if not isinstance(config.patch_size, int) or config.crop_size % config.patch_size:
        raise ValueError(f"crop_size {config.crop_size} is no multiple of {config.patch_size}")
    want = (config.hidden_size, resized_short_side(config.crop_size))
    if (spec.dim, spec.short_side) != want:
        raise ValueError(
            f"{spec.source} has dim and short_side {want}, not {(spec.dim, spec.short_side)}"
        )


def _load(spec: EncoderSpec, folder: Path | None, dtype: torch.dtype) -> VideoTransformer:
    where = str(folder or spec.source)
    pinned: dict[str, Any] = {} if folder is not None else {"revision": spec.revision}
    loader: Any = VJEPA2Model
    try:
        model, report = loader.from_pretrained(
            where,
            dtype=dtype,
            use_safetensors=True,  # never a pickle
            output_loading_info=True,
            **pinned,
        )
    except (OSError, RuntimeError, SafetensorError) as exc:
        raise OSError(f"{where}: can't load its weights: {_line(exc)}") from exc
    lost = [key for key in report["missing_keys"] if key.startswith("encoder.")]
    if lost or report["mismatched_keys"]:
        raise ValueError(f"{where}: weights are missing or of another shape ({len(lost)} missing)")
    shape = Shape.of(model.config)
    side = model.config.crop_size // shape.patch
    lean = VideoTransformer(shape, (spec.frames // shape.tubelet, side, side))
    lean.load_state_dict(converted(model.encoder.state_dict(), shape), assign=True)
    return lean.to(dtype).eval().requires_grad_(False)


def _fingerprint(folder: Path) -> str:
    """One SHA-256 over the config and the weights in `folder`."""
    total = hashlib.sha256()
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{folder}: no .safetensors file in it, so it is no checkpoint")
    for file in [folder / "config.json", *weights]:
        with file.open("rb") as stream:
            total.update(
                f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode()
            )
    return f"sha256:{total.hexdigest()}"


def _line(exc: BaseException) -> str:
    """The first line of an error of transformers, which are long."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), repr(exc))

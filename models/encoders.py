"""Opens the encoder that a bundle or a command names. Imports only what that encoder needs.

    EncoderSpec + the bundle's encoder files -> [encoders] -> an open `Encoder`

The landmark encoder runs without torch; V-JEPA 2 is imported when a bundle needs it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from models.bundle import ENCODER, Bundle
from models.schema import Encoder, EncoderSpec, Resize
from models.vjepa2.graph_engine import WAYS, GraphVariant
from models.vjepa2.source import locate

KINDS = ("landmarks", "vjepa2", "vjepa2-tokens")
_PATCH = 16  # px, of all published V-JEPA 2
_MOST_THREADS = 4  # of the landmark encoder: event loop and decoders need the interpreter, too


def open_encoder(
    spec: EncoderSpec,
    device: str = "auto",
    *,
    graphs: Sequence[GraphVariant] = (),
    max_new_frames: int | None = None,
    batch: int | None = None,
) -> Encoder:
    """The encoder that `spec` describes, on `device` ("auto", "cpu", "cuda", "cuda:N").

    `graphs`: see `graph_variants`; a CPU takes the fastest of them. Without any, the weights are
    run by torch: the same features on each machine.
    `max_new_frames` bounds the frames that the landmark encoder processes for one clip, so that a
    slow machine catches up; None: every frame. With a bound the encoder is taken to serve many
    streams, and processes several at once, one a core.
    `batch`: the size to which batches are padded; None: batches run as they are. Rounding depends
    on the shape, so with it a clip's features are bit-identical whatever else is in its batch.

    Raises:
        ValueError: no such kind or device, a package is missing, or the weights do not fit `spec`.
        OSError: the weights are not there.
    """
    if spec.kind == "landmarks":
        from models.landmarks.encoder import LandmarkEncoder

        live = max_new_frames is not None
        threads = min(os.cpu_count() or 1, _MOST_THREADS) if live else 1
        return LandmarkEncoder(spec, threads=threads, max_new_frames=max_new_frames)
    if spec.kind in ("vjepa2", "vjepa2-tokens"):
        from models.vjepa2.encoder import VJEPA2Encoder

        return VJEPA2Encoder.open(spec, device, graphs, batch)
    raise ValueError(f"no encoder of kind {spec.kind!r}; there are {', '.join(KINDS)}")


def graph_variants(bundle: Bundle) -> tuple[GraphVariant, ...]:
    """The graphs in `bundle` that a CPU may run its encoder by.

    Variants are left out where the card's `metrics.graphs` says `"taken": false`: their features
    differ too much from those of the weights.
    """
    listed = bundle.card["metrics"].get("graphs")
    figures = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    refused = [one.get("name") for one in figures if one.get("taken") is False]
    variants = [GraphVariant.of(way, bundle.path / ENCODER) for way in WAYS if way not in refused]
    return tuple(variant for variant in variants if variant.file.name in bundle.encoder_files)


def devices(spec: EncoderSpec, name: str) -> list[str]:
    """The devices on which `spec`'s encoder is opened for `name`: every GPU for "cuda".

    More than one only for encoders that keep no state between the clips of a stream.
    """
    if name != "cuda" or "landmarks" in spec.kind.split("+"):
        return [name]
    try:
        import torch
    except ModuleNotFoundError:
        return [name]  # opening the encoder raises the clear error
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or [name]


def encoder_spec(
    name: str, frames: int | None, fps: float | None, resize: Resize = "fast"
) -> EncoderSpec:
    """The spec of "landmarks", "vjepa2:SOURCE" or "vjepa2-tokens:SOURCE" with its usual window.

    SOURCE: see `models.vjepa2.source`. What is not there is told before torch loads.

    Raises:
        ValueError, OSError: there is no such encoder.
    """
    kind, _, source = name.partition(":")
    if kind == "landmarks" and not source:
        from models.landmarks.encoder import landmark_spec

        if resize == "exact":
            raise ValueError("--resize exact is V-JEPA 2's rule; landmarks have none")
        spec = landmark_spec()
    elif kind in ("vjepa2", "vjepa2-tokens") and source:
        found = locate(source, weights=False)
        from models.vjepa2.checkpoint import vjepa2_spec  # torch

        frames = 16 if frames is None else frames
        spec = vjepa2_spec(found.name, kind=kind, frames=frames, revision=found.commit)
    else:
        raise ValueError(
            f"no encoder {name!r}; give landmarks, vjepa2:SOURCE or vjepa2-tokens:SOURCE"
        )
    frames, fps = frames or spec.frames, fps or spec.fps
    return dataclasses.replace(spec, frames=frames, fps=fps, resize=resize)


def window_steps(spec: EncoderSpec) -> int:
    """How many rows of features a window has."""
    if spec.kind == "landmarks":
        return spec.frames
    times = max(1, spec.frames // 2)
    # The crop is to the short side as 224 to 256, in whole patches.
    side = round(spec.short_side * 224 / 256 / _PATCH)
    return times * side**2 if spec.kind == "vjepa2-tokens" else times

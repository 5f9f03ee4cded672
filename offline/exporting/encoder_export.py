"""A V-JEPA 2 encoder -> its files in a bundle: the checkpoint, and graphs that run without torch.

checkpoint -> float32.onnx, int8.onnx -> each variant compared with torch on real clips -> files
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.bundle import ENCODER, IN_BUNDLE
from models.onnx_file import with_metadata, write_int8
from models.schema import EncoderSpec
from models.vjepa2.checkpoint import load_weights
from models.vjepa2.graph_engine import (
    FLOAT32,
    INT8,
    WAYS,
    GraphVariant,
    has_bfloat16,
    installed_runtimes,
    spare_cores,
)
from models.vjepa2.model import PictureEncoder
from models.vjepa2.source import locate
from offline.exporting.onnx_metadata import encoder_metadata
from offline.exporting.parity import Agreement, Logits, compare, crop_clips


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderParts:
    """The files of an encoder that a bundle is to have."""

    parts: str  # both, graph or weights: a GPU runs the weights, a CPU the graph
    int8: str | None  # the graph in 8 bits: added if "agreeing" on the first five classes, "anyway"
    index: Path | None  # the graphs are compared with torch on its videos
    clips: int  # number of them

    def __post_init__(self) -> None:
        if self.int8 and self.parts == "weights":
            raise ValueError("--int8 is a graph: give --with-encoder both or graph")
        if self.int8 and self.index is None:
            raise ValueError("--int8 is compared with torch on real clips: give --index INDEX.csv")
        if self.index is not None and not self.index.is_file():
            raise ValueError(f"--index {self.index}: no such file")


def export_encoder(
    spec: EncoderSpec, wanted: EncoderParts, folder: Path, head: nn.Module | None
) -> tuple[dict[str, bytes | Path], str, list[Agreement]]:
    """Write the graphs of `spec` to `folder`, and compare them with torch.

    A line is printed for each. A graph whose features make `head` name another first five than
    torch's is left out, and a line says so.

    Returns:
        All files that a bundle of `spec` needs, the source for its card, and the comparisons.

    Raises:
        ValueError: no V-JEPA 2, a graph differs from torch, or too few clips can be read.
        OSError: the checkpoint is not there, or the disk has no room.
    """
    if not spec.kind.startswith("vjepa2"):
        raise ValueError(f"--with-encoder: a {spec.kind} encoder comes with livegloss")
    # Files are copied into the bundle; int8 has a quarter of the size, twice.
    content = _checkpoint_files(spec)
    size = sum(file.stat().st_size for file in content)
    need = size * {"weights": 1, "graph": 2, "both": 3}[wanted.parts]
    need += size // 2 if wanted.int8 else 0
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(f"{folder.parent}: {need / 1e6:.0f} MB are needed, {free / 1e6:.0f} are free")
    files: list[Path] = []
    source = f"{IN_BUNDLE}{ENCODER}"
    agreements: list[Agreement] = []
    if wanted.parts != "graph":
        files += content
        if len(content) == 1:
            source += f"/{files[0].name}"
    if wanted.parts != "weights":
        graphs, agreements = _write_graphs(spec, wanted, folder, head)
        files += graphs
    named: dict[str, bytes | Path] = {f"{ENCODER}/{file.name}": file for file in files}
    return named, source, agreements


def _checkpoint_files(spec: EncoderSpec) -> list[Path]:
    """The files of the checkpoint that `spec` pins: one `.pt`, or config and weights."""
    path = locate(spec.source, spec.revision).path
    if path.is_file():
        return [path]
    return [path / "config.json", *sorted(path.glob("*.safetensors*"))]


def _write_graphs(
    spec: EncoderSpec, wanted: EncoderParts, folder: Path, head: nn.Module | None
) -> tuple[list[Path], list[Agreement]]:
    """The graphs' files, without int8 if it is left out, and how all variants compare."""
    encoder, reference = reference_features(spec, wanted.index, wanted.clips)
    files = encoder.export(folder / FLOAT32)
    crop, steps = encoder.model.video_size[-1], reference.features.shape[1]
    stamped = with_metadata(files[0].read_bytes(), encoder_metadata(spec, crop, steps))
    files[0].write_bytes(stamped)  # not its weights, if they lie in a second file
    del encoder, stamped  # ViT-g has 4 GB
    variants = [GraphVariant.of(name, folder) for name in WAYS]
    agreements = compare_graphs([v for v in variants if v.precision != "int8"], reference, head)
    if head is not None and not reference.real:
        print("no clips to compare predictions on: give --index INDEX.csv", flush=True)
    if wanted.int8:
        int8_files = write_int8(folder / FLOAT32, folder / INT8)
        int8, anyway = [v for v in variants if v.precision == "int8"], wanted.int8 == "anyway"
        found = compare_graphs(int8, reference, head, anyway=anyway)
        agreements += found
        if any(agreement.taken for agreement in found):
            files += int8_files
    for agreement in agreements:
        if agreement.taken:
            continue
        why = f"its features are unlike torch's, cosine {agreement.cosine:.5f}"
        if (alike := agreement.same_but_ties) is not None and alike < (count := agreement.clips):
            why = f"it names another first five than torch in {count - alike} of {count} clips"
        hint = "; --int8 anyway takes it" if agreement.name.endswith("int8") else ""
        print(f"{agreement.name} is left out: {why}{hint}", flush=True)
    return files, agreements


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFeatures:
    """Clips (T, H, W, C) and torch's features of them (N, S, D)."""

    clips: Sequence[NDArray[np.uint8]]
    features: NDArray[np.float32]
    real: bool  # False: of noise, which shows a wrong graph, but means nothing to a head


@torch.inference_mode()
def reference_features(
    spec: EncoderSpec, index: Path | None, count: int
) -> tuple[PictureEncoder, ReferenceFeatures]:
    """The encoder of `spec` in torch, float32 on the CPU, and its features of clips of `index`.

    Without an index they are of noise.

    Raises:
        ValueError, OSError: the weights are not there or don't fit, or too few clips can be read.
    """
    encoder = PictureEncoder(load_weights(spec, torch.float32), pooled=spec.kind == "vjepa2").eval()
    times, channels, crop, _ = encoder.model.video_size
    if index is not None:
        clips = crop_clips(index, spec, crop, count)
    else:
        size = times, crop, crop, channels
        clips = [np.random.default_rng(0).integers(0, 256, size, np.uint8)]
    features = np.concatenate([encoder(torch.from_numpy(clip)[None]).numpy() for clip in clips])
    return encoder, ReferenceFeatures(clips=clips, features=features, real=index is not None)


def compare_graphs(
    variants: Sequence[GraphVariant],
    reference: ReferenceFeatures,
    head: nn.Module | None,
    *,
    anyway: bool = False,
    show: Callable[[Agreement], str] = Agreement.line,
) -> list[Agreement]:
    """Those of `variants` that this machine can run, compared with torch; what `show` makes of each
    is printed.

    `head` classifies the features; `anyway`: take them even if their first five classes differ.

    Raises:
        ValueError: one differs by more than its precision explains.
    """
    logits = _logits(head) if head is not None and reference.real else None
    agreements = []
    for variant in variants:
        missing = variant.runtime not in installed_runtimes()
        if missing or (variant.precision == "bfloat16" and not has_bfloat16()):
            continue
        clips, features = reference.clips, reference.features
        found = compare(variant, clips, features, logits, spare_cores(), anyway=anyway)
        print(show(found), flush=True)
        agreements.append(found)
    return agreements


def _logits(head: nn.Module) -> Logits:
    @torch.inference_mode()
    def logits(features: NDArray[np.float32]) -> NDArray[np.float32]:
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
        return np.asarray(head(torch.from_numpy(features), mask)[0])

    return logits

"""A V-JEPA 2 encoder -> its files in a bundle: the checkpoint, and graphs that run without torch.

checkpoint -> float32.onnx, int8.onnx -> each held against torch on real clips -> [export]
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.bundle import ENCODER, IN_BUNDLE
from models.schema import EncoderSpec
from models.vjepa2.checkpoint import load_weights
from models.vjepa2.export import write_encoder, write_int8
from models.vjepa2.graph import (
    FLOAT32,
    INT8,
    WAYS,
    GraphVariant,
    has_bfloat16,
    runtimes,
    spare_cores,
)
from models.vjepa2.model import PictureEncoder
from models.vjepa2.rounding import Rounded, rounded_weights
from offline.exporting.parity import Agreement, Logits, compare
from offline.exporting.real_clips import read_clips

PARTS = ("both", "graph", "weights")
INT8_IF = ("agreeing", "anyway")
_CALIBRATING = 32  # clips at most


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderParts:
    """What of an encoder a bundle shall hold."""

    parts: str = "both"  # one of PARTS: a GPU takes the weights, a CPU the graph
    int8: bool = False
    index: Path | None = None  # whose videos calibrate int8 and check the graphs
    clips: int = 32  # so many check, and as many others calibrate, but 32 at most
    anyway: bool = False  # int8 even where it names other classes than torch

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise ValueError(f"--with-encoder takes {', '.join(PARTS)}, not {self.parts!r}")
        if self.clips < 1:
            raise ValueError("--clips must be at least 1")
        if self.int8 and self.parts == "weights":
            raise ValueError("--int8 is a graph: give --with-encoder both or graph")
        if self.int8 and self.index is None:
            raise ValueError(
                "--int8 is calibrated on real clips: give --calibrate INDEX.csv, the index of "
                "offline.encode whose videos the head was trained on"
            )
        if self.index is not None and not self.index.is_file():
            raise ValueError(f"--calibrate {self.index}: no such file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedEncoder:
    """Files for `models.bundle.write_bundle`, the card's source, and how the graphs compare."""

    files: dict[str, bytes | Path]
    source: str
    agreements: list[Agreement]


def export_encoder(
    spec: EncoderSpec, wanted: EncoderParts, folder: Path, head: nn.Module | None
) -> ExportedEncoder:
    """Write the graphs of `spec` to `folder`, and name all files that a bundle of it needs.

    Prints how each graph compares with torch. `head`: takes the features. What names another first
    five than it does for torch's is left out, and a line says so.

    Raises:
        ValueError: no V-JEPA 2, a graph differs from torch, or there are no clips for int8.
        OSError: the checkpoint is not there, or there is no room.
    """
    if not spec.kind.startswith("vjepa2"):
        raise ValueError(f"--with-encoder: a {spec.kind} encoder comes with livegloss")
    _check_room(spec, wanted, folder)
    files: dict[str, bytes | Path] = {}
    source = f"{IN_BUNDLE}{ENCODER}"
    agreements: list[Agreement] = []
    if wanted.parts != "graph":
        weights = _weights(spec.source)
        files |= {f"{ENCODER}/{file.name}": file for file in weights}
        if Path(spec.source).is_file():
            source += f"/{weights[0].name}"
    if wanted.parts != "weights":
        written, agreements = _graphs(spec, wanted, folder, head)
        files |= {f"{ENCODER}/{file.name}": file for file in written}
    return ExportedEncoder(files=files, source=source, agreements=agreements)


def _weights(source: str) -> list[Path]:
    """The files of a checkpoint that is a folder or a file."""
    path = Path(source)
    if path.is_file():
        return [path]
    found = [path / "config.json", *sorted(path.glob("*.safetensors*"))]
    if not path.is_dir() or not all(file.is_file() for file in found):
        raise ValueError(f"--with-encoder: {source} is no folder with a checkpoint in it")
    return found


def _graphs(
    spec: EncoderSpec, wanted: EncoderParts, folder: Path, head: nn.Module | None
) -> tuple[list[Path], list[Agreement]]:
    encoder = torch_encoder(spec)
    *_, crop, _ = encoder.model.video_size
    calibrating: Sequence[NDArray[np.uint8]] = []
    clips: Sequence[NDArray[np.uint8]] = []
    if wanted.index is not None:
        some = min(wanted.clips, _CALIBRATING) if wanted.int8 else 0
        clips = read_clips(wanted.index, spec, crop, some + wanted.clips)
        calibrating, clips = clips[:some], clips[some:]
    files = write_encoder(encoder, folder / FLOAT32)
    layers = rounded_weights(encoder, calibrating) if wanted.int8 else []
    asked = answers_by_torch(encoder, clips)
    del encoder
    ways = [GraphVariant.of(way, folder) for way in WAYS]
    agreements = compare_graphs([way for way in ways if way.precision != "int8"], asked, head)
    if head is not None and not asked.real:
        print("no clips to compare answers on: give --calibrate INDEX.csv", flush=True)
    if layers:
        eighth, told = _int8(layers, folder, asked, head, anyway=wanted.anyway)
        files += eighth
        agreements += told
    for one in agreements:
        if not one.taken:
            print(_refusal(one), flush=True)
    return files, agreements


def _int8(
    layers: Sequence[Rounded],
    folder: Path,
    asked: ReferenceAnswers,
    head: nn.Module | None,
    *,
    anyway: bool,
) -> tuple[list[Path], list[Agreement]]:
    """The graph in 8 bits: the faster kind if it names the classes that torch names, or the other.

    No file where neither does. The figures are those of the kind that was tried last.
    """
    ways = [
        way for way in (GraphVariant.of(way, folder) for way in WAYS) if way.precision == "int8"
    ]
    for inputs in (True, False):
        files = write_int8(folder / FLOAT32, layers, folder / INT8, inputs=inputs)
        agreements = compare_graphs(ways, asked, head, anyway=anyway)
        if all(one.taken for one in agreements):
            break
        if inputs:
            print("weights in 8 bits alone, which is slower:", flush=True)
    taken = any(one.taken for one in agreements)
    return files if taken else [], agreements


def _refusal(found: Agreement) -> str:
    way = "; --int8 anyway takes it" if found.name.endswith("int8") else ""
    why = f"its features are unlike torch's, cosine {found.cosine:.5f}"
    if found.same_but_ties is not None and found.same_but_ties < found.clips:
        other = found.clips - found.same_but_ties
        why = f"it names another first five than torch in {other} of {found.clips} clips"
    return f"{found.name} is left out: {why}{way}"


def torch_encoder(spec: EncoderSpec) -> PictureEncoder:
    """What the graphs of `spec` are made from, and held against: float32, on the CPU.

    Raises:
        ValueError, OSError: the weights are not there, or don't fit.
    """
    return PictureEncoder(load_weights(spec, torch.float32), pooled=spec.kind == "vjepa2").eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAnswers:
    """Clips (T, H, W, C), and torch's features of them (N, S, D)."""

    clips: Sequence[NDArray[np.uint8]]
    features: NDArray[np.float32]
    real: bool  # False: noise, which shows a wrong graph, but is nothing that a head knows


@torch.inference_mode()
def answers_by_torch(
    encoder: PictureEncoder, clips: Sequence[NDArray[np.uint8]]
) -> ReferenceAnswers:
    """What `encoder` says of `clips`; where there are none, of noise."""
    times, channels, crop, _ = encoder.model.video_size
    noise = np.random.default_rng(0).integers(0, 256, (times, crop, crop, channels), np.uint8)
    shown = clips or [noise]
    features = [encoder(torch.from_numpy(clip)[None]).numpy() for clip in shown]
    return ReferenceAnswers(clips=shown, features=np.concatenate(features), real=bool(clips))


def compare_graphs(
    ways: Sequence[GraphVariant],
    asked: ReferenceAnswers,
    head: nn.Module | None,
    *,
    anyway: bool = False,
) -> list[Agreement]:
    """Those of `ways` that this machine has, held against torch; a line for each is printed.

    `head`: takes the features; `anyway`: a graph in 8 bits may name other classes by it than torch.

    Raises:
        ValueError: one differs by more than its precision explains.
    """
    logits = _logits(head) if head is not None and asked.real else None
    agreements = []
    for way in ways:
        if way.runtime not in runtimes() or (way.precision == "bfloat16" and not has_bfloat16()):
            continue
        taken = anyway and way.precision == "int8"
        found = compare(way, asked.clips, asked.features, logits, spare_cores(), anyway=taken)
        print(found.line(), flush=True)
        agreements.append(found)
    return agreements


def _logits(head: nn.Module) -> Logits:
    @torch.inference_mode()
    def logits(features: NDArray[np.float32]) -> NDArray[np.float32]:
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
        found: NDArray[np.float32] = head(torch.from_numpy(features), mask)[0].numpy()
        return found

    return logits


def _check_room(spec: EncoderSpec, wanted: EncoderParts, folder: Path) -> None:
    """Raise OSError where the disk has no room for the files, and their copies in the bundle."""
    source = Path(spec.source)
    found = _weights(spec.source) if source.exists() else []
    size = sum(file.stat().st_size for file in found)
    need = size * {"weights": 1, "graph": 2, "both": 3}[wanted.parts]
    need += size // 2 if wanted.int8 else 0  # a quarter of it, twice
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(f"{folder.parent}: {need / 1e6:.0f} MB are needed, {free / 1e6:.0f} are free")

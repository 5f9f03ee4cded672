"""Writes recogniser bundles: of a trained head, of an encoder alone, of several bundles fused.

.pt + card -> ONNX [-> LiteRT] [+ encoder files], each compared with torch -> bundle
bundle + index of real clips -> every exported form compared with torch -> Agreements
"""

from __future__ import annotations

import io
import json
import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from models.bundle import Bundle, open_bundle, write_bundle
from models.card import BACKGROUND, CARD, FUSED, HEAD, NO_HEAD, spec_as_card, spec_from
from models.classifier import Classifier
from models.encoders import encoder_spec, graph_variants
from models.heads import HeadOutput
from models.onnx_file import write_onnx
from models.recognizer import Recognizer
from models.schema import EncoderSpec
from offline.data.examples import read_spec
from offline.exporting import web_runtime
from offline.exporting.encoder_export import (
    EncoderParts,
    compare_graphs,
    export_encoder,
    reference_features,
)
from offline.exporting.parity import (
    HEAD_FILES,
    HEAD_TOLERANCE,
    LITERT,
    Agreement,
    compare_head,
    read_windows,
)
from offline.training.checkpoint import load_checkpoint

_MORE = ("scores_by_source", "decoder", "decoder_by_source", "sentences")  # figures of a report
_NOT_IN_CARD = ("glosses", "classes", "files", "format")  # the bundle keeps them elsewhere


def export_trained(
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    report: Path | None = None,
    encoder_parts: EncoderParts | None = None,
    edge: bool = False,
) -> tuple[Bundle, float]:
    """Write the bundle of a trained head; also the largest difference between ONNX and torch.

    report: of `offline.evaluate --cross-validate`; its calibration and figures go into the card.

    Raises:
        ValueError: the head can't be read, an exported form differs from torch or can't be checked
            here, or the card makes no bundle.
        OSError: the encoder's files or onnxruntime-web are missing, or the disk is full.
    """
    checkpoint = load_checkpoint(model)
    head, trained = checkpoint.head, checkpoint.card
    spec = spec_from(trained["encoder"])
    if edge:  # checked before anything else is done
        if spec.kind == "vjepa2-tokens":
            raise ValueError("--edge is for a row a time step; this head takes thousands of tokens")
        if find_spec("ai_edge_litert") is None:
            raise ValueError('--edge needs ai_edge_litert: pip install "livegloss[edge]"')
        if (problem := web_runtime.missing()) is not None:
            raise OSError(problem)
    content = to_onnx(head, spec.dim)
    steps = spec.frames if spec.kind == "landmarks" else max(1, spec.frames // 2)
    difference = onnx_difference(head, content, spec.dim, steps)
    card = {key: value for key, value in trained.items() if key not in _NOT_IN_CARD}
    if report is not None:
        card |= _figures(report, card["metrics"])
    background = io.BytesIO()
    np.save(background, checkpoint.background.astype(np.float16))
    files: dict[str, bytes | Path] = {HEAD: content, BACKGROUND: background.getvalue()}
    if name:
        card["name"] = name
    if edge:
        files[LITERT], agreements = export_edge(head, content, spec.dim, steps)
        card["metrics"] = {**card["metrics"], "edge": [asdict(found) for found in agreements]}
    return _write(out, card, trained["glosses"], files, encoder_parts, head), difference


def _figures(report: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card that a report of `offline.evaluate` has figures for.

    Raises:
        ValueError: the file is no such report.
    """
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
        at, by_gloss = found["calibration"]["threshold"], found["scores"]["per_gloss"]
        return {
            "calibration": dict(found["calibration"]),
            "metrics": {
                **metrics,
                "cross_validation": {**found["scores"], **found["how"]},
                # Right in less than two of three clips of signers that it had not met.
                "weak": [
                    gloss for gloss, (right, clips) in by_gloss.items() if 3 * right < 2 * clips
                ],
                "live": [row for row in found["live"] if row["threshold"] == at],
                **{name: found[name] for name in _MORE if name in found},
            },
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError(f"{report}: no report of offline.evaluate: {exc!r}") from exc


def export_untrained(
    encoder: str,
    out: Path,
    hop_s: float,
    *,
    name: str | None = None,
    encoder_parts: EncoderParts | None = None,
) -> Bundle:
    """Write the bundle of an encoder alone.

    Raises:
        ValueError: there is no such encoder, or it makes no bundle.
        OSError: its files are missing, or the disk is full.
    """
    spec = encoder_spec(encoder, None, None)
    card = {
        **_new_card(name or f"untrained-{spec.kind}", spec, NO_HEAD, idle=True, hop_s=hop_s),
        "calibration": {"temperature": 1.0, "threshold": 0.5},
        "data": {"who": "Nobody: no head was trained"},
        "licence": "the encoder's own",
        "metrics": {},
    }
    return _write(out, card, [], {}, encoder_parts, None)


def write_fused(
    out: Path,
    name: str,
    parts: Sequence[Bundle],
    weights: Sequence[float],
    scores: dict[str, Any],
) -> Bundle:
    """Write the bundle that holds `parts` and their weights, as `models.fusion` opens it.

    Raises:
        ValueError, OSError: they make none, or the disk is full.
    """
    spec = fused_spec([part.encoder for part in parts])
    folders = [f"{n}-{part.encoder.kind}" for n, part in enumerate(parts, 1)]
    files: dict[str, bytes | Path] = {}
    for part, folder in zip(parts, folders, strict=True):
        files |= {f"{folder}/{file}": part.path / file for file in (CARD, *part.card["files"])}
    data = parts[0].card["data"]
    by_folder = dict(zip(folders, (part.card["data"] for part in parts), strict=True))
    first = data if isinstance(data, dict) else {}  # the page shows who is in the data
    alone = {part: figures for part, figures in scores.items() if part != "fused"}
    idle, hop_s = parts[0].idle, max(part.hop_s for part in parts)
    card = {
        **_new_card(name, spec, FUSED, idle=idle, hop_s=hop_s),
        "calibration": {"temperature": 1.0, "threshold": max(part.threshold for part in parts)},
        "data": {**first, "parts": by_folder},
        "licence": "; ".join(dict.fromkeys(part.card["licence"] for part in parts)),
        "metrics": {"kept_out": scores["fused"], "alone": alone} if scores else {},
        "fusion": [
            {"bundle": folder, "weight": weight, "encoder": part.card["encoder"]}
            for folder, weight, part in zip(folders, weights, parts, strict=True)
        ],
    }
    return write_bundle(out, card=card, glosses=parts[0].glosses, files=files)


def fused_spec(specs: Sequence[EncoderSpec]) -> EncoderSpec:
    """A window that holds those of all parts: the longest, at the highest rate, the largest."""
    fps = max(spec.fps for spec in specs)
    return EncoderSpec(
        kind="+".join(spec.kind for spec in specs),
        source="its parts",
        revision=" ".join(spec.revision for spec in specs),
        dim=sum(spec.dim for spec in specs),
        frames=math.ceil(max(spec.window_s for spec in specs) * fps - 1e-6),
        fps=fps,
        short_side=max(spec.short_side for spec in specs),
        resize=max((spec.resize for spec in specs), key=["fast", "exact"].index),
    )


def check_bundle(model: Path, path: Path, index: Path, count: int) -> list[Agreement]:
    """Compare every exported form in the bundle at `path` with torch, on `count` real clips.

    The head in all its runtimes on rows of the index, then the encoder's graphs on its videos. A
    line for each is printed.

    Raises:
        ValueError, OSError: they can't be compared, or a graph differs by more than rounding.
    """
    checkpoint, bundle = load_checkpoint(model), open_bundle(path)
    features, mask = read_windows(index, bundle.encoder, count)
    agreements = []
    for runtime, file in HEAD_FILES.items():
        if (bundle.path / file).is_file():
            found = compare_head(runtime, bundle.path, checkpoint.head, features, mask)
            print(found.line(), flush=True)
            agreements.append(found)
    if graphs := graph_variants(bundle):
        spec = read_spec(index)  # names the weights, which the bundle need not hold
        _, reference = reference_features(spec, index, count)
        agreements += compare_graphs(graphs, reference, checkpoint.head)
    return agreements


def to_onnx(head: nn.Module, dim: int) -> bytes:
    """`head` as one ONNX file: features (B, T, dim), mask (B, T) -> the head's `HeadOutput`."""
    features, mask = _sample(3, 9, dim, np.random.default_rng(0))
    inputs = {"features": features, "mask": mask}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / HEAD
        write_onnx(head, inputs, HeadOutput._fields, {0: "B", 1: "T"}, file)
        return file.read_bytes()


def onnx_difference(head: nn.Module, content: bytes, dim: int, steps: int) -> float:
    """The largest difference between ONNX and torch, over several batches, lengths and masks.

    Raises:
        ValueError: it is more than rounding explains.
    """
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(1)
    largest = 0.0
    for batch, length in ((1, steps), (4, steps), (2, 2 * steps + 3), (1, 1)):
        features, mask = _sample(batch, length, dim, draw)
        with torch.inference_mode():
            want = head(features, mask)
        got = session.run(None, {"features": features.numpy(), "mask": mask.numpy()})
        for a, b in zip(got, want, strict=True):
            difference = float(np.abs(a - b.numpy()).max())
            if not difference <= HEAD_TOLERANCE:
                raise ValueError(
                    f"ONNX and torch differ by {difference:.1e} for {batch} clips of {length} "
                    f"steps: more than {HEAD_TOLERANCE:.0e}, so nothing was written"
                )
            largest = max(largest, difference)
    return largest


def export_edge(
    head: nn.Module, content: bytes, dim: int, steps: int
) -> tuple[bytes, list[Agreement]]:
    """The LiteRT file of a head whose ONNX file is `content`, and how phones and pages run both.

    Prints a line for each.

    Raises:
        ValueError: one can't be made or run, or differs from torch.
    """
    from offline.exporting.litert import to_litert

    litert = to_litert(content, steps)
    features, mask = _sample(steps, steps, dim, np.random.default_rng(2))
    agreements = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, HEAD).write_bytes(content)
        Path(folder, LITERT).write_bytes(litert)
        for runtime in ("litert", "onnxruntime-web"):
            found = compare_head(runtime, Path(folder), head, features.numpy(), mask.numpy())
            print(found.line(), flush=True)
            if not found.agrees:
                raise ValueError(f"{found.line()}: more than rounding, so nothing was written")
            agreements.append(found)
    return litert, agreements


def _sample(
    batch: int, length: int, dim: int, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features, and a mask that pads each clip one step more than the clip before."""
    features = torch.from_numpy(draw.normal(size=(batch, length, dim)).astype(np.float32))
    lengths = torch.tensor([max(1, length - i) for i in range(batch)])
    return features, torch.arange(length)[None] < lengths[:, None]


def _new_card(
    name: str, spec: EncoderSpec, head: str, *, idle: bool, hop_s: float
) -> dict[str, Any]:
    """The fields of a card that no training has written."""
    return {
        "name": name,
        "encoder": spec_as_card(spec),
        "head": {"kind": head, "args": {}, "idle": idle},
        "window_s": spec.window_s,
        "hop_s": hop_s,
        "versions": {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(
    out: Path,
    card: dict[str, Any],
    glosses: Sequence[str],
    files: dict[str, bytes | Path],
    encoder_parts: EncoderParts | None,
    head: nn.Module | None,
) -> Bundle:
    """Write the bundle, with `encoder_parts` if given; the card says how its graphs compare."""
    if encoder_parts is None:
        return write_bundle(out, card=card, glosses=glosses, files=files, check=_check_opens)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    # Beside the bundle: /tmp is small on many machines, and a graph may have 4 GB.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as scratch:
        spec = spec_from(card["encoder"])
        encoder, source, agreements = export_encoder(spec, encoder_parts, Path(scratch), head)
        card = {**card, "encoder": {**card["encoder"], "source": source}}
        if agreements:
            graphs = [asdict(found) for found in agreements]
            card["metrics"] = {**card["metrics"], "graphs": graphs}
        files = {**files, **encoder}
        return write_bundle(out, card=card, glosses=glosses, files=files, check=_check_opens)


def _check_opens(bundle: Bundle) -> None:
    """Open `bundle` as the live half will: its head must fit its card, and so must its graphs."""
    if graph_variants(bundle):
        Recognizer.open(bundle.path, "cpu").close()
    elif bundle.head_path:
        Classifier(bundle, "cpu")

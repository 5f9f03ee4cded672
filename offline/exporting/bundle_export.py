"""Writes recogniser bundles: of a trained head, of an encoder alone, of several bundles fused.

.pt + card, or a video classifier of transformers
    -> ONNX [-> LiteRT] [+ encoder files], each compared with torch -> bundle
"""

from __future__ import annotations

import hashlib
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
from torch import nn

from models.bundle import Bundle, write_bundle
from models.card import BACKGROUND, CARD, FUSED, HEAD, NO_HEAD, spec_as_card, spec_from
from models.classifier import Classifier
from models.command_line import say
from models.encoders import encoder_spec, graph_variants, window_steps
from models.onnx_file import with_metadata
from models.recognizer import Recognizer
from models.schema import EncoderSpec
from models.vjepa2.source import locate
from offline.exporting import web_runtime
from offline.exporting.encoder_export import EncoderParts, export_encoder
from offline.exporting.head_export import export_edge, onnx_difference, to_onnx
from offline.exporting.onnx_metadata import head_metadata
from offline.exporting.parity import LITERT
from offline.exporting.video_classifier import has_head, read_video_classifier
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
    steps = window_steps(spec)
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


def export_classifier(
    source: str,
    out: Path,
    hop_s: float,
    *,
    frames: int | None = None,
    fps: float | None = None,
    name: str | None = None,
    encoder_parts: EncoderParts | None = None,
) -> tuple[Bundle, float]:
    """Write the bundle of a video classifier of transformers: its encoder and its own head.

    Labels that make no glosses are renamed, and each is printed. Also returns the largest
    difference between ONNX and torch.

    Raises:
        ValueError: `source` is no such classifier, or makes no bundle.
        OSError: its files are missing or damaged, or the disk is full.
    """
    found = locate(source)
    trained = read_video_classifier(found)
    pinned = f"{found.name}@{found.commit}" if found.commit else found.name
    spec = encoder_spec(f"vjepa2-tokens:{pinned}", frames or trained.frames, fps)
    for label, gloss in trained.renamed:
        say(f"label {label!r} is the gloss {gloss!r} in the bundle")
    content = to_onnx(trained.head, spec.dim)
    difference = onnx_difference(trained.head, content, spec.dim, window_steps(spec))
    card = {
        **_new_card(name or Path(found.name).name, spec, "attentive", idle=False, hop_s=hop_s),
        "calibration": {"temperature": 1.0, "threshold": 0.5},
        "data": {"who": "Not known here: the head came with the checkpoint", "source": found.name},
        "licence": "the checkpoint's own",
        "metrics": {},
    }
    card["head"]["args"] = trained.head.settings
    files: dict[str, bytes | Path] = {HEAD: content}
    return _write(out, card, trained.glosses, files, encoder_parts, trained.head), difference


def export_untrained(
    encoder: str,
    out: Path,
    hop_s: float,
    *,
    frames: int | None = None,
    fps: float | None = None,
    name: str | None = None,
    encoder_parts: EncoderParts | None = None,
) -> Bundle:
    """Write the bundle of an encoder alone.

    Raises:
        ValueError: there is no such encoder, or it makes no bundle.
        OSError: its files are missing, or the disk is full.
    """
    spec = encoder_spec(encoder, frames, fps)
    if spec.kind != "landmarks" and has_head(locate(spec.source, spec.revision, weights=False)):
        say(f"{spec.source} has a head of its own, which is left out; --classifier takes it")
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
    if isinstance(content := files.get(HEAD), bytes):
        # What the head computes names the space of taught signs: they outlive other metadata.
        digest = hashlib.sha256(content).hexdigest()
        card = {**card, "head": {**card["head"], "weights": digest}}
        files = {**files, HEAD: with_metadata(content, head_metadata(card, glosses))}
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

"""A trained head -> the bundle that the live half opens.

    python -m offline.export --model models/gloss_classifier_….pt --out bundles/mine
    python -m offline.export --encoder vjepa2:PATH --out bundles/untrained

    .pt + card -> ONNX with free batch and time axes -> held against torch -> bundle

The ONNX file must answer as torch does, for several lengths and with padding, or nothing is
written. `--with-encoder` puts a V-JEPA 2 checkpoint into the bundle, which then needs nothing else.
With `--encoder` instead of `--model` the bundle has no trained head: it knows what it is taught.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import platform
import sys
import tempfile
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from models.bundle import IN_BUNDLE, Bundle, write_bundle
from models.card import BACKGROUND, HEAD, NO_HEAD, spec_as_card, spec_from
from models.classifier import Classifier
from models.encoders import encoder_spec
from models.heads import Answer
from offline.checkpoint import load_checkpoint

_TOLERANCE = 1e-4  # of a logit; measured 1e-6
_ONLY_HERE = ("glosses", "classes", "files", "format")  # what the bundle keeps elsewhere


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the head can't be exported, and says why."""
    parser = argparse.ArgumentParser(
        prog="python -m offline.export", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="the .pt of offline.train, its .json beside it")
    what.add_argument("--encoder", help="landmarks or vjepa2:PATH, to be taught signs live")
    add("--out", type=Path, required=True, help="the bundle's folder")
    add("--name", help="the bundle's name (the card's)")
    add("--with-encoder", action="store_true", help="put the encoder's checkpoint into the bundle")
    add("--hop-s", type=float, default=0.1, help="seconds between windows, for --encoder")
    options = parser.parse_args(argv)
    how = {"name": options.name, "with_encoder": options.with_encoder}
    try:
        if options.encoder:
            bundle = export_untrained(options.encoder, options.out, options.hop_s, **how)
            print(json.dumps({"bundle": str(bundle.path), "name": bundle.name, "glosses": 0}))
            return 0
        bundle, difference = export(options.model, options.out, **how)
    except (ValueError, OSError) as exc:
        print(f"offline.export: {exc}", file=sys.stderr)
        return 2
    print(f"ONNX against torch: what it gives differs by at most {difference:.1e}")
    print(
        json.dumps(
            {
                "bundle": str(bundle.path),
                "name": bundle.name,
                "glosses": len(bundle.glosses),
                "idle": bundle.idle,
                "parity": difference,
                "head_bytes": (bundle.path / HEAD).stat().st_size,
            }
        )
    )
    return 0


def export(
    model: Path, out: Path, *, name: str | None = None, with_encoder: bool = False
) -> tuple[Bundle, float]:
    """Write the bundle and open it; also the largest difference between ONNX and torch.

    Raises:
        ValueError: the head can't be read, differs in ONNX, or its card makes no bundle.
        OSError: the encoder's files are not there.
    """
    checkpoint = load_checkpoint(model)
    head, trained = checkpoint.head, checkpoint.card
    spec = spec_from(trained["encoder"])
    content = to_onnx(head, spec.dim)
    steps = spec.frames if spec.kind == "landmarks" else max(1, spec.frames // 2)
    difference = parity(head, content, spec.dim, steps)
    card = {key: value for key, value in trained.items() if key not in _ONLY_HERE}
    files: dict[str, bytes | Path] = {HEAD: content, BACKGROUND: _npy(checkpoint.background)}
    if with_encoder:
        files |= _encoder_files(spec.source)
        card["encoder"] = {**card["encoder"], "source": f"{IN_BUNDLE}encoder"}
    if name:
        card["name"] = name
    bundle = write_bundle(out, card=card, glosses=trained["glosses"], files=files)
    Classifier(bundle, "cpu")  # as the live half will: the head must fit its card
    return bundle, difference


def export_untrained(
    encoder: str, out: Path, hop_s: float, *, name: str | None = None, with_encoder: bool = False
) -> Bundle:
    """Write a bundle of an encoder alone, and open it.

    Raises:
        ValueError: there is no such encoder, or it makes no bundle.
        OSError: its files are not there.
    """
    spec = encoder_spec(encoder, None, None)
    files = _encoder_files(spec.source) if with_encoder else {}
    source = {"source": f"{IN_BUNDLE}encoder"} if with_encoder else {}
    card = {
        "name": name or f"untrained-{spec.kind}",
        "encoder": {**spec_as_card(spec), **source},
        "head": {"kind": NO_HEAD, "args": {}, "idle": True},
        "window_s": spec.window_s,
        "hop_s": hop_s,
        "calibration": {"temperature": 1.0, "threshold": 0.5},
        "data": {"who": "Nobody: no head was trained"},
        "licence": "the encoder's own",
        "metrics": {},
        "versions": {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return write_bundle(out, card=card, glosses=[], files=files)


def _npy(rows: NDArray[np.float32]) -> bytes:
    """`rows` as the content of a .npy file, float16."""
    content = io.BytesIO()
    np.save(content, rows.astype(np.float16))
    return content.getvalue()


def to_onnx(head: nn.Module, dim: int) -> bytes:
    """`head` as one ONNX file: features (B, T, dim), mask (B, T) -> the head's `Answer`."""
    features, mask = _sample(3, 9, dim, np.random.default_rng(0))
    batch, time = torch.export.Dim("B"), torch.export.Dim("T")
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        quiet.setLevel(logging.ERROR)
        file = Path(folder) / HEAD
        try:
            torch.onnx.export(
                head.eval(),
                (features, mask),
                file,
                input_names=["features", "mask"],
                output_names=list(Answer._fields),
                dynamic_shapes=({0: batch, 1: time}, {0: batch, 1: time}),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        finally:
            quiet.setLevel(level)
        return file.read_bytes()


def parity(head: nn.Module, content: bytes, dim: int, steps: int) -> float:
    """The largest difference between ONNX and torch, over several batches, lengths and masks.

    Raises:
        ValueError: it is more than rounding explains.
    """
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(1)
    worst = 0.0
    for batch, length in ((1, steps), (4, steps), (2, 2 * steps + 3), (1, 1)):
        features, mask = _sample(batch, length, dim, draw)
        with torch.inference_mode():
            want = head(features, mask)
        given = {"features": features.numpy(), "mask": mask.numpy()}
        got = session.run(list(Answer._fields), given)
        for a, b in zip(got, want, strict=True):
            difference = float(np.abs(a - b.numpy()).max())
            if not difference <= _TOLERANCE:
                raise ValueError(
                    f"ONNX and torch differ by {difference:.1e} for {batch} clips of {length} "
                    f"steps: more than {_TOLERANCE:.0e}, so nothing was written"
                )
            worst = max(worst, difference)
    return worst


def _sample(
    batch: int, length: int, dim: int, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features, and a mask that pads each clip but the first a little more."""
    features = torch.from_numpy(draw.normal(size=(batch, length, dim)).astype(np.float32))
    lengths = torch.tensor([max(1, length - i) for i in range(batch)])
    return features, torch.arange(length)[None] < lengths[:, None]


def _encoder_files(source: str) -> dict[str, bytes | Path]:
    folder = Path(source)
    found = [folder / "config.json", *sorted(folder.glob("*.safetensors*"))]
    if not folder.is_dir() or not all(file.is_file() for file in found):
        raise ValueError(f"--with-encoder: {source} is no folder with a checkpoint in it")
    files: dict[str, Any] = {f"encoder/{file.name}": file for file in found}
    return files


if __name__ == "__main__":
    raise SystemExit(main())

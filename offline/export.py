"""A trained head -> the bundle that the live half opens.

    python -m offline.export --model models/gloss_classifier_….pt --out bundles/mine
    python -m offline.export --encoder vjepa2:PATH --out bundles/untrained

    .pt + card -> ONNX with free batch and time axes -> held against torch -> bundle

The ONNX file must answer as torch does, for several lengths and with padding, or nothing is
written. `--with-encoder` puts V-JEPA 2 into the bundle, which then needs nothing else: its
checkpoint, for GPUs, and its graph, which CPUs run without torch; `--with-encoder graph` or
`weights` only one of them. With `--index INDEX.csv` each way to run the graph is held against
torch on real clips: one that names another first five than torch is left out, and a line says so.
`--int8` adds the graph with weights in 8 bits, a quarter as large, if it passes.

With `--encoder` instead of `--model` the bundle has no trained head: it knows what it is taught.
The last line of stdout is one JSON object.

`--edge` adds `head.tflite`, for phones, and runs it by LiteRT and `head.onnx` by onnxruntime-web,
as pages do: both must answer as torch does.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.bundle import Bundle, write_bundle
from models.card import BACKGROUND, HEAD, NO_HEAD, spec_as_card, spec_from
from models.classifier import Classifier
from models.encoders import encoder_spec, graph_variants
from models.recognizer import Recognizer
from offline.exporting.encoder_export import INT8_IF, PARTS, EncoderParts, export_encoder
from offline.exporting.head_export import check_edge, edge_forms, parity, to_onnx
from offline.exporting.head_forms import LITERT
from offline.training.checkpoint import load_checkpoint

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
    add("--with-encoder", nargs="?", const="both", choices=PARTS, help="put the encoder in (both)")
    add(
        "--int8",
        nargs="?",
        const="agreeing",
        choices=INT8_IF,
        help="and its graph in 8 bits, where it names the first five that torch names; or anyway",
    )
    add("--index", type=Path, metavar="INDEX.csv", help="whose videos the graphs are compared on")
    add("--clips", type=int, default=32, help="so many of them (32)")
    add("--edge", action="store_true", help="and the head for phones and pages, checked")
    add("--hop-s", type=float, default=0.1, help="seconds between windows, for --encoder")
    options = parser.parse_args(argv)
    try:
        how = {"name": options.name, "encoder_parts": _encoder_parts(options)}
        if options.encoder:
            if options.edge:
                raise ValueError("--edge is the head, which --encoder has none of: give --model")
            bundle = export_untrained(options.encoder, options.out, options.hop_s, **how)
            print(json.dumps({"bundle": str(bundle.path), "name": bundle.name, "glosses": 0}))
            return 0
        bundle, difference = export(options.model, options.out, edge=options.edge, **how)
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
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    encoder_parts: EncoderParts | None = None,
    edge: bool = False,
) -> tuple[Bundle, float]:
    """Write the bundle and open it; also the largest difference between ONNX and torch.

    Raises:
        ValueError: the head can't be read, differs in ONNX or another form, or its card makes no
            bundle; or so for the encoder.
        OSError: the encoder's files are not there, or there is no room.
    """
    checkpoint = load_checkpoint(model)
    head, trained = checkpoint.head, checkpoint.card
    spec = spec_from(trained["encoder"])
    if edge:
        check_edge(spec)
    content = to_onnx(head, spec.dim)
    steps = spec.frames if spec.kind == "landmarks" else max(1, spec.frames // 2)
    difference = parity(head, content, spec.dim, steps)
    card = {key: value for key, value in trained.items() if key not in _ONLY_HERE}
    files: dict[str, bytes | Path] = {HEAD: content, BACKGROUND: _npy(checkpoint.background)}
    if name:
        card["name"] = name
    if edge:
        files[LITERT], forms = edge_forms(head, content, spec.dim, steps)
        card["metrics"] = {**card["metrics"], "forms": [asdict(form) for form in forms]}
    return _write(out, card, trained["glosses"], files, encoder_parts, head), difference


def export_untrained(
    encoder: str,
    out: Path,
    hop_s: float,
    *,
    name: str | None = None,
    encoder_parts: EncoderParts | None = None,
) -> Bundle:
    """Write a bundle of an encoder alone, and open it.

    Raises:
        ValueError: there is no such encoder, or it makes no bundle.
        OSError: its files are not there, or there is no room.
    """
    spec = encoder_spec(encoder, None, None)
    card = {
        "name": name or f"untrained-{spec.kind}",
        "encoder": spec_as_card(spec),
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
    return _write(out, card, [], {}, encoder_parts, None)


def _write(
    out: Path,
    card: dict[str, Any],
    glosses: Sequence[str],
    files: dict[str, bytes | Path],
    encoder_parts: EncoderParts | None,
    head: nn.Module | None,
) -> Bundle:
    """Write the bundle with the `encoder_parts`, if any; the card tells how its graphs compare."""
    if encoder_parts is None:
        return write_bundle(out, card=card, glosses=glosses, files=files, check=_opens)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    # Beside the bundle: /tmp is small on many machines, and a graph may have 4 GB.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as scratch:
        spec = spec_from(card["encoder"])
        made = export_encoder(spec, encoder_parts, Path(scratch), head)
        graphs = {"graphs": [asdict(one) for one in made.agreements]} if made.agreements else {}
        card = {
            **card,
            "encoder": {**card["encoder"], "source": made.source},
            "metrics": {**card["metrics"], **graphs},
        }
        files = {**files, **made.files}
        return write_bundle(out, card=card, glosses=glosses, files=files, check=_opens)


def _opens(bundle: Bundle) -> None:
    """Open `bundle` as the live half will: its head must fit its card, and so must its graphs."""
    if graph_variants(bundle):
        Recognizer.open(bundle.path, "cpu").close()
    elif bundle.head_path:
        Classifier(bundle, "cpu")


def _encoder_parts(options: argparse.Namespace) -> EncoderParts | None:
    if options.with_encoder is None:
        if options.int8 or options.index:
            raise ValueError("--int8 and --index go with --with-encoder")
        return None
    return EncoderParts(
        parts=options.with_encoder,
        int8=options.int8,
        index=options.index,
        clips=options.clips,
    )


def _npy(rows: NDArray[np.float32]) -> bytes:
    """`rows` as the content of a .npy file, float16."""
    content = io.BytesIO()
    np.save(content, rows.astype(np.float16))
    return content.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())

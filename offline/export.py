"""A trained head, or an encoder alone, as the recogniser bundle that the live half opens.

    python -m offline.export --model models/gloss_classifier_….pt --out bundles/mine
    python -m offline.export --encoder vjepa2:PATH --out bundles/untrained
    python -m offline.export --model … --out bundles/mine --check data/mine/index.csv --clips 200

    .pt + card + report -> ONNX with free batch and time axes -> compared with torch -> bundle

Nothing is written if the ONNX file differs from torch, for several lengths and with padding.
`--with-encoder` puts V-JEPA 2 into the bundle, which then needs nothing else: its checkpoint, for
GPUs, and its graph, which CPUs run without torch. With `--index INDEX.csv` each runtime of the
graph is compared with torch on real clips: one that names other first five classes than torch is
left out, and a line says so. `--int8` adds the graph with weights in 8 bits, a quarter as large, if
it passes. `--edge` adds `head.tflite`, for phones, and runs it by LiteRT, and `head.onnx` by
onnxruntime-web, as pages do: both must agree with torch. `--report` puts the cross-validation of
the same training into the card: temperature and threshold, and what to expect of strangers.

With `--encoder` instead of `--model` the bundle has no trained head: it knows what it is taught.

`--check` writes nothing: it compares every exported form in the bundle at `--out` with torch, on
real clips. Exit status 1 if one names other classes, 2 if features differ by more than rounding.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from models.card import HEAD
from models.command_line import read_command_line, say


def _word(*words: str) -> tyro.constructors.PrimitiveConstructorSpec[str | None]:
    """An option that takes one of `words` or none, which means the first."""

    def read(given: list[str]) -> str:
        word, *more = given or words[:1]
        if word not in words or more:
            raise ValueError(f"takes {', '.join(words)}, not {' '.join(given)}")
        return word

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[{'|'.join(words)}]",
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, str),
        str_from_instance=lambda value: [] if value is None else [value],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    model: Path | None = None  # the .pt of offline.train, its .json beside it
    encoder: str | None = None  # instead of --model: landmarks or vjepa2:PATH, to be taught signs
    out: Path  # the bundle's folder
    name: str | None = None  # the bundle's name (None: the card's)
    report: Path | None = None  # report.json of offline.evaluate: temperature, threshold, figures
    with_encoder: Annotated[str | None, _word("both", "graph", "weights")] = None
    """put the encoder in: its graph, its weights or both"""
    int8: Annotated[str | None, _word("agreeing", "anyway")] = None
    """and its graph in 8 bits, if its first five classes are those of torch; or anyway"""
    index: Path | None = None  # index.csv of offline.encode: graphs are compared on its videos
    clips: int = 32  # number of clips to compare on
    edge: bool = False  # and the head for phones and pages, checked
    hop_s: float = 0.1  # seconds between windows, for --encoder
    check: Path | None = None  # index.csv of offline.encode: only check the bundle at --out on it

    def __post_init__(self) -> None:
        if (self.model is None) == (self.encoder is None):
            raise ValueError("give either --model or --encoder")
        if self.encoder and self.report:
            raise ValueError("--report is about a head, and --encoder has none: give --model")
        if self.encoder and self.edge:
            raise ValueError(
                "--edge is for a head, and --encoder has none of its own: give --model"
            )
        if self.encoder and self.check:
            raise ValueError("--check needs the head in torch: give --model")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the bundle can't be written or checked, and says why."""
    options = read_command_line(
        ExportOptions, argv, prog="python -m offline.export", description=__doc__
    )
    try:
        if options.clips < 1:
            raise ValueError("--clips must be at least 1")
        return _check(options) if options.check else _export(options)
    except (ValueError, OSError) as exc:
        say(f"offline.export: {exc}", file=sys.stderr)
        return 2


def _export(options: ExportOptions) -> int:
    from offline.exporting.bundle_export import export_trained, export_untrained  # torch
    from offline.exporting.encoder_export import EncoderParts

    parts = None
    if options.with_encoder is not None:
        parts = EncoderParts(
            parts=options.with_encoder, int8=options.int8, index=options.index, clips=options.clips
        )
    elif options.int8 or options.index:
        raise ValueError("--int8 and --index go with --with-encoder")
    if options.model is None:
        assert options.encoder is not None
        bundle = export_untrained(
            options.encoder, options.out, options.hop_s, name=options.name, encoder_parts=parts
        )
        print(json.dumps({"bundle": str(bundle.path), "name": bundle.name, "glosses": 0}))
        return 0
    bundle, difference = export_trained(
        options.model,
        options.out,
        name=options.name,
        report=options.report,
        encoder_parts=parts,
        edge=options.edge,
    )
    print(f"ONNX against torch: outputs differ by at most {difference:.1e}")
    summary = {
        "bundle": str(bundle.path),
        "name": bundle.name,
        "glosses": len(bundle.glosses),
        "idle": bundle.idle,
        "parity": difference,
        "head_bytes": (bundle.path / HEAD).stat().st_size,
    }
    print(json.dumps(summary))
    return 0


def _check(options: ExportOptions) -> int:
    from offline.exporting.bundle_export import check_bundle  # torch

    assert options.model is not None and options.check is not None
    agreements = check_bundle(options.model, options.out, options.check, options.clips)
    print(json.dumps({"clips": options.clips, "agreements": list(map(asdict, agreements))}))
    if wrong := [found.name for found in agreements if not found.agrees]:
        print(f"offline.export: {', '.join(wrong)} differ from torch", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

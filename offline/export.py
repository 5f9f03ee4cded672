"""A trained head, a video classifier or an encoder alone, as the bundle that the live half opens.

    python -m offline.export --model models/gloss_classifier_….pt --out bundles/mine
    python -m offline.export --classifier facebook/vjepa2-vitl-fpc16-256-ssv2 --out bundles/ssv2
    python -m offline.export --encoder vjepa2:SOURCE --out bundles/untrained
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

`--classifier` takes a V-JEPA 2 of transformers that was trained with a head of its own
(VJEPA2ForVideoClassification), from a folder or the hub; its labels are the glosses. With
`--encoder` the bundle has no trained head: it knows what it is taught.

`--check` writes nothing: it compares every exported form in the bundle at `--out` with torch, on
real clips, by each runtime that is installed. Exit status 1 if one names other classes, 2 if
features differ by more than rounding.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from models.bundle import BundleError, try_target
from models.card import CARD, HEAD
from models.command_line import read_command_line, say, until_interrupted
from models.encoders import KINDS
from models.vjepa2.source import locate


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
        str_from_instance=lambda value: [str(value)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    model: Path | None = None  # the .pt of offline.train, its .json beside it
    # instead of --model: a video classifier of transformers, a folder or OWNER/NAME[@REVISION]
    classifier: str | None = None
    encoder: str | None = None  # instead of --model: landmarks or vjepa2:SOURCE, to be taught signs
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
    hop_s: float = 0.1  # seconds between windows, for --encoder and --classifier
    # pictures of a window, for --encoder and --classifier (None: 16, 32 for landmarks, or what the
    # classifier was trained with)
    frames: int | None = None
    # pictures a second, for --encoder and --classifier (None: 8, 15 for landmarks)
    fps: float | None = None
    check: Path | None = None  # index.csv of offline.encode: only check the bundle at --out on it

    def __post_init__(self) -> None:
        given = [name for name in ("model", "classifier", "encoder") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give one of --model, --classifier and --encoder")
        if self.model is None:
            for name in ("report", "edge", "check"):
                if getattr(self, name):
                    raise ValueError(f"--{name} is for a head of offline.train: give --model")
        elif self.frames is not None or self.fps is not None:
            raise ValueError("--frames and --fps are those of the training: leave them out")
        for name in ("frames", "fps", "clips"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"--{name} must be more than 0, not {value:g}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the bundle can't be written or checked, and says why."""
    options = read_command_line(
        ExportOptions, argv, prog="python -m offline.export", description=__doc__
    )
    try:
        _check_files(options)
        return _check(options) if options.check else _export(options)
    except (ValueError, OSError) as exc:
        say(f"offline.export: {exc}", file=sys.stderr)
        return 2


def _check_files(options: ExportOptions) -> None:
    """Raise OSError or ValueError for what is missing, before torch loads and the work begins."""
    model = options.model
    files = [options.report, options.index, options.check]
    if model is not None:
        files += [model, model.with_suffix(".json")]
    for file in files:
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{file}: no such file")
    kind, _, source = (options.encoder or "").partition(":")
    if source := options.classifier or (source if kind in KINDS else ""):
        locate(source, weights=False)
    if options.check is None:
        try_target(options.out)
    elif not (options.out / CARD).is_file():
        raise BundleError(f"{options.out}: no such bundle folder")


def _export(options: ExportOptions) -> int:
    from offline.exporting import bundle_export  # torch
    from offline.exporting.encoder_export import EncoderParts

    parts, out = None, options.out
    if options.with_encoder is not None:
        parts = EncoderParts(
            parts=options.with_encoder, int8=options.int8, index=options.index, clips=options.clips
        )
    elif options.int8 or options.index:
        raise ValueError("--int8 and --index go with --with-encoder")
    window: dict[str, Any] = {"frames": options.frames, "fps": options.fps}
    named: dict[str, Any] = {"name": options.name, "encoder_parts": parts}
    if options.encoder is not None:
        bundle = bundle_export.export_untrained(
            options.encoder, out, options.hop_s, **window, **named
        )
        print(json.dumps({"bundle": str(bundle.path), "name": bundle.name, "glosses": 0}))
        return 0
    if options.classifier is not None:
        bundle, difference = bundle_export.export_classifier(
            options.classifier, out, options.hop_s, **window, **named
        )
    else:
        assert options.model is not None
        bundle, difference = bundle_export.export_trained(
            options.model, out, report=options.report, edge=options.edge, **named
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
    from offline.exporting.check import check_bundle  # torch

    assert options.model is not None and options.check is not None
    agreements, skipped = check_bundle(options.model, options.out, options.check, options.clips)
    summary = {
        "clips": options.clips,
        "agreements": list(map(asdict, agreements)),
        "not_installed": skipped,
    }
    print(json.dumps(summary))
    if wrong := [found.name for found in agreements if not found.agrees]:
        print(f"offline.export: {', '.join(wrong)} differ from torch", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.export"))

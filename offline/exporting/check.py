"""Checks a bundle that is there: every exported form on real clips, beside the head in torch.

bundle + .pt + index of real clips -> [check] -> a table for people, Agreements
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from models.bundle import Bundle, open_bundle
from models.encoders import graph_variants
from models.schema import EncoderSpec
from offline.data.examples import read_spec
from offline.exporting import web_runtime
from offline.exporting.encoder_export import compare_graphs, reference_features
from offline.exporting.parity import HEAD_FILES, Agreement, compare_head, read_windows
from offline.training.checkpoint import Checkpoint, load_checkpoint

_COLUMNS = "{:<22}{:<14}{:>8}{:>9}{:>12}{:>11}{:>12}{:>14}{:>10}"
_TITLES = (
    "form",
    "file",
    "MB",
    "ms/clip",
    "first same",
    "five same",
    "but for tie",
    "logits within",
    "cosine",
)


_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}


def check_bundle(
    model: Path, path: Path, index: Path, count: int
) -> tuple[list[Agreement], dict[str, str]]:
    """Compare every exported form in the bundle at `path` with torch, on `count` real clips.

    The head in all its runtimes on rows of the index, then the encoder's graphs on its videos. A
    table is printed, row by row.

    Returns:
        How each form compares, and the runtimes that are not installed here: why, by their names.

    Raises:
        ValueError, OSError: bundle, model and index don't belong together or can't be compared, or
            a graph differs by more than rounding.
    """
    bundle, spec = open_bundle(path), read_spec(index)
    checkpoint = load_checkpoint(model)
    _check_same(bundle, checkpoint, spec, model, index)
    features, mask = read_windows(index, bundle.encoder, count)
    print(f"{count} clips of {index}, against torch:")
    print(_COLUMNS.format(*_TITLES), flush=True)
    agreements, skipped = [], {}
    for runtime, file in HEAD_FILES.items():
        if not (bundle.path / file).is_file():
            continue
        if (why := _not_installed(runtime)) is not None:
            skipped[runtime] = why
            print(f"{runtime:<22}not compared: {why}", flush=True)
            continue
        found = compare_head(runtime, bundle.path, checkpoint.head, features, mask)
        print(_row(found), flush=True)
        agreements.append(found)
    if graphs := graph_variants(bundle):
        # The index names the weights, which the bundle need not hold.
        _, reference = reference_features(spec, index, count)
        agreements += compare_graphs(graphs, reference, checkpoint.head, show=_row)
    return agreements, skipped


def _not_installed(runtime: str) -> str | None:
    """What is missing to run heads by `runtime`; None: nothing."""
    if runtime not in _PACKAGES:
        return web_runtime.missing()
    if find_spec(_PACKAGES[runtime]) is None:
        return f'{_PACKAGES[runtime]} is not installed: pip install "livegloss[edge]"'
    return None


def _check_same(
    bundle: Bundle, checkpoint: Checkpoint, spec: EncoderSpec, model: Path, index: Path
) -> None:
    """Raise ValueError where the three don't belong together."""
    ours = bundle.encoder
    if _rows_of(spec) != _rows_of(ours):
        raise ValueError(
            f"{index}: rows of another encoder, {_described(spec)}; "
            f"the one of {bundle.path} is {_described(ours)}"
        )
    card = checkpoint.card
    if tuple(card["glosses"]) != bundle.glosses or card["head"]["idle"] != bundle.idle:
        raise ValueError(f"{model}: has other glosses than {bundle.path}, so it is another head")


def _rows_of(spec: EncoderSpec) -> tuple[object, ...]:
    """What rows of an encoder depend on, wherever it lies."""
    return spec.kind, spec.revision, spec.frames, spec.fps, spec.resize


def _described(spec: EncoderSpec) -> str:
    text = f"{spec.kind} {spec.revision[:20]}, {spec.frames} frames at {spec.fps:g} a second"
    return text + (", resized exactly" if spec.resize == "exact" else "")


def _row(found: Agreement) -> str:
    """A row of the table."""
    cosine = "" if found.cosine is None else f"{found.cosine:.5f}"
    return _COLUMNS.format(
        found.name,
        found.file,
        f"{found.megabytes:.1f}",
        f"{found.ms:.2f}",
        *(f"{n}/{found.clips}" for n in (found.same, found.same_five, found.same_but_ties)),
        f"{found.logit:.1e}",
        cosine,
    )

"""Holds every exported form of a model against torch, on real clips: do they say the same?

    python -m offline.forms --model models/gloss_classifier_….pt --bundle bundles/mine \\
        --index data/mine/index.csv --clips 200

    index.csv -> rows of its clips -> the head in torch and in each of its forms -> first five
              -> its videos -> the encoder's graphs too, where the bundle has some -> first five

The forms are what the bundle has: `head.onnx` by ONNX Runtime, OpenVINO and onnxruntime-web,
`head.tflite` by LiteRT, the encoder's graphs by both runtimes in each precision that the server may
take. Exit status 1 when one of them names other classes than torch, 2 when a graph's features
differ by more than rounding explains. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, open_bundle
from models.encoders import graph_variants
from models.schema import EncoderSpec
from offline.data.examples import read_examples, read_spec, scored
from offline.exporting.encoder_export import compare_graphs, reference_features, torch_encoder
from offline.exporting.head_forms import FORMS, HeadAgreement, compare_head
from offline.exporting.parity import Agreement
from offline.exporting.real_clips import read_clips
from offline.scoring.clip_predictions import by_windows, middle_rows
from offline.training.checkpoint import Checkpoint, load_checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when they can't be compared, and says why."""
    parser = argparse.ArgumentParser(
        prog="python -m offline.forms", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the .pt of offline.train")
    add("--bundle", type=Path, required=True, help="what offline.export made of it")
    add("--index", type=Path, required=True, help="of offline.encode, with clips to compare on")
    add("--clips", type=int, default=200, help="so many (200)")
    options = parser.parse_args(argv)
    try:
        if options.clips < 1:
            raise ValueError("--clips must be at least 1")
        checkpoint, bundle = load_checkpoint(options.model), open_bundle(options.bundle)
        heads = compare_heads(checkpoint, bundle, options.index, options.clips)
        graphs = compare_encoders(checkpoint, bundle, options.index, options.clips)
    except (ValueError, OSError) as exc:
        print(f"offline.forms: {exc}", file=sys.stderr)
        return 2
    forms = [*map(asdict, heads), *map(asdict, graphs)]
    print(json.dumps({"clips": options.clips, "forms": forms}))
    wrong = [head.name for head in heads if not head.agrees]
    wrong += [graph.name for graph in graphs if not graph.agrees]
    if wrong:
        print(f"offline.forms: {', '.join(wrong)} differ from torch", file=sys.stderr)
    return 1 if wrong else 0


def compare_heads(
    checkpoint: Checkpoint, bundle: Bundle, index: Path, clips: int
) -> list[HeadAgreement]:
    """Each form of the head on `clips` clips of the index; a line for each is printed."""
    features, mask = read_windows(index, bundle.encoder, clips)
    there = [name for name, (file, _) in FORMS.items() if (bundle.path / file).is_file()]
    found = []
    for name in there:
        found.append(compare_head(name, bundle.path, checkpoint.head, features, mask))
        print(found[-1].line(), flush=True)
    return found


def compare_encoders(
    checkpoint: Checkpoint, bundle: Bundle, index: Path, clips: int
) -> list[Agreement]:
    """Each way to run the bundle's graphs, the head after it, on videos of the index."""
    graphs = graph_variants(bundle)
    if not graphs:
        return []
    spec = read_spec(index)  # whose weights the bundle need not have
    encoder = torch_encoder(spec)
    *_, crop, _ = encoder.model.video_size
    asked = reference_features(encoder, read_clips(index, spec, crop, clips))
    return compare_graphs(graphs, asked, checkpoint.head)


def read_windows(
    index: Path, spec: EncoderSpec, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (N, T, D) and mask (N, T) of `count` clips, the same at each call.

    Of rows that are one a frame, the window in the middle, all of a shorter clip; else all rows.

    Raises:
        ValueError: the index can't be read, or has fewer clips.
    """
    examples = scored(read_examples(index))
    if len(examples) < count:
        raise ValueError(f"{index}: has {len(examples)} clips, {count} are needed: lower --clips")
    chosen = random.Random(0).sample(examples, count)
    rows = [middle_rows(example.rows, spec) for example in chosen]
    if (dim := rows[0].shape[1]) != spec.dim:
        raise ValueError(f"{index}: rows have {dim} numbers, the head takes {spec.dim}")
    steps = spec.frames if by_windows(spec) else max(len(one) for one in rows)
    features = np.zeros((count, steps, spec.dim), np.float32)
    mask = np.zeros((count, steps), np.bool_)
    for number, one in enumerate(rows):
        features[number, : len(one)] = one
        mask[number, : len(one)] = True
    return features, mask


if __name__ == "__main__":
    raise SystemExit(main())

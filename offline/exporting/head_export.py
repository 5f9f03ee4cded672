"""A trained head -> its files for other runtimes, each compared with torch.

head -> head.onnx (batch and time free) -> head.tflite -> how phones and pages run both
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from models.card import HEAD
from models.heads import HeadOutput
from models.onnx_file import write_onnx
from offline.exporting.parity import LITERT, Agreement, compare_head, head_tolerance

_MOST_STEPS = 64  # compared: a head over all tokens takes thousands, and gigabytes for a few clips


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
    steps = min(steps, _MOST_STEPS)
    draw = np.random.default_rng(1)
    largest = 0.0
    for batch, length in ((1, steps), (4, steps), (2, 2 * steps + 3), (1, 1)):
        features, mask = _sample(batch, length, dim, draw)
        with torch.inference_mode():
            want = head(features, mask)
        got = session.run(None, {"features": features.numpy(), "mask": mask.numpy()})
        for a, b in zip(got, want, strict=True):
            difference = float(np.abs(a - b.numpy()).max())
            if not difference <= (allowed := head_tolerance(b.numpy())):
                raise ValueError(
                    f"ONNX and torch differ by {difference:.1e} for {batch} clips of {length} "
                    f"steps: more than {allowed:.0e}, so nothing was written"
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

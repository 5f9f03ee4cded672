"""Runs an exported head in each of its forms, and holds what it answers against torch.

head.onnx, head.tflite -> ONNX Runtime, OpenVINO, LiteRT, onnxruntime-web -> figures, or an error
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.card import HEAD
from offline.exporting.parity import first_five_alike
from offline.exporting.web_runtime import run_head

LITERT = "head.tflite"
EDGE = ("litert", "onnxruntime-web")  # the forms that phones and pages run
TOLERANCE = 1e-4  # of a logit; measured 1e-6
_TIE = 2 * TOLERANCE  # two logits so near may change places, each of them being off by so much

# Logits (N, K) of clips that are answered one after the other, and the seconds that each took.
_Answers = tuple[NDArray[np.float32], list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAgreement:
    """How one form of a head compares with torch, on the same clips."""

    name: str  # "litert"
    file: str  # in the bundle
    megabytes: float
    difference: float  # the largest of a logit
    same: int  # clips with the same first five classes in the same order
    tied: int  # clips where some of them, as good as equal, changed places
    clips: int
    ms: float  # a clip, the median

    @property
    def agrees(self) -> bool:
        """True when rounding explains what differs."""
        return self.difference <= TOLERANCE and self.same + self.tied == self.clips

    def line(self) -> str:
        """For people."""
        tied = f", {self.tied} but for ties" if self.tied else ""
        return (
            f"{self.name}: {self.file}, {self.megabytes:.1f} MB, {self.ms:.2f} ms a clip; to "
            f"torch: difference {self.difference:.1e}, the same first five in {self.same} of "
            f"{self.clips} clips{tied}"
        )


def compare_head(
    name: str,
    folder: Path,
    head: nn.Module,
    features: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> HeadAgreement:
    """Run form `name` of `head`, exported to `folder`, on clips `features` (N, T, D).

    Raises:
        ValueError, OSError: it can't be run here.
    """
    file, run = FORMS[name]
    with torch.inference_mode():
        want = head(torch.from_numpy(features), torch.from_numpy(mask))[0].numpy()
    try:
        got, took = run(folder / file, features, mask)
    except ModuleNotFoundError as exc:
        raise ValueError(f'{name} needs {exc.name}: pip install "livegloss[edge]"') from exc
    if got.shape != want.shape:
        raise ValueError(f"{name}: gives logits {got.shape}, torch {want.shape}")
    same = first_five_alike(want, got)
    return HeadAgreement(
        name=name,
        file=file,
        megabytes=round((folder / file).stat().st_size / 1e6, 2),
        difference=float(np.abs(got - want).max()),
        same=int(same.sum()),
        tied=int((first_five_alike(want, got, _TIE) & ~same).sum()),
        clips=len(features),
        ms=round(1000 * float(np.median(took)), 3),
    )


def _by_onnxruntime(file: Path, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> _Answers:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def answer(rows: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"features": rows, "mask": real})[0]
        return logits

    return _one_by_one(answer, features, mask)


def _by_openvino(file: Path, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> _Answers:
    import openvino as ov

    core = ov.Core()
    how = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(file), "CPU", how)

    def answer(rows: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = compiled({"features": rows, "mask": real})["logits"].copy()
        return logits

    return _one_by_one(answer, features, mask)


def _by_litert(file: Path, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> _Answers:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(file), num_threads=1).get_signature_runner()

    def answer(rows: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = run(features=rows, mask=real)["logits"]
        return logits

    return _one_by_one(answer, features, mask)


def _one_by_one(
    answer: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]],
    features: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> _Answers:
    answer(features[:1], mask[:1])  # to warm up
    logits, took = [], []
    for number in range(len(features)):
        began = time.perf_counter()
        logits.append(answer(features[number : number + 1], mask[number : number + 1]))
        took.append(time.perf_counter() - began)
    return np.concatenate(logits), took


_Run = Callable[[Path, NDArray[np.float32], NDArray[np.bool_]], _Answers]
FORMS: dict[str, tuple[str, _Run]] = {
    "onnxruntime": (HEAD, _by_onnxruntime),
    "openvino": (HEAD, _by_openvino),
    "litert": (LITERT, _by_litert),
    "onnxruntime-web": (HEAD, run_head),
}

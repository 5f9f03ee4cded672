"""Parity: runs each exported form of a model on the same clips and compares it with torch.

    index.csv -> its videos -> middle windows -> cropped pictures (T, H, W, C)
              -> each encoder graph, compared with torch's features -> Agreement, or an error
    index.csv -> its rows -> middle windows -> features (N, T, D) and mask
              -> head.onnx, head.tflite by each runtime, compared with torch's logits -> Agreement

An exported form passes if its features are alike and its first five classes are the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.card import HEAD
from models.schema import EncoderSpec
from models.vjepa2.graph_engine import GraphVariant, open_graph
from models.vjepa2.preprocess import crop_pictures
from offline.data.examples import read_examples, scored
from offline.data.index import read_index
from offline.data.videos import VideoError
from offline.encoding.embed import middle_window
from offline.exporting.web_runtime import run_head
from offline.scoring.clip_predictions import by_windows, middle_rows

LITERT = "head.tflite"
HEAD_FILES = {"onnxruntime": HEAD, "openvino": HEAD, "litert": LITERT, "onnxruntime-web": HEAD}
# How far a head's outputs may be off: measured 1e-6 for small heads; 6e-5 of logits up to 33 for
# the size of V-JEPA 2's own classifiers, over 2048 tokens.
_HEAD_TOLERANCE, _OF_THE_LARGEST = 1e-4, 1e-5

_FIVE = 5
_EQUAL = 1e-3  # logits this close count as one: features off by 1e-4, as in float32, move them so
_FEATURE_TOLERANCE = 1e-4  # in float32; measured 1e-5
# By precision: the least mean cosine of features, where less is more than rounding; and how close
# logits of torch may change places (0.02 is a fiftieth of a probability).
_LIMITS = {"float32": (0.9999, _EQUAL), "bfloat16": (0.99, 0.02), "int8": (0.99, 0.02)}

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # features (N, S, D) -> (N, K)
_RunHead = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
_Input = TypeVar("_Input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How one exported form compares with torch in float32, on the same clips.

    The figures of features are None for a head alone, those of classes for an encoder alone.
    """

    name: str  # "openvino-int8", "litert"
    file: str  # in the bundle
    megabytes: float
    clips: int
    ms: float  # median of a clip
    difference: float | None = None  # largest of a feature
    cosine: float | None = None  # mean over the features of steps or tokens
    least_cosine: float | None = None
    logit: float | None = None  # largest difference of a logit
    same: int | None = None  # clips with the same first class
    same_five: int | None = None  # clips with the same first five classes in the same order
    same_but_ties: int | None = None  # the same, where classes nearer than `tie` may change places
    tie: float = 0.0  # of torch's logits
    agrees: bool = False  # features are alike, and the first five of every clip, but for ties
    taken: bool = True  # False: the server is not to run it

    def line(self) -> str:
        """All of it in one line, for people."""
        parts = []
        if self.difference is not None:
            parts.append(
                f"feature difference {self.difference:.1e}, cosine {self.cosine:.5f} "
                f"(least {self.least_cosine:.5f})"
            )
        if self.same is not None:
            parts.append(
                f"logit difference {self.logit:.1e}; of {self.clips} clips the same first class in "
                f"{self.same}, the same first five in {self.same_five}, {self.same_but_ties} "
                f"but for ties within {self.tie:g}"
            )
        return (
            f"{self.name}: {self.file}, {self.megabytes:.1f} MB, {self.ms:.2f} ms a clip; "
            f"against torch: {'; '.join(parts)}"
        )


def crop_clips(index: Path, spec: EncoderSpec, crop: int, count: int) -> list[NDArray[np.uint8]]:
    """`count` clips of different videos, cut to `crop` px; the same ones at each call.

    Videos that can't be read are skipped.

    Raises:
        ValueError: the index can't be read, or has fewer readable videos.
    """
    clips: list[NDArray[np.uint8]] = []
    videos = sorted({path for e in read_index(index) if (path := e.video_path(index.parent))})
    random.Random(0).shuffle(videos)
    problem = f"it lists only {len(videos)} videos"
    for video in videos:
        try:
            frames = middle_window(video, spec)
        except VideoError as exc:
            problem = str(exc)
            continue
        clips.append(crop_pictures([frame.image for frame in frames], crop))
        if len(clips) == count:
            return clips
    raise ValueError(f"{index}: {len(clips)} clips can be read, {count} are needed: {problem}")


def read_windows(
    index: Path, spec: EncoderSpec, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (N, T, D) and mask (N, T) of `count` clips; the same ones at each call.

    Of rows that are one a frame, the window in the middle (padded if the clip is shorter); else
    all rows.

    Raises:
        ValueError: the index can't be read, has fewer clips, or rows of another encoder.
    """
    examples = scored(read_examples(index))
    if len(examples) < count:
        raise ValueError(f"{index}: has {len(examples)} clips, {count} are needed: lower --clips")
    chosen = random.Random(0).sample(examples, count)
    windows = [middle_rows(example.rows, spec, example.windows) for example in chosen]
    if (dim := windows[0].shape[1]) != spec.dim:
        raise ValueError(f"{index}: rows have {dim} numbers, the head takes {spec.dim}")
    steps = spec.frames if by_windows(spec) else max(len(rows) for rows in windows)
    features = np.zeros((count, steps, spec.dim), np.float32)
    mask = np.zeros((count, steps), np.bool_)
    for number, rows in enumerate(windows):
        features[number, : len(rows)] = rows
        mask[number, : len(rows)] = True
    return features, mask


def compare(
    candidate: GraphVariant,
    clips: Sequence[NDArray[np.uint8]],
    want: NDArray[np.float32],
    logits: Logits | None,
    threads: int,
    *,
    anyway: bool = False,
) -> Agreement:
    """Run graph `candidate` on `clips` (T, H, W, C), whose features by torch are `want` (N, S, D).

    Args:
        logits: the head on features; None: only features are compared.
        anyway: mark it as taken even where it names other classes.

    Raises:
        ValueError: it can't be opened, or differs by more than its precision explains.
    """
    got, seconds = _timed(open_graph(candidate, threads), clips)
    if got.shape != want.shape:
        raise ValueError(f"{candidate.name}: returns features {got.shape}, torch {want.shape}")
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    cosines = (got * want).sum(-1) / np.maximum(lengths, 1e-12)
    cosine, difference = float(cosines.mean()), float(np.abs(got - want).max())
    least_cosine, tie = _LIMITS[candidate.precision]
    ranking = {} if logits is None else _compare_logits(logits(got), logits(want), _EQUAL, tie)
    same_five = ranking.get("same_but_ties") in (None, len(clips))
    agrees = same_five and cosine >= least_cosine
    data = candidate.file.with_name(f"{candidate.file.name}.data")
    size = sum(file.stat().st_size for file in (candidate.file, data) if file.is_file())
    agreement = Agreement(
        name=candidate.name,
        file=candidate.file.name,
        megabytes=round(size / 1e6, 1),
        clips=len(clips),
        ms=round(1000 * float(np.median(seconds)), 1),
        difference=difference,
        cosine=cosine,
        least_cosine=float(cosines.min()),
        tie=tie,
        agrees=agrees,
        taken=anyway or agrees,
        **ranking,
    )
    exact = candidate.precision != "float32" or (difference <= _FEATURE_TOLERANCE and agrees)
    if not (exact and np.isfinite(cosine)):
        raise ValueError(
            f"{agreement.line()}: more than {candidate.precision} explains, so nothing was written"
        )
    return agreement


def compare_head(
    name: str,
    folder: Path,
    head: nn.Module,
    features: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> Agreement:
    """Run `head`, exported to `folder`, by runtime `name` on clips `features` (N, T, D).

    Raises:
        ValueError, OSError: it can't be run here.
    """
    file = folder / HEAD_FILES[name]
    with torch.inference_mode():
        want = head(torch.from_numpy(features), torch.from_numpy(mask))[0].numpy()
    try:
        if name == "onnxruntime-web":
            got, seconds = run_head(file, features, mask)
        else:
            run = _open_head(name, file)
            got, seconds = _timed(
                lambda n: run(features[n : n + 1], mask[n : n + 1])[0], range(len(features))
            )
    except ModuleNotFoundError as exc:
        raise ValueError(f'{name} needs {exc.name}: pip install "livegloss[edge]"') from exc
    if got.shape != want.shape:
        raise ValueError(f"{name}: returns logits {got.shape}, torch {want.shape}")
    tolerance = head_tolerance(want)
    tie = 2 * tolerance  # each of two logits may be off by so much
    ranking = _compare_logits(got, want, 0.0, tie)
    return Agreement(
        name=name,
        file=file.name,
        megabytes=round(file.stat().st_size / 1e6, 2),
        clips=len(features),
        ms=round(1000 * float(np.median(seconds)), 3),
        tie=tie,
        agrees=ranking["logit"] <= tolerance and ranking["same_but_ties"] == len(features),
        **ranking,
    )


def head_tolerance(outputs: NDArray[np.float32]) -> float:
    """How far another runtime may be off from `outputs` of a head: no more than rounding."""
    return max(_HEAD_TOLERANCE, _OF_THE_LARGEST * float(np.abs(outputs).max()))


def first_five_alike(
    want: NDArray[np.float32], got: NDArray[np.float32], tie: float = 0.0
) -> NDArray[np.bool_]:
    """(N,) True where logits `got` (N, K) have the first five classes of `want`, in its order.

    Classes no further apart than `tie` in `want` may change places, as rounding decides between
    them; but the five must be the same. A row with a value that is not a number is never alike.
    """
    wanted, found = (np.argsort(-x, axis=1, kind="stable")[:, :_FIVE] for x in (want, got))
    best, named = (np.take_along_axis(want, ranked, 1) for ranked in (wanted, found))
    placed = ((wanted == found) | (np.abs(best - named) <= tie)).all(1)
    members = named.min(1) >= best.min(1) - min(tie, _EQUAL)
    same: NDArray[np.bool_] = placed & members & np.isfinite(got).all(1)
    return same


def _compare_logits(
    got: NDArray[np.float32], want: NDArray[np.float32], equal: float, tie: float
) -> dict[str, Any]:
    """The fields of `Agreement` about classes. `equal`: logits this close count as one."""
    return {
        "logit": float(np.abs(got - want).max()),
        "same": int((got.argmax(1) == want.argmax(1)).sum()),
        "same_five": int(first_five_alike(want, got, equal).sum()),
        "same_but_ties": int(first_five_alike(want, got, tie).sum()),
    }


def _timed(
    run: Callable[[_Input], NDArray[np.float32]], inputs: Sequence[_Input]
) -> tuple[NDArray[np.float32], list[float]]:
    """The outputs of all inputs, one after the other, and the seconds that each took."""
    run(inputs[0])  # warm-up
    outputs, seconds = [], []
    for value in inputs:
        began = time.perf_counter()
        outputs.append(run(value))
        seconds.append(time.perf_counter() - began)
    return np.stack(outputs), seconds


def _open_head(runtime: str, file: Path) -> _RunHead:
    """The head in `file`, to be run on one thread."""
    if runtime == "onnxruntime":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda rows, mask: session.run(["logits"], {"features": rows, "mask": mask})[0]
    if runtime == "openvino":
        import openvino as ov

        core = ov.Core()
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(file), "CPU", settings)
        return lambda rows, mask: compiled({"features": rows, "mask": mask})["logits"].copy()
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(file), num_threads=1).get_signature_runner()
    return lambda rows, mask: run(features=rows, mask=mask)["logits"]

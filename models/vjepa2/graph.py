"""An exported encoder at work on a CPU: one clip's pictures in, its features out. No torch.

    [graph_engine] -> pictures (T, H, W, C) uint8 -> [graph] -> features (S, D) float32

`graph_export` writes the files: float32.onnx, which is run in bfloat16 too, and int8.onnx.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FLOAT32 = "float32.onnx"  # the names of the files in a bundle's encoder/
INT8 = "int8.onnx"
RUNTIMES = ("openvino", "onnxruntime")
WAYS = (  # to run the files: a runtime and a precision
    "openvino-float32",
    "openvino-bfloat16",
    "openvino-int8",
    "onnxruntime-float32",
    "onnxruntime-int8",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphVariant:
    """A way to run one of the files."""

    runtime: str  # "openvino", "onnxruntime"
    precision: str  # "float32", "bfloat16", "int8"
    file: Path

    @classmethod
    def of(cls, way: str, folder: Path) -> GraphVariant:
        """One of `WAYS` to run what is in `folder`."""
        runtime, precision = way.split("-")
        file = folder / (INT8 if precision == "int8" else FLOAT32)
        return cls(runtime=runtime, precision=precision, file=file)

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"


class Graph(Protocol):
    """Called from one thread at a time."""

    @property
    def clip(self) -> tuple[int, ...]:
        """(T, H, W, C) The size of what it takes."""
        ...

    @property
    def features(self) -> tuple[int, ...]:
        """(S, D) The size of what it gives."""
        ...

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def runtimes() -> list[str]:
    """Which of `RUNTIMES` are installed."""
    return [name for name in RUNTIMES if find_spec(name)]


def has_bfloat16() -> bool:
    """True where OpenVINO is installed and the processor computes in bfloat16 by itself."""
    if find_spec("openvino") is None:
        return False
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def spare_cores() -> int:
    """How many threads an encoder may have: one core is left to media and page."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (have or 1) - 1)


def open_graph(candidate: GraphVariant, threads: int) -> Graph:
    """The graph in `candidate.file`, ready to run.

    Raises:
        ValueError: it can't be opened, or is no encoder of one clip's pictures.
    """
    try:
        if candidate.runtime == "openvino":
            return _OpenVino(candidate, threads)
        return _OnnxRuntime(candidate.file, threads)
    except ModuleNotFoundError as exc:
        raise ValueError(f"{candidate.name} needs {exc.name}: pip install {exc.name}") from exc
    except _ForeignGraph as exc:
        raise ValueError(f"{candidate.file}: {exc}") from exc
    except Exception as exc:  # the errors of both runtimes share no other base
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        why = lines[-1] if lines else repr(exc)
        raise ValueError(f"{candidate.file}: {candidate.runtime} can't open it: {why}") from exc


class _ForeignGraph(ValueError):
    """A graph that is not of the kind that we export."""


class _OpenVino:
    def __init__(self, candidate: GraphVariant, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        model = core.read_model(candidate.file)
        takes = [_shape(port.partial_shape) for port in model.inputs]
        gives = [_shape(port.partial_shape) for port in model.outputs]
        types = [port.element_type.get_type_name() for port in (*model.inputs, *model.outputs)]
        self.clip, self.features = _sizes(takes, gives, types == ["u8", "f32"])
        model.reshape({model.input(): [1, *self.clip]})  # compiled for one size, it is faster
        whole = candidate.precision == "float32" or not has_bfloat16()
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Else the calling thread is tied to the first core, as in every other process.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": "f32" if whole else "bf16",  # of what is not int8
            },
        )
        self._request = compiled.create_infer_request()

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._request.infer([pictures[None]], share_inputs=True)
        features: NDArray[np.float32] = self._request.get_output_tensor().data[0].copy()
        return features


class _OnnxRuntime:
    def __init__(self, file: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; ours say the rest
        self._session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        takes, gives = self._session.get_inputs(), self._session.get_outputs()
        types = [port.type for port in (*takes, *gives)] == ["tensor(uint8)", "tensor(float)"]
        shapes = [port.shape for port in takes], [port.shape for port in gives]
        self.clip, self.features = _sizes(*shapes, types)
        self._takes = takes[0].name

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        [features] = self._session.run(None, {self._takes: pictures[None]})
        clip: NDArray[np.float32] = features[0]
        return clip


def _shape(partial: Any) -> list[int | None]:
    """The axes of one of OpenVINO's shapes, None for a free one; none at all where even their
    number is free."""
    if partial.rank.is_dynamic:
        return []
    return [None if axis.is_dynamic else axis.get_length() for axis in partial]


def _sizes(
    takes: Sequence[Sequence[Any]], gives: Sequence[Sequence[Any]], types_fit: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a clip and of its features, from all inputs' and outputs' shapes."""
    ranks = [len(shape) for shape in (*takes, *gives)]
    if len(takes) == 1 and ranks == [5, 3] and types_fit:
        clip, features = takes[0][1:], gives[0][1:]
        if all(isinstance(axis, int) for axis in (*clip, *features)):
            return tuple(clip), tuple(features)
    raise _ForeignGraph(
        f"takes {list(map(list, takes))} and gives {list(map(list, gives))}; an encoder takes "
        "pictures (B, T, H, W, C) uint8 and gives features (B, S, D) float32, only B free"
    )

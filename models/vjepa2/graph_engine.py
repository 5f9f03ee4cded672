"""V-JEPA 2 on a CPU, without torch: runs an exported graph by OpenVINO or ONNX Runtime.

    clips of pictures -> crop -> [graph], one clip at a time -> features (B, S, D) float32

`offline.exporting.encoder_export` writes the files: float32.onnx, which OpenVINO runs in bfloat16
too, and int8.onnx. `models.vjepa2.encoder` chooses the variant that is fastest on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.preprocess import Pictures, crop_pictures, resized_short_side

FLOAT32 = "float32.onnx"  # names of the files in a bundle's encoder/
INT8 = "int8.onnx"
WAYS = (  # names of all variants: a runtime and a precision
    "openvino-float32",
    "openvino-bfloat16",
    "openvino-int8",
    "onnxruntime-float32",
    "onnxruntime-int8",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphVariant:
    """A file, the runtime that runs it and the precision of its arithmetic."""

    runtime: str  # "openvino", "onnxruntime"
    precision: str  # "float32", "bfloat16", "int8"
    file: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> GraphVariant:
        """The variant `name`, one of `WAYS`, of the files in `folder`."""
        runtime, precision = name.split("-")
        file = folder / (INT8 if precision == "int8" else FLOAT32)
        return cls(runtime=runtime, precision=precision, file=file)

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"


def installed_runtimes() -> list[str]:
    """Which of "openvino" and "onnxruntime" are installed."""
    return [name for name in ("openvino", "onnxruntime") if find_spec(name)]


def has_bfloat16() -> bool:
    """True if OpenVINO is installed and the processor has bfloat16 arithmetic."""
    if find_spec("openvino") is None:
        return False
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def spare_cores() -> int:
    """How many threads an encoder may use: all cores but one, which media and the page need."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (have or 1) - 1)


class GraphEngine:
    """Implements `models.vjepa2.encoder.Engine`.

    It encodes one clip at a time, since several at once were no faster (384 wide, 160 px, int8,
    milliseconds a clip by 1, 2 and 4: 162, 165, 169 on one thread, 84, 85, 85 on two). So a clip's
    features are the same to the last bit alone and in any batch.
    """

    device = "cpu"

    def __init__(
        self, spec: EncoderSpec, variant: GraphVariant, threads: int | None = None
    ) -> None:
        """Open the graph; it uses `threads` threads, by default all cores but one.

        Raises:
            ValueError: it can't be opened, or it is not the encoder that `spec` describes.
        """
        self.name = variant.name.replace("-", " ")
        graph = open_graph(variant, threads or spare_cores())
        self._frames, self._crop = graph.clip[:2]
        size = (spec.frames, self._crop, self._crop, 3)
        steps, width = graph.features
        pooled = spec.kind == "vjepa2"
        if (
            graph.clip != size
            or resized_short_side(self._crop) != spec.short_side
            or width != spec.dim
            or (steps != spec.frames // 2 if pooled else steps % (spec.frames // 2))
        ):
            raise ValueError(
                f"{variant.file}: takes pictures {graph.clip} and returns features "
                f"{graph.features}, which is no {spec.kind} of {spec.frames} frames, "
                f"short side {spec.short_side} px and {spec.dim} features"
            )
        self._graph: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = graph

    def encode(self, clips: Sequence[Pictures]) -> NDArray[np.float32]:
        """See `Engine`.

        Raises:
            ValueError: a clip of another length, or the engine is closed.
        """
        if self._graph is None:
            raise ValueError("this encoder is closed")
        for clip in clips:
            if len(clip) != self._frames:
                raise ValueError(f"a clip has {len(clip)} frames, not {self._frames}")
        return np.stack([self._graph(crop_pictures(clip, self._crop)) for clip in clips])

    def close(self) -> None:
        self._graph = None


class Graph(Protocol):
    """One clip's pictures (T, H, W, C) uint8 -> features (S, D). Called from one thread at a time.

    `clip` and `features` are these two sizes.
    """

    clip: tuple[int, ...]
    features: tuple[int, ...]

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def open_graph(variant: GraphVariant, threads: int) -> Graph:
    """The graph in `variant.file`, ready to run.

    Raises:
        ValueError: it can't be opened, or it does not map pictures to features.
    """
    try:
        if variant.runtime == "openvino":
            return _OpenVino(variant, threads)
        return _OnnxRuntime(variant.file, threads)
    except ModuleNotFoundError as exc:
        raise ValueError(f"{variant.name} needs {exc.name}: pip install {exc.name}") from exc
    except _ForeignGraph as exc:
        raise ValueError(f"{variant.file}: {exc}") from exc
    except Exception as exc:  # the errors of both runtimes share no other base
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        why = lines[-1] if lines else repr(exc)
        raise ValueError(f"{variant.file}: {variant.runtime} can't open it: {why}") from exc


class _ForeignGraph(ValueError):
    """A graph that `offline.export` did not write."""


class _OpenVino:
    def __init__(self, variant: GraphVariant, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        model = core.read_model(variant.file)
        inputs = [_shape(port.partial_shape) for port in model.inputs]
        outputs = [_shape(port.partial_shape) for port in model.outputs]
        types = [port.element_type.get_type_name() for port in (*model.inputs, *model.outputs)]
        self.clip, self.features = _sizes(inputs, outputs, types == ["u8", "f32"])
        model.reshape({model.input(): [1, *self.clip]})  # compiled for one size, it is faster
        float32 = variant.precision == "float32" or not has_bfloat16()
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Otherwise the calling thread is tied to the first core, in every process.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": "f32" if float32 else "bf16",  # of what is not int8
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
        options.log_severity_level = (
            4  # nothing: errors are raised, and our own messages say the rest
        )
        self._session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = [port.type for port in (*inputs, *outputs)] == ["tensor(uint8)", "tensor(float)"]
        shapes = [port.shape for port in inputs], [port.shape for port in outputs]
        self.clip, self.features = _sizes(*shapes, types)
        self._input = inputs[0].name

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        [features] = self._session.run(None, {self._input: pictures[None]})
        clip: NDArray[np.float32] = features[0]
        return clip


def _shape(partial: Any) -> list[int | None]:
    """The axes of an OpenVINO shape, None for a free one; [] if their number is free too."""
    if partial.rank.is_dynamic:
        return []
    return [None if axis.is_dynamic else axis.get_length() for axis in partial]


def _sizes(
    inputs: Sequence[Sequence[Any]], outputs: Sequence[Sequence[Any]], types_fit: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a clip and of its features, from the shapes of all inputs and outputs."""
    ranks = [len(shape) for shape in (*inputs, *outputs)]
    if len(inputs) == 1 and ranks == [5, 3] and types_fit:
        clip, features = inputs[0][1:], outputs[0][1:]
        if all(isinstance(axis, int) for axis in (*clip, *features)):
            return tuple(clip), tuple(features)
    raise _ForeignGraph(
        f"takes {list(map(list, inputs))} and returns {list(map(list, outputs))}; an encoder takes "
        "pictures (B, T, H, W, C) uint8 and returns features (B, S, D) float32, only B free"
    )

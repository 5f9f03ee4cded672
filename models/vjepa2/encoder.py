"""The V-JEPA 2 encoder: clips -> patch features, by the engine that is best on this machine.

    windows -> [engine] -> all tokens, or the mean of each time step -> classifier

Kind "vjepa2" returns the mean of a time step's patches, (T/2, D); "vjepa2-tokens" returns all of
them, (T/2 * P, D), ordered by time, row, column. A GPU runs the weights by torch; a CPU runs the
exported graph by the runtime and precision that are fastest there.
"""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.schema import Clip, Embedding, EncoderSpec, Features
from models.vjepa2.graph_engine import (
    GraphEngine,
    GraphVariant,
    has_bfloat16,
    installed_runtimes,
    spare_cores,
)
from models.vjepa2.preprocess import Pictures

_BUDGET_S = 6.0  # after so long no further variant is tried
_RUNS = 3  # timed runs of each engine, after one to warm up
_HOPELESS = 1.5  # a first run so many times as slow as the best engine's is not repeated

_ORDER = (  # the likeliest to be the fastest first
    "openvino-int8",
    "openvino-bfloat16",
    "openvino-float32",
    "onnxruntime-int8",
    "onnxruntime-float32",
)

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs the encoder on one device. Called from one thread at a time.

    A clip's features are the same alone and in any batch.
    """

    @property
    def name(self) -> str:
        """What computes, for people: "torch float32"."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        ...

    def encode(self, clips: Sequence[Pictures]) -> Features:
        """(B, S, D) The features of each clip: S tokens, or S time steps.

        Raises:
            ValueError: a clip does not have as many pictures as the engine was made for.
            OutOfMemory, DeviceLost: see `models.faults`.
        """
        ...

    def close(self) -> None: ...


class VJEPA2Encoder:
    """Implements `models.schema.DeviceEncoder`. Keeps nothing between clips."""

    def __init__(self, spec: EncoderSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine

    @classmethod
    def open(
        cls,
        spec: EncoderSpec,
        device: str = "auto",
        graphs: Sequence[GraphVariant] = (),
        batch: int | None = None,
    ) -> VJEPA2Encoder:
        """The encoder that `spec` pins, on `device`; more: see `models.encoders.open_encoder`.

        Raises:
            OSError: its checkpoint is not there.
            ValueError: it is not the one that `spec` pins, there is no such device, or a package is
                missing.
        """
        return cls(spec, open_vjepa2_engine(spec, device, graphs, batch))

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def device(self) -> str:
        return self._engine.device

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        """Encode `clips`, in order.

        Raises:
            ValueError: a clip does not have `spec.frames` frames, or the encoder is closed.
        """
        if not clips:
            return []
        features = on_host(self.encode_on_device(clips))
        return [
            Embedding(features=rows, start_s=clip.start_s, end_s=clip.end_s)
            for rows, clip in zip(features, clips, strict=True)
        ]

    def encode_on_device(self, clips: Sequence[Clip]) -> Features:
        """See `models.schema.DeviceEncoder`; at least one clip.

        Raises:
            ValueError: see `encode`.
        """
        return self._engine.encode([[frame.image for frame in c.frames] for c in clips])

    def forget(self, stream: str) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        self._engine.close()


def on_host(features: Features) -> NDArray[np.float32]:
    """`features` as a NumPy array, copied only from a device that has memory of its own."""
    if isinstance(features, np.ndarray):
        return features
    tensor: Any = features  # of torch, which this file must not import
    array: NDArray[np.float32] = tensor.numpy(force=True)
    return array


def open_vjepa2_engine(
    spec: EncoderSpec,
    device: str,
    graphs: Sequence[GraphVariant] = (),
    batch: int | None = None,
) -> Engine:
    """The best engine for `spec` on `device`. Imports only what that engine needs.

    A GPU runs the weights. A CPU runs the fastest of `graphs`, or the weights if there are none.

    Raises:
        OSError, ValueError: see `VJEPA2Encoder.open`.
    """
    if not graphs:
        return _torch_engine(spec, device, batch)
    if device == "cpu" or (device == "auto" and not has_gpu()):
        return open_fastest_graph(spec, graphs)
    try:
        return _torch_engine(spec, "cuda" if device == "auto" else device)
    except (ValueError, OSError) as exc:
        if device != "auto":
            raise ValueError(f"{device} runs the encoder's weights: {exc}") from exc
        _log.warning("the GPU is not used: %s", exc)
        return open_fastest_graph(spec, graphs)


def has_gpu() -> bool:
    """True if NVIDIA's driver reports a GPU. Works without torch, which imports in seconds."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int()
        return (
            driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        ) and count.value > 0
    return False


def _torch_engine(spec: EncoderSpec, device: str, batch: int | None = None) -> Engine:
    try:
        from models.vjepa2.torch_engine import TorchEngine
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.split(".")[0] not in ("torch", "transformers"):
            raise
        raise ValueError(
            f'this model needs {exc.name}: pip install "livegloss[gpu]", or use --model builtin'
        ) from exc
    engine = TorchEngine.open(spec, device, sizes=() if batch is None else (batch,))
    if engine.device == "cpu":
        sys.modules["torch"].set_num_threads(spare_cores())
    return engine


def open_fastest_graph(spec: EncoderSpec, graphs: Sequence[GraphVariant]) -> Engine:
    """The engine that is fastest here, of `graphs`; the log has its name and all times.

    Which one that is depends on the processor, so each candidate encodes a clip of noise.

    Raises:
        ValueError: none of them can be opened; the message names the first and says why.
    """
    candidates = usable_variants(graphs, installed_runtimes(), has_bfloat16())
    noise = np.random.default_rng(0)
    side = spec.short_side
    clip = [noise.integers(0, 256, (side, side, 3), np.uint8) for _ in range(spec.frames)]
    best, times = fastest(candidates, lambda variant: GraphEngine(spec, variant), [clip])
    figures = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
    _log.info("V-JEPA 2 runs by %s, %d threads; a clip took %s", best.name, spare_cores(), figures)
    return best


def usable_variants(
    graphs: Sequence[GraphVariant], installed: Collection[str], bfloat16: bool
) -> list[GraphVariant]:
    """Those of `graphs` that may be the fastest here, the likeliest first.

    Where bfloat16 may be used, float32 is not tried: bfloat16 runs the same file 1.8 times as fast.
    The order is that of our own measurements, see docs/vjepa2.md.
    """
    here = {
        variant.name: variant
        for variant in graphs
        if variant.runtime in installed and (bfloat16 or variant.precision != "bfloat16")
    }
    slower = "float32" if "openvino-bfloat16" in here else ""
    return [here[name] for name in _ORDER if name in here and here[name].precision != slower]


def fastest(
    candidates: Sequence[GraphVariant],
    open_engine: Callable[[GraphVariant], Engine],
    clips: Sequence[Pictures],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Engine, dict[str, float]]:
    """The engine that encodes `clips` soonest, and the seconds that each tried variant took.

    At most two are open at a time. One that can't be opened is logged and left out.

    Raises:
        ValueError: none can be opened.
    """
    best: Engine | None = None
    least = math.inf
    times: dict[str, float] = {}
    problems: list[ValueError] = []
    began = clock()
    for variant in candidates:
        if best is not None and clock() - began > _BUDGET_S:
            break
        try:
            engine = open_engine(variant)
        except ValueError as exc:
            _log.warning("%s", exc)
            problems.append(exc)
            continue
        seconds = _time(engine, clips, least, clock)
        times[variant.name] = seconds
        slower: Engine | None = engine
        if seconds < least:
            slower, best, least = best, engine, seconds
        if slower is not None:
            slower.close()
    if best is None:
        problems.append(ValueError("nothing here runs the encoder's graph: pip install openvino"))
        raise problems[0]
    return best, times


def _time(
    engine: Engine, clips: Sequence[Pictures], least: float, clock: Callable[[], float]
) -> float:
    """Seconds of the quickest of a few runs, or of the first one if that decides."""

    def run() -> float:
        began = clock()
        engine.encode(clips)
        return clock() - began

    first = run()
    if first > _HOPELESS * least or first > _BUDGET_S:
        return first
    return min(run() for _ in range(_RUNS))

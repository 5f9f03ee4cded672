"""V-JEPA 2 on a CPU by its exported graph: the engine that needs no torch, and which one is best.

    clips of pictures -> crop -> [graph], one clip at a time -> features (B, S, D)

A bundle's files can run in several ways. Which is fastest depends on the processor, so each way
that could be is tried once, when the bundle is opened.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.engine import Engine, Pictures
from models.vjepa2.graph import GraphVariant, has_bfloat16, open_graph, runtimes, spare_cores
from models.vjepa2.preprocess import crop_pictures, resized_short_side

_BUDGET_S = 6.0  # once trying has taken so long, the best so far is it
_RUNS = 3  # of each engine, after one to warm up
_HOPELESS = 1.5  # a first run so many times as slow as the best engine is not repeated

_ORDER = (  # the likeliest to be the fastest first
    "openvino-int8",
    "openvino-bfloat16",
    "openvino-float32",
    "onnxruntime-int8",
    "onnxruntime-float32",
)
_WHOLE = ("openvino-float32", "onnxruntime-float32")

_log = logging.getLogger(__name__)


class GraphEngine:
    """Implements `models.vjepa2.engine.Engine`.

    One clip at a time, since several at once were no faster (384 wide, 160 px, int8, milliseconds a
    clip by 1, 2 and 4: 162, 165, 169 on one thread, 84, 85, 85 on two). So a clip's features are
    the same to the last bit alone and in any batch.
    """

    device = "cpu"

    def __init__(
        self, spec: EncoderSpec, candidate: GraphVariant, threads: int | None = None
    ) -> None:
        """Open the graph; `threads`: how many it may have, None for all cores but one.

        Raises:
            ValueError: it can't be opened, or is not of an encoder as `spec` says.
        """
        self.name = candidate.name.replace("-", " ")
        graph = open_graph(candidate, threads or spare_cores())
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
                f"{candidate.file}: takes pictures {graph.clip} and gives features "
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


def open_graph_engine(spec: EncoderSpec, graphs: Sequence[GraphVariant]) -> Engine:
    """The fastest engine here of those that `graphs` allow; the log says which, and the figures.

    Raises:
        ValueError: not one of them can be opened; the message names the first and says why.
    """
    ways = usable_variants(graphs, runtimes(), has_bfloat16())
    noise = np.random.default_rng(0)
    side = spec.short_side
    clip = [noise.integers(0, 256, (side, side, 3), np.uint8) for _ in range(spec.frames)]
    best, took = fastest(ways, lambda way: GraphEngine(spec, way), [clip])
    figures = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in took.items())
    _log.info("V-JEPA 2 runs by %s, %d threads; a clip took %s", best.name, spare_cores(), figures)
    return best


def usable_variants(
    graphs: Sequence[GraphVariant], installed: Collection[str], bfloat16: bool
) -> list[GraphVariant]:
    """Those of `graphs` that may be the fastest here, the likeliest first.

    Where bfloat16 may be taken, float32 is not tried: the same file is 1.8 times as fast. The order
    is that of our own measurements, see docs/vjepa2.md.
    """
    here = {
        one.name: one
        for one in graphs
        if one.runtime in installed and (bfloat16 or one.precision != "bfloat16")
    }
    slower = _WHOLE if "openvino-bfloat16" in here else ()
    return [here[name] for name in _ORDER if name in here and name not in slower]


def fastest(
    ways: Sequence[GraphVariant],
    open_engine: Callable[[GraphVariant], Engine],
    clips: Sequence[Pictures],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Engine, dict[str, float]]:
    """The engine that encodes `clips` soonest, and how many seconds each that was tried took.

    At most two are open at a time. A way that can't be opened is told in the log and left out.

    Raises:
        ValueError: none can be opened.
    """
    best: Engine | None = None
    least = math.inf
    took: dict[str, float] = {}
    problems: list[ValueError] = []
    began = clock()
    for way in ways:
        if best is not None and clock() - began > _BUDGET_S:
            break
        try:
            engine = open_engine(way)
        except ValueError as exc:
            _log.warning("%s", exc)
            problems.append(exc)
            continue
        seconds = _seconds(engine, clips, least, clock)
        took[way.name] = seconds
        worse = engine
        if seconds < least:
            worse, best, least = best or engine, engine, seconds
        if worse is not best:
            worse.close()
    if best is None:
        problems.append(ValueError("nothing here runs the encoder's graph: pip install openvino"))
        raise problems[0]
    return best, took


def _seconds(
    engine: Engine, clips: Sequence[Pictures], least: float, clock: Callable[[], float]
) -> float:
    """What the quickest of a few runs took, or the first one if it decides."""

    def run() -> float:
        began = clock()
        engine.encode(clips)
        return clock() - began

    first = run()
    if first > _HOPELESS * least or first > _BUDGET_S:
        return first
    return min(run() for _ in range(_RUNS))

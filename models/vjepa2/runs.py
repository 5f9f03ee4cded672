"""Runs the encoder at a few batch sizes: directly on a CPU, as CUDA graphs on a GPU.

    number of clips -> [buckets] -> batch sizes, the last one padded if that is cheaper
    pictures in a fixed buffer on the device -> [runs] -> features (size, S, D)

On a GPU the blocks are compiled (one graph serves all blocks of a batch size, so that 40 blocks
compile as fast as one), then a whole run is captured: a batch is one launch, and a replay takes no
memory. All graphs share the memory of the largest.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.vjepa2.model import PictureEncoder, VideoTransformer

_log = logging.getLogger(__name__)

# torch allows one capture at a time in a process, and each GPU has a thread.
_CAPTURE = threading.Lock()


class Buckets:
    """Batch sizes and the cost of a run of each, in any unit that is the same for all."""

    def __init__(self, costs: Mapping[int, float]) -> None:
        """`costs`: size (clips) -> cost of a run, however many of its places are filled.

        Raises:
            ValueError: there is no size, or one below 1.
        """
        if not costs or min(costs) < 1:
            raise ValueError(f"batch sizes must be at least 1, not {sorted(costs)}")
        self.costs = dict(sorted(costs.items()))

    @property
    def largest(self) -> int:
        return max(self.costs)

    def split(self, count: int) -> list[int]:
        """The sizes of the cheapest runs that hold `count` clips, large ones first.

        At the same cost fewer runs are taken. Only the last run may have empty places.
        """
        # best[n]: cost and number of runs for n clips, and the size of one of them
        best = [(0.0, 0, 0)]
        for clips in range(1, count + 1):
            best.append(
                min(
                    (best[max(0, clips - size)][0] + cost, best[max(0, clips - size)][1] + 1, size)
                    for size, cost in self.costs.items()
                )
            )
        sizes: list[int] = []
        while count > 0:
            sizes.append(best[count][2])
            count -= sizes[-1]
        return sorted(sizes, reverse=True)

    def without_largest(self) -> Buckets:
        """All sizes but the largest; unchanged if there is only one."""
        smaller = {size: cost for size, cost in self.costs.items() if size != self.largest}
        return Buckets(smaller) if smaller else self


class Runs:
    """An encoder at the batch sizes of `buckets`. Called from one thread at a time.

    A run reads its batch from the first rows of `pictures` (B, T, H, W, C) uint8.
    """

    def __init__(
        self,
        encoder: PictureEncoder,
        sizes: Iterable[int],
        device: torch.device,
    ) -> None:
        """Costs are not measured: a run costs its size, so that no run is padded."""
        frames, channels, height, width = encoder.model.video_size
        self._encoder = encoder
        self.buckets = Buckets({size: float(size) for size in sizes})
        self.pictures = torch.zeros(
            (self.buckets.largest, frames, height, width, channels),
            dtype=torch.uint8,
            device=device,
        )

    @torch.inference_mode()
    def run(self, size: int) -> Tensor:
        """(size, S, D) float32 The features of the first `size` clips, valid until the next run."""
        features: Tensor = self._encoder(self.pictures[:size])
        return features

    def drop_largest(self) -> None:
        """Give up the largest size, which needs the most memory."""
        self.buckets = self.buckets.without_largest()


class CapturedRuns(Runs):
    """CUDA graphs of the sizes that fit into memory. Runs are queued on `stream`."""

    def __init__(
        self,
        encoder: PictureEncoder,
        sizes: Iterable[int],
        device: torch.device,
        stream: torch.cuda.Stream,
    ) -> None:
        """Compile and capture, which takes seconds a size.

        Raises:
            torch.OutOfMemoryError: not even the smallest size fits.
        """
        super().__init__(encoder, sizes, device)
        torch.cuda.synchronize(device)  # weights may have been copied on another stream
        if can_compile(device):
            compile_blocks(encoder.model)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        costs: dict[int, float] = {}
        pool = torch.cuda.graph_pool_handle()
        smallest = min(self.buckets.costs)
        for size in sorted(self.buckets.costs, reverse=True):  # small ones fit where large ones did
            with contextlib.suppress(*([] if size == smallest else [torch.OutOfMemoryError])):
                self._graphs[size] = self._captured(size, stream, pool)
                costs[size] = self._measured(size, stream)
            if size not in costs:
                torch.cuda.empty_cache()
                _log.warning("%s: no memory for %d clips at once", device, size)
        self.buckets = Buckets(costs)

    def run(self, size: int) -> Tensor:
        graph, features = self._graphs[size]
        graph.replay()
        return features

    def drop_largest(self) -> None:
        super().drop_largest()
        self._graphs = {size: self._graphs[size] for size in self.buckets.costs}

    @torch.inference_mode()
    def _captured(
        self, size: int, stream: torch.cuda.Stream, pool: Any
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # Run before the capture, so that kernels are compiled and workspaces allocated.
        with torch.cuda.stream(stream):
            for _ in range(3):
                super().run(size)
        graph = torch.cuda.CUDAGraph()
        # "thread_local": threads of other devices may allocate meanwhile, which "global" forbids.
        with (
            _CAPTURE,
            torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"),
        ):
            features = super().run(size)
        return graph, features

    def _measured(self, size: int, stream: torch.cuda.Stream) -> float:
        """Milliseconds of a run, the median of three."""
        times: list[float] = []
        with torch.cuda.stream(stream):
            for _ in range(3):
                stream.synchronize()
                began = time.perf_counter()
                self.run(size)
                stream.synchronize()
                times.append(1000 * (time.perf_counter() - began))
        return statistics.median(times)


def compile_blocks(model: VideoTransformer, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks in place, at the first call with each batch size.

    torch stores a compiled graph with the block's code, and the weights are its inputs: the first
    block's graph serves all others.
    """
    import torch._dynamo  # takes a second, and a CPU does not need it

    # One graph for each batch size and device; by default torch silently stops after 8.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)


def can_compile(device: torch.device) -> bool:
    """Whether torch can compile for `device` here, which needs Triton and a C compiler."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as exc:  # its errors share no public base but Exception
        _log.warning("%s: not compiled, so slower: %s", device, str(exc).strip().split("\n")[0])
        return False
    return True

"""The encoder made ready for some batch sizes: plain on a CPU, CUDA graphs on a GPU.

    pictures in their place on the device -> [runs] -> features (size, S, D)

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

logger = logging.getLogger(__name__)

# torch: only one capture may be under way at a time in a process, and each GPU has a thread.
_CAPTURE = threading.Lock()


class Runs:
    """Batch sizes of an encoder. Called from one thread at a time.

    `pictures` (B, T, H, W, C) uint8 is where a run reads its batch from, its first rows.
    """

    def __init__(
        self,
        encoder: PictureEncoder,
        sizes: Iterable[int],
        device: torch.device,
    ) -> None:
        """Nothing is measured here: a run costs what it holds, so that no place stays empty."""
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
        """(size, S, D) float32 The features of the first `size` clips, until the next run."""
        features: Tensor = self._encoder(self.pictures[:size])
        return features

    def give_way(self) -> None:
        """Do without the largest size: it needs the most memory."""
        self.buckets = self.buckets.without_largest()


class CapturedRuns(Runs):
    """CUDA graphs, as many of the sizes as the memory holds. Runs are queued on `stream`."""

    def __init__(
        self,
        encoder: PictureEncoder,
        sizes: Iterable[int],
        device: torch.device,
        stream: torch.cuda.Stream,
    ) -> None:
        """Compiles and captures, which takes seconds a size.

        Raises:
            torch.OutOfMemoryError: not even the smallest size fits.
        """
        super().__init__(encoder, sizes, device)
        torch.cuda.synchronize(device)  # weights may have come by another stream than `stream`
        if compiles(device):
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
                logger.warning("%s: no memory for %d clips at once", device, size)
        self.buckets = Buckets(costs)

    def run(self, size: int) -> Tensor:
        graph, features = self._graphs[size]
        graph.replay()
        return features

    def give_way(self) -> None:
        super().give_way()
        self._graphs = {size: self._graphs[size] for size in self.buckets.costs}

    @torch.inference_mode()
    def _captured(
        self, size: int, stream: torch.cuda.Stream, pool: Any
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # Before a capture everything must have run: kernels are compiled, workspaces allocated.
        with torch.cuda.stream(stream):
            for _ in range(3):
                super().run(size)
        graph = torch.cuda.CUDAGraph()
        # "thread_local": other devices' threads may allocate meanwhile, which "global" forbids.
        with (
            _CAPTURE,
            torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"),
        ):
            features = super().run(size)
        return graph, features

    def _measured(self, size: int, stream: torch.cuda.Stream) -> float:
        """Milliseconds of a run."""
        took: list[float] = []
        with torch.cuda.stream(stream):
            for _ in range(3):
                stream.synchronize()
                began = time.perf_counter()
                self.run(size)
                stream.synchronize()
                took.append(1000 * (time.perf_counter() - began))
        return statistics.median(took)


def compile_blocks(model: VideoTransformer, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks in their place, when they are first called with a batch size.

    torch keeps what it compiled with the block's code: the first block's graph serves all others,
    whose weights are inputs of it.
    """
    import torch._dynamo  # takes a second, and a CPU does without

    # A graph for each batch size and device; torch would silently stop compiling after 8.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)


def compiles(device: torch.device) -> bool:
    """Whether torch can compile for `device` here: it needs Triton, and a C compiler with it."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as exc:  # its errors share no public base but Exception
        logger.warning("%s: not compiled, so slower: %s", device, str(exc).strip().split("\n")[0])
        return False
    return True


# MERGED from models.vjepa2.buckets: How clips are dealt to the batch sizes that an engine has
# ready: plain arithmetic. number of clips -> [buckets] -> sizes of the runs, the last one padded
# if need be It knows neither device nor model.


class Buckets:
    """Batch sizes and what a run of each costs, in any unit, all of the same."""

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
            ways = (
                (best[max(0, clips - size)][0] + cost, best[max(0, clips - size)][1] + 1, size)
                for size, cost in self.costs.items()
            )
            best.append(min(ways))
        sizes: list[int] = []
        while count > 0:
            sizes.append(best[count][2])
            count -= sizes[-1]
        return sorted(sizes, reverse=True)

    def without_largest(self) -> Buckets:
        """The smaller sizes; the same again where there is but one."""
        smaller = {size: cost for size, cost in self.costs.items() if size != self.largest}
        return Buckets(smaller) if smaller else self

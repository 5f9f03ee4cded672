"""Batch sizes, and captures on a stand-in for CUDA: a graph replays by running the encoder."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from models.vjepa2 import runs
from models.vjepa2.model import PictureEncoder, Shape, VideoTransformer
from models.vjepa2.runs import Buckets, CapturedRuns, Runs, compile_blocks

CPU = torch.device("cpu")


def test_runs_that_cost_their_size_are_never_padded() -> None:
    buckets = Buckets({size: float(size) for size in (1, 2, 4, 8)})
    assert buckets.split(11) == [8, 2, 1]
    assert buckets.split(16) == [8, 8]
    assert buckets.split(1) == [1]
    assert buckets.split(0) == []


def test_a_padded_run_where_it_is_cheaper() -> None:
    buckets = Buckets({1: 3, 2: 4, 4: 6, 8: 11})  # small runs fill the device badly
    assert buckets.split(3) == [4]
    assert buckets.split(5) == [4, 1]
    assert buckets.split(7) == [8]
    assert buckets.split(11) == [8, 4]


def test_no_other_split_is_cheaper_and_only_the_last_run_is_padded() -> None:
    costs = {1: 2.5, 3: 4.0, 4: 6.5}
    for count in range(1, 13):
        sizes = Buckets(costs).split(count)
        cheapest = min(
            sum(costs[size] for size in split)
            for runs in range(1, count + 1)
            for split in itertools.combinations_with_replacement(costs, runs)
            if sum(split) >= count
        )
        assert sum(costs[size] for size in sizes) == cheapest
        assert sum(sizes[:-1]) < count <= sum(sizes)


def test_without_the_largest() -> None:
    buckets = Buckets({2: 1.0, 4: 1.5})
    assert buckets.without_largest().split(4) == [2, 2]
    assert buckets.without_largest().without_largest().largest == 2


@pytest.mark.parametrize("costs", [{}, {0: 1.0, 1: 1.0}])
def test_sizes_below_one_are_refused(costs: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Buckets(costs)


class Stream:
    def synchronize(self) -> None: ...


class Graph:
    replay: Callable[[], None]


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of `torch.cuda.graph`, one entry a capture."""
    calls: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def graph(graph: Graph, pool: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        calls.append({"pool": pool, "stream": stream, "mode": capture_error_mode})
        yield

    for name, stand_in in {
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": object,
        "stream": lambda stream: contextlib.nullcontext(),
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(runs, "can_compile", lambda device: False)
    return calls


def model() -> VideoTransformer:
    torch.manual_seed(0)
    shape = Shape(width=32, depth=3, heads=2, hidden=64, patch=8)
    return VideoTransformer(shape, (2, 4, 4)).eval().requires_grad_(False)


class Replaying(CapturedRuns):
    """Captures as CUDA would: the replay writes to where the captured run wrote."""

    room = 100  # clips that the memory holds at once

    def _captured(self, size: int, stream: Any, pool: Any) -> tuple[Any, Tensor]:
        if size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        graph, features = super()._captured(size, stream, pool)

        @torch.inference_mode()
        def replay() -> None:
            features.copy_(Runs.run(self, size))

        stand_in: Any = graph
        stand_in.replay = replay
        return graph, features


def captured(*sizes: int) -> Replaying:
    stream: Any = Stream()
    return Replaying(PictureEncoder(model(), pooled=True), sizes, CPU, stream)


def test_each_size_is_captured_once_the_largest_first(captures: list[dict[str, Any]]) -> None:
    made = captured(1, 2, 4)
    assert set(made.buckets.costs) == {1, 2, 4} and made.buckets.costs[4] > 0
    assert len(captures) == 3 and len({id(call["pool"]) for call in captures}) == 1
    assert {call["mode"] for call in captures} == {"thread_local"}  # other GPUs may go on
    assert list(made._graphs) == [4, 2, 1]


def test_a_replay_reads_what_is_in_the_pictures_now(captures: list[dict[str, Any]]) -> None:
    made = captured(2)
    plain = Runs(PictureEncoder(model(), pooled=True), [2], CPU)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        made.pictures.random_(0, 256, generator=generator)
        plain.pictures.copy_(made.pictures)
        torch.testing.assert_close(made.run(2), plain.run(2))


def test_as_many_sizes_as_the_memory_holds(
    captures: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replaying, "room", 3)
    made = captured(1, 2, 4, 8)
    assert made.buckets.largest == 2
    made.drop_largest()
    assert made.buckets.split(3) == [1, 1, 1] and list(made._graphs) == [1]
    monkeypatch.setattr(Replaying, "room", 0)
    with pytest.raises(torch.OutOfMemoryError):
        captured(1, 2)


def test_one_compilation_serves_all_blocks_of_a_batch_size() -> None:
    torch._dynamo.reset()
    compiled, counter = model(), CompileCounter()
    compile_blocks(compiled, counter)
    with torch.inference_mode():
        for batch in (1, 2, 2):
            video = torch.randn(batch, 4, 3, 32, 32)
            torch.testing.assert_close(compiled(video), model()(video))
    assert counter.frame_count == 2


def test_where_nothing_compiles_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("Failed to find C compiler. Please specify via CC\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    assert not runs.can_compile(CPU)
    assert "not compiled, so slower: Failed to find C compiler" in caplog.text
    assert "and more" not in caplog.text

"""Measures a case: its engines take turns, round by round, so that noise disturbs them alike.

    a case and names of engines -> [measure] -> figures of each: medians, memory, or its error

An engine that can't be made or run is told, and the others go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from models.bench.cases import Case
from models.bench.engines import DTYPES, ENGINES, Call, Setup
from models.bench.report import Figures


def measure(
    case: Case, engines: Sequence[str], device: torch.device, rounds: int, rate: float
) -> list[Figures]:
    """Figures of each engine for `case`; `rate` is the machine's of matrix products, FLOP/s."""
    setup = Setup(case, device)
    calls: dict[str, Call] = {}
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    told: dict[str, dict[str, Any]] = {engine: {} for engine in engines}
    with torch.inference_mode():
        _ = setup.video  # no engine's memory
        for engine in engines:
            told[engine] = _first(setup, engine, calls)
        for _, engine in itertools.product(range(rounds), list(calls)):
            if "error" not in told[engine]:
                try:
                    times[engine].append(seconds(calls[engine], device))
                except Exception as error:
                    told[engine] = {"error": _line(error)}
    return [
        Figures(case=case, engine=engine, **told[engine])
        if "error" in told[engine]
        else Figures.of(case, engine, statistics.median(times[engine]), rate, **told[engine])
        for engine in engines
    ]


def _first(setup: Setup, engine: str, calls: dict[str, Call]) -> dict[str, Any]:
    """Make an engine and run it twice, untimed: its memory and its likeness, or its error."""
    before = _memory_mb(setup.device)
    try:
        call = ENGINES[engine](setup)
        _memory_mb(setup.device)  # the peak of making it is forgotten
        seconds(call, setup.device)
        call()
    except Exception as error:  # no room, nothing to compile with, a package that is not there
        return {"error": _line(error)}
    calls[engine] = call
    after = _memory_mb(setup.device, peak=True)
    told: dict[str, Any] = {}
    if before is not None and after is not None:
        told["memory_mb"] = round(after - before)
    return told


def seconds(act: Callable[[], Any], device: torch.device) -> float:
    """How long `act` takes, with all that it queues on the device."""
    _synchronize(device)
    began = time.perf_counter()
    act()
    _synchronize(device)
    return time.perf_counter() - began


def matmul_rate(device: torch.device, dtype: str) -> float:
    """FLOP/s of this machine's matrix products, the best of a few large ones."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=DTYPES[dtype])
    return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(10))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory_mb(device: torch.device, *, peak: bool = False) -> float | None:
    """What this process holds, of a GPU what torch reserves; or the most since the last asking.

    None where the system does not tell.
    """
    gc.collect()
    if device.type == "cuda":
        most = torch.cuda.max_memory_reserved(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return (most if peak else torch.cuda.memory_reserved(device)) / 2**20
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed, and would give it out again
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak: proc(5)
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]

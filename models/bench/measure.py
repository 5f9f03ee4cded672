"""Measures a case: its engines take turns, round by round, so that noise disturbs them alike.

    a case and names of engines -> [measure_case] -> figures of each, or its error -> [table]

If an engine can't be made or run, its figures hold the error and the others go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import torch
import transformers

from models.bench.cases import Case
from models.bench.engines import ENGINES, Call, Setup
from models.vjepa2.torch_engine import DTYPES

_COLUMNS = "size frames batch dtype engine ms/clip floor clips/s TFLOP/s of-matmul MiB".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One engine's medians for one case, or its `error`."""

    case: Case
    engine: str
    ms: float | None = None  # a batch
    floor_ms: float | None = None  # a batch, if all were matrix products at the measured rate
    clips_per_s: float | None = None
    tflops: float | None = None  # a second
    of_matmul: float | None = None  # share of the measured rate of matrix products
    memory_mb: float | None = None  # with weights; on a GPU what torch reserves
    error: str | None = None

    @classmethod
    def of(
        cls, case: Case, engine: str, batch_s: float, rate: float, memory_mb: float | None = None
    ) -> Figures:
        """For a batch that took `batch_s` where matrix products run at `rate` FLOP/s."""
        return cls(
            case=case,
            engine=engine,
            ms=round(1000 * batch_s, 2),
            floor_ms=round(1000 * case.flops / rate, 2),
            clips_per_s=round(case.batch / batch_s, 2),
            tflops=round(case.flops / batch_s / 1e12, 3),
            of_matmul=round(case.flops / batch_s / rate, 3),
            memory_mb=memory_mb,
        )


def measure_case(
    case: Case, engines: Sequence[str], device: torch.device, rounds: int, rate: float
) -> list[Figures]:
    """Figures of each engine for `case`; `rate` is that of matrix products here, FLOP/s."""
    setup = Setup(case, device)
    calls: dict[str, Call] = {}
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    memory: dict[str, float | None] = {}
    errors: dict[str, str] = {}
    with torch.inference_mode():
        _ = setup.video  # made now, so that no engine's memory includes it
        for engine in engines:
            try:
                calls[engine], memory[engine] = _prepared(setup, engine)
            except Exception as error:  # no memory, no compiler, a package that is missing
                errors[engine] = _first_line(error)
        for _, engine in itertools.product(range(rounds), list(calls)):
            if engine not in errors:
                try:
                    times[engine].append(seconds(calls[engine], device))
                except Exception as error:
                    errors[engine] = _first_line(error)
    return [
        Figures(case=case, engine=engine, error=errors[engine])
        if engine in errors
        else Figures.of(case, engine, statistics.median(times[engine]), rate, memory[engine])
        for engine in engines
    ]


def _prepared(setup: Setup, engine: str) -> tuple[Call, float | None]:
    """An engine that has run twice, untimed, and its memory, MiB."""
    before = _memory_mb(setup.device)
    call = ENGINES[engine](setup)
    _memory_mb(setup.device)  # resets the peak, which the making of the engine set
    seconds(call, setup.device)
    call()
    after = _memory_mb(setup.device, peak=True)
    return call, None if before is None or after is None else round(after - before)


def seconds(act: Callable[[], Any], device: torch.device) -> float:
    """How long `act` takes, with all that it queues on the device."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    synchronize(device)
    began = time.perf_counter()
    act()
    synchronize(device)
    return time.perf_counter() - began


def matmul_rate(device: torch.device, dtype: str) -> float:
    """FLOP/s of matrix products on this machine, the best of a few large ones."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=DTYPES[dtype])
    return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(10))


def _memory_mb(device: torch.device, *, peak: bool = False) -> float | None:
    """Memory of this process, or what torch reserves of a GPU; or its peak since the last call.

    None if the system does not report it.
    """
    gc.collect()
    if device.type == "cuda":
        most = torch.cuda.max_memory_reserved(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return (most if peak else torch.cuda.memory_reserved(device)) / 2**20
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory and would reuse it
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak: proc(5)
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def table(about: Mapping[str, Any], figures: Sequence[Figures]) -> str:
    """A line about the machine and a Markdown table with one line for each engine and case."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rates = ", ".join(f"{rate:g} in {dtype}" for dtype, rate in about["matmul_tflops"].items())
    lines = [
        f"{about['device']}, {about['threads']} threads, {versions}, commit {about['commit']}, "
        f"medians of {about['rounds']} rounds. Matrix products ran at {rates} TFLOP/s.\n",
        f"| {' | '.join(_COLUMNS)} |",
        "| --- " * len(_COLUMNS) + "|",
    ]
    for row in figures:
        case = row.case
        head = f"| {case.size} | {case.frames} | {case.batch} | {case.dtype} | {row.engine} |"
        if row.ms is None or row.floor_ms is None or row.of_matmul is None:
            lines.append(f"{head} {row.error} |" + " |" * 5)
            continue
        memory = "" if row.memory_mb is None else f"{row.memory_mb:.0f}"
        lines.append(
            f"{head} {row.ms / case.batch:.1f} | {row.floor_ms / case.batch:.1f} | "
            f"{row.clips_per_s:g} | {row.tflops:g} | {row.of_matmul:.0%} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def machine(device: torch.device) -> dict[str, Any]:
    """The device, threads, versions and commit that figures are measured with."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
        models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(models, platform.processor() or "cpu")
    modules = (torch, transformers, onnxruntime, numpy)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "versions": {module.__name__: module.__version__ for module in modules},
        "commit": commit,
    }

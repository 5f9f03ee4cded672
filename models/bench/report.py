"""What `models.bench` tells: figures a case and engine, as a table, and the machine beside them."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import torch
import transformers

from models.bench.cases import Case

_COLUMNS = "size frames batch dtype engine ms/clip floor clips/s TFLOP/s of-matmul MiB".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One engine's medians for one case; `error` in their place where it could not run."""

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
    def of(cls, case: Case, engine: str, took_s: float, rate: float, **more: Any) -> Figures:
        """For a batch that took `took_s` where matrix products run at `rate` FLOP/s."""
        return cls(
            case=case,
            engine=engine,
            ms=round(1000 * took_s, 2),
            floor_ms=round(1000 * case.flops / rate, 2),
            clips_per_s=round(case.batch / took_s, 2),
            tflops=round(case.flops / took_s / 1e12, 3),
            of_matmul=round(case.flops / took_s / rate, 3),
            **more,
        )


def table(figures: Sequence[Figures]) -> str:
    """A Markdown table, one line an engine and case."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "| --- " * len(_COLUMNS) + "|"]
    for one in figures:
        case = one.case
        head = f"| {case.size} | {case.frames} | {case.batch} | {case.dtype} | {one.engine} |"
        if one.ms is None or one.floor_ms is None or one.of_matmul is None:
            lines.append(f"{head} {one.error} |" + " |" * 5)
            continue
        memory = "" if one.memory_mb is None else f"{one.memory_mb:.0f}"
        lines.append(
            f"{head} {one.ms / case.batch:.1f} | {one.floor_ms / case.batch:.1f} | "
            f"{one.clips_per_s:g} | {one.tflops:g} | {one.of_matmul:.0%} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def section(about: Mapping[str, Any], figures: Sequence[Figures]) -> str:
    """The table with a line before it that says what was measured on what."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rates = ", ".join(f"{rate:g} in {dtype}" for dtype, rate in about["matmul_tflops"].items())
    return (
        f"{about['device']}, {about['threads']} threads, {versions}, commit {about['commit']}, "
        f"medians of {about['rounds']} rounds. Matrix products ran at {rates} TFLOP/s.\n\n"
        + table(figures)
    )


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between its markers of `name`; at its end where it has none."""
    begin, end = f"<!-- bench {name} -->\n", f"<!-- end of bench {name} -->\n"
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else ""
    return f"{before}{begin}\n{content}\n{end}{after}"


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the figures were measured on, and with."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    modules = (torch, transformers, onnxruntime, numpy)
    return {
        "device": _device_name(device),
        "threads": threads,
        "versions": {module.__name__: module.__version__ for module in modules},
        "commit": commit,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "cpu")

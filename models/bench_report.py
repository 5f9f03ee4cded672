"""What `models.bench` tells: figures a case and engine, as a table, and the machine beside them."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured."""

    size: str
    frames: int
    batch: int
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One engine's medians for one case; `error` in their place where it could not run."""

    case: Case
    engine: str
    ms: float | None = None  # a batch
    clips_per_s: float | None = None
    tflops: float | None = None  # a second
    of_matmul: float | None = None  # share of the measured rate of matrix products
    memory_mb: float | None = None  # peak on a GPU, above what the weights take
    error: str | None = None


def table(figures: Sequence[Figures]) -> str:
    """A Markdown table, one line an engine and case."""
    names = "size frames batch dtype engine ms/clip clips/s TFLOP/s of-matmul MiB".split()
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for one in figures:
        case = one.case
        head = f"| {case.size} | {case.frames} | {case.batch} | {case.dtype} | {one.engine} |"
        if one.ms is None or one.of_matmul is None:
            lines.append(f"{head} {one.error} | | | | |")
            continue
        memory = "" if one.memory_mb is None else f"{one.memory_mb:.0f}"
        lines.append(
            f"{head} {one.ms / case.batch:.1f} | {one.clips_per_s:g} | {one.tflops:g} | "
            f"{one.of_matmul:.0%} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the figures were measured on, and with."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or "cpu",
        "threads": threads,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "commit": commit,
    }

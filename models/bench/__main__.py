"""Measures how fast V-JEPA 2 runs here: our engines and transformers' own class, random weights.

    python -m models.bench --quick --json
    python -m models.bench --plan gpu --minutes 9.5 --report gpu.json
    python -m models.bench --plan cpu --threads 1 --rounds 5

Each case is a size, a number of frames, a batch and a dtype; its engines take turns. It needs
torch, transformers, numpy and onnxruntime; the pipeline and exported graphs need onnx and
onnxscript, too. The report is written after each case, no case is begun that would not end in
time, and the last line of stdout is a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.bench.cases import PLANS, SIZES, Case
from models.command_line import read_command_line, say
from models.files import replacing

# Seconds to make an engine and run it once, for each block: a guess for a GPU, which the figures of
# the run itself correct. A model that is compiled as a whole compiles every block anew.
_SETUP_S = {"transformers-compiled": 2.5, "lean-compiled": 0.4, "torch": 0.5, "pipeline": 0.4}
_OTHER_SETUP_S = 0.2
_SLOWEST = 0.2  # the least share of the rate of matrix products that an engine should reach


@dataclass(frozen=True, kw_only=True)
class EngineBenchSettings:
    """Measures V-JEPA 2 encoders of random weights, ours beside that of transformers."""

    plan: Literal["quick", "cpu", "gpu"] | None = None  # which cases; none: those of the device
    rounds: int = 10  # timed rounds a case
    threads: int | None = None  # CPU threads; none: torch's own choice
    minutes: float = 9.0  # end after this time
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    quick: bool = False  # the same as --plan quick --rounds 2: size S, nothing compiled
    report: Path | None = None  # file for the JSON object, written after each case
    json: bool = False  # print the JSON line alone, without the table

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError("--rounds must be at least 1")
        if self.threads is not None and self.threads < 1:
            raise ValueError("--threads must be at least 1")


class TimeBudget:
    """Predicts whether a case would end in time, from how long those before it took."""

    def __init__(self, minutes: float, rounds: int) -> None:
        self._began = time.monotonic()
        self._limit_s = 60 * minutes
        self._rounds = rounds
        self._pace = 1.0  # the largest ratio of a case's time to what was expected

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._began

    def fits(self, case: Case, engines: Sequence[str], rate: float) -> bool:
        return self.spent_s + self._pace * self.expected_s(case, engines, rate) < self._limit_s

    def learn(self, case: Case, engines: Sequence[str], rate: float, took_s: float) -> None:
        self._pace = max(self._pace, took_s / self.expected_s(case, engines, rate))

    def expected_s(self, case: Case, engines: Sequence[str], rate: float) -> float:
        setups = sum(_SETUP_S.get(engine, _OTHER_SETUP_S) for engine in engines)
        runs = (self._rounds + 2) * len(engines)
        return setups * SIZES[case.size][1] + runs * case.flops / (_SLOWEST * rate)


def main(argv: Sequence[str] | None = None) -> int:
    settings = read_command_line(EngineBenchSettings, argv, prog="python -m models.bench")

    import torch

    from models.bench.measure import machine, matmul_rate, measure_case, table
    from models.vjepa2.torch_engine import torch_device

    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        device = torch_device(settings.device)
    except ValueError as error:
        say(f"models.bench: --device {settings.device}: {error}", file=sys.stderr)
        return 2
    rounds = 2 if settings.quick else settings.rounds
    by_device = "gpu" if device.type == "cuda" else "cpu"
    plan = PLANS["quick" if settings.quick else settings.plan or by_device]
    budget = TimeBudget(settings.minutes, rounds)
    dtypes = sorted({case.dtype for case, _ in plan})
    rates = {dtype: matmul_rate(device, dtype) for dtype in dtypes}
    figures = []
    report: dict[str, Any] = {
        "figures": [],
        "skipped": [],
        "rounds": rounds,
        "matmul_tflops": {dtype: round(rate / 1e12, 3) for dtype, rate in rates.items()},
        **machine(device),
    }
    for case, engines in plan:
        rate, began = rates[case.dtype], budget.spent_s
        if not budget.fits(case, engines, rate):
            report["skipped"].append({**asdict(case), "engines": engines})
            continue
        figures += measure_case(case, engines, device, rounds, rate)
        budget.learn(case, engines, rate, budget.spent_s - began)
        if not settings.json:
            print(f"{case}: done after {budget.spent_s:.0f} s", file=sys.stderr)
        report["figures"] = [asdict(row) for row in figures]
        if settings.report:
            with replacing(settings.report) as file:
                file.write(json.dumps(report).encode())
    if not settings.json:
        print(table(report, figures))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

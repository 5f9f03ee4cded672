"""Measures how fast V-JEPA 2 runs here: our engines and transformers' own class, random weights.

    python -m models.bench --quick --json
    python -m models.bench --plan gpu --minutes 9.5 --report gpu.json
    python -m models.bench --plan cpu --threads 1 --rounds 5
    python -m models.bench --sizes L --sizes g --batches 1 --batches 16 --engines torch

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
from typing import TYPE_CHECKING, Any, Literal

from models.bench.cases import (
    ENGINE_NAMES,
    PLANS,
    SIZES,
    TORCH_ENGINES,
    BenchPlan,
    Case,
    combinations,
)
from models.command_line import read_command_line
from models.files import replacing

if TYPE_CHECKING:
    import torch

    from models.bench.measure import Figures

# Seconds to make an engine and run it once, for each block: a guess for a GPU, which the figures of
# the run itself correct. A model that is compiled as a whole compiles every block anew.
_SETUP_S = {"transformers-compiled": 2.5, "lean-compiled": 0.4, "torch": 0.5, "pipeline": 0.4}
_OTHER_SETUP_S = 0.2
_SLOWEST = 0.2  # the least share of the rate of matrix products that an engine should reach


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Measures V-JEPA 2 encoders of random weights, ours beside that of transformers."""

    plan: Literal["quick", "cpu", "gpu"] | None = None  # a list of cases, in place of the next five
    sizes: tuple[Literal["S", "B", "L", "H", "g"], ...] = ()  # encoders; none: L and g
    frames: tuple[int, ...] = ()  # frames a clip; none: 16
    batches: tuple[int, ...] = ()  # clips at once; none: 1, 4 and 16
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ()  # none: bfloat16
    engines: tuple[str, ...] = ()  # none: all that run by torch; exported graphs run on a CPU
    rounds: int = 10  # timed rounds a case
    threads: int | None = None  # CPU threads; none: torch's own choice
    minutes: float = 9.0  # end after this time
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    quick: bool = False  # the same as --plan quick --rounds 2: size S, nothing compiled
    report: Path | None = None  # file for the JSON object, written after each case
    json: bool = False  # print the JSON line alone, without the table

    def __post_init__(self) -> None:
        if any(count < 2 or count % 2 for count in self.frames):
            raise ValueError("--frames must be even")
        if min(self.batches, default=1) < 1 or self.rounds < 1:
            raise ValueError("--batches and --rounds must be at least 1")
        if self.threads is not None and self.threads < 1:
            raise ValueError("--threads must be at least 1")
        for engine in self.engines:
            if engine not in ENGINE_NAMES:
                raise ValueError(f"--engines: no {engine!r}; there are {', '.join(ENGINE_NAMES)}")

    @property
    def cases(self) -> BenchPlan:
        if self.quick or self.plan:
            return PLANS["quick" if self.quick else self.plan or ""]
        return combinations(
            self.sizes or ("L", "g"),
            self.frames or (16,),
            self.dtypes or ("bfloat16",),
            self.batches or (1, 4, 16),
            self.engines or TORCH_ENGINES,
        )


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
    settings = read_command_line(BenchSettings, argv, prog="python -m models.bench")

    import torch

    from models.bench.measure import matmul_rate
    from models.vjepa2.torch_engine import torch_device

    if settings.threads:
        torch.set_num_threads(settings.threads)
    rounds = 2 if settings.quick else settings.rounds
    budget = TimeBudget(settings.minutes, rounds)
    try:
        device = torch_device(settings.device)
    except ValueError as error:
        print(f"models.bench: --device {settings.device}: {error}", file=sys.stderr)
        return 2
    rates = {
        dtype: matmul_rate(device, dtype)
        for dtype in sorted({case.dtype for case, _ in settings.cases})
    }
    print(json.dumps(_run(settings, rounds, device, rates, budget)))
    return 0


def _run(
    settings: BenchSettings,
    rounds: int,
    device: torch.device,
    rates: dict[str, float],
    budget: TimeBudget,
) -> dict[str, Any]:
    """Measure the cases as far as the time allows. Returns the report."""
    from models.bench.measure import machine, measure_case, table

    figures: list[Figures] = []
    report: dict[str, Any] = {
        "figures": [],
        "skipped": [],
        "rounds": rounds,
        "matmul_tflops": {dtype: round(rate / 1e12, 3) for dtype, rate in rates.items()},
        **machine(device),
    }
    for case, engines in settings.cases:
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
    return report


if __name__ == "__main__":
    sys.exit(main())

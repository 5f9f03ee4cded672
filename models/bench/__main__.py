"""How fast V-JEPA 2 runs here: our engines and transformers' own class, in one run, random weights.

    python -m models.bench --quick --json
    python -m models.bench --plan gpu --minutes 9.5 --into docs/vjepa2.md
    python -m models.bench --plan cpu --threads 1 --rounds 5 --into docs/vjepa2.md
    python -m models.bench --sizes L g --frames 16 32 --batches 1 4 16 --engines torch pipeline

Each case is a size, a number of frames, a batch and a dtype; its engines take turns. Imports
nothing but torch, transformers, numpy and onnxruntime. What is measured is written after each case,
no case is begun that would not end in time, and the last line of stdout is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from models.bench.cases import PLANS, SIZES, BenchPlan, Case, every
from models.bench.engines import DTYPES, ENGINES
from models.bench.measure import matmul_rate, measure
from models.bench.report import Figures, machine, replaced, section
from models.vjepa2.graph import WAYS

# Seconds that an engine takes until its first run is done, a block: a guess, for a GPU, that a
# run's own cases correct. Compiled as a whole, every block is compiled anew.
_SETUP_S = {"transformers-compiled": 2.5, "lean-compiled": 0.4, "torch": 0.5, "pipeline": 0.4}
_SETUP_ELSE_S = 0.2
_SLOWEST = 0.2  # of the rate of matrix products, that an engine is expected to reach at least


class Clock:
    """Whether a case would end in time, by how long those before it took."""

    def __init__(self, minutes: float, rounds: int) -> None:
        self._began = time.monotonic()
        self._limit_s = 60 * minutes
        self._rounds = rounds
        self._pace = 1.0  # the worst that a case took of what was expected

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._began

    def fits(self, case: Case, engines: Sequence[str], rate: float) -> bool:
        return self.spent_s + self._pace * self.expected_s(case, engines, rate) < self._limit_s

    def learn(self, case: Case, engines: Sequence[str], rate: float, took_s: float) -> None:
        self._pace = max(self._pace, took_s / self.expected_s(case, engines, rate))

    def expected_s(self, case: Case, engines: Sequence[str], rate: float) -> float:
        setups = sum(_SETUP_S.get(engine, _SETUP_ELSE_S) for engine in engines)
        runs = (self._rounds + 2) * len(engines)
        return setups * case.shape.depth + runs * case.flops / (_SLOWEST * rate)


def run(
    plan: BenchPlan, device: torch.device, rates: dict[str, float], clock: Clock, given: Any
) -> dict[str, Any]:
    """Measure `plan` as far as the time allows. Returns the report; see `given.into`."""
    figures: list[Figures] = []
    skipped: list[tuple[Case, Sequence[str]]] = []
    about = {
        "rounds": given.rounds,
        "matmul_tflops": {dtype: round(rate / 1e12, 3) for dtype, rate in rates.items()},
        **machine(device, torch.get_num_threads()),
    }
    for case, engines in plan:
        rate, began = rates[case.dtype], clock.spent_s
        if not clock.fits(case, engines, rate):
            skipped.append((case, engines))
            continue
        figures += measure(case, engines, device, given.rounds, rate)
        clock.learn(case, engines, rate, clock.spent_s - began)
        if not given.json:
            print(f"{case}: done after {clock.spent_s:.0f} s", file=sys.stderr)
        if given.into:
            old = given.into.read_text(encoding="utf-8") if given.into.exists() else ""
            new = replaced(old, given.plan or "here", section(about, figures))
            given.into.write_text(new, encoding="utf-8")
    if not given.json:
        print(section(about, figures))
    return {
        "figures": [asdict(one) for one in figures],
        "skipped": [{**asdict(case), "engines": engines} for case, engines in skipped],
        **about,
    }


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="python -m models.bench",
        description="Measure V-JEPA 2 encoders of random weights, ours beside transformers'.",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--plan", choices=PLANS, help="cases that belong together, in place of the next five")
    add("--sizes", nargs="+", choices=SIZES, default=["L", "g"], help="encoders (default: L g)")
    add("--frames", nargs="+", type=int, default=[16], help="frames a clip (default: 16)")
    add("--batches", nargs="+", type=int, default=[1, 4, 16], help="clips (default: 1 4 16)")
    add("--dtypes", nargs="+", choices=DTYPES, default=["bfloat16"], help="(default: bfloat16)")
    by_torch = [engine for engine in ENGINES if engine not in WAYS]
    help_engines = "(default: those of torch; exported graphs run on a CPU)"
    add("--engines", nargs="+", choices=ENGINES, default=by_torch, help=help_engines)
    add("--rounds", type=int, default=10, help="timed rounds a case (default: 10)")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--minutes", type=float, default=9.0, help="be done after this long (default: 9)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--quick", action="store_true", help="--plan quick --rounds 2: size S, nothing compiled")
    add("--into", type=Path, metavar="FILE", help="write the table there, in place of its last one")
    add("--json", action="store_true", help="print the JSON line alone")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser()
    given = flags.parse_args(argv)
    if given.quick:
        given.plan, given.rounds = "quick", 2
    if min(given.frames) < 2 or any(count % 2 for count in given.frames):
        flags.error("--frames must be even")
    if min(given.batches) < 1 or given.rounds < 1:
        flags.error("--batches and --rounds must be at least 1")
    if given.threads is not None and given.threads < 1:
        flags.error("--threads must be at least 1")
    if given.threads:
        torch.set_num_threads(given.threads)
    plan = (
        PLANS[given.plan]
        if given.plan
        else every(given.sizes, given.frames, given.dtypes, given.batches, given.engines)
    )
    name = given.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        dtypes = sorted({case.dtype for case, _ in plan})
        clock = Clock(given.minutes, given.rounds)
        rates = {dtype: matmul_rate(device, dtype) for dtype in dtypes}
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        flags.error(f"--device {name}: {str(error).splitlines()[0]}")
    print(json.dumps(run(plan, device, rates, clock, given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

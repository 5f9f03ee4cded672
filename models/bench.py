"""How fast V-JEPA 2 runs here: our encoder and transformers' own class, in one run, random weights.

    python -m models.bench --quick --json
    python -m models.bench --sizes L g --batches 1 4 16 --minutes 9 --table docs/vjepa2.md

Each case is a size, a number of frames, a batch and a dtype. Its engines take turns, round by
round, so that a noisy machine disturbs them alike; medians are told, beside the machine's own rate
of matrix products. Imports torch and transformers alone. The last line of stdout is a JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.bench_report import Case, Figures, machine, table
from models.state_dicts import converted
from models.video_transformer import Grid, Shape, VideoTransformer

# Width, blocks, heads, MLP ratio, crop (px). L, H and g are published; B is V-JEPA 2.1's; S is what
# a CPU can run.
SIZES: dict[str, tuple[int, int, int, float, int]] = {
    "S": (384, 12, 6, 4.0, 160),
    "B": (768, 12, 12, 4.0, 256),
    "L": (1024, 24, 16, 4.0, 256),
    "H": (1280, 32, 16, 4.0, 256),
    "g": (1408, 40, 22, 48 / 11, 256),
}
ENGINES = ("transformers", "transformers-compiled", "lean", "lean-compiled")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def flops(shape: Shape, grid: Grid) -> float:
    """Of one clip: two for each multiplication of its matrix products, nothing else counted."""
    tokens, width = grid[0] * grid[1] * grid[2], shape.width
    tubelet = shape.channels * shape.tubelet * shape.patch**2
    linear = 4 * width * width + 2 * width * shape.hidden  # qkv and proj, then the MLP
    attention = 2 * tokens * width
    return 2.0 * tokens * (tubelet * width + shape.depth * (linear + attention))


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of this machine's matrix products, the best of a few large ones."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(_seconds(lambda: a @ a, device) for _ in range(10))


def config_of(size: str, frames: int) -> VJEPA2Config:
    width, depth, heads, ratio, crop = SIZES[size]
    return VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
        crop_size=crop,
        frames_per_clip=frames,
        pred_num_hidden_layers=1,
    )


def measure(
    case: Case, engines: Sequence[str], device: torch.device, rounds: int, rate: float
) -> list[Figures]:
    """Figures of each engine for `case`, its engines taking turns for `rounds` rounds."""
    config = config_of(case.size, case.frames)
    shape = Shape.of(config)
    dtype = DTYPES[case.dtype]
    side = config.crop_size
    grid = (case.frames // shape.tubelet, side // shape.patch, side // shape.patch)
    work = case.batch * flops(shape, grid)
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(case.batch, case.frames, 3, side, side, generator=generator)
    video = video.to(device, dtype)
    calls = _engines(config, shape, grid, engines, device, dtype)
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    memory: dict[str, float] = {}
    errors: dict[str, str] = {}
    with torch.inference_mode():
        for turn, engine in itertools.product(range(rounds + 1), engines):  # the first warms up
            if engine in errors:
                continue
            try:
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                    before = torch.cuda.memory_allocated(device)
                took = _seconds(lambda call=calls[engine]: call(video), device)  # type: ignore[misc]
                if device.type == "cuda":
                    memory[engine] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
            except (RuntimeError, ImportError) as error:  # no room, or nothing to compile with
                errors[engine] = str(error).strip().splitlines()[0][:200]
                continue
            if turn:
                times[engine].append(took)
    return [
        _figures(case, engine, times[engine], work, rate, memory.get(engine), errors.get(engine))
        for engine in engines
    ]


def _figures(
    case: Case,
    engine: str,
    times: list[float],
    work: float,
    rate: float,
    memory_mb: float | None,
    error: str | None,
) -> Figures:
    if error is not None or not times:
        return Figures(case=case, engine=engine, error=error or "not run")
    took = statistics.median(times)
    return Figures(
        case=case,
        engine=engine,
        ms=round(1000 * took, 2),
        clips_per_s=round(case.batch / took, 2),
        tflops=round(work / took / 1e12, 3),
        of_matmul=round(work / took / rate, 3),
        memory_mb=None if memory_mb is None else round(memory_mb),
    )


def _engines(
    config: VJEPA2Config,
    shape: Shape,
    grid: Grid,
    engines: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Callable[[Tensor], Any]]:
    torch.manual_seed(0)
    loaded: Any = VJEPA2Model(config).encoder.eval().requires_grad_(False)
    lean = VideoTransformer(shape, grid).eval().requires_grad_(False)
    lean.load_state_dict(converted(loaded.state_dict(), shape))
    loaded, lean = loaded.to(device, dtype), lean.to(device, dtype)
    calls: dict[str, Callable[[Tensor], Any]] = {"transformers": loaded, "lean": lean}
    for engine in engines:
        if engine.endswith("-compiled"):
            calls[engine] = torch.compile(calls[engine.removesuffix("-compiled")])
    return calls


def _seconds(act: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="python -m models.bench",
        description="Measure V-JEPA 2 encoders of random weights, ours beside transformers'.",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--sizes", nargs="+", choices=SIZES, default=["L", "g"], help="encoders (default: L g)")
    add("--frames", nargs="+", type=int, default=[16], help="frames a clip (default: 16)")
    add("--batches", nargs="+", type=int, default=[1, 4, 16], help="clips (default: 1 4 16)")
    add("--dtypes", nargs="+", choices=DTYPES, default=["bfloat16"], help="(default: bfloat16)")
    add("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="(default: all)")
    add("--rounds", type=int, default=10, help="timed rounds a case (default: 10)")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--minutes", type=float, default=9.0, help="begin no case after this long (default: 9)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--quick", action="store_true", help="size S, one clip, 2 rounds, nothing compiled")
    add("--table", type=Path, metavar="FILE", help="write the Markdown table there too")
    add("--json", action="store_true", help="print the JSON line alone")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser()
    given = flags.parse_args(argv)
    if given.quick:
        given.sizes, given.frames, given.batches, given.rounds = ["S"], [16], [1], 2
        given.dtypes, given.engines = list(DTYPES), ["transformers", "lean"]
    if min(given.frames) < 2 or any(count % 2 for count in given.frames):
        flags.error("--frames must be even")
    if min(given.batches) < 1 or given.rounds < 1:
        flags.error("--batches and --rounds must be at least 1")
    if given.threads is not None and given.threads < 1:
        flags.error("--threads must be at least 1")
    if given.threads:
        torch.set_num_threads(given.threads)
    name = given.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        rates = {dtype: matmul_rate(device, DTYPES[dtype]) for dtype in given.dtypes}
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        flags.error(f"--device {name}: {str(error).splitlines()[0]}")
    began = time.monotonic()
    figures: list[Figures] = []
    skipped: list[Case] = []
    for size, frames, dtype, batch in itertools.product(
        given.sizes, given.frames, given.dtypes, given.batches
    ):
        case = Case(size=size, frames=frames, batch=batch, dtype=dtype)
        if time.monotonic() - began > 60 * given.minutes:
            skipped.append(case)
            continue
        figures += measure(case, given.engines, device, given.rounds, rates[dtype])
        if not given.json:
            print(f"{case}: done after {time.monotonic() - began:.0f} s", file=sys.stderr)
    text = table(figures)
    if given.table:
        given.table.write_text(text)
    if not given.json:
        print(text)
    report = {
        "figures": [asdict(one) for one in figures],
        "skipped": [asdict(case) for case in skipped],
        "matmul_tflops": {dtype: round(rate / 1e12, 3) for dtype, rate in rates.items()},
        **machine(device, torch.get_num_threads()),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

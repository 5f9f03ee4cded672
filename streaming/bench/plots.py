"""Pictures of a benchmark: latency against sessions, its stages, memory over a soak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt

_STAGES = {  # as they follow each other, in words
    "capture_to_arrival": "way to the server",
    "decode": "decode",
    "window": "cut the window",
    "queue": "wait for the recogniser",
    "encode": "look",
    "classify": "name the sign",
    "send": "hand over",
    "way_back": "way back",
}


def draw_sweep(tried: Sequence[dict[str, Any]], goal_ms: float, path: Path) -> None:
    """Percentiles on the left, the medians of the stages on top of each other on the right."""
    sessions = [one["sessions"] for one in tried]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for name in ("p50", "p95", "p99"):
        ms = [one["capture_to_result_ms"][name] for one in tried]
        left.plot(sessions, ms, marker="o", label=name)
    left.axhline(goal_ms, color="grey", linestyle="--", label="goal for p95")
    left.set(xlabel="sessions", ylabel="picture to result, ms", yscale="log")
    left.legend()
    stages = [name for name in _STAGES if any(name in one["stages_ms"] for one in tried)]
    rows = [[one["stages_ms"].get(name) or 0.0 for one in tried] for name in stages]
    right.stackplot(sessions, rows, labels=[_STAGES[name] for name in stages])
    right.set(xlabel="sessions", ylabel="median of each stage, ms")
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles[::-1], labels[::-1], fontsize="small", loc="upper left")
    _save(figure, path)


def draw_soak(samples: Sequence[tuple[float, float, int]], path: Path) -> None:
    """`samples`: seconds since the first round, MB, sessions."""
    minutes = [at_s / 60 for at_s, _, _ in samples]
    figure, left = plt.subplots(figsize=(8, 3.5))
    left.plot(minutes, [mb for _, mb, _ in samples], color="C0")
    left.set(xlabel="minutes", ylabel="memory of the server, MB", ylim=(0, None))
    right = left.twinx()
    right.step(minutes, [count for _, _, count in samples], color="C1", alpha=0.4)
    right.set(ylabel="sessions", ylim=(0, None))
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)

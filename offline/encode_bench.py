"""How busy `offline.encode` keeps an encoder, and how fast it decodes beside PyAV alone.

    python -m offline.encode_bench --videos DIR

The encoder is a stand-in of fixed cost a window (--cost-ms): it waits, and leaves the CPU free, as
a GPU does. The clips are DIR's videos, again and again until there are --clips of them. The last
line of stdout is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import av

from models.schema import Encoder
from offline.encoding import pipeline
from offline.encoding.embedder import Looked, look
from offline.encoding.opening import opening
from offline.encoding.task import Task
from offline.labels import SUFFIXES, Labelled
from offline.videos import VideoError, told_times

_DECODED = 120  # clips that are decoded to time that alone
_TURNS = 4  # PyAV and `look` take turns, so that a disturbance meets both
_ALONE_S = 5.0  # how long the encoder alone is timed


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 where there is no video."""
    options = _parser().parse_args(argv)
    videos = sorted(p for p in options.videos.rglob("*") if _opens(p))
    if not videos or min(options.clips, options.batch, options.threads) < 1:
        print(f"offline.encode_bench: {options.videos}: no video, or a 0", file=sys.stderr)
        return 2
    how = opening(
        f"standin:{options.cost_ms}", frames=None, fps=None, device="cpu", batch=options.batch
    )
    encoder, threads = how.open(), options.threads
    variants = tuple(options.variants.split(","))
    tasks = [
        Task(video=Labelled(video_id=f"{n}", path=path, gloss="x"), variants=variants)
        for n, path in enumerate(islice(cycle(videos), options.clips))
    ]
    at_once = how.videos(len(variants))
    decoded = _decoding(videos, lambda path: look(path, how.spec, variants), threads)
    alone = _encoder_alone(encoder, look(videos[0], how.spec, variants), at_once)
    print(
        f"encoder alone {alone:.1f} clips/s, decoding {decoded['look']:.1f}; now both", flush=True
    )
    with tempfile.TemporaryDirectory() as out:
        took, skipped, early_mb = _together(tasks, Path(out), encoder, at_once, threads)
    result = {
        "clips": len(tasks),
        "skipped": skipped,
        "variants": variants,
        "cost_ms_a_window": options.cost_ms,
        "batch": options.batch,
        "threads": threads,
        "clips_per_s": {
            "together": round((len(tasks) - skipped) / took, 2),
            "encoder_alone": round(alone, 2),
            "decode_alone": round(decoded["look"], 2),
            "pyav_alone": round(decoded["pyav"], 2),
        },
        "encoder_busy": round((len(tasks) - skipped) / took / alone, 4),
        "decode_to_pyav": round(decoded["look"] / decoded["pyav"], 3),
        "rss_mb": {"after_a_tenth": early_mb, "most": _most_rss_mb()},
    }
    print(json.dumps(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.encode_bench",
        description=__doc__.splitlines()[0] if __doc__ else "",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder of videos, with those in its folders")
    add("--clips", type=int, default=1000, help="how many")
    add("--cost-ms", type=float, default=50.0, help="what the stand-in takes a window")
    add("--batch", type=int, default=16, help="windows it runs at once")
    add("--variants", default="original", help="as of offline.encode")
    add("--threads", type=int, default=2, help="that decode")
    return parser


def _opens(path: Path) -> bool:
    try:
        return path.suffix.lower() in SUFFIXES and bool(told_times(path))
    except VideoError:
        return False


def _decoding(
    videos: Sequence[Path], ours: Callable[[Path], Looked], threads: int
) -> dict[str, float]:
    """Clips a second of `ours` and of PyAV alone, which decodes all and converts nothing."""
    sample = list(islice(cycle(videos[:: max(1, len(videos) // _DECODED)]), _DECODED))
    took = {"pyav": 0.0, "look": 0.0}
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(_TURNS):
            for name, work in (("pyav", _pyav_alone), ("look", ours)):
                began = time.perf_counter()
                list(pool.map(work, sample[turn::_TURNS]))
                took[name] += time.perf_counter() - began
    return {name: len(sample) / seconds for name, seconds in took.items()}


def _pyav_alone(path: Path) -> int:
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def _encoder_alone(encoder: Encoder, looked: Looked, videos: int) -> float:
    """Clips a second, with their windows at hand, in calls as `together` makes them."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < _ALONE_S:
        encoder.encode([clip for _ in range(videos) for clip in looked.clips])
        calls += 1
    return calls * videos / (time.perf_counter() - began)


def _together(
    tasks: Sequence[Task], out: Path, encoder: Encoder, videos: int, threads: int
) -> tuple[float, int, float]:
    """Seconds that it took, how many videos were skipped, and the memory after a tenth, MB."""
    skipped, early_mb, began = 0, 0.0, time.perf_counter()
    outcomes = pipeline.outcomes(tasks, out, encoder, videos=videos, threads=threads)
    for done, outcome in enumerate(outcomes, 1):
        skipped += bool(outcome.why_not)
        if done == max(1, len(tasks) // 10):
            early_mb = _most_rss_mb()
    return time.perf_counter() - began, skipped, early_mb


def _most_rss_mb() -> float:
    """The most memory that this process had so far, which shows any growth."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10), 1)


if __name__ == "__main__":
    raise SystemExit(main())

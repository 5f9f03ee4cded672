"""What the tests of encoding that is cut off share: clips, a run of its own, and its traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from offline.encoding.run import STANDIN_LOG
from tests.offline.clips import write_clip

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("original", "bw")


def make_videos(folder: Path, count: int) -> Path:
    """`count` tiny clips of different lengths, an empty one, a lost one, and labels of them."""
    folder.mkdir()
    names = [f"{number:02}.mp4" for number in range(count)]
    for number, name in enumerate(names):
        write_clip(folder / name, 3 + number % 9)
    (folder / "empty.mp4").touch()
    lines = [f"{name},gloss{len(name) % 3}" for name in (*names, "empty.mp4", "lost.mp4")]
    (folder / "labels.csv").write_text("\n".join(["path,gloss", *lines]) + "\n")
    return folder


def arguments(videos: Path, out: Path, cost_ms: int, *more: str) -> list[str]:
    """Of an encoding by the stand-in, two windows at once."""
    where = ["--videos", str(videos), "--labels", str(videos / "labels.csv"), "--out", str(out)]
    how = ["--encoder", f"standin:{cost_ms}", "--variants", ",".join(VARIANTS), "--batch", "2"]
    return [*where, *how, *more]


def start(args: list[str], log: Path) -> subprocess.Popen[str]:
    """`python -m offline.encode` in a process of its own; its encoder writes to `log`."""
    return subprocess.Popen(
        [sys.executable, "-m", "offline.encode", *args],
        cwd=ROOT,
        env={**os.environ, STANDIN_LOG: str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(file: Path) -> list[str]:
    """The whole lines of a file that may be written to, or not be there yet."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


def made(out: Path) -> tuple[dict[str, bytes], Any]:
    """Every file that an encoding left, and its report without the time it took."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    report = json.loads(files.pop("encode_report.json"))
    del report["seconds"]
    return files, report

"""README's four commands, as printed there, on ten glosses of the project's data: do they learn?

    python -m tests.offline.quick_start WORK [FOLDS]

The ten are the glosses with the most clips without a caption in `manifest.csv`, of equally many the
first by name. Their signers are the manifest's groups, and unseen are the clips of those whom
`offline.train` keeps out by default (fold 0). With FOLDS (5) it trains once more for each other
fold. The last line is JSON; docs/reports/training.md states a run.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_GLOSSES = 10


def write_labels(data: Path, file: Path, column: str = "path") -> list[str]:
    """Labels of the ten glosses' clips, by the `column` of the manifest that names their files."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["caption_risk"] != "1"]
    counts = Counter(row["gloss"] for row in rows)
    ten = sorted(counts, key=lambda gloss: (-counts[gloss], gloss))[:_GLOSSES]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "gloss", "split", "signer"])
        for row in rows:
            if row["gloss"] in ten:
                writer.writerow([row[column], row["gloss"], row["split"], row["group"]])
    return ten


def readme_commands() -> dict[str, list[str]]:
    """The arguments of README's commands under "Your own signs", by their module."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text[text.index("## Your own signs") :]
    found = {}
    for line in text[: text.index("`labels.csv`")].splitlines():
        words = shlex.split(line) if line.startswith("    .venv/bin/python -m ") else []
        if words:
            found[words[2]] = words[3:]
    return found


def prepare(work: Path, data: Path, column: str = "path") -> list[str]:
    """A folder with `clips/` and `labels.csv`, as README has them."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "clips").exists():
        (work / "clips").symlink_to(data.resolve())
    return write_labels(data, work / "labels.csv", column)


def run(module: str, arguments: list[str], work: Path) -> dict[str, Any]:
    """The last line of a command that runs in `work`, and how long it took."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**last, "wall_s": round(time.monotonic() - began, 1), "cpu_s": round(cpu_s, 1)}


def main() -> None:
    work, folds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    data = Path(os.environ.get("LIVEGLOSS_DATA", ROOT.parent / "shared" / "data"))
    print(f"glosses: {', '.join(prepare(work, data))}")
    results = {}
    for module, arguments in readme_commands().items():
        results[module] = run(module, arguments, work)
        print(module, results[module]["wall_s"], "s,", results[module]["cpu_s"], "s of CPU")
    tested = [results["offline.train"]]
    for fold in range(1, folds):
        more = [*readme_commands()["offline.train"], "--fold", str(fold), "--out", f"{fold}.pt"]
        tested.append(run("offline.train", more, work))
    right = [round(one["kept_out_clips"] * one["kept_out_top1"]) for one in tested]
    clips = [one["kept_out_clips"] for one in tested]
    for key in ("wall_s", "cpu_s"):
        print(f"all commands: {sum(one[key] for one in results.values()):.0f} {key}")
    print(json.dumps({"right": right, "of": clips, "top1": round(sum(right) / sum(clips), 4)}))


if __name__ == "__main__":
    main()

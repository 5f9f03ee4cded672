"""Runs an exported head by onnxruntime-web, as pages do, in Node.js: to check the head.

    head.onnx + features -> [node onnxruntime_web/run.mjs] -> logits

`python -m offline.exporting.web_runtime` installs what onnxruntime_web/package-lock.json pins, and
Node.js where it is missing (on Debian). A page needs none of this: it loads `head.onnx` with the
npm package alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "onnxruntime_web"
_TIMEOUT_S = 600.0


def missing() -> str | None:
    """What is not installed, and what to do; None if nothing is missing."""
    if shutil.which("node") is None:
        return "Node.js is not installed: run python -m offline.exporting.web_runtime"
    if not (FOLDER / "node_modules" / "onnxruntime-web").is_dir():
        return "onnxruntime-web is not installed: run python -m offline.exporting.web_runtime"
    return None


def run_head(
    head: Path, features: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], list[float]]:
    """Logits (N, K) of features (N, T, D), one clip at a time, and the seconds that each took.

    Raises:
        OSError: it is not installed, can't run the head, or takes too long.
    """
    if (problem := missing()) is not None:
        raise OSError(problem)
    command = ["node", str(FOLDER / "run.mjs"), str(head.absolute()), *map(str, features.shape)]
    content = np.ascontiguousarray(features, np.float32).tobytes() + mask.astype(np.uint8).tobytes()
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise OSError(f"{head}: onnxruntime-web took over {_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [str(done.returncode)]
        raise OSError(f"{head}: onnxruntime-web can't run it: {lines[-1][:300]}")
    output = json.loads(done.stdout)
    logits = np.array(output["logits"], np.float32).reshape(len(features), -1)  # null -> NaN
    return logits, [ms / 1000 for ms in output["ms"]]


def main() -> int:
    """Install what is missing. Exit status 1 if something still is missing."""
    if shutil.which("npm") is None and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nodejs", "npm"]
        subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    if missing() and shutil.which("npm"):
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(npm, check=False, cwd=FOLDER)
    problem = missing()
    print(problem or f"onnxruntime-web: {FOLDER}", file=sys.stderr if problem else sys.stdout)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

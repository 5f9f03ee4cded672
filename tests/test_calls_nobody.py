"""Nothing calls home: no name is looked up, and no file is written outside the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.offline.clips import write_clip

ALONE = ("unshare", "--map-root-user", "--net", "--mount")
CACHE = Path(os.environ.get("LIVEGLOSS_CACHE") or "~/.cache/livegloss").expanduser().resolve()


def test_no_name_is_looked_up_and_no_file_is_left(tmp_path: Path) -> None:
    """Server, prediction and demo, started in a foreign folder by a user who has no file yet."""
    if shutil.which(ALONE[0]) is None or subprocess.run([*ALONE, "true"]).returncode:
        pytest.skip("this system gives us no network of our own (unshare)")
    video = write_clip(tmp_path / "clip.mp4", 20)
    home = tmp_path / "home"
    home.mkdir()
    environment = {  # and no CI: some libraries keep silent where it is set
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "LIVEGLOSS_CACHE": str(CACHE),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "tests.loopback_only", str(video)],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"names": [], "open": []}, done.stderr
    assert [str(file.relative_to(home)) for file in home.rglob("*")] == []

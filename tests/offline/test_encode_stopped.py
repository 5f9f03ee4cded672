"""An encoding that is stopped, or lacks disk or memory, says so in a line and goes on later."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from models.command_line import STOPPED
from models.faults import OutOfMemory
from offline.data.index import INDEX, read_index
from offline.encode import main
from offline.encoding.progress import EncodingProgress
from offline.encoding.run import StandInEncoder
from offline.encoding.tasks import JOURNAL
from tests.offline.clips import write_clip
from tests.offline.encoded import ROOT, arguments, lines, made, make_videos, start

GOES_ON = "offline.encode: stopped; the same command goes on"


def test_stopped_among_threads(tmp_path: Path) -> None:
    videos, log, out = make_videos(tmp_path / "videos", 40), tmp_path / "log", tmp_path / "out"
    run = start(arguments(videos, out, 5), log)
    while len(lines(log)) < 12 and run.poll() is None:
        time.sleep(0.001)
    run.terminate()
    output, _ = run.communicate(timeout=60)
    assert run.returncode == STOPPED, output
    assert output.splitlines()[-1] == GOES_ON and "Traceback" not in output
    there = len(read_index(out / INDEX))
    assert 0 < there < 80 and there == len(lines(out / JOURNAL))
    assert json.loads((out / "encode_report.json").read_text())["embeddings"] == there

    before = len(lines(log))
    assert start(arguments(videos, out, 5), log).wait() == 0
    assert main(arguments(videos, tmp_path / "whole", 5)) == 0
    assert made(out) == made(tmp_path / "whole")
    assert len(lines(log)[before:]) == 80 - there


def test_stopped_among_processes(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group: workers end with their parent, and print nothing."""
    (tmp_path / "videos" / "a").mkdir(parents=True)
    for name in range(30):
        write_clip(tmp_path / "videos" / "a" / f"{name}.mp4", 20, fps=15)
    out = tmp_path / "out"
    where = ["--videos", str(tmp_path / "videos"), "--labels", "folders", "--out", str(out)]
    run = subprocess.Popen(
        [sys.executable, "-m", "offline.encode", *where, "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while len(lines(out / JOURNAL)) < 1 and run.poll() is None:
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=60)  # returns when no process holds the pipe any more
    assert run.returncode == STOPPED, output
    assert output.splitlines()[-1] == GOES_ON and "Traceback" not in output
    assert 0 < len(read_index(out / INDEX)) < 30


def test_stopped_before_anything(tmp_path: Path) -> None:
    """In a process of its own: a signal would end the one in which tests run."""
    videos = make_videos(tmp_path / "videos", 3)
    assert main(arguments(videos, tmp_path / "out", 0)) == 0
    index = (tmp_path / "out" / INDEX).read_bytes()
    code = (
        "import signal, sys\nfrom offline import encode\n"
        "encode.find_backlog = lambda *_: signal.raise_signal(signal.SIGTERM)\n"
        "handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)\n"
        "status = encode.main(sys.argv[1:])\n"
        "assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))\n"
        "sys.exit(status)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments(videos, tmp_path / "out", 0)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == STOPPED, run.stderr
    assert run.stderr.splitlines()[-1] == GOES_ON
    assert (tmp_path / "out" / INDEX).read_bytes() == index


@pytest.mark.parametrize("full", ["offline.data.index.replacing", "offline.encoding.tasks._append"])
def test_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], full: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    videos, out = make_videos(tmp_path / "videos", 3), tmp_path / "out"
    monkeypatch.setattr(full, fails)
    assert main(arguments(videos, out, 0)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"offline.encode: {out}: the disk is full: make room, and the same command goes on"
    )
    monkeypatch.undo()
    assert main(arguments(videos, out, 0)) == 0


@pytest.mark.parametrize(
    ("fault", "more", "says"),
    [
        (OutOfMemory(), [], "halve --batch"),
        (OutOfMemory(), ["--batch", "1"], "fewer --frames, or --device cpu"),
        (MemoryError(), [], "fewer --workers, or a smaller --batch; it goes on"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: …"), [], "fewer --workers"),
    ],
)
def test_too_little_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    more: list[str],
    says: str,
) -> None:
    def fails(self: StandInEncoder, clips: Any) -> Any:
        raise fault

    videos = make_videos(tmp_path / "videos", 2)
    monkeypatch.setattr(StandInEncoder, "encode", fails)
    assert main(arguments(videos, tmp_path / "out", 0, *more)) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


WRONG = {
    "--videos /nowhere": "--videos /nowhere: no such folder",
    "--labels /nowhere.csv": "/nowhere.csv: can't be read",
    "--negatives /nowhere": "/nowhere: no such folder",
    "--glosses /nowhere": "/nowhere: can't be read",
    "--out /proc/nowhere": "--out /proc/nowhere: can't be written to",
    "--out /etc/hostname": "--out /etc/hostname: is a file, no folder",
    "--device gpu": "--device must be auto, cpu, cuda or cuda:N, not gpu",
    "--encoder vjepa2:/nowhere": "/nowhere: no such folder or file",
    "--encoder vjepa2:./nowhere/here": "./nowhere/here: no such folder or file",
    "--encoder vjepa:x": "no encoder 'vjepa:x'",
    "--fps 0": "--fps must be above 0",
    "--frames 0": "--frames must be at least 1",
    "--encodr x": "encodr",
}


def test_what_is_wrong_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    """In a process of its own, whose encoder would be V-JEPA 2."""
    videos = make_videos(tmp_path / "videos", 1)
    usual = [*arguments(videos, tmp_path / "out", 0), "--encoder", "vjepa2:nobody/nothing"]
    code = (
        "import json, sys\nfrom offline.encode import main\n"
        "for argv in json.loads(sys.argv[1]):\n"
        "    try:\n        status = main(argv)\n"
        "    except SystemExit as exc:\n        status = exc.code\n"
        "    print('\\0', file=sys.stderr)\n"
        "    print(status, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    cases = json.dumps([[*usual, *more.split()] for more in WRONG])
    done = subprocess.run(
        [sys.executable, "-c", code, cases],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["2 []"] * len(WRONG), done.stderr
    for error, says in zip(done.stderr.split("\0"), WRONG.values(), strict=False):
        assert says in " ".join(error.split())


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten lines of many videos, and one each half minute where they take long."""
    now = 0.0
    with EncodingProgress(2000, lambda: now) as progress:
        for number in range(2000):
            now += 0.01
            progress.update(left_out=number % 100 == 0)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 10 and told[-1] == "2000 of 2000 videos (100%), 20 left out"
    assert told[0] == "200 of 2000 videos (10%), 2 left out, about 18 s to go"

    with EncodingProgress(2000, lambda: now) as progress:
        for _ in range(100):
            now += 10
            progress.update(left_out=False)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 33 and told[-1] == "99 of 2000 videos (5%), about 5 h 17 min to go"

"""Threads that come and go share the C library's heaps."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

_THREADS = """
import ctypes, sys, threading
from streaming.app import limit_heaps
if sys.argv[1] == "few":
    limit_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def work():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other heaps")
@pytest.mark.parametrize(("wish", "most"), [("few", 2), ("many", 100)])
def test_a_dozen_threads_have_two_heaps(wish: str, most: int) -> None:
    command = [sys.executable, "-c", _THREADS, wish]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    arenas = done.stderr.count("Arena ")
    assert 1 <= arenas <= most
    assert wish == "few" or arenas > 2

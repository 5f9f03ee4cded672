"""Ctrl-C at any moment ends a command with one line and status 130."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import models.command_line

OFFLINE = Path(__file__).parents[2] / "offline"
COMMANDS = (
    "encode train finetune evaluate export predict fuse hub few_shot landmark_distance "
    "time_to_decision"
).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_that_it_was_interrupted(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the process runs it: what `main` itself does not catch is no traceback either."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models.command_line, "read_command_line", interrupted)
    monkeypatch.setattr("offline.run_file.read_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(OFFLINE / f"{command}.py"), run_name="__main__")
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"offline.{command}: interrupted\n"

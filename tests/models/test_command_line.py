"""Command lines come out of dataclasses: options, defaults, groups and errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from models.command_line import read_command_line, say


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to listen."""

    port: int = 8080  # 0 picks a free one
    urls: tuple[str, ...] = ()  # may be repeated

    def __post_init__(self) -> None:
        if self.port > 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")


@dataclass(frozen=True, kw_only=True)
class Everything:
    """What the command does."""

    place: Place = field(default_factory=Place)
    loud: bool = False  # say more


def read(*argv: str) -> Everything:
    return read_command_line(Everything, argv, prog="python -m test")


def test_options_have_no_prefix_and_may_be_repeated() -> None:
    assert read() == Everything()
    found = read("--port", "0", "--urls", "a", "--urls", "b", "--loud")
    assert found == Everything(place=Place(port=0, urls=("a", "b")), loud=True)


def test_help_shows_groups_comments_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read("--help")
    shown = capsys.readouterr().out
    for text in ("python -m test", "What the command does.", "Where to listen.", "8080"):
        assert text in shown
    assert "0 picks a free one" in shown and "--no-loud" not in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "99999"], "port must lie between 0 and 65535, not 99999"),
        (["--por", "1"], "--por"),
        (["--port", "many"], "--port"),
    ],
)
def test_an_error_is_one_line_with_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        read(*argv)
    assert message in capsys.readouterr().err


def test_what_is_said_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("caf\u00e9 \x1b[31m\x9b2J\x07\r\n\udcff\x7f \U0001f590")
    assert capsys.readouterr().out == "café \\x1b[31m\\x9b2J\\x07\\r\\n\\udcff\\x7f \U0001f590\n"

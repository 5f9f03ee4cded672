"""Command lines from dataclasses: a field is an option, its comment the help, its default shown.

    argv -> [read_command_line] -> settings, checked by their own `__post_init__`

`--help` groups options by the dataclass they belong to. Errors, unknown options among them, end the
process with status 2 and a message that names the option.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

T = TypeVar("T")

_WIDE = 250  # columns, where nobody's terminal wraps the text: a message stays one line in a log


def read_command_line(
    settings: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str | None = None,
) -> T:
    """The `settings` that `argv` asks for (None: the process's own arguments).

    Options have no prefix for nested dataclasses, flags no `--no-` twin; a tuple's option may be
    given again. `tyro.conf` annotations on a field say what else there is to say.

    Raises:
        SystemExit: status 2 for options that are unknown or whose dataclass refuses them with a
            ValueError, 0 after `--help`.
    """
    columns = os.environ.get("COLUMNS")
    if columns is None and not sys.stderr.isatty():
        os.environ["COLUMNS"] = str(_WIDE)
    try:
        return tyro.cli(
            settings,
            args=argv,
            prog=prog,
            description=description,
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.UseAppendAction,
            ),
        )
    finally:
        if columns is None:
            os.environ.pop("COLUMNS", None)

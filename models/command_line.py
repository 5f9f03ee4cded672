"""Command lines from dataclasses: a field is an option, its comment the help, its default shown.

    argv -> [read_command_line] -> settings, checked by their own `__post_init__`

`--help` groups options by the dataclass they belong to. Errors, unknown options among them, end the
process with status 2 and a message that names the option. `say` is how commands print names and
messages: files and models from elsewhere may hold anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO, TypeVar

import tyro

T = TypeVar("T")

STOPPED = 130  # exit status after Ctrl-C or SIGTERM, as shells have it
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


def several(
    name: str, read: Callable[[str], T], write: Callable[[T], str]
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[T, ...]]:
    """Annotates a tuple that takes all its values after one option: --lr 1e-4 3e-4, heads/*.pt."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{name} [{name} ...]",
        instance_from_str=lambda texts: tuple(read(text) for text in texts),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [write(value) for value in values],
    )


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the block Ctrl-C and SIGTERM raise KeyboardInterrupt, whoever took the signals before.

    In a thread other than the main one, which gets no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stops = signal.SIGINT, signal.SIGTERM
    before = {each: signal.signal(each, signal.default_int_handler) for each in stops}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def until_interrupted(main: Callable[[], int], name: str) -> int:
    """The exit status of a command: `STOPPED` after Ctrl-C, with a line instead of a traceback."""
    try:
        return main()
    except KeyboardInterrupt as exc:
        say(f"{name}: {str(exc) or 'interrupted'}", file=sys.stderr)
        return STOPPED


def say(text: str, *, file: TextIO | None = None) -> None:
    """Print a line to `file` (None: stdout), now, as `printable` makes it."""
    print(printable(text), file=file, flush=True)


def printable(text: str) -> str:
    """`text` with control characters written out (`\\x1b`), so that it steers no terminal."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)

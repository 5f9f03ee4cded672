"""Run files: the options of a command as YAML, to repeat a run or to keep its options at hand.

    --config run.yaml + command line -> [run_file] -> settings
    settings + what they met         -> [run_file] -> NAME_run.yaml, beside the result

Keys are the names of options; what the command line says goes before. `made` in a written file says
with which versions and data: it is read to warn of other data, and changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from models.command_line import read_command_line, say
from models.files import replacing, sha256

T = TypeVar("T")

_MADE = "made"
_OF_A_RUN = ("config", "resume")  # options that a written file does not repeat


def read_run(
    settings: type[T], argv: Sequence[str] | None = None, *, prog: str, description: str | None
) -> T:
    """The `settings` of a command line whose `--config FILE` gives what it does not.

    `settings` needs a field `config`. Raises SystemExit as `read_command_line` does; with status 2
    for a file that can't be read, has an unknown option, or a value that is none.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    path = _config_of(given)
    if path is not None:
        try:
            given += _arguments(path, settings, given)
        except ValueError as exc:
            say(f"{prog}: {exc}", file=sys.stderr)
            raise SystemExit(2) from None
    return read_command_line(settings, given, prog=prog, description=description)


def write_run(path: Path, settings: object, data: Mapping[str, str | None]) -> None:
    """Write the options in `settings`, and versions and the SHA-256 of the files in `data`.

    data: paths by the option that names them; None: not given.
    """
    import yaml

    made: dict[str, Any] = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:2000],
        "versions": _versions(),
        "sha256": {option: sha256(file) for option, file in data.items() if file},
    }
    options = {k: v for k, v in options_of(settings).items() if k not in _OF_A_RUN}
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    text += "\n" + yaml.safe_dump({_MADE: made}, sort_keys=False, allow_unicode=True)
    with replacing(path) as stream:
        stream.write(f"# Repeat this run: --config {path.name}\n{text}".encode())


def read_fields(path: str | None) -> dict[str, Any]:
    """The object in the JSON file of `--card`; an empty one without a path.

    Raises:
        ValueError: it can't be read, or is no object; one line that names it.
    """
    if path is None:
        return {}
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: no JSON to read: {exc}") from exc
    if not isinstance(value, dict) or not isinstance(value.get("data", {}), dict):
        raise ValueError(f"{path}: no object with the fields of a card, of which data is one too")
    return value


def options_of(settings: object) -> dict[str, Any]:
    """The options in a dataclass and those in it, by their names; those with None are left out."""
    found: dict[str, Any] = {}
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if is_dataclass(value):
            found |= options_of(value)
        elif value is not None and not _hidden(type(settings), field.name):
            value = list(value) if isinstance(value, tuple) else value
            found[field.name.replace("_", "-")] = str(value) if isinstance(value, Path) else value
    return found


def _config_of(argv: Sequence[str]) -> str | None:
    """The file after the last `--config`."""
    found = None
    for number, word in enumerate(argv):
        if word.startswith("--config="):
            found = word.partition("=")[2]
        elif word == "--config" and number + 1 < len(argv):
            found = argv[number + 1]
    return found


def _arguments(path: str, settings: type, given: Sequence[str]) -> list[str]:
    """The arguments that the file adds to those `given`."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as exc:
        reason = " ".join(str(exc).split())
        raise ValueError(f"--config {path}: no YAML to read: {reason}") from exc
    if not isinstance(content, dict):
        raise ValueError(f"--config {path}: not options and values, such as `epochs: 40`")
    known = _names(settings)
    said = {word.partition("=")[0][2:].replace("_", "-") for word in given if word[:2] == "--"}
    found: list[str] = []
    for key, value in content.items():
        name = str(key).replace("_", "-")
        if name == _MADE:
            _compare(path, value, content)
        elif name not in known or name == "config":
            raise ValueError(f"--config {path}: no option is called {key!r}")
        elif isinstance(value, bool) and not known[name]:
            raise ValueError(
                f"--config {path}: YAML reads the value of {key!r} as {value}: put it into quotes"
            )
        elif name not in said and value is not None and value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            if any(isinstance(one, dict | list) for one in values):
                raise ValueError(f"--config {path}: {key!r} is not a value or a list of values")
            found += [f"--{name}", *(_text(one) for one in values)]
    return found


def _text(value: object) -> str:
    """A value of YAML as a word of a command line. YAML reads 1e-4 as text, which is right here."""
    return repr(value) if isinstance(value, float) else str(value)


def _compare(path: str, made: object, options: Mapping[str, Any]) -> None:
    """Say which of the files that a run was made with have another content now."""
    hashes = made.get("sha256") if isinstance(made, dict) else None
    for option, digest in hashes.items() if isinstance(hashes, dict) else ():
        file = options.get(option)
        if isinstance(file, str) and os.path.isfile(file) and sha256(file) != digest:
            say(f"--config {path}: {file} is not what it was in that run", file=sys.stderr)


def _names(settings: Any) -> dict[str, bool]:
    """The names of all options of a dataclass and those in it; True for those that are flags."""
    found: dict[str, bool] = {}
    for name, hint in get_type_hints(settings).items():
        if is_dataclass(hint):
            found |= _names(hint)
        elif not _hidden(settings, name):
            found[name.replace("_", "-")] = bool in (hint, *get_args(hint))
    return found


def _hidden(settings: Any, name: str) -> bool:
    """True for a field that is no option of the command line."""
    hint = get_type_hints(settings, include_extras=True).get(name)
    return "Suppress" in repr(hint)


def _versions() -> dict[str, str]:
    """Of Python, the packages that decide the result, and the commit of a checkout."""
    found = {"python": platform.python_version()}
    for package in ("livegloss", "torch", "numpy", "scikit-learn", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    checkout = Path(__file__).parents[1]
    if (checkout / ".git").exists():
        git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
            found["commit"] = done.stdout.strip()
    return found

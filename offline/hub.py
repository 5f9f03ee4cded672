"""Bundles to and from the Hugging Face hub, or a folder that is used as one.

    python -m offline.hub push bundles/mine OWNER/NAME
    python -m offline.hub pull OWNER/NAME@REVISION bundles/theirs
    python -m offline.hub push bundles/mine file:/media/stick/mine

    bundle -> its files and a README.md made of its card -> hub -> checked -> bundle

`push` makes a private model unless told `--public`, and prints the revision that it got. `pull`
checks every file's SHA-256 before anything appears in its folder. Both need an account that may
write or read: `hf auth login`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from models.command_line import read_command_line, say, until_interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Copy a bundle to the hub, with a README.md."""

    bundle: tyro.conf.Positional[Path]  # the bundle's folder
    target: tyro.conf.Positional[str]  # OWNER/NAME of the hub, or file:FOLDER
    public: bool = False  # a new model of the hub is for everyone, not private


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """Fetch a bundle from the hub, and check it."""

    source: tyro.conf.Positional[str]  # OWNER/NAME[@REVISION] of the hub, or file:FOLDER
    out: tyro.conf.Positional[Path]  # the new bundle's folder


_Options = (
    Annotated[PushOptions, tyro.conf.subcommand("push")]
    | Annotated[PullOptions, tyro.conf.subcommand("pull")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the bundle can't be copied, and says why."""
    command: Any = _Options
    options: PushOptions | PullOptions = read_command_line(
        command, argv, prog="python -m offline.hub", description=__doc__
    )
    from offline.exporting.hub_folder import pull, push

    try:
        if isinstance(options, PushOptions):
            place = push(options.bundle, options.target, public=options.public)
            say(f"pushed to {place}")
            print(json.dumps({"bundle": str(options.bundle), "pushed": place}))
            return 0
        bundle, place = pull(options.source, options.out)
    except (ValueError, OSError) as exc:
        say(f"offline.hub: {exc}", file=sys.stderr)
        return 2
    say(f"pulled {bundle.name} from {place}: {len(bundle.glosses)} glosses")
    print(json.dumps({"bundle": str(bundle.path), "pulled": place}))
    return 0


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.hub"))

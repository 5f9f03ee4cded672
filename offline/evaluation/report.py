"""A command's figures in full, as a JSON file or a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_report(path: str, report: Mapping[str, Any]) -> None:
    """Write `report` to `path` as JSON; folders on the way are made.

    Raises:
        ValueError: it can't be written.
    """
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def write_text(path: str, text: str) -> None:
    """Write `text` to `path`; folders on the way are made.

    Raises:
        ValueError: it can't be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ValueError(f"{path}: can't be written: {exc.strerror}") from exc


def refuse_place(path: str) -> None:
    """Raise ValueError when no file can be written at `path`: before hours of work for it."""
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: can't be written: look at its folder")

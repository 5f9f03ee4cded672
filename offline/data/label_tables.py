"""A CSV of labels, read line by line: cells by column, and where each line stands.

    .csv -> [label tables] -> lines -> labels

Tables come out of spreadsheets: with a byte order mark, semicolons or tabs instead of commas, empty
lines at the end, names of columns in capitals. What can't be meant is refused, with its line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


class LabelError(ValueError):
    """Labels that can't be used; one line that names the file and says why."""


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        LabelError: it can't be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise LabelError(f"{file}: can't be read: {exc.strerror}") from exc
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:1000]:
        raise LabelError(f"{file}: can't be read: it is UTF-16, or no text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise LabelError(
            f"{file}: can't be read: line {line} is not UTF-8 (byte 0x{data[exc.start]:02x}); "
            "save it as UTF-8"
        ) from exc


def read_table(file: Path) -> tuple[tuple[str, ...], Iterator[tuple[int, dict[str, str]]]]:
    """The columns of a table, in lower case, and its lines: the number of each, and its cells.

    Cells have no spaces around them; lines without any are left out.

    Raises:
        LabelError: it can't be read as a table, or (while lines are read) one has surplus cells.
    """
    text = io.StringIO(read_text(file), newline=None)
    start = text.tell()
    first = text.readline()
    skipped = 0
    while first and not first.strip():
        skipped, start = skipped + 1, text.tell()
        first = text.readline()
    if first.lower().startswith("sep="):  # as Excel writes it
        skipped, start = skipped + 1, text.tell()
        first = text.readline()
    separator = separator_of(first)
    text.seek(start)
    reader = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        names = [cell.strip().lower() for cell in next(reader, ())]
    except csv.Error as exc:
        raise LabelError(f"{file}: line {skipped + 1}: {exc}") from exc
    while names and not names[-1]:  # what a spreadsheet adds; a cell below it is one too many
        names.pop()
    columns = tuple(names)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise LabelError(f"{file}: has two columns {twice[0]}")
    return columns, _lines(file, reader, columns, separator, skipped)


def _lines(
    file: Path, reader: Any, columns: tuple[str, ...], separator: str, skipped: int
) -> Iterator[tuple[int, dict[str, str]]]:
    while True:
        number = reader.line_num + 1 + skipped
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            raise LabelError(f"{file}: line {number}: quotes that do not fit ({exc})") from exc
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if any(cells[len(columns) :]):
            at = columns.index("gloss") if "gloss" in columns else 0
            raise LabelError(
                f"{file}: line {number} has {len(cells)} cells for {len(columns)} columns: put "
                f"what has {_SEPARATORS[separator]} in it into quotes, such as "
                f'"{cells[at]}{separator} {cells[at + 1]}"'
            )
        cells += [""] * (len(columns) - len(cells))
        yield number, dict(zip(columns, cells[: len(columns)], strict=True))


def separator_of(header: str) -> str:
    """The one by which the header has a column `gloss`."""
    for separator in _SEPARATORS:
        if any(cell.strip(" \"'\r\n").lower() == "gloss" for cell in header.split(separator)):
            return separator
    return ","

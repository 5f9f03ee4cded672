from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.data.index import (
    INDEX,
    Entry,
    IndexFileError,
    StoredRows,
    npy_name,
    part_name,
    read_index,
    rows_problem,
    write_index,
    write_rows,
)

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def entry(folder: Path, video_id: str = "a/1") -> Entry:
    name = npy_name(video_id, "original")
    return Entry(
        video_id=video_id,
        gloss='say "hello", twice',
        path_to_npy_file=name,
        video="/videos/a/1.mp4",
        variant="original",
        split="train",
        signer="anna",
        frames=4,
        fps=15.0,
        encoder="test",
        checksum=write_rows(folder / name, ROWS),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one, two = entry(tmp_path), entry(tmp_path, "b")
    write_index(tmp_path / INDEX, [two, one])
    assert read_index(tmp_path / INDEX, complete=True) == [one, two]
    assert rows_problem(tmp_path, one) == ""
    np.testing.assert_array_equal(np.load(tmp_path / one.path_to_npy_file), ROWS)
    assert not [p for p in tmp_path.rglob(".*")], "a scratch file is left"


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_broken_file_is_reported(tmp_path: Path, content: bytes | None) -> None:
    one = entry(tmp_path)
    file = tmp_path / one.path_to_npy_file
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert ".npy: SHA-256 differs" in rows_problem(tmp_path, one)
    file.unlink()
    assert "can't be read" in rows_problem(tmp_path, one)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 3), np.float32),
        np.zeros(3, np.float32),
        np.zeros((2, 3), np.float64),
        np.full((2, 3), np.nan, np.float32),
    ],
)
def test_what_is_no_embedding_is_not_written(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not an embedding"):
        write_rows(tmp_path / "a.npy", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_index(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(IndexFileError, match="its columns are not"):
        read_index(tmp_path / INDEX, complete=True)
    write_index(tmp_path / INDEX, [replace(entry(tmp_path), frames=4)])
    text = (tmp_path / "index.csv").read_text()
    (tmp_path / "index.csv").write_text(text.replace(",4,1,15.0,", ",four,1,15.0,"))
    with pytest.raises(IndexFileError, match="can't be read"):
        read_index(tmp_path / INDEX)


def test_an_index_from_before_there_were_windows(tmp_path: Path) -> None:
    one = entry(tmp_path)
    write_index(tmp_path / INDEX, [one])
    text = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(text.replace(",windows,", ",").replace(",4,1,15.0,", ",4,15.0,"))
    assert read_index(tmp_path / INDEX, complete=True) == [one] and one.windows == 1


def test_rows_are_read_in_part(tmp_path: Path) -> None:
    name = tmp_path / "a.npy"
    for half in (True, False):
        np.save(name, ROWS.astype(np.float16) if half else ROWS)
        stored = StoredRows.of(name)
        part = stored.read(1, 2)
        assert stored.half == half and part.dtype == (np.float16 if half else np.float32)
        np.testing.assert_array_equal(part, ROWS[1:3])
        np.testing.assert_array_equal(np.asarray(stored), ROWS)
    name.write_bytes(name.read_bytes()[:-4])
    np.testing.assert_array_equal(stored.read(0, 3), ROWS[:3])
    with pytest.raises(ValueError, match="was cut"):
        stored.read(3, 1)


def test_names_of_files_are_plain_and_differ() -> None:
    ids = ["a", "a/1", "a_1", "../../etc/passwd", "ä", "ö", "x" * 300, "x" * 301, "a.b"]
    names = [npy_name(video_id, "bw") for video_id in ids]
    assert len(set(names)) == len(ids)
    assert all(n.startswith("embeddings/") and ".." not in n and len(n) < 120 for n in names)


@pytest.mark.parametrize(
    ("encoder", "part"),
    [
        ("vjepa2:/m@1/16@8fps/292px", None),
        ("vjepa2:/m@1/16@8fps/292px/exact/windows=3/frames=12-40", (12, 40)),
        ("landmarks:m@1/15fps/320px/frames=12-/fps=25/aspect=1.5", (12, None)),
        ("vjepa2:/frames=1-2/m@1/16@8fps/292px", None),
        ("vjepa2:/m@1/16@8fps/292px/frames=x-40", None),
        (f"vjepa2:/m@1/16@8fps/292px/frames={'9' * 5000}-", None),
    ],
)
def test_the_part_of_a_video_is_read_from_what_made_its_rows(
    encoder: str, part: tuple[int, int | None] | None
) -> None:
    entry = Entry(video_id="a", gloss="tree", path_to_npy_file="a.npy", encoder=encoder)
    assert entry.part == part
    if part is not None:
        assert part_name(part) in encoder

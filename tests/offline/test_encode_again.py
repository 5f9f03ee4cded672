"""What a second run into the same folder keeps, makes again, and lists."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.schema import Clip, Embedding
from offline.data.examples import read_examples
from offline.data.fingerprints import fingerprint, read_fingerprints
from offline.data.index import INDEX, read_index, write_index
from offline.encode import main
from offline.encoding.run import EncoderFactory, StandInEncoder
from offline.encoding.tasks import JOURNAL
from tests.offline.clips import write_clip

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for length, name in enumerate(("book/0", "book/1", "drink/0", "drink/1"), 4):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(folder / f"{name}.mp4", length, fps=8)
    return folder


@pytest.fixture
def encode(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Encodes the folder, and returns the last line of stdout, with what stderr had."""

    def run(*more: str, out: str = "out", labels: str = "folders") -> dict[str, Any]:
        args = ["--videos", str(videos), "--labels", labels, "--out", str(tmp_path / out)]
        assert main([*args, "--encoder", "standin:0", *more]) == 0
        printed = capsys.readouterr()
        summary: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
        return summary | {"stderr": printed.err, "stdout": printed.out}

    return run


def rows(out: Path) -> dict[str, Any]:
    return {e.video_id: np.load(out / e.path_to_npy_file) for e in read_index(out / INDEX)}


def counts(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["done"], summary["kept"], summary["changed"]


def test_other_content_under_the_same_name(videos: Path, tmp_path: Path, encode: Run) -> None:
    encode()
    before, out = rows(tmp_path / "out"), tmp_path / "out"
    write_clip(videos / "book" / "0.mp4", 9, fps=8, size=(48, 64))
    again = encode()
    assert counts(again) == (1, 3, 1)
    assert "0.mp4: its content changed" in again["stderr"]
    after = rows(out)
    assert not np.array_equal(before["book/0"], after["book/0"])
    assert np.array_equal(before["book/1"], after["book/1"])
    report = json.loads((out / "encode_report.json").read_text())
    assert [line.endswith("its content changed") for line in report["made_again"]] == [True]
    print_ = read_fingerprints(out)["book/0"]
    assert np.array_equal(print_, fingerprint(videos / "book" / "0.mp4"))
    assert counts(encode()) == (0, 4, 0)


def test_content_of_the_same_size_and_times(videos: Path, encode: Run) -> None:
    """As `cp -p` or an archive leaves it; its time of change can't be set."""
    file = videos / "book" / "0.mp4"
    encode()
    old = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert counts(encode()) == (1, 3, 1)


def test_the_stale_case(cases: Path, tmp_path: Path, encode: Run) -> None:
    where = cases / "stale_video"
    for folder, want in (("before", (1, 0, 0)), ("after", (1, 0, 1)), ("after", (0, 1, 0))):
        found = encode("--videos", str(where / folder), labels=str(where / "labels.csv"))
        assert counts(found) == want


def test_the_same_content_is_kept(videos: Path, tmp_path: Path, encode: Run) -> None:
    """Touched, moved with its folder, under another ending: it is the same video."""
    encode()
    os.utime(videos / "book" / "0.mp4")
    (videos / "book" / "1.mp4").rename(videos / "book" / "1.m4v")
    shutil.copytree(videos, tmp_path / "moved")
    shutil.rmtree(videos / "drink")
    again = encode("--videos", str(tmp_path / "moved"))
    assert counts(again) == (0, 4, 0)
    names = {e.video_id: e.video for e in read_index(tmp_path / "out" / INDEX)}
    assert names["book/1"] == str(tmp_path / "moved" / "book" / "1.m4v")


def test_videos_that_are_gone(videos: Path, tmp_path: Path, encode: Run) -> None:
    table = videos / "labels.csv"
    table.write_text("path,gloss\nbook/0.mp4,book\ndrink/0.mp4,drink\n")
    encode(labels=str(table))
    (videos / "book" / "0.mp4").unlink()
    again = encode(labels=str(table))
    assert counts(again) == (0, 2, 0)
    assert "1 videos are gone; their embeddings are kept" in again["stdout"]


def test_a_smaller_run_forgets_nothing(videos: Path, tmp_path: Path, encode: Run) -> None:
    out, table, words = tmp_path / "out", videos / "labels.csv", tmp_path / "words.txt"
    encode("--variants", "original,bw")
    every = (out / INDEX).read_bytes(), rows(out)
    table.write_text("path,gloss,video_id\ndrink/1.mp4,Drink,drink/1\n")
    words.write_text("drink")
    for more, labels, count in (
        (["--limit", "1"], "folders", 1),
        (["--glosses", str(words)], "folders", 2),
        ([], str(table), 1),
    ):
        small = encode(*more, labels=labels)
        assert counts(small) == (0, count, 0)
        assert len(read_index(out / INDEX)) == count
        assert f"{8 - count} embeddings of other videos or encoders stay" in small["stdout"]
    assert counts(encode("--variants", "original,bw")) == (0, 4, 0)
    assert (out / INDEX).read_bytes() == every[0]
    assert all(np.array_equal(each, every[1][name]) for name, each in rows(out).items())


def test_another_encoder_takes_nothing_away(tmp_path: Path, encode: Run) -> None:
    out = tmp_path / "out"
    encode()
    first = (out / INDEX).read_bytes()
    assert counts(encode("--fps", "4")) == (4, 0, 0)
    assert counts(encode()) == (0, 4, 0)
    assert (out / INDEX).read_bytes() == first
    assert counts(encode("--fps", "4")) == (0, 4, 0)


def test_a_run_that_fails_at_once_leaves_the_index(
    tmp_path: Path, encode: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: EncoderFactory) -> None:
        raise OSError("there is no such device")

    encode()
    index, out = (tmp_path / "out" / INDEX).read_bytes(), str(tmp_path / "out")
    monkeypatch.setattr(EncoderFactory, "open", fails)
    args = ["--videos", str(tmp_path / "videos"), "--labels", "folders", "--out", out]
    assert main([*args, "--encoder", "standin:1"]) == 2
    assert (tmp_path / "out" / INDEX).read_bytes() == index


def test_an_index_from_before(videos: Path, tmp_path: Path, encode: Run) -> None:
    """Without a journal and contents: names are trusted once more, then contents are noted."""
    out = tmp_path / "out"
    encode()
    with (out / INDEX).open(newline="") as stream:
        table = list(csv.DictReader(stream))
    with (out / INDEX).open("w", newline="") as stream:
        columns = [c for c in table[0] if c not in ("video_checksum", "windows")]
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    (out / JOURNAL).unlink()
    (videos / "drink" / "1.mp4").rename(videos / "drink" / "1.mov")
    small = encode("--limit", "1")
    assert counts(small) == (0, 1, 0)
    again = encode()
    assert counts(again) == (1, 3, 1)
    assert "1.mov: another file under the same id" in again["stderr"]
    write_clip(videos / "book" / "0.mp4", 9, fps=8)
    assert counts(encode()) == (1, 3, 1)


def test_a_row_that_is_broken_is_not_listed_until_it_is_made(
    videos: Path, tmp_path: Path, encode: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    encode()
    entry = read_index(out / INDEX)[0]
    (out / entry.path_to_npy_file).write_bytes(b"broken")
    (videos / "book" / "0.mp4").write_bytes(b"broken")  # so that it can't be made
    again = encode()
    assert again["skipped"] == 1 and len(read_index(out / INDEX)) == 3


@pytest.mark.parametrize("inside", [True, False])
def test_paths_hold_wherever_a_command_is_started(
    videos: Path, tmp_path: Path, encode: Run, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    out = "." if inside else "elsewhere/out"
    encode("--videos", "videos", "--out", out)
    index = tmp_path / out / INDEX
    names = [entry.video for entry in read_index(index)]
    whole = [str(videos / name) for name in ("book/0.mp4", "book/1.mp4")]
    assert names[:2] == (["videos/book/0.mp4", "videos/book/1.mp4"] if inside else whole)
    (tmp_path / "far").mkdir()
    monkeypatch.chdir(tmp_path / "far")
    for example in read_examples(os.path.relpath(index)):
        assert example.path is not None and example.path.is_file()
    if inside:  # the whole folder moves
        shutil.move(tmp_path / "videos", tmp_path / "far" / "videos")
        shutil.move(tmp_path / "embeddings", tmp_path / "far" / "embeddings")
        shutil.move(index, tmp_path / "far" / INDEX)
        assert all(e.path and e.path.is_file() for e in read_examples(INDEX))


def test_paths_of_indexes_from_before(
    videos: Path, tmp_path: Path, encode: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode()
    index = tmp_path / "out" / INDEX
    old = [
        replace(entry, video=os.path.relpath(entry.video, tmp_path)) for entry in read_index(index)
    ]
    write_index(index, old)
    monkeypatch.chdir(tmp_path)
    assert all(e.path and e.path.is_file() for e in read_examples(index))


def test_names_that_are_no_text(videos: Path, tmp_path: Path, encode: Run) -> None:
    name = os.fsdecode(b"caf\xe9\n")
    (videos / "book").rename(videos / name)
    (videos / name / "0.mp4").rename(videos / name / os.fsdecode(b"\xfe:%.mp4"))
    (videos / name / os.fsdecode(b"\xfd.txt")).touch()
    (videos / name / os.fsdecode(b"\xfc.mp4")).write_bytes(b"broken")
    assert counts(encode()) == (4, 0, 0)
    index = tmp_path / "out" / INDEX
    index.read_text(encoding="utf-8")
    assert all(e.path and e.path.is_file() for e in read_examples(index))
    report = json.loads((tmp_path / "out" / "encode_report.json").read_text(encoding="utf-8"))
    assert len(report["why_skipped"]) == 1 and report["passed_over"] == 1
    assert counts(encode()) == (0, 4, 0)


def test_only_the_sign_of_an_uncut_video(tmp_path: Path, encode: Run) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    write_clip(folder / "raw.mp4", 40, fps=8)
    write_clip(folder / "cut.mp4", 6, fps=8)
    parts = {"raw": (11, 16), "cut": (11, 16)}
    instances = [
        {"video_id": name, "signer_id": 1, "split": "train", "frame_start": a, "frame_end": b}
        for name, (a, b) in parts.items()
    ]
    labels = folder / "wlasl.json"
    labels.write_text(json.dumps([{"gloss": "book", "instances": instances}]))
    first = encode("--videos", str(folder), "--fps", "8", labels=str(labels))
    entries = {e.video_id: e for e in read_index(tmp_path / "out" / INDEX)}
    assert [entries[name].frames for name in ("cut", "raw")] == [6, 6]
    assert "2 labels state the frames of their sign" in first["stderr"]
    labels.write_text(labels.read_text().replace('"frame_end": 16', '"frame_end": 14', 1))
    second = encode("--videos", str(folder), "--fps", "8", labels=str(labels))
    assert counts(second) == (1, 1, 0)
    entries = {e.video_id: e for e in read_index(tmp_path / "out" / INDEX)}
    assert entries["raw"].frames == 4


def test_one_video_under_two_glosses_is_named(videos: Path, encode: Run) -> None:
    shutil.copy(videos / "book" / "0.mp4", videos / "drink" / "9.mp4")
    assert "one video with two glosses: book/0 (book), drink/9 (drink)" in encode()["stderr"]


def test_rows_that_are_not_finite_leave_their_video_out(
    videos: Path, tmp_path: Path, encode: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_clips = StandInEncoder.encode

    def fails(self: StandInEncoder, clips: Sequence[Clip]) -> list[Embedding]:
        made = encode_clips(self, clips)
        for clip, embedding in zip(clips, made, strict=True):
            if "drink" in clip.stream:
                embedding.features[1, 2] = np.nan
        return made

    monkeypatch.setattr(StandInEncoder, "encode", fails)
    found = encode()
    assert counts(found) == (2, 0, 0) and found["skipped"] == 2
    assert "2 the rows that the encoder made of it are empty, or not finite" in found["stdout"]
    assert sorted(rows(tmp_path / "out")) == ["book/0", "book/1"]
    monkeypatch.undo()
    assert counts(encode()) == (2, 2, 0)


def test_what_is_left_out_and_passed_over_is_counted(
    videos: Path, tmp_path: Path, encode: Run
) -> None:
    for name in ("a", "b", "c", "d"):
        (videos / "book" / f"{name}.mp4").touch()
    (videos / "book" / "page.mp4").write_text("<html>")
    for name in ("__MACOSX/1.mp4", "book/notes.txt", "book/.DS_Store"):
        (videos / name).parent.mkdir(exist_ok=True)
        (videos / name).touch()
    found = encode()
    assert (found["videos"], found["skipped"], found["passed_over"]) == (9, 5, 3)
    lines = [line.strip() for line in found["stdout"].splitlines()]
    assert "4 the file is empty: book/a, book/b, book/c, …" in lines
    assert "5 left out" in lines and "3 files and folders passed over" in lines
    assert any(line.startswith("1 not a kind of video that is known: ") for line in lines)
    assert lines[-2].endswith("encode_report.json")
    report = json.loads((tmp_path / "out" / "encode_report.json").read_text())
    assert {Path(x["path"]).name for x in report["why_passed_over"]} == {
        "__MACOSX",
        ".DS_Store",
        "notes.txt",
    }
    assert len(found["stderr"].splitlines()) <= 12 and "9 of 9 videos (100%)" in found["stderr"]

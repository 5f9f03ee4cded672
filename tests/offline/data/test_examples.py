"""Examples: what an index may hold, and which class each clip is learnt as."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from offline.data.examples import common_glosses, read_examples, read_spec, scored, vocabulary
from offline.data.spellings import split_named
from tests.offline.indexes import GLOSSES, write_index


def test_reads_rows_with_gloss_and_signer(tmp_path: Path) -> None:
    examples = read_examples(write_index(tmp_path, dtype=np.float16))
    assert len(examples) == 31
    assert examples[0].rows.dtype == np.float32
    assert (examples[3].gloss, examples[3].group) == ("up", "signer 1")
    assert read_spec(tmp_path / "index.csv").dim == 154


def test_clips_of_unknown_signers_are_groups_of_their_own(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    index.write_text(index.read_text().replace(",signer 0,", ",,"))
    groups = {e.group for e in read_examples(index) if e.group.startswith("video:")}
    assert len(groups) == 4


def test_captions_and_idle_are_never_scored(tmp_path: Path) -> None:
    examples = read_examples(write_index(tmp_path))
    fair = scored(examples)
    assert len(examples) - len(fair) == 3
    assert not [e for e in fair if e.gloss == "idle" or e.split == "extra"]
    assert common_glosses(examples, 4) == GLOSSES
    with pytest.raises(ValueError, match="no gloss has 40 clips"):
        common_glosses(examples, 40)


def test_an_open_set_has_classes_for_what_is_not_to_be_recognised(tmp_path: Path) -> None:
    words = vocabulary(read_examples(write_index(tmp_path)), GLOSSES, open_set=True)
    assert words.glosses == GLOSSES
    assert words.others == ("other 0",)  # the others were seen once only
    assert [words.label(g) for g in ("up", "other 0", "other 2", "never seen", "idle")] == [
        1, 2, 3, 3, 4,
    ]  # fmt: skip
    assert (words.classes, words.idle) == (5, 4)


def test_a_closed_set_learns_nothing_else(tmp_path: Path) -> None:
    words = vocabulary(read_examples(write_index(tmp_path)), GLOSSES, open_set=False)
    assert [words.label(g) for g in ("down", "other 1", "idle")] == [0, None, None]
    assert (words.classes, words.idle) == (2, None)


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "lists no video"), ("video_id,gloss\na,b\n", "path_to_npy_file")],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "index.csv").write_text(content)
    with pytest.raises(ValueError, match=says):
        read_examples(tmp_path / "index.csv")


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 4), np.float32), np.zeros((2, 2), int), np.full((2, 4), np.nan)]
)
def test_rows_that_are_no_numbers_are_skipped_and_named(
    tmp_path: Path, rows: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    index, skipped = write_index(tmp_path), list[str]()
    np.save(tmp_path / "5.npy", rows)
    examples = read_examples(index, skipped=skipped)
    assert len(examples) == 30 and "clip-5" not in {e.video_id for e in examples}
    assert len(skipped) == 1 and "5.npy" in skipped[0]
    assert "1 of 31 rows are skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("a,tree,0.npy,,x\nb,tree,1.npy,,y", "rows of different encoders: x, y"),
        ("a,tree,0.npy,,\na,apple,1.npy,,", "a (original) has two glosses: tree and apple"),
        ("a,tree,0.npy,,,more", "line 2 has more cells than the header: 'more'"),
        ("a,I,ME,0.npy,,\n", "line 2 has more cells than the header"),
        ("a,tree", "line 2 has fewer cells than it needs"),
        ("a,,0.npy,,", "line 2: has no gloss"),
        ("a,tree,0.npy,holdout,", "line 2: no split is called 'holdout'"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path, lines: str, says: str) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.ones((2, 3), np.float32))
    text = f"video_id,gloss,path_to_npy_file,split,encoder\n{lines}\n"
    (tmp_path / "index.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(says)):
        read_examples(tmp_path / "index.csv")


def test_files_of_landmarks_told_other_rates_are_of_one_encoder(tmp_path: Path) -> None:
    lines = ["\ufeffvideo_id,gloss,path_to_npy_file,encoder"]
    for number, told in enumerate(("", "/fps=25", "/fps=30/aspect=1.5")):
        np.save(tmp_path / f"{number}.npy", np.ones((2, 3), np.float32))
        lines.append(f"{number},tree,{number}.npy,landmarks:m@1/15fps/320px{told}")
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    assert len(read_examples(tmp_path / "index.csv")) == 3


@pytest.mark.parametrize(
    ("text", "split"),
    [("Train", "train"), (" validation", "val"), ("dev", "val"), ("TEST", "test"), ("", "")],
)
def test_splits_are_known_by_the_names_of_others(text: str, split: str) -> None:
    assert split_named(text) == split


def test_rows_as_wide_as_the_encoder_says(tmp_path: Path) -> None:
    """Else training goes on, and nothing can use the head."""
    write_index(tmp_path)
    assert read_examples(tmp_path / "index.csv")
    report = tmp_path / "encode_report.json"
    told = json.loads(report.read_text())
    told["encoder"]["dim"] += 1
    report.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="numbers a step, but encode_report"):
        read_examples(tmp_path / "index.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_an_index_that_a_spreadsheet_saved(
    tmp_path: Path, separator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Glosses are one in every spelling, and eval beside a test validates, as in labels."""
    lines = ["\ufeffVideo_ID,Gloss,path_to_npy_file,Split", "a,Caf\u00e9,0.npy,Train"]
    lines += [
        ",,,",
        "b,cafe\u0301,0.npy,eval",
        "",
        "c,Caf\u00e9 \u200b,0.npy,TEST",
        "d,tree,0.npy,",
    ]
    np.save(tmp_path / "0.npy", np.ones((2, 3), np.float32))
    text = "\r\n".join(lines).replace(",", separator)
    (tmp_path / "index.csv").write_text(text, encoding="utf-8")
    found = read_examples(tmp_path / "index.csv")
    assert [(e.gloss, e.split) for e in found] == [
        *[("Caf\u00e9", split) for split in ("train", "val", "test")], ("tree", "")]  # fmt: skip
    assert "one gloss, Caf\u00e9: also written caf\u00e9" in capsys.readouterr().err
    with (tmp_path / "index.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"\r\ne{separator}\u200b{separator}0.npy{separator}")
    with pytest.raises(ValueError, match="line 8: has no gloss"):
        read_examples(tmp_path / "index.csv")


@pytest.mark.parametrize(
    ("windows", "says"),
    [("2", ""), ("", ""), ("4", "can't be those of 4 windows"), ("0", "0 windows"), ("-6", "-6"),
     ("two", "can't be read")],
)  # fmt: skip
def test_windows_share_the_rows_among_them(tmp_path: Path, windows: str, says: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 3), np.float32))
    index = tmp_path / "index.csv"
    index.write_text(f"video_id,gloss,path_to_npy_file,windows\na,tree,a.npy,{windows}\n")
    if says:
        with pytest.raises(ValueError, match=says):
            read_examples(index)
    else:
        assert read_examples(index)[0].windows == int(windows or 1)

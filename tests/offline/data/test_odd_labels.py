"""Tables out of spreadsheets, folders out of archives, WLASL as it was published."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from offline.data.label_tables import LabelError
from offline.data.labels import LabelNotes, of_glosses, read_labels, read_negatives
from offline.data.spellings import split_of
from offline.data.video_folders import VIDEO_SUFFIXES, path_of_name, readable_name
from tests.offline.clips import write_clip

TABLE = "path,gloss,split\n1.mp4,book,train\n2.mp4,drink,test\n"


def labels_of(folder: Path, content: str | bytes, name: str = "labels.csv") -> Any:
    """The ids, glosses and splits that the table `content` has, and the notes about it."""
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    notes = LabelNotes()
    videos = read_labels(str(folder / name), folder, notes)
    return [(v.video_id, v.gloss, v.split) for v in videos], notes


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "header", ["path,gloss,split", "Path, Gloss ,SPLIT", '"path","gloss","split"']
)
def test_tables_as_spreadsheets_write_them(
    tmp_path: Path, mark: str, separator: str, end: str, header: str
) -> None:
    text = TABLE.replace("path,gloss,split", header) + ",,\n\n"
    text = mark + text.replace(",", separator).replace("\n", end)
    found, _ = labels_of(tmp_path, text)
    assert found == [("1", "book", "train"), ("2", "drink", "test")]


def test_a_table_says_how_it_is_separated(tmp_path: Path) -> None:
    text = f"sep=;\n{TABLE.replace(',', ';')}x.mp4;a;b;c\n"
    with pytest.raises(LabelError, match=r"line 5 has 4 cells for 3 columns.*a semicolon"):
        labels_of(tmp_path, text)


def test_cells_in_quotes(tmp_path: Path) -> None:
    text = 'path,gloss,split\n1.mp4,"I, ME",train\n2.mp4, "say ""hi""\nto her",\u2028test\n'
    found, _ = labels_of(tmp_path, text)
    assert found == [("1", "I, ME", "train"), ("2", 'say "hi" to her', "test")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TABLE + "3.mp4,I,ME,train\n", r'line 4 has 4 cells for 3 columns.*a comma.*"I, ME"'),
        (TABLE.replace(",", ";") + "3.mp4;I;ME;train\n", r'line 4 .*a semicolon.*"I; ME"'),
        ('path,gloss\n"1\n.mp4",a\n2.mp4,b,c\n', "line 4 has 3 cells"),
        (TABLE + '3.mp4,"open,train\n4.mp4,a,\n', "line 4: .*quote"),
        (TABLE + "3.mp4,go,trian\n", "line 4: no split is called 'trian': give train, val, test"),
        (TABLE + "3.mp4,go,train+val\n", "line 4: no split is called"),
        (
            TABLE + "1.mp4,drink,train\n",
            r"names video 1 twice.*line 2 \(book\) and line 4 \(drink\)",
        ),
        (TABLE + "./1.mp4,drink,train\n", "names video 1 twice"),
        (TABLE + "1.mp4,book,test\n", "names video 1 twice"),
        ("path,gloss,,\n1.mp4,a,,\n2.mp4,I,ME,\n", "line 3 has 4 cells for 2 columns"),
        ("path,gloss,gloss\n1.mp4,a,b\n", "two columns gloss"),
        ("1.mp4,book\n2.mp4,drink\n", "no column gloss, path; it has 1.mp4, book"),
        (TABLE.encode("utf-16"), "can't be read: it is UTF-16"),
        (TABLE.encode("utf-16-le"), "can't be read: it is UTF-16"),
        ("path,gloss\n1.mp4,caf\xe9\n".encode("latin-1"), "line 2 is not UTF-8 .byte 0xe9"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(LabelError, match=says) as caught:
        labels_of(tmp_path, text)
    assert "labels.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_the_loose_tables(cases: Path) -> None:
    folder = cases / "csv_loose"
    with pytest.raises(LabelError, match=r"comma.csv: line 3 has 5 cells"):
        read_labels(str(folder / "comma.csv"), folder)
    videos = read_labels(str(folder / "split.csv"), folder)
    assert [v.split for v in videos] == ["train", "val"]


def test_a_line_twice_is_read_once(tmp_path: Path) -> None:
    found, notes = labels_of(tmp_path, TABLE + "./1.mp4,Book,Training\n")
    assert len(found) == 2 and "line 4 repeats line 2" in notes.lines[0]


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train", "Train", "TRAIN", " training ", "Training", "trn"), "train"),
        (("val", "valid", "Validation", "DEV", "devel", "development"), "val"),
        (("test", "Testing", "TST", "eval", "Evaluation"), "test"),
        (("extra", "Extra"), "extra"),
        (("", " ", "None", "nan", "-"), ""),
        (("tests", "trian", "fold1", "0"), None),
    ],
)
def test_names_of_splits(names: tuple[str, ...], split: str | None) -> None:
    assert [split_of(name) for name in names] == [split] * len(names)


def test_eval_beside_a_test_is_for_validation(tmp_path: Path) -> None:
    text = "path,gloss,split\n1.mp4,a,train\n2.mp4,b,eval\n"
    found, notes = labels_of(tmp_path, text)
    assert found[1][2] == "test" and notes.lines == ["splits: eval as test"]
    found, notes = labels_of(tmp_path, text + "3.mp4,a,Testing\n")
    assert [split for *_, split in found] == ["train", "val", "test"]
    assert notes.lines == ["splits: Testing as test, eval as val"]


def test_one_gloss_in_several_spellings(tmp_path: Path) -> None:
    composed, parts = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    names = ["Book", "book", " book ", "BOOK", parts, composed.upper(), parts, "thank  you"]
    names += ["Thank you", "Idle", "STRASSE", "straße"]
    lines = [f"{number}.mp4,{name}" for number, name in enumerate(names)]
    found, notes = labels_of(tmp_path, "path,gloss\n" + "\n".join(lines))
    glosses = [gloss for _, gloss, _ in found]
    assert glosses[:4] == ["book"] * 4 and glosses[4:7] == [composed] * 3
    assert glosses[7:] == ["thank you", "thank you", "idle", "STRASSE", "STRASSE"]
    assert "one gloss, book: also written BOOK, Book" in notes.lines


def test_what_is_not_shown_makes_no_gloss(tmp_path: Path) -> None:
    text = "path,gloss\n1.mp4,go\u200bod\u00ad\n2.mp4,good\n3.mp4,\u200e bad\u0007\n"
    found, _ = labels_of(tmp_path, text)
    assert [gloss for _, gloss, _ in found] == ["good", "good", "bad"]
    with pytest.raises(LabelError, match=r"labels\.csv: line 2 has no path or no gloss"):
        labels_of(tmp_path, "path,gloss\n1.mp4,\u200b\n")
    with pytest.raises(LabelError, match="the gloss of video 1 has nothing that is shown"):
        read_labels(wlasl(tmp_path, {"video_id": "1"}, gloss="\u200b"), tmp_path)


def test_one_signer_in_several_spellings(tmp_path: Path) -> None:
    lines = [
        f"{i}.mp4,book,{s}" for i, s in enumerate(["Jose\u0301", "JOS\u00c9", "Jos\u00e9", ""])
    ]
    (tmp_path / "a.csv").write_text("\n".join(["path,gloss,signer", *lines]), encoding="utf-8")
    notes = LabelNotes()
    found = read_labels(str(tmp_path / "a.csv"), tmp_path, notes)
    assert [video.signer for video in found] == ["Jos\u00e9"] * 3 + [""]
    assert "one signer, Jos\u00e9: also written JOS\u00c9" in notes.lines


def test_one_file_by_several_paths(tmp_path: Path) -> None:
    (tmp_path / "1.mp4").touch()
    (tmp_path / "2.mp4").symlink_to("1.mp4")
    for other in ("2.mp4", f"../{tmp_path.name}/1.mp4", tmp_path / "1.mp4"):
        with pytest.raises(LabelError, match=r"in line 2 \(book\) and line 3 \(drink\)"):
            labels_of(tmp_path, f"path,gloss\n1.mp4,book\n{other},drink\n")
        found, _ = labels_of(tmp_path, f"path,gloss\n1.mp4,book\n{other},book\n")
        assert found == [("1", "book", "")]


def test_empty_lines_and_columns_that_nobody_reads(tmp_path: Path) -> None:
    found, notes = labels_of(tmp_path, "\n \npath,gloss,signer_id,frame_start\n1.mp4,book,7,3\n")
    assert found == [("1", "book", "")]
    assert any("not read: signer_id, frame_start" in line for line in notes.lines)
    with pytest.raises(LabelError, match="line 4 has 3 cells"):
        labels_of(tmp_path, "\nsep=;\npath;gloss\n1.mp4;I; ME\n")


def test_chosen_glosses_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("\ufeffTHANK YOU\r\n\r\ncafe\u0301\r\nMore\n".encode())
    lines = ["path,gloss", "1.mp4,thank  you", "2.mp4,Caf\u00e9", "3.mp4,no"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    videos = read_labels(str(tmp_path / "labels.csv"), tmp_path)
    notes = LabelNotes()
    chosen = of_glosses(videos, tmp_path / "words.txt", notes)
    assert notes.lines[0].endswith("words.txt: 1 glosses are shown by no video: more")
    assert [v.gloss for v in chosen] == ["thank you", "Caf\u00e9"]


def test_names_as_other_systems_write_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = unicodedata.normalize("NFC", "é.mp4")
    for there in ("a/1.mp4", f"a/{name}"):
        (tmp_path / there).touch()
    lines = ["path,gloss", "a\\1.mp4,b", f"a/{unicodedata.normalize('NFD', name)},c"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    videos = read_labels(str(tmp_path / "labels.csv"), tmp_path)
    assert all(v.path.is_file() for v in videos)


def test_one_gloss_alone_is_told(tmp_path: Path) -> None:
    _, notes = labels_of(tmp_path, "path,gloss\n1.mp4,Book\n2.mp4,book\n3.mp4,idle\n")
    assert "all videos show one gloss, Book" in notes.lines[-1]


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read_folders(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The ids, and why each file or folder is passed over."""
    notes = LabelNotes()
    videos = read_labels("folders", folder, notes)
    ids = [v.video_id for v in videos]
    assert len(set(ids)) == len(ids)
    return ids, {str(one.path.relative_to(folder)): one.why for one in notes.passed_over}


@pytest.mark.parametrize(
    "junk",
    [
        *("thumbnails/x.mp4", "yes/Thumbs/x.mp4"),
        *("__MACOSX/x.mp4", ".thumbnails/x.mp4", "@eaDir/x.mp4", "$RECYCLE.BIN/x.mp4"),
        *("hello/._1.mp4", "hello/.DS_Store", "hello/Thumbs.db", "hello/desktop.ini"),
        *("hello/.hidden/x.mp4", "hello/@eaDir/x.mp4", ".git/hello/x.mp4", "hello/.1.mp4"),
    ],
)
def test_what_systems_leave_makes_no_gloss(tmp_path: Path, junk: str) -> None:
    ids, passed = read_folders(folder_of(tmp_path, "hello/1.mp4", "yes/1.mp4", junk))
    assert ids == ["hello/1", "yes/1"]
    [(path, why)] = passed.items()
    assert junk.startswith(path) and "hidden, or made by the system" in why


def test_the_folders_of_cases(cases: Path) -> None:
    assert read_folders(cases / "folder_junk")[0] == ["hello/1"]
    assert len(read_folders(cases / "folder_suffixes")[0]) == 5
    assert read_folders(cases / "same_stem")[0] == ["hello/IMG_1.MOV", "hello/IMG_1.mp4"]


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".MP4", ".Mts"])
def test_every_kind_of_video(tmp_path: Path, suffix: str) -> None:
    ids, passed = read_folders(folder_of(tmp_path, f"yes/1{suffix}", "no/1.mp4"))
    assert ids == ["no/1", "yes/1"] and not passed


def test_other_files_are_named(tmp_path: Path) -> None:
    names = ["yes/1.mp4", "yes/2.xyz", "yes/notes.txt", "yes/3", "no/1.webp", "readme.txt"]
    ids, passed = read_folders(folder_of(tmp_path, *names))
    assert ids == ["yes/1"]
    assert sorted(passed) == [
        "no",
        "no/1.webp",
        "readme.txt",
        "yes/2.xyz",
        "yes/3",
        "yes/notes.txt",
    ]
    assert passed["no"] == "there is no video in it"


@pytest.mark.parametrize("first", [["1.mov"], ["1.mp4", "1.MP4", "sub/1.mp4"]])
def test_one_stem_is_as_many_clips_as_files(tmp_path: Path, first: list[str]) -> None:
    names = [f"yes/{name}" for name in (*first, "1.avi")]
    ids, _ = read_folders(folder_of(tmp_path, *names))
    assert len(ids) == len(names) and "yes/1.avi" in ids
    table = "path,gloss\n" + "".join(f"{name},yes\n" for name in names)
    found, _ = labels_of(tmp_path, table)
    assert sorted(video_id for video_id, *_ in found) == sorted(ids)


def test_folders_in_folders(tmp_path: Path) -> None:
    ids, _ = read_folders(folder_of(tmp_path, "yes/anna/1.mp4", "yes/ben/a/1.mp4", "no/1.mp4"))
    assert ids == ["no/1", "yes/anna/1", "yes/ben/a/1"]


def test_folders_that_are_splits(tmp_path: Path) -> None:
    names = ["Train/yes/1.mp4", "Train/no/1.mp4", "validation/yes/1.mp4", "test/no/1.mp4"]
    folder_of(tmp_path, *names, "test/stray.mp4")
    notes = LabelNotes()
    videos = read_labels("folders", tmp_path, notes)
    assert {(v.video_id, v.gloss, v.split) for v in videos} == {
        ("Train/yes/1", "yes", "train"),
        ("Train/no/1", "no", "train"),
        ("validation/yes/1", "yes", "val"),
        ("test/no/1", "no", "test"),
    }
    assert "the folders are splits" in notes.lines[0]
    assert [one.path.name for one in notes.passed_over] == ["stray.mp4"]
    # Glosses of such names have their videos in them.
    (tmp_path / "b").mkdir()
    assert read_folders(folder_of(tmp_path / "b", "test/1.mp4", "train/1.mp4"))[0] == [
        "test/1",
        "train/1",
    ]


def test_folders_beside_splits(tmp_path: Path) -> None:
    folder_of(tmp_path, "Train/book/1.mp4", "TEST/book/2.mp4", "evaluation/book/3.mp4")
    folder_of(tmp_path, "annotations/1.json", "train_old/1.txt")
    notes = LabelNotes()
    found = read_labels("folders", tmp_path, notes)
    assert sorted((v.gloss, v.split) for v in found) == [
        ("book", "test"), ("book", "train"), ("book", "val")]  # fmt: skip
    assert {tmp_path / "annotations", tmp_path / "train_old"} <= {p.path for p in notes.passed_over}
    folder_of(tmp_path, "drink/4.mp4")
    read_labels("folders", tmp_path, notes)
    assert any("taken as glosses, not as splits, as drink lies" in line for line in notes.lines)


def test_links(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "v", "yes/1.mp4", "no/1.mp4")
    (root / "yes" / "up").symlink_to(root)
    (root / "yes" / "other").symlink_to(root / "no")
    (root / "no" / "back").symlink_to(root / "yes")
    (root / "yes" / "self").symlink_to(root / "yes" / "self")
    folder_of(tmp_path / "elsewhere", "2.mp4")
    (root / "maybe").symlink_to(tmp_path / "elsewhere")
    (root / "yes" / "lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    ids, passed = read_folders(root)
    assert {"no/1", "yes/1", "maybe/2", "yes/other/1", "yes/lost"} <= set(ids)
    assert passed["yes/other/back"] == passed["no/back/other"] == "a link that leads back"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder_of(folder, os.fsdecode(b"\xff\n.mp4"), "plain.mp4")
    videos = read_labels("folders", tmp_path)
    assert [v.video_id for v in videos] == ["caf\\xe9/plain", "caf\\xe9/\\xff\\x0a"]
    assert all(v.path.is_file() for v in videos)
    names = [readable_name(str(v.path)) for v in videos]
    assert all(name.isprintable() for name in names)
    assert [path_of_name(name) for name in names] == [v.path for v in videos]


def test_what_was_encoded_is_no_gloss(tmp_path: Path) -> None:
    folder_of(tmp_path, "yes/1.mp4", "out/encode_report.json", "out/embeddings/1.mp4")
    assert read_folders(tmp_path) == (["yes/1"], {"out": "written by offline.encode"})


def test_a_folder_of_idle_videos(tmp_path: Path) -> None:
    notes = LabelNotes()
    folder_of(tmp_path, "yes/1.mp4", "no/1.mp4", "Idle/1.mp4", "Idle/._1.mp4", "Idle/a/1.mov")
    videos = read_labels("folders", tmp_path, notes)
    assert [v.gloss for v in videos][:2] == ["idle", "idle"]
    assert "folder idle: taken as videos in which nobody signs" in notes.lines
    negatives = read_negatives(tmp_path / "Idle", notes)
    assert [v.video_id for v in negatives] == ["idle/1", "idle/a/1"]


def wlasl(folder: Path, *instances: dict[str, Any], gloss: str = "book") -> str:
    usual = {"signer_id": 1, "split": "train"}
    file = folder / "wlasl.json"
    file.write_text(
        json.dumps([{"gloss": gloss, "instances": [usual | each for each in instances]}])
    )
    return str(file)


@pytest.mark.parametrize(
    ("first", "last", "want"),
    [
        (1, -1, None),
        (3, -1, (3, None)),
        (1, 74, (1, 74)),
        (1265, 1314, (1265, 1314)),
        (0, 0, None),
        (50, 20, None),
    ],
)
def test_the_frames_of_a_sign(
    tmp_path: Path, first: int, last: int, want: tuple[int, int] | None
) -> None:
    instance = {"video_id": "1", "frame_start": first, "frame_end": last}
    [video] = read_labels(wlasl(tmp_path, instance), tmp_path)
    assert video.frames == want


def test_videos_of_youtube_as_they_were_published(tmp_path: Path) -> None:
    (tmp_path / "0UsjUE-TXns.mp4").touch()
    (tmp_path / "2.mkv").touch()
    url = "https://www.youtube.com/watch?v=0UsjUE-TXns"
    parts = [
        {"video_id": str(n), "url": url, "frame_start": n * 10, "frame_end": n * 10 + 5}
        for n in (1, 2)
    ]
    notes = LabelNotes()
    one, two = read_labels(wlasl(tmp_path, *parts), tmp_path, notes)
    assert (one.path.name, one.frames) == ("0UsjUE-TXns.mp4", (10, 15))
    assert two.path.name == "2.mkv"
    assert notes.lines[0].startswith("2 labels state the frames of their sign")


def test_frames_of_a_split_that_count_in_cut_videos(tmp_path: Path) -> None:
    (tmp_path / "wlasl_class_list.txt").write_bytes(b"0\tbook\r\n\n1\tdrink\r\n\r\n")
    clips = {"1": [0, 1, 43], "2": [1, 7686, 7832], "3": [0, 5, -1]}
    file = tmp_path / "nslt_2.json"
    file.write_text(json.dumps({i: {"subset": "Test", "action": a} for i, a in clips.items()}))
    videos = read_labels(str(file), tmp_path)
    assert [v.frames for v in videos] == [None, (7686, 7832), (5, None)]
    assert [(v.gloss, v.split) for v in videos[:2]] == [("book", "test"), ("drink", "test")]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (b"0\tbook\nzero\tdrink\n", "wlasl_class_list.txt: line 2 is no number"),
        (b"0\tbook\n\n1,drink\n", "wlasl_class_list.txt: line 3 is no number"),
        (b"0\tbook\n0\tdrink\n", "wlasl_class_list.txt: line 2 has number 0 again"),
        (b"0\tbook\n1\t\n", "wlasl_class_list.txt: line 2 is no number"),
        (b"0\tbook\n", "wlasl_class_list.txt: has no class 1, which video 2 shows"),
        (b"\xff\xfe0\x00", "wlasl_class_list.txt: can't be read: it is UTF-16"),
    ],
)
def test_a_list_of_classes_that_is_broken(tmp_path: Path, classes: bytes, says: str) -> None:
    (tmp_path / "wlasl_class_list.txt").write_bytes(classes)
    clips = {str(i + 1): {"subset": "train", "action": [i, 1, 9]} for i in range(2)}
    (tmp_path / "nslt.json").write_text(json.dumps(clips))
    with pytest.raises(LabelError, match=says):
        read_labels(str(tmp_path / "nslt.json"), tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"1": {"subset": "train", "action": [0, 2, 1e400]}}', "not in the format of WLASL"),
        ('{"1": {"subset": "train", "action": [0]}, "1": {}}', "'1' stands twice"),
    ],
)
def test_a_split_of_wlasl_that_is_broken(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "wlasl_class_list.txt").write_text("\ufeff0 thank you\r\n\r\n", encoding="utf-8")
    (tmp_path / "nslt.json").write_text('{"1": {"subset": "Train", "action": [0, 1, 9]}}')
    assert read_labels(str(tmp_path / "nslt.json"), tmp_path)[0].gloss == "thank you"
    (tmp_path / "nslt.json").write_text(text)
    with pytest.raises(LabelError, match=says):
        read_labels(str(tmp_path / "nslt.json"), tmp_path)


def test_the_list_of_classes_of_cases(cases: Path) -> None:
    folder = cases / "class_list"
    assert [v.gloss for v in read_labels(str(folder / "nslt_2.json"), folder)] == ["book"]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["1.mp4", "1.swf"], "1.mp4"),
        (["1.swf"], "1.swf"),
        (["1.webm", "1.swf", "1.gif"], "1.webm"),
        (["1.mp4 page", "1.swf"], "1.swf"),
        (["1.mp4 page", "1.swf page"], "1.mp4"),
        (["1.mkv", "1.npz page"], "1.mkv"),
    ],
)
def test_pages_in_the_place_of_videos(tmp_path: Path, there: list[str], taken: str) -> None:
    for name, _, page in (name.partition(" ") for name in there):
        if page:
            (tmp_path / name).write_text("<!DOCTYPE html><html><body>not found</body></html>")
        else:
            write_clip(tmp_path / "clip.mp4", 2).rename(tmp_path / name)
    notes = LabelNotes()
    [video] = read_labels(wlasl(tmp_path, {"video_id": "1"}), tmp_path, notes)
    assert video.path.name == taken
    others = {one.path.name for one in notes.passed_over} - {"wlasl.json"}
    assert others == {name.split()[0] for name in there} - {taken}


def test_the_page_of_cases(cases: Path) -> None:
    folder = cases / "wlasl_swf_shadow"
    [video] = read_labels(str(folder / "wl.json"), folder / "v")
    assert video.path.name == "00001.mp4"


@pytest.mark.parametrize(
    "instance",
    [{"split": None}, {"split": 1}, {"frame_end": "x"}, {"frame_start": None}, {"video_id": []}],
)
def test_a_clip_of_wlasl_that_is_none(tmp_path: Path, instance: dict[str, Any]) -> None:
    file = wlasl(tmp_path, {"video_id": "7", **instance})
    with pytest.raises(LabelError, match=r"wlasl\.json: not in the format of WLASL"):
        read_labels(file, tmp_path)


def test_folders_without_any_video(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no folder in it holds a video"):
        read_labels("folders", folder_of(tmp_path, "1.mp4", "yes/notes.txt"))


def test_a_split_of_wlasl_that_is_none(tmp_path: Path) -> None:
    file = wlasl(tmp_path, {"video_id": "7", "split": "holdout"})
    with pytest.raises(LabelError, match="video 7: no split is called 'holdout'"):
        read_labels(file, tmp_path)

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from offline.data.labels import LabelError, of_glosses, read_labels, read_negatives


def test_a_csv(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,gloss,split,signer\na/1.mp4,book,train,anna\nb 2.mp4,drink,,\n")
    one, two = read_labels(str(table), tmp_path / "videos")
    assert one.video_id == "a/1" and one.path == tmp_path / "videos" / "a" / "1.mp4"
    assert (one.gloss, one.split, one.signer) == ("book", "train", "anna")
    assert (two.video_id, two.split, two.signer) == ("b 2", "", "")


def test_a_group_goes_before_a_signer_and_captions_are_not_scored(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,gloss,video_id,signer,group,split,caption_risk\n"
        "1.mp4,a,x,s1,g1,train,0\n2.mp4,b,x,s2,,test,1\n"
    )
    one, two = read_labels(str(table), tmp_path)
    assert (one.signer, one.split, two.signer, two.split) == ("g1", "train", "s2", "extra")
    assert (one.video_id, two.video_id) == ("1", "2")  # `x` would mean two videos


def test_the_projects_own_manifest(data_dir: Path) -> None:
    videos = read_labels(str(data_dir / "manifest.csv"), data_dir)
    assert len(videos) == 941 and all(v.path.is_file() for v in videos)
    assert all(v.signer for v in videos)
    assert Counter(v.split for v in videos)["extra"] == 177


def test_wlasl(tmp_path: Path) -> None:
    (tmp_path / "2.webm").touch()
    labels = tmp_path / "WLASL_v0.3.json"
    instances = [
        {"video_id": "1", "signer_id": 7, "split": "train", "frame_start": 1},
        {"video_id": "2", "signer_id": 8, "split": "test", "frame_start": 1},
    ]
    labels.write_text(json.dumps([{"gloss": "book", "instances": instances}]))
    one, two = read_labels(str(labels), tmp_path)
    assert one.path == tmp_path / "1.mp4" and two.path == tmp_path / "2.webm"
    assert (one.gloss, one.split, one.signer) == ("book", "train", "wlasl:7")


@pytest.mark.parametrize(("size", "videos"), [(100, 2038), (300, 5117)])
def test_the_real_wlasl_files(data_dir: Path, tmp_path: Path, size: int, videos: int) -> None:
    full = read_labels(str(data_dir / "wlasl" / f"WLASL{size}.json"), tmp_path)
    assert len(full) == videos and len({v.gloss for v in full}) == size
    assert all(v.signer.startswith("wlasl:") for v in full)
    split = {v.video_id: v for v in read_labels(nslt(data_dir, size), tmp_path)}
    both = [(v, split[v.video_id]) for v in full if v.video_id in split]
    assert len(both) == videos
    assert all(one.split == other.split for one, other in both)
    # WLASL's list of classes spells one of its glosses otherwise.
    assert {(a.gloss, b.gloss) for a, b in both if a.gloss != b.gloss} <= {("lose", "losear")}


@pytest.mark.parametrize("size", [100, 300, 1000, 2000])
def test_the_real_splits(data_dir: Path, tmp_path: Path, size: int) -> None:
    split = read_labels(nslt(data_dir, size), tmp_path)
    assert len({v.gloss for v in split}) == size
    assert {v.split for v in split} == {"train", "val", "test"}


def nslt(data_dir: Path, size: int) -> str:
    return str(data_dir / "wlasl" / f"nslt_{size}.json")


def test_folders(tmp_path: Path) -> None:
    for name in ("book/1.mp4", "book/2.MOV", "drink/1.mp4", "drink/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    videos = read_labels("folders", tmp_path)
    assert [v.video_id for v in videos] == ["book/1", "book/2", "drink/1"]
    assert [v.gloss for v in videos] == ["book", "book", "drink"]
    assert [v.gloss for v in read_negatives(tmp_path / "book")] == ["idle", "idle"]


def test_tables_of_landmark_files(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,gloss,group,fps\na/1.npz,book,anna,30\n2.npy,drink,ben,\n3.mp4,go,,0\n")
    one, two, video = read_labels(str(table), tmp_path)
    assert (one.video_id, one.path, one.signer) == ("a/1", tmp_path / "a" / "1.npz", "anna")
    assert (one.fps, two.fps, video.fps) == (30, None, None)  # a video states its own


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([], ["1.mp4", "2.mp4"]),
        (["1.npz"], ["1.npz", "2.npz"]),
        (["1.npz", "1.webm"], ["1.webm", "2.mp4"]),
        (["1.npz", "2.mov"], ["1.npz", "2.mov"]),
    ],
)
def test_a_video_goes_before_its_landmarks(
    tmp_path: Path, there: list[str], found: list[str]
) -> None:
    for name in there:
        (tmp_path / name).touch()
    table = tmp_path / "labels.csv"
    table.write_text("video_id,gloss\n1,book\n2,drink\n")
    assert [v.path.name for v in read_labels(str(table), tmp_path)] == found


def test_the_real_landmark_files(data_dir: Path) -> None:
    for folder, labels, count in (
        ("webcam", "webcam/landmarks.csv", 1150),
        ("wlasl", "wlasl/landmarks.csv", 11932),
        ("wlasl", "wlasl/WLASL_v0.3.json", 11932),
    ):
        videos = read_labels(str(data_dir / labels), data_dir / folder / "landmarks")
        assert all(v.path.suffix == ".npz" for v in videos)
        assert sum(v.path.is_file() for v in videos) == count


def test_a_chosen_vocabulary(tmp_path: Path) -> None:
    table, words = tmp_path / "labels.csv", tmp_path / "top_glosses.txt"
    table.write_text("path,gloss\n1.mp4,book\n2.mp4,drink\n")
    words.write_text("Drink\n\n")
    videos = read_labels(str(table), tmp_path)
    assert [v.gloss for v in of_glosses(videos, words)] == ["drink"]
    words.write_text("none\n")
    with pytest.raises(LabelError, match="none of the videos"):
        of_glosses(videos, words)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "name,gloss\n1.mp4,a\n", "no column path"),
        ("a.csv", "path,gloss,fps\n1.npz,a,0\n", "line 2 has an fps of 0"),
        ("a.csv", "path,gloss,fps\n1.npz,a,nan\n", "line 2 has an fps of nan"),
        ("a.csv", "path,gloss,fps\n1.npz,a,slow\n", "line 2 has an fps of slow"),
        ("a.csv", "path,gloss\n1.mp4,\n", "line 2 has no path or no gloss"),
        ("a.csv", "path,gloss\n1.mp4,a\n1.mp4,b\n", "names video 1 twice"),
        ("a.csv", "path,gloss\n", "names no video"),
        ("a.json", "{", "not JSON"),
        ("a.json", '[{"gloss": "a"}]', "not in the format of WLASL"),
        ("a.json", '{"1": {"subset": "train", "action": [0, 1, 2]}}', "wlasl_class_list.txt"),
        ("a.txt", "", "give a .json"),
    ],
)
def test_wrong_labels(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(LabelError, match=says):
        read_labels(str(tmp_path / name), tmp_path)


def test_a_table_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,gloss\n\xff.mp4,a\n")
    with pytest.raises(LabelError, match="can't be read"):
        read_labels(str(tmp_path / "a.csv"), tmp_path)

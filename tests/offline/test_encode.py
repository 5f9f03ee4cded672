from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.schema import Encoder
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.encoder import VJEPA2Encoder
from models.window import windows
from offline.data.duplicates import read_recordings
from offline.data.examples import read_examples, read_spec
from offline.data.fingerprints import fingerprint, read_fingerprints
from offline.data.videos import read_video
from offline.encode import main
from offline.encoding.run import EncoderFactory, StandInEncoder
from offline.encoding.tasks import locked
from tests.models.tiny_vjepa2 import make_checkpoint
from tests.offline.clips import write_clip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vjepa2"))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "none").mkdir(parents=True)
    for number in range(3):
        write_clip(folder / f"{number}.mp4", 4 + 3 * number)
    write_clip(folder / "none" / "still.mp4", 5)
    (folder / "empty.mp4").touch()
    (folder / "labels.csv").write_text(
        "path,gloss,split,signer\n0.mp4,book,train,anna\n1.mp4,book,test,ben\n"
        "2.mp4,drink,train,anna\nempty.mp4,drink,,\nlost.mp4,drink,,\n"
    )
    return folder


@pytest.fixture
def encode(videos: Path, checkpoint: Path, tmp_path: Path) -> Callable[..., int]:
    """Encodes `videos` into `tmp_path / out` by V-JEPA 2, unless other options are given."""

    def run(*more: str, out: str = "out") -> int:
        where = ["--videos", str(videos), "--labels", str(videos / "labels.csv")]
        encoder = ["--encoder", f"vjepa2:{checkpoint}", "--frames", "4", "--device", "cpu"]
        return main([*where, "--out", str(tmp_path / out), *encoder, *more])

    return run


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def npy(out: Path, video_id: str) -> Path:
    """The rows of a video as it is."""
    [line] = [x for x in index(out) if (x["video_id"], x["variant"]) == (video_id, "original")]
    return out / line["path_to_npy_file"]


def report(out: Path) -> Any:
    return json.loads((out / "encode_report.json").read_text())


def summary(capsys: pytest.CaptureFixture[str], *names: str) -> tuple[int, ...]:
    """These values of the last line of stdout."""
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    return tuple(values[name] for name in names)


def test_encodes_lists_and_reports(
    encode: Callable[..., int],
    videos: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    more = ["--variants", "original,gaussian,bw", "--negatives", str(videos / "none")]
    assert encode(*more) == 0
    lines = index(out)
    assert len(lines) == 4 * 3
    first = next(x for x in lines if x["video_id"] == "1" and x["variant"] == "original")
    assert (first["gloss"], first["split"], first["signer"]) == ("book", "test", "ben")
    assert {x["gloss"] for x in lines} == {"book", "drink", "idle"}
    rows = np.load(out / first["path_to_npy_file"])
    assert rows.shape == (2, 32) and rows.dtype == np.float32

    spec = vjepa2_spec(str(checkpoint), frames=4)
    cut = list(windows("s", read_video(videos / "0.mp4", spec.short_side), spec, 0.01))
    [live] = VJEPA2Encoder.open(spec, "cpu").encode(cut[-1:])  # 4 ticks long: its last live window
    stored = np.load(npy(out, "0"))
    np.testing.assert_allclose(stored, live.features, atol=1e-5)

    full = report(out)
    assert (full["videos"], full["done"], full["skipped"]) == (6, 4, 2)
    why = {x["video_id"]: x["why"] for x in full["why_skipped"]}
    assert "empty" in why["empty"] and "no such file" in why["lost"]
    assert full["encoder"]["dim"] == 32
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("disk: about") for line in printed)
    assert json.loads(printed[-1])["done"] == 4


def test_goes_on_where_it_was_cut_off(
    encode: Callable[..., int], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert encode("--limit", "2") == 0
    old = npy(out, "0").stat().st_mtime_ns
    assert encode() == 0
    assert summary(capsys, "done", "kept") == (1, 2)
    assert npy(out, "0").stat().st_mtime_ns == old

    broken = npy(out, "1")
    broken.write_bytes(broken.read_bytes()[:-4])
    labels = videos / "labels.csv"
    labels.write_text(labels.read_text().replace("0.mp4,book", "0.mp4,read"))
    assert encode() == 0
    assert summary(capsys, "done", "corrupt") == (1, 1)
    assert f"{broken.name}: SHA-256 differs" in report(out)["made_again"][0]
    assert np.load(broken).shape == (2, 32)
    assert index(out)[0]["gloss"] == "read"  # today's label

    other = make_checkpoint(tmp_path / "other", seed=1)
    assert encode("--encoder", f"vjepa2:{other}") == 0
    assert summary(capsys, "done", "kept") == (3, 0)  # rows of another encoder


def test_a_clip_is_the_same_bits_in_any_company(
    encode: Callable[..., int], videos: Path, tmp_path: Path
) -> None:
    assert encode("--batch", "2", "--workers", "3", out="all") == 0
    labels = videos / "labels.csv"
    labels.write_text("path,gloss\n2.mp4,drink\n")
    assert encode("--batch", "2", out="one") == 0
    one, every = npy(tmp_path / "one", "2"), npy(tmp_path / "all", "2")
    assert one.read_bytes() == every.read_bytes()


def test_all_tokens_are_kept_in_half_precision(
    encode: Callable[..., int], checkpoint: Path, tmp_path: Path
) -> None:
    assert encode("--encoder", f"vjepa2-tokens:{checkpoint}") == 0
    rows = np.load(npy(tmp_path / "out", "0"))
    assert rows.shape == (2 * 4, 32) and rows.dtype == np.float16


def test_several_windows_of_a_video(
    encode: Callable[..., int],
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert encode() == 0
    middle = np.load(tmp_path / "out" / "embeddings" / "2.original.npy")
    more = ["--windows", "3", "--views", "3", "--variants", "original,bw"]
    assert encode(*more) == 0
    assert summary(capsys, "done", "kept") == (3, 0)  # one window of before is no three of now
    lines = {(x["video_id"], x["variant"]): x for x in index(tmp_path / "out")}
    # 4 ticks have one window; 7 and 10 have three
    assert [lines[name, "bw"]["windows"] for name in "012"] == ["3", "9", "9"]
    rows = np.load(tmp_path / "out" / lines["2", "original"]["path_to_npy_file"])
    assert rows.shape == (9 * 2, 32)
    np.testing.assert_allclose(rows.reshape(9, 2, 32)[4], middle, atol=1e-5)  # middle of both
    assert "windows=3x3" in lines["2", "original"]["encoder"]
    assert report(tmp_path / "out")["windows"] == {"segments": 3, "views": 3}
    assert read_examples(tmp_path / "out" / "index.csv")[4].windows == 9
    assert encode(*more) == 0
    assert summary(capsys, "done", "kept") == (0, 3)

    assert encode("--encoder", f"vjepa2-tokens:{checkpoint}", "--windows", "3", out="all") == 0
    tokens = np.load(tmp_path / "all" / "embeddings" / "2.original.npy")
    assert tokens.shape == (3 * 8, 32) and tokens.dtype == np.float16


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--encoder", "landmarks", "--windows", "2"), "takes each video whole"),
        (("--encoder", "landmarks", "--resize", "exact"), "--resize exact"),
        (("--windows", "0"), "--windows must be at least 1"),
        (("--views", "-1"), "--views must be at least 1"),
    ],
)
def test_windows_that_can_not_be(
    encode: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    says: str,
) -> None:
    try:
        status: object = encode(*more, "--frames", "16")
    except SystemExit as exc:
        status = exc.code
    assert status == 2 and says in capsys.readouterr().err


def test_rows_of_the_exact_rule_are_other_rows(
    encode: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode() == 0
    index = tmp_path / "out" / "index.csv"
    fast = read_examples(index)[0].rows
    assert encode("--resize", "exact") == 0
    assert summary(capsys, "done", "kept") == (3, 0)
    exact = read_examples(index)[0].rows
    assert 0 < np.abs(fast - exact).max() < 1
    assert read_spec(index).resize == "exact"


def test_files_as_they_are_found(tmp_path: Path) -> None:
    """What can be shown is encoded; the rest is listed, and leaves no row of zeros behind."""
    folder = tmp_path / "videos" / "sign"
    folder.mkdir(parents=True)
    for name, codec in (("a.mov", "libx264"), ("b.webm", "libvpx"), ("c.gif", "gif")):
        write_clip(folder / name, 20, codec=codec)
    write_clip(folder / "one_picture.mp4", 1)
    write_clip(folder / "turned.mp4", 20, rotation=90)
    write_clip(folder / "uneven.mkv", [0.0, 0.02, 0.5, 0.51, 1.9, 3.0])
    whole = write_clip(folder / "cut.mp4", 20).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[:900])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not found" * 100)
    where = ["--videos", str(folder.parent), "--labels", "folders", "--out", str(tmp_path / "out")]
    assert main([*where, "--encoder", "standin:0"]) == 0
    lines = index(tmp_path / "out")
    names = ["a", "b", "c", "one_picture", "turned", "uneven"]
    assert [line["video_id"] for line in lines] == [f"sign/{name}" for name in names]
    for line in lines:
        rows = np.load(tmp_path / "out" / line["path_to_npy_file"])
        assert rows.shape == (16, 3) and (rows > 10).all()
    why = {x["video_id"]: x["why"] for x in report(tmp_path / "out")["why_skipped"]}
    assert list(why) == ["sign/cut", "sign/empty", "sign/text"]


def test_what_was_stored_before_a_fault_is_in_the_index(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--videos", str(videos), "--labels", "folders", "--out", str(tmp_path / "out")]
    (videos / "sign").mkdir()
    for number in range(20):
        (videos / "sign" / f"{number}.mp4").symlink_to(videos / "0.mp4")
    encode_clips, calls = StandInEncoder.encode, []

    def fails(self: StandInEncoder, clips: Any) -> Any:
        calls.append(len(clips))
        if len(calls) == 3:
            raise ValueError("the encoder broke")
        return encode_clips(self, clips)

    monkeypatch.setattr(StandInEncoder, "encode", fails)
    assert main([*where, "--encoder", "standin:0", "--batch", "1"]) == 2
    assert len(index(tmp_path / "out")) == calls[0] + calls[1]


def test_duplicates_are_found_after_the_videos_are_deleted(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "clips" / "book-msasl_msasl_0_3_38_2e4cdb.mp4"
    other = data_dir / "clips" / "sun-wlasl_55806_9bf234.mp4"
    folder, out = tmp_path / "videos", tmp_path / "out"
    (folder / "sign").mkdir(parents=True)
    for name, file in (("a.mp4", source), ("b.mp4", other), ("c.mp4", source)):
        shutil.copy(file, folder / "sign" / name)
    where = ["--videos", str(folder), "--labels", "folders", "--out", str(out)]
    assert main([*where, "--encoder", "standin:0", "--frames", "4"]) == 0
    shutil.rmtree(folder)
    messages: list[str] = []
    examples = read_recordings(out / "index.csv", messages.append)
    assert [e.duplicate_of for e in examples] == ["sign/a", "", "sign/a"]
    assert not any("fingerprint" in line for line in messages)
    assert np.array_equal(read_fingerprints(out)["sign/a"], fingerprint(source))


def test_two_runs_in_one_folder(
    encode: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        assert encode() == 2
    assert "another run writes there" in capsys.readouterr().err
    assert encode() == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--encoder", "clip"], "no encoder 'clip'"),
        (["--encoder", "vjepa2:/nowhere"], "no such folder"),
        (["--labels", "/nowhere.csv"], "can't be read"),
        (["--frames", "5"], "would lose the last"),
        (["--encoder", "standin:soon"], "write the stand-in as standin:MS"),
    ],
)
def test_wrong_use_is_one_clear_line(
    encode: Callable[..., int], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert encode(*more) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--variants", "sepia", "no variant 'sepia'"),
        ("--workers", "0", "--workers must be at least 1"),
        ("--limit", "-1", "--limit must be at least 1"),
        ("--batch", "0", "--batch must be at least 1"),
        ("--landmark-fps", "0", "--landmark-fps must be from 1 to 1000"),
        ("--aspect", "4:0", "--aspect must be like 4:3 or 1.333"),
        ("--aspect", "wide", "--aspect must be like 4:3 or 1.333"),
    ],
)
def test_wrong_options_are_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--videos", ".", "--labels", "folders", "--out", "out", option, value])
    assert message in capsys.readouterr().err


def write_landmarks(path: Path, frames: int = 10, **more: Any) -> None:
    """Somebody who stands still, one hand before the chest, in a file that states no rate."""
    draw = np.random.default_rng(0)
    hand = draw.uniform(0.4, 0.6, (frames, 21, 3))
    body = draw.uniform(0.2, 0.8, (9, 2))
    np.savez(path, left=hand * np.nan, right=hand, body=body, **more)


def test_landmark_files_beside_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(self: EncoderFactory) -> Encoder:
        raise ValueError("no network here")

    monkeypatch.setattr(EncoderFactory, "open", no_network)
    write_landmarks(tmp_path / "a.npz", aspect=1.5)
    write_landmarks(tmp_path / "b.npz")
    write_landmarks(tmp_path / "c.npz", aspect=1.5)
    (tmp_path / "d.npy").touch()
    labels, out = tmp_path / "labels.csv", tmp_path / "out"
    labels.write_text("path,gloss,fps\na.npz,book,\nb.npz,book,\nc.npz,go,30\nd.npy,go,\n")

    def run(*more: str) -> int:
        return main(["--videos", str(tmp_path), "--labels", str(labels), "--out", str(out), *more])

    assert run("--landmark-fps", "15") == 0
    assert summary(capsys, "done", "kept", "skipped") == (2, 0, 2)
    assert {x["video_id"]: x["frames"] for x in index(out)} == {"a": "10", "c": "5"}
    why = {x["video_id"]: x["why"] for x in report(out)["why_skipped"]}
    assert "states no aspect: give --aspect" in why["b"] and "no landmarks to read" in why["d"]
    assert not (out / "fingerprints.npz").exists()

    # What was told of a file is part of what its rows are.
    assert run("--landmark-fps", "15") == 0
    assert summary(capsys, "done", "kept", "skipped") == (0, 2, 2)
    assert run("--landmark-fps", "30") == 0
    assert summary(capsys, "done", "kept", "skipped") == (1, 1, 2)
    assert run("--landmark-fps", "30", "--aspect", "4:3") == 0
    assert summary(capsys, "done", "kept", "skipped") == (3, 0, 1)

    assert run("--landmark-fps", "30", "--aspect", "4:3", "--variants", "original,bw") == 0
    assert summary(capsys, "kept", "skipped", "corrupt") == (0, 4, 0)
    why = {x["video_id"]: x["why"] for x in report(out)["why_skipped"]}
    assert "landmarks have no variant bw" in why["a"] and len(index(out)) == 3

    # Other encoders see pictures alone.
    assert run("--encoder", "standin:0") == 1
    assert "rows of --encoder landmarks, not of standin" in report(out)["why_skipped"][0]["why"]

    (tmp_path / "e.mp4").touch()
    labels.write_text("path,gloss\na.npz,book\ne.mp4,go\n")
    assert run() == 2  # a video needs the networks
    assert "no network here" in capsys.readouterr().err
    assert [x["video_id"] for x in index(out)] == ["a"]


def test_many_landmark_files_are_read_by_processes(tmp_path: Path) -> None:
    write_landmarks(tmp_path / "0.npz", aspect=1.5)
    for number in range(1, 201):
        (tmp_path / f"{number}.npz").symlink_to(tmp_path / "0.npz")
    labels = tmp_path / "labels.csv"
    labels.write_text("video_id,gloss\n" + "".join(f"{n},book\n" for n in range(201)))
    where = ["--videos", str(tmp_path), "--labels", str(labels), "--workers", "2"]
    assert main([*where, "--out", str(tmp_path / "out")]) == 0
    assert len({x["checksum"] for x in index(tmp_path / "out")}) == 1
    assert len(index(tmp_path / "out")) == 201


def test_nothing_encoded(encode: Callable[..., int], videos: Path) -> None:
    (videos / "labels.csv").write_text("path,gloss\nempty.mp4,a\n")
    assert encode() == 1

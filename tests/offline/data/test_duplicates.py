"""Copies: found by movement; honest clips of one signer are none; what is done with those found."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from offline.data.duplicates import (
    DUPLICATES,
    find_duplicates,
    mark_duplicates,
    read_recordings,
    similarity,
    stored_duplicates,
)
from offline.data.examples import Example, common_glosses, scored
from offline.data.fingerprints import (
    Fingerprint,
    complete_fingerprints,
    fingerprint,
    read_fingerprints,
    write_fingerprints,
)
from offline.data.videos import read_video
from offline.evaluation.crossval import fold_of_groups, split_fold
from offline.training.selection import named_groups
from tests.offline.indexes import write_index


def _example(video_id: str, signer: str = "", gloss: str = "tree") -> Example:
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss=gloss,
        group=signer or f"video:{video_id}",
        signer=signer,
        split="",
        variant="original",
        stored=np.zeros((2, 3), np.float32),
    )


def _print(seed: int) -> Fingerprint:
    return np.random.default_rng(seed).integers(0, 255, (12, 64)).astype(np.uint8)


def _encoded_again(
    source: Path, out: Path, *, scale: float, fps: int, cut: tuple[float, float]
) -> Path:
    """The part `cut` (shares of its length) of a clip, at another size, rate and quality."""
    frames = list(read_video(source, 320))
    first, last = (share * frames[-1].media_s for share in cut)
    height, width = (int(side * scale) // 2 * 2 for side in frames[0].image.shape[:2])
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "33", "preset": "veryfast"}
        for number in range(int((last - first) * fps)):
            when = first + number / fps
            near = min(frames, key=lambda frame: abs(frame.media_s - when))
            image = np.asarray(cv2.resize(near.image, (width, height)), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return out


@pytest.mark.parametrize(
    ("scale", "fps", "cut"),
    [(0.5, 25, (0.0, 1.0)), (1.0, 15, (0.0, 1.0)), (0.75, 30, (0.15, 0.9))],
    ids=["smaller", "slower camera", "trimmed"],
)
def test_a_recording_under_another_id_is_named(
    data_dir: Path, tmp_path: Path, scale: float, fps: int, cut: tuple[float, float]
) -> None:
    source = data_dir / "clips" / "book-msasl_msasl_0_3_38_2e4cdb.mp4"
    again = _encoded_again(source, tmp_path / "again.mp4", scale=scale, fps=fps, cut=cut)
    prints = {"a": fingerprint(source), "b": fingerprint(again)}
    assert similarity(prints["a"], prints["b"]) > 0.95
    assert find_duplicates(prints) == [("a", "b")]


@pytest.mark.timeout(300)  # 200 videos are decoded: 8 s of a core that is free
def test_other_signs_of_one_signer_are_no_copies(data_dir: Path) -> None:
    """One source, one wall, one clip a gloss; the glosses differ in more than their spelling."""
    with (data_dir / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if line["caption_risk"] == "0"]
    groups = sorted({line["group"] for line in lines})
    largest = sorted(groups, key=lambda g: -sum(line["group"] == g for line in lines))
    chosen: list[tuple[str, str]] = []
    for group in largest:
        by_gloss = {line["gloss"]: line["path"] for line in lines if line["group"] == group}
        by_gloss.pop("bye", None)  # the file is also named goodbye
        chosen += [(f"{group}/{gloss}", path) for gloss, path in sorted(by_gloss.items())]
        if len(chosen) >= 200:
            break
    prints: dict[str, Fingerprint] = {
        name: fingerprint(data_dir / path) for name, path in chosen[:200]
    }
    assert len(prints) == 200
    assert [(a, b) for a, b in find_duplicates(prints) if a.split("/")[0] == b.split("/")[0]] == []


def test_signers_who_share_a_recording_are_one_group_on_one_side() -> None:
    """ann's clip is ben's too, and another of ben's is cy's: all three are one; dee is not."""
    signers = ("ann", "ben", "ben", "cy", "cy", "dee", "eve", "fay")
    examples = [_example(str(i), signer) for i, signer in enumerate(signers)]
    prints = {str(i): _print({1: 0, 3: 2}.get(i, i)) for i in range(len(signers))}
    told: list[str] = []
    joined = mark_duplicates(examples, find_duplicates(prints), told.append)
    assert [e.group for e in joined] == ["ann"] * 5 + ["dee", "eve", "fay"]
    assert [e.signer for e in joined] == list(signers)
    assert told[0].startswith("2 pairs of videos are one recording, 2 of two")
    assert told[1].endswith("share recordings: ann, ben, cy")
    assert named_groups("ben,dee", joined, "--groups") == {"ann", "dee"}
    folds = fold_of_groups(joined, ("tree",), 3, 0)
    for fold in range(3):
        train, test = split_fold(joined, folds, fold)  # it refuses leaks
        assert not {e.recording for e in train} & {e.recording for e in test}


def test_a_recording_is_scored_once_under_each_gloss() -> None:
    glosses = ("tree", "tree", "oak", "tree")
    examples = [_example(str(i), f"signer {i}", gloss) for i, gloss in enumerate(glosses)]
    prints = {"0": _print(0), "1": _print(0), "2": _print(0), "3": _print(3)}
    joined = mark_duplicates(examples, find_duplicates(prints))
    assert [e.video_id for e in scored(joined)] == ["0", "2", "3"]
    assert common_glosses(joined, 3) == ("tree",)  # as labelled


def test_what_can_not_be_compared_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    examples = read_recordings(write_index(tmp_path), told.append)
    assert told == [f"{len(examples)} videos have no fingerprint: their duplicates are not found"]


def test_copies_are_kept_until_a_video_is_another_one(tmp_path: Path) -> None:
    prints = {"a": _print(0), "b": _print(0), "c": _print(1)}
    assert stored_duplicates(tmp_path, prints, print) == [("a", "b")]
    kept = (tmp_path / DUPLICATES).read_text()
    (tmp_path / DUPLICATES).write_text(kept.replace('"b"', '"c"'))
    assert stored_duplicates(tmp_path, prints, print) == [("a", "c")]  # not searched for again
    prints["c"] = _print(0)
    assert stored_duplicates(tmp_path, prints, print) == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"of": 1}', '{"pairs": 3}'])
def test_kept_copies_that_are_none_are_found_again(tmp_path: Path, content: str) -> None:
    (tmp_path / DUPLICATES).write_text(content)
    assert stored_duplicates(tmp_path, {"a": _print(0), "b": _print(0)}, print) == [("a", "b")]


def test_fingerprints_are_kept_so_that_videos_may_go(data_dir: Path, tmp_path: Path) -> None:
    video = data_dir / "clips" / "book-msasl_msasl_0_3_38_2e4cdb.mp4"
    made = complete_fingerprints(tmp_path, {"a": video, "b": tmp_path / "gone.mp4"}, print)
    again = complete_fingerprints(tmp_path, {"a": tmp_path / "gone.mp4"}, print)
    assert list(made) == list(again) == ["a"]
    assert np.array_equal(made["a"], again["a"])


def test_a_file_that_has_no_fingerprints_is_named(tmp_path: Path) -> None:
    write_fingerprints(tmp_path, {"a": np.zeros((4, 64), np.uint8)})
    assert read_fingerprints(tmp_path)["a"].shape == (4, 64)
    for content in (b"not numbers", b""):
        (tmp_path / "fingerprints.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"fingerprints\.npz: no fingerprints; delete it"):
            read_fingerprints(tmp_path)

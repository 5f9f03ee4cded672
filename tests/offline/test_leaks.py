"""Leaks, planted one by one; and honest clips of one signer, which must not be called copies."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from offline.examples import Example
from offline.fingerprints import (
    Fingerprint,
    complete_fingerprints,
    fingerprint,
    likeness,
    read_fingerprints,
    write_fingerprints,
)
from offline.leaks import refuse_leaks, twins
from offline.videos import read_video


def _example(video_id: str, signer: str = "", variant: str = "original") -> Example:
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss="tree",
        group=signer or f"video:{video_id}",
        split="",
        variant=variant,
        stored=np.zeros((2, 3), np.float32),
    )


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


def test_a_variant_on_the_other_side_is_named() -> None:
    with pytest.raises(ValueError, match=r"one video in both.*7 \(bw.*7 \(original"):
        refuse_leaks([_example("7", variant="bw"), _example("8")], [_example("7")], {})


def test_a_signer_on_the_other_side_is_named_where_signers_are_grouped() -> None:
    train, test = [_example("1", "ann"), _example("2", "ben")], [_example("3", "ben")]
    with pytest.raises(ValueError, match=r"one signer group.*2 \(original.*ben\) and 3 "):
        refuse_leaks(train, test, {})
    refuse_leaks(train, test, {}, grouped=False)  # as WLASL's own split
    refuse_leaks(train[:1], test, {})


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
    assert likeness(prints["a"], prints["b"]) > 0.95
    with pytest.raises(ValueError, match=r"one recording.*a \(.* and b \("):
        refuse_leaks([_example("a")], [_example("b")], prints)


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
    by_group: dict[str, list[Example]] = {}
    for name in prints:
        by_group.setdefault(name.split("/")[0], []).append(_example(name))
    assert len(prints) == 200
    for clips in by_group.values():
        pairs = twins(clips, clips, prints)
        assert [(a.video_id, b.video_id) for a, b in pairs if a is not b] == []
        assert len(pairs) == len(clips)  # each is its own


def test_fingerprints_are_kept_so_that_videos_may_go(data_dir: Path, tmp_path: Path) -> None:
    video = data_dir / "clips" / "book-msasl_msasl_0_3_38_2e4cdb.mp4"
    made = complete_fingerprints(tmp_path, {"a": video, "b": tmp_path / "gone.mp4"}, print)
    again = complete_fingerprints(tmp_path, {"a": tmp_path / "gone.mp4"}, print)
    assert list(made) == list(again) == ["a"]
    assert np.array_equal(made["a"], again["a"])


def test_a_file_that_has_no_fingerprints_is_named(tmp_path: Path) -> None:
    write_fingerprints(tmp_path, {"a": np.zeros((4, 64), np.uint8)})
    assert read_fingerprints(tmp_path)["a"].shape == (4, 64)
    (tmp_path / "fingerprints.npz").write_bytes(b"not numbers")
    with pytest.raises(ValueError, match=r"fingerprints\.npz: no fingerprints; delete it"):
        read_fingerprints(tmp_path)

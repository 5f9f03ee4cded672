"""Duplicates: found by movement, never among different signs of one signer; joined and stored.

`similarity` is compared with a plain loop over shifts; the bound never rules out a duplicate.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from offline.data.duplicates import (
    DUPLICATES,
    MotionTrack,
    appearance,
    find_duplicates,
    main_directions,
    mark_duplicates,
    read_recordings,
    similarity,
    similarity_bound,
    stored_duplicates,
)
from offline.data.examples import common_glosses, scored
from offline.data.fingerprints import (
    Fingerprint,
    complete_fingerprints,
    fingerprint,
    read_fingerprints,
    write_fingerprints,
)
from offline.data.index import read_index
from offline.data.index import write_index as write_entries
from offline.data.splits import fold_of_groups, split_fold
from offline.data.videos import read_video
from offline.training.selection import named_groups
from tests.offline.indexes import example, write_index


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


def test_other_signs_of_one_signer_are_no_duplicates(data_dir: Path) -> None:
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
    examples = [example(str(i), signer) for i, signer in enumerate(signers)]
    prints = {str(i): _print({1: 0, 3: 2}.get(i, i)) for i in range(len(signers))}
    messages: list[str] = []
    joined = mark_duplicates(examples, find_duplicates(prints), messages.append)
    assert [e.group for e in joined] == ["ann"] * 5 + ["dee", "eve", "fay"]
    assert [e.signer for e in joined] == list(signers)
    assert messages[0].startswith("2 pairs of videos are one recording, 2 of two")
    assert messages[1].endswith("share recordings: ann, ben, cy")
    assert named_groups("ben,dee", joined, "--groups") == {"ann", "dee"}
    folds = fold_of_groups(joined, ("tree",), 3, 0)
    for fold in range(3):
        train, test = split_fold(joined, folds, fold)  # it refuses leaks
        assert not {e.recording for e in train} & {e.recording for e in test}


def test_a_recording_is_scored_once_under_each_gloss() -> None:
    glosses = ("tree", "tree", "oak", "tree")
    examples = [example(str(i), f"signer {i}", gloss) for i, gloss in enumerate(glosses)]
    prints = {"0": _print(0), "1": _print(0), "2": _print(0), "3": _print(3)}
    joined = mark_duplicates(examples, find_duplicates(prints))
    assert [e.video_id for e in scored(joined)] == ["0", "2", "3"]
    assert common_glosses(joined, 3) == ("tree",)  # as labelled


def test_what_can_not_be_compared_is_reported(tmp_path: Path) -> None:
    messages: list[str] = []
    examples = read_recordings(write_index(tmp_path), messages.append)
    assert messages == [
        f"{len(examples)} videos have no fingerprint: their duplicates are not found"
    ]


def test_landmark_files_are_not_decoded_for_fingerprints(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    entries = read_index(index)
    for number, entry in enumerate(entries):
        video = tmp_path / f"{number}.{'npz' if number else 'mp4'}"
        video.touch()
        entries[number] = replace(entry, video=str(video))
    write_entries(index, entries)
    messages: list[str] = []
    read_recordings(index, messages.append)
    assert messages[0] == "1 videos of the index have no fingerprint: they are decoded once"
    count = len(entries)
    assert messages[-1] == (
        f"{count} videos, {count - 1} of them landmark files, have no fingerprint: "
        "their duplicates are not found"
    )


def test_duplicates_are_stored_until_a_video_is_another_one(tmp_path: Path) -> None:
    prints = {"a": _print(0), "b": _print(0), "c": _print(1)}
    assert stored_duplicates(tmp_path, prints, print) == [("a", "b")]
    stored = (tmp_path / DUPLICATES).read_text()
    (tmp_path / DUPLICATES).write_text(stored.replace('"b"', '"c"'))
    assert stored_duplicates(tmp_path, prints, print) == [("a", "c")]  # not searched for again
    prints["c"] = _print(0)
    assert stored_duplicates(tmp_path, prints, print) == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"of": 1}', '{"pairs": 3}'])
def test_stored_duplicates_that_are_none_are_found_again(tmp_path: Path, content: str) -> None:
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


def _clip(draw: np.random.Generator, steps: int, wall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two blobs that wander in front of a wall."""
    y, x = np.mgrid[:8, :8]
    cells = np.tile(wall, (steps, 1))
    for _ in range(2):
        path = np.cumsum(draw.normal(0, 0.7, (steps, 2)), 0) + draw.uniform(1, 6, 2)
        far = (y.ravel() - path[:, :1]) ** 2 + (x.ravel() - path[:, 1:]) ** 2
        cells += 60 * np.exp(-far / 3)
    return cells


def _as_print(cells: NDArray[np.float64]) -> Fingerprint:
    return np.asarray(cells.clip(0, 255).round(), np.uint8)


@pytest.fixture(scope="module")
def prints() -> dict[str, Fingerprint]:
    """60 clips before three walls, some too short; 20 also trimmed, brighter, half a step later."""
    draw = np.random.default_rng(0)
    walls = draw.uniform(20, 150, (3, 64))
    clips = [_clip(draw, int(draw.integers(3, 40)), walls[n % 3]) for n in range(60)]
    made = {f"clip {n}": _as_print(clip) for n, clip in enumerate(clips)}
    for n, clip in enumerate(clips[:20]):
        made[f"brighter {n}"] = _as_print(clip * 0.9 + 12 + draw.normal(0, 0.5, clip.shape))
        made[f"trimmed {n}"] = _as_print(clip[len(clip) // 8 : len(clip) - len(clip) // 5])
        made[f"later {n}"] = _as_print((clip[1:] + clip[:-1]) / 2)
    return made


def _by_shifts(one: Fingerprint, other: Fingerprint) -> float:
    """`similarity`, computed one shift after the other."""
    even = []
    for cells in sorted((one, other), key=len):
        grey = cells - cells.mean(1, keepdims=True)
        even.append(grey / np.maximum(grey.std(1, keepdims=True), 8))
    a, whole = even
    shortest, best = max(5, round(0.6 * len(a))), 0.0
    for b in (whole, (whole[1:] + whole[:-1]) / 2):
        for shift in range(shortest - len(a), len(b) - shortest + 1):
            first, last = max(0, -shift), min(len(a), len(b) - shift)
            if last - first >= shortest:
                x, y = a[first:last], b[first + shift : last + shift]
                x, y = x - x.mean(0), y - y.mean(0)
                best = max(best, (x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6))
    return best


def test_similarity_is_the_highest_correlation_of_all_shifts(
    prints: dict[str, Fingerprint],
) -> None:
    pairs = list(combinations(prints.values(), 2))[::41]
    assert any(len(a) < 5 for a, _ in pairs) and len(pairs) > 150
    for a, b in pairs:
        assert similarity(a, b) == pytest.approx(_by_shifts(a, b), abs=1e-4)


def test_the_bound_of_a_few_directions_is_never_too_low(prints: dict[str, Fingerprint]) -> None:
    clips = sorted((p for p in prints.values() if len(p) >= 5), key=len)
    few = main_directions(clips, 6)
    whole, halfway = (MotionTrack.of(clips, few, halfway=halfway) for halfway in (False, True))
    ruled_out = 0
    for one in range(0, len(clips) - 1, 10):
        others = np.arange(one + 1, len(clips))
        most = np.maximum(
            *(similarity_bound(whole, one, those, others) for those in (whole, halfway))
        )
        alike = np.array([similarity(clips[one], clips[other]) for other in others])
        assert (most >= alike - 1e-4).all()
        ruled_out += int((most < 0.95).sum())
    assert ruled_out > 300  # so it is of use


def test_duplicates_are_those_that_comparing_each_pair_finds(
    prints: dict[str, Fingerprint],
) -> None:
    seen = dict(zip(prints, appearance(list(prints.values())), strict=True))
    one_by_one = [
        (a, b)
        for a, b in combinations(prints, 2)
        if seen[a][:64] @ seen[b][:64] >= 0.9
        and seen[a][64:] @ seen[b][64:] >= 0.7
        and _by_shifts(prints[a], prints[b]) >= 0.95
    ]
    assert find_duplicates(prints) == one_by_one
    for kind in ("brighter", "trimmed", "later"):
        assert sum(b.startswith(kind) for a, b in one_by_one if a.startswith("clip")) > 10


def test_nothing_and_stillness_have_no_duplicates() -> None:
    still = np.full((12, 64), 90, np.uint8)
    assert find_duplicates({}) == find_duplicates({"a": still[:0], "b": still[:1]}) == []
    assert find_duplicates({"a": still, "b": still.copy()}) == []

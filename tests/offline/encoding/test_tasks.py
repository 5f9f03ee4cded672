from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.schema import EncoderSpec
from offline.data.labels import LabelledVideo
from offline.encoding.embed import EncodedVideo, EncodeTask, VariantRows, WindowPlan
from offline.encoding.tasks import (
    JOURNAL,
    bytes_needed,
    find_backlog,
    read_journal,
    store,
    write_results,
)

VIT_G = EncoderSpec(
    kind="vjepa2", source="g", revision="1", dim=1408, frames=16, fps=8.0, short_side=292
)


def labelled(name: str) -> LabelledVideo:
    return LabelledVideo(video_id=name, path=Path(f"{name}.mp4"), gloss="a")


def finished(name: str) -> EncodedVideo:
    rows = np.full((8, 1408), len(name), np.float32)
    embedded = VariantRows(variant="original", rows=rows, frames=16)
    return EncodedVideo(video=labelled(name), rows=(embedded,))


def test_what_is_whole_is_kept_whether_it_is_in_the_index_or_the_journal(tmp_path: Path) -> None:
    entries = [store(finished("a"), tmp_path, VIT_G).entries[0]]
    write_results(tmp_path, read_journal(tmp_path).values())
    (tmp_path / JOURNAL).unlink()
    entries += store(finished("b"), tmp_path, VIT_G).entries
    broken = store(finished("c"), tmp_path, VIT_G).entries[0]
    (tmp_path / broken.path_to_npy_file).write_bytes(b"\x93NUMPY")
    lost = store(finished("d"), tmp_path, VIT_G).entries[0]
    (tmp_path / lost.path_to_npy_file).unlink()

    videos = [labelled(name) for name in "abcde"]
    found = find_backlog(tmp_path, videos, ["original"], VIT_G)
    assert [stored.entry for stored in found.kept] == entries
    assert [task.video.video_id for task in found.tasks] == ["c", "d", "e"]
    changed, missing = found.corrupt
    assert "SHA-256 differs" in changed and "can't be read" in missing


def test_another_encoder_begins_anew(tmp_path: Path) -> None:
    store(finished("a"), tmp_path, VIT_G)
    other = replace(VIT_G, revision="2")
    assert not find_backlog(tmp_path, [labelled("a")], ["original"], other).kept


def test_other_windows_or_another_rule_begin_anew(tmp_path: Path) -> None:
    store(finished("a"), tmp_path, VIT_G)
    videos, variants = [labelled("a")], ["original"]
    assert find_backlog(tmp_path, videos, variants, VIT_G, WindowPlan()).kept
    for spec, plan in (
        (VIT_G, WindowPlan(segments=2)),
        (VIT_G, WindowPlan(views=3)),
        (replace(VIT_G, resize="exact"), WindowPlan()),
    ):
        found = find_backlog(tmp_path, videos, variants, spec, plan)
        assert not found.kept and found.tasks[0].plan == plan


def test_only_the_missing_variants_are_tasks(tmp_path: Path) -> None:
    store(finished("a"), tmp_path, VIT_G)
    found = find_backlog(tmp_path, [labelled("a")], ["original", "bw"], VIT_G)
    assert found.tasks == [EncodeTask(video=labelled("a"), variants=("bw",))]


@pytest.mark.parametrize(
    ("kind", "each"), [("vjepa2", 8 * 1408 * 4), ("vjepa2-tokens", 8 * 256 * 1408 * 2)]
)
def test_the_disk_that_is_needed(kind: str, each: int) -> None:
    tasks = [EncodeTask(video=labelled("a"), variants=("original", "bw", "gaussian"))]
    assert bytes_needed(tasks, replace(VIT_G, kind=kind)) == 3 * each
    six = [replace(tasks[0], plan=WindowPlan(segments=2, views=3))]
    assert bytes_needed(six, replace(VIT_G, kind=kind)) == 18 * each

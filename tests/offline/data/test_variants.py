"""Variants that only names tell are one video: random features then show chance, and no more."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from offline import train
from offline.data.duplicates import read_recordings
from offline.data.examples import read_examples, scored
from offline.data.variants import split_name
from offline.training.checkpoint import load_checkpoint
from tests.offline.made_up import last_line

_VARIANTS = ("original", "gaussian", "bw")


@pytest.mark.parametrize(
    ("name", "gloss", "video", "variant"),
    [
        ("apple_25000_bw_vjepa.npy", "apple", "apple_25000", "bw"),
        ("apple_25000_original_vjepa", "apple", "apple_25000", "original"),
        ("25000.gaussian.npy", "apple", "25000", "gaussian"),
        ("tree/clip1_aug_12", "tree", "tree/clip1", "aug12"),
        ("a-Flip_crop2", "tree", "a", "flip+crop2"),
        ("go_fast_2", "fast", "go_fast_2", "original"),  # a word of the gloss
        ("laugh_25000_aug1", "laugh", "laugh_25000", "aug1"),  # only letters of it
        ("feather_25000_bw_feat.npy", "feather", "feather_25000", "bw"),
        ("fast_25000_bw", "fast", "fast_25000", "bw"),
        ("bw_apple_25000.npy", "apple", "apple_25000", "bw"),
        ("hflip-crop2-25000", "apple", "25000", "hflip+crop2"),
        ("gaussian/25000", "apple", "25000", "gaussian"),
        ("apple/bw/25000", "apple", "apple/25000", "bw"),
        ("fast/bw/1", "fast", "fast/1", "bw"),
        ("25000bw", "apple", "25000", "bw"),
        ("25000__gray", "apple", "25000", "gray"),
        ("25000 (flipped)", "apple", "25000", "flipped"),
        ("25000_speed0.9", "apple", "25000", "speed0.9"),
        ("25000_noise_0.05_rot-15", "apple", "25000", "noise0.05+rot15"),
        ("25000_rot180", "apple", "25000", "rot180"),
        ("25000_zoom_180", "apple", "25000_zoom_180", "original"),  # the 180th one
        ("colorado_2", "apple", "colorado_2", "original"),
        ("slowly/1", "apple", "slowly/1", "original"),
        ("crop/crop_1", "tree", "crop/crop_1", "original"),
        ("clips/book-wlasl_70212_1cc69d", "book", "clips/book-wlasl_70212_1cc69d", "original"),
        ("a (1)", "tree", "a (1)", "original"),
        ("_bw" * 50_000 + "x", "tree", "_bw" * 50_000 + "x", "original"),
    ],
)
def test_names_tell_the_video_and_its_variant(
    name: str, gloss: str, video: str, variant: str
) -> None:
    began = time.process_time()
    assert split_name(name, gloss) == (video, variant)
    assert time.process_time() - began < 1


def seed_index(folder: Path, names: str = "{gloss}_{number}_{variant}_vjepa.npy") -> Path:
    """As the research demo wrote it: 5 glosses of 12 videos in 3 variants, of a random encoder.

    Each video has a direction of its own, which its variants share and its gloss does not.
    """
    draw = np.random.default_rng(0)
    lines = ["video_id,gloss,path_to_npy_file"]
    for number in range(60):
        gloss = f"gloss{number % 5}"
        video = draw.normal(0, 1, (4, 16))
        for variant in _VARIANTS:
            name = names.format(gloss=gloss, number=25000 + number, variant=variant)
            np.save(folder / name, (video + draw.normal(0, 0.1, (4, 16))).astype(np.float32))
            lines.append(f"{name},{gloss},{name}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    encoder = {"kind": "vjepa2", "source": "random", "revision": "1", "dim": 16, "frames": 8,
               "fps": 8.0, "short_side": 292}  # fmt: skip
    (folder / "encode_report.json").write_text(json.dumps({"encoder": encoder}), encoding="utf-8")
    return folder / "index.csv"


def test_a_random_encoder_shows_chance_in_the_demos_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With siblings of most held-out rows in training it shows two thirds."""
    index, right, clips = seed_index(tmp_path), 0.0, 0
    for fold in ("0", "1", "2"):
        out = tmp_path / f"{fold}.pt"
        how = ("--head", "gloss", "--least-steps", "200", "--epochs", "1", "--threads", "1")
        options = ("--index", str(index), "--out", str(out), "--fold", fold, *how)
        assert train.main(options) == 0
        last = last_line(capsys)
        right, clips = right + last["kept_out_clips"] * last["kept_out_top1"], clips + 12
        assert last["kept_out_clips"] == 12  # a video is scored once
        kept_out = {c["video_id"] for c in load_checkpoint(out).card["data"]["held_out_clips"]}
        rows = [e for e in read_examples(index) if e.video_id in kept_out]
        assert len(rows) == 36 and {e.variant for e in rows} == set(_VARIANTS)
    assert right / clips < 0.2 + 3 * (0.2 * 0.8 / clips) ** 0.5


def test_variants_are_groups_whose_first_is_the_original(tmp_path: Path) -> None:
    lines = ["video_id,gloss,path_to_npy_file"]
    for number, name in enumerate(("a_aug1", "a_aug2", "b", "b_flip", "c", "c")):
        np.save(tmp_path / f"{number}.npy", np.ones((2, 3), np.float32))
        lines.append(f"{name},tree,{number}.npy")
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_examples(tmp_path / "index.csv")
    assert [(e.video_id, e.variant) for e in found] == [
        ("a", "original"), ("a", "aug2"), ("b", "original"), ("b", "flip"), ("c", "original"),
        ("c", "original 2")]  # fmt: skip
    assert len({e.group for e in found}) == len(scored(found)) == 3


def test_videos_flipped_before_encoding_are_one_recording(tmp_path: Path) -> None:
    """`offline.encode` stored them under ids of their own, by which fingerprints are found."""
    lines = ["video_id,gloss,path_to_npy_file,variant,signer,checksum"]
    for number, name in enumerate(("tree/a", "tree/a_flip", "tree/b", "apple/a_flip")):
        np.save(tmp_path / f"{number}.npy", np.ones((2, 3), np.float32))
        lines.append(f"{name},{name.split('/')[0]},{number}.npy,original,,{number}")
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_recordings(tmp_path / "index.csv", lambda line: None)
    assert [e.video_id for e in found] == ["tree/a", "tree/a_flip", "tree/b", "apple/a_flip"]
    assert found[0].group == found[1].group and found[0].recording == found[1].recording
    assert len({e.group for e in found}) == 3
    assert [e.video_id for e in scored(found)] == ["tree/a", "tree/b", "apple/a_flip"]

"""offline.fuse: weights learnt from clips that no part knows, the bundle, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import BundleError, open_bundle
from offline import fuse
from tests.models.blind_parts import part_bundle, part_index


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two parts and their indexes."""
    root = tmp_path_factory.mktemp("parts")
    for n in (0, 1):
        part_bundle(root / f"part{n}", n)
        part_index(root / f"rows{n}", n)
    return root


@pytest.fixture(scope="module")
def both(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "bundle"
    assert run(parts, out) == 0
    return out


def run(parts: Path, out: Path, *flags: str, bundles: tuple[str, ...] = ("part0", "part1")) -> int:
    given = [
        word
        for n, name in enumerate(bundles)
        for word in ("--part", str(parts / name), str(parts / f"rows{n}" / "index.csv"))
    ]
    return fuse.main([*given, "--out", str(out), *flags])


def test_together_they_know_what_each_is_blind_to(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parts, tmp_path / "bundle", "--name", "both") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    scores = json.loads(last)
    assert scores["fused"]["clips"] == 48
    assert scores["part 0"]["top1"] < 0.85 and scores["part 1"]["top1"] < 0.85
    assert scores["fused"]["top1"] == 1
    assert len(lines) == 5 and "top-1" in lines[0]
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.name == "both"
    assert [part.bundle.encoder.kind for part in bundle.parts] == ["landmarks", "vjepa2"]
    assert [part.weight for part in bundle.parts] == scores["weights"]
    assert all(0.3 < weight < 10 for weight in scores["weights"])
    assert bundle.encoder.kind == "landmarks+vjepa2" and bundle.head_path is None
    assert (bundle.hop_s, bundle.threshold) == (0.25, 0.4)
    assert bundle.card["metrics"]["kept_out"]["top1"] == 1
    assert bundle.card["metrics"]["alone"].keys() == {"part 0", "part 1"}
    assert bundle.space == bundle.parts[0].bundle.space


def test_a_split_may_be_kept_for_the_figures(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parts, tmp_path / "bundle", "--score", "test") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["fused"]["clips"] == 8
    assert run(parts, tmp_path / "other", "--score", "tset") == 2
    assert "no clips of --score tset" in capsys.readouterr().err


def test_a_part_that_knows_nothing_gets_no_weight() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    good = np.full((300, 3), 0.1, np.float32)
    good[np.arange(300), np.where(draw.random(300) < 0.8, labels, (labels + 1) % 3)] = 0.8
    noise = draw.dirichlet((1, 1, 1), 300).astype(np.float32)
    first, second = fuse.learn_weights(np.stack([good, noise]), labels)
    assert 0.9 < first < 1.1  # its probabilities are right, so they stay as they are
    assert second < 0.1


def test_opening_checks_every_part(both: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(both, tmp_path / "copy")
    head = copy / "2-vjepa2" / "head.onnx"
    head.write_bytes(head.read_bytes() + b"!")
    with pytest.raises(BundleError, match=r"2-vjepa2/head\.onnx: SHA-256 differs"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fusion": []}, "two parts or more"),
        ({"head": {"kind": "gloss", "args": {}, "idle": False}}, "two parts or more"),
        ({"head": {"kind": "fused", "args": {}, "idle": True}}, "other classes"),
        ("weight", r"Expected `float` >= 0\.0 - at `\$\.fusion\[0\]\.weight`$"),
        ("bundle", "`files` does not list elsewhere/card.json"),
        ("path", "no plain path"),
        ("encoder", "has another encoder than"),
        ("object", r"Expected `object`, got `str` - at `\$\.fusion\[1\]`$"),
    ],
)
def test_a_card_that_is_not_of_its_parts(
    both: Path, tmp_path: Path, changes: Any, says: str
) -> None:
    copy = shutil.copytree(both, tmp_path / "copy")
    card = json.loads((copy / "card.json").read_text())
    fusion = card["fusion"]  # which `card` holds, so that it changes too
    if changes == "weight":
        fusion[0]["weight"] = -1
    elif changes == "bundle":
        fusion[0]["bundle"] = "elsewhere"
    elif changes == "path":
        fusion[0]["bundle"] = "../parts"
    elif changes == "encoder":
        fusion[1]["encoder"]["revision"] = "3"
    elif changes == "object":
        fusion[1] = "2-vjepa2"
    card |= changes if isinstance(changes, dict) else {}
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match=says):
        open_bundle(copy)


def test_what_can_not_be_fused(
    parts: Path, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(parts, tmp_path / "parts")
    out = tmp_path / "bundle"
    part_bundle(root / "trained on all", 1, data={"held_out_clips": []})
    part_bundle(root / "idle", 1, head={"kind": "gloss", "args": {}, "idle": True})
    shutil.copytree(both, root / "both")
    with pytest.raises(SystemExit, match="2"):
        run(root, out, bundles=("part0",))
    assert "give --part twice" in capsys.readouterr().err
    for bundles, says in (
        (("part0", "none"), "no such bundle folder"),
        (("part0", "idle"), "knows other classes than"),
        (("part0", "trained on all"), "no clip was held out of the training of all parts"),
        (("part0", "both"), "has no trained head of its own"),
    ):
        assert run(root, out, bundles=bundles) == 2
        assert says in capsys.readouterr().err
    assert not out.exists()

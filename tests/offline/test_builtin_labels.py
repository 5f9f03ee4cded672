"""The built-in model's labels: every file is there, copies have their signer, the rule holds."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest

from offline.builtin_labels import EVERYDAY, LEAST_EVERYDAY, LEAST_SIGNERS, main


def test_labels_of_the_projects_data(data_dir: Path, tmp_path: Path) -> None:
    assert main([str(data_dir), str(tmp_path)]) == 0
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len({line["video_id"] for line in lines}) == len(lines) > 14_000
    assert all((data_dir / line["path"]).is_file() for line in lines[::50])
    assert all(bool(line["fps"]) == line["path"].endswith(".npz") for line in lines)

    with (data_dir / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        copies = [line for line in csv.DictReader(stream) if line["copy_of"]]
    group_of = {line["path"]: line["group"] for line in lines}
    found = 0
    for copy in copies:
        original = f"wlasl/landmarks/{copy['copy_of'].removeprefix('wlasl:')}.npz"
        if original in group_of:
            found += 1
            assert group_of[copy["path"]] == group_of[original]
    assert found > 50
    # One holds many copies of the other's recordings: one group.
    by_name = {line["path"].partition("-")[2]: line["group"] for line in lines}
    sources = {group for name, group in by_name.items() if "welsonaa" in name}
    assert "source:welsonaa" not in sources

    signers = defaultdict(set)
    for line in lines:
        signers[line["gloss"]].add(line["group"])
    glosses = (tmp_path / "glosses.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(glosses) >= 150
    assert {"hello", "thank you", "please", "yes", "no", "help", "mother", "father"} <= {*glosses}
    assert not {"mom", "town", "food"} & {*glosses}
    # A recording that WLASL has under two words of one sign is scored once.
    split = {line["video_id"]: line["split"] for line in lines}
    cities = [f"wlasl/landmarks/{video_id}" for video_id in ("10892", "59146")]
    assert [split[video_id] == "extra" for video_id in cities] == [False, True]
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert card["data"]["same_sign"]["city"] == ["town"]
    assert card["data"]["same_sign"]["goodbye"] == ["bye"]
    for gloss, groups in signers.items():
        least = LEAST_EVERYDAY if gloss in EVERYDAY else LEAST_SIGNERS
        assert (gloss in glosses) == (len(groups) >= least)


def test_wrong_use_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert "manifest.csv" in capsys.readouterr().err
    assert main([]) == 2
    assert "DATA OUT" in capsys.readouterr().err

"""README's commands without an option too many learn ten glosses. `quick_start` runs them whole."""

from __future__ import annotations

from pathlib import Path

from models.bundle import open_bundle
from tests.offline.quick_start import prepare, readme_commands, run


def test_readme_has_its_commands_without_options_of_training() -> None:
    commands = readme_commands()
    assert list(commands) == ["offline.encode", "offline.train", "offline.export"]
    assert commands["offline.train"] == [
        "--index",
        "data/mine/index.csv",
        "--out",
        "models/mine.pt",
    ]


def test_three_of_four_unseen_clips_are_right(tmp_path: Path, data_dir: Path) -> None:
    """On landmarks that others made of the same clips, which spares half a minute of encoding."""
    assert len(prepare(tmp_path, data_dir, "landmarks")) == 10
    for module, arguments in readme_commands().items():
        aspect = ["--aspect", "4:3"] if module == "offline.encode" else []  # the files state none
        last = run(module, [*arguments, *aspect], tmp_path)
        if module == "offline.train":
            assert last["kept_out_clips"] > 20 and last["kept_out_top1"] >= 0.75
            assert last["warning"] is None and last["held_back_clips"] > 10
    assert len(open_bundle(tmp_path / "bundles" / "mine").glosses) == 10

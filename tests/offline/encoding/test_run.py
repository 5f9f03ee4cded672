from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.schema import Clip, Embedding
from offline.data.labels import LabelledVideo
from offline.encoding import embed, run
from offline.encoding.embed import EncodeTask
from offline.encoding.run import StandInEncoder, encode_by_threads, standin_spec
from offline.encoding.tasks import read_journal
from tests.offline.clips import write_clip

SPEC = standin_spec("0")


def tasks(folder: Path, count: int, *, lost: int = 0) -> list[EncodeTask]:
    names = [f"{number}.mp4" for number in range(count + lost)]
    write_clip(folder / names[0], 5)
    for name in names[1:count]:
        (folder / name).symlink_to(folder / names[0])
    videos = [LabelledVideo(video_id=name, path=folder / name, gloss="a") for name in names]
    return [EncodeTask(video=video, variants=("original", "bw")) for video in videos]


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
    assert len(done) == 13 and sum(bool(one.error) for one in done) == 3
    entries = [entry for one in done for entry in one.entries]
    assert read_journal(tmp_path) == {(e.video_id, e.variant): e for e in entries}
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
        return embed.decode_window(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "decode_window", counted)

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

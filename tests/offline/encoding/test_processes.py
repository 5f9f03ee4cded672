from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.schema import Encoder, EncoderSpec
from offline.data.fingerprints import fingerprint, read_fingerprints
from offline.data.labels import LabelledVideo
from offline.encoding.embed import EncodeTask
from offline.encoding.run import EncoderFactory, encode_by_processes
from offline.encoding.tasks import write_results
from tests.offline.clips import write_clip
from tests.offline.encoding.test_embed import GreyEncoder

DEADLY = "deadly.mp4"


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
    spec: EncoderSpec = GreyEncoder("landmarks").spec
    return GreyFactory(spec=spec, device="cpu", batch=1)


def tasks(folder: Path, names: list[str]) -> list[EncodeTask]:
    videos = [LabelledVideo(video_id=name, path=folder / name, gloss="a") for name in names]
    return [EncodeTask(video=video, variants=("original",)) for video in videos]


@pytest.mark.parametrize("workers", [1, 2])
def test_each_video_once(tmp_path: Path, workers: int) -> None:
    names = [f"{number}.mp4" for number in range(6)]
    for number, name in enumerate(names):
        write_clip(tmp_path / name, 3 + number)
    given = tasks(tmp_path, [*names, "lost.mp4"])
    done = {
        o.video.video_id: o
        for o in encode_by_processes(given, tmp_path, factory(), workers=workers)
    }
    assert "no such file" in done.pop("lost.mp4").error
    assert sorted(done) == names
    for number, name in enumerate(names):
        [entry] = done[name].entries
        assert np.load(tmp_path / entry.path_to_npy_file).shape == (3 + number, 2)
    write_results(tmp_path, [entry for outcome in done.values() for entry in outcome.entries])
    prints = read_fingerprints(tmp_path)
    assert list(prints) == names
    assert all(np.array_equal(prints[name], fingerprint(tmp_path / name)) for name in names)


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    write_clip(tmp_path / DEADLY, 3)
    with pytest.raises(OSError, match="a worker died"):
        list(encode_by_processes(tasks(tmp_path, [DEADLY] * 2), tmp_path, factory(), workers=2))

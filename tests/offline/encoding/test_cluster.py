"""Encoding on a real Ray cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.faults import OutOfMemory
from offline.data.labels import LabelledVideo
from offline.encode import main
from offline.encoding import cluster
from offline.encoding.embed import (
    DecodedWindows,
    EncodeTask,
    WindowPlan,
    decode_windows,
    encode_windows,
)
from offline.encoding.run import STANDIN_LOG, EncoderFactory, standin_spec
from offline.encoding.tasks import JOURNAL
from tests.offline.clips import write_clip
from tests.offline.encoded import VARIANTS, arguments, lines, made, make_videos, start

# All of 127/8 is the loopback; Ray would take 127.0.0.1 for the address of the network card.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
CLIPS = 40


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the encoders of a cluster that starts from now on write what they encode."""
    monkeypatch.setenv(STANDIN_LOG, str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def two_nodes(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each; the first is the one that a run connects to."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray")  # short: the paths of sockets must be
    # A cluster writes its address there, where only a `ray.init` before it would have made a place.
    monkeypatch.setenv("RAY_TMPDIR", folder)
    Path(folder, "ray").mkdir()
    node: dict[str, Any] = {
        "num_cpus": 1,
        "node_ip_address": LOOPBACK,
        "object_store_memory": 100 << 20,
        "include_dashboard": False,
    }
    nodes: Any = Cluster(initialize_head=True, head_node_args=node)
    try:
        nodes.add_node(**node)
        yield nodes
    finally:
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_is_lost(tmp_path: Path, log: Path, two_nodes: Any) -> None:
    videos = make_videos(tmp_path / "videos", CLIPS)
    out, journal = tmp_path / "out", tmp_path / "out" / JOURNAL
    run = start(arguments(videos, out, 40, "--ray", two_nodes.address), log)
    while len(lines(journal)) < 10 and run.poll() is None:
        time.sleep(0.01)
    stored = {f"{line['video']}#{line['variant']}" for line in map(json.loads, lines(journal))}
    before = len(lines(log))
    [lost] = two_nodes.worker_nodes
    two_nodes.remove_node(lost, allow_graceful=False)
    output, _ = run.communicate()
    assert run.returncode == 0, output
    encoded = lines(log)

    assert main(arguments(videos, tmp_path / "here", 40)) == 0
    assert made(out) == made(tmp_path / "here")
    assert 0 < len(stored) < CLIPS * len(VARIANTS)
    assert len(set(encoded)) == CLIPS * len(VARIANTS)
    assert not stored & set(encoded[before:]), "what was stored was encoded again"
    assert max(Counter(encoded).values()) <= 2


def test_an_encoder_that_does_not_open_is_reported_with_its_reason(tmp_path: Path) -> None:
    spec = replace(standin_spec("0"), kind="vjepa2", source=str(tmp_path / "gone"))
    stage = cluster._EncoderStage(EncoderFactory(spec=spec, device="cpu", batch=1))
    [fault] = cluster._objects(stage(cluster._table([])))
    assert "gone: no such folder" in fault


def test_a_cluster_makes_the_windows_that_one_machine_makes(tmp_path: Path) -> None:
    video = LabelledVideo(video_id="a", path=write_clip(tmp_path / "a.mp4", 40), gloss="x")
    task = EncodeTask(
        video=video, variants=("original", "bw"), plan=WindowPlan(segments=3, views=3)
    )
    factory = EncoderFactory(spec=standin_spec("0"), device="cpu", batch=1)
    decoded = cluster._decode(cluster._table([task]), factory)
    [there] = cluster._objects(cluster._EncoderStage(factory)(decoded))
    at_once = decode_windows(task, factory.spec)
    assert isinstance(at_once, DecodedWindows)
    [here] = encode_windows(factory.open(), [at_once])
    assert there.plan == task.plan and [r.windows for r in there.rows] == [9, 9]
    for one, other in zip(there.rows, here.rows, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def test_too_little_memory_of_an_encoder_has_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: EncoderFactory) -> None:
        raise OutOfMemory

    monkeypatch.setattr(EncoderFactory, "open", fails)
    factory = EncoderFactory(spec=standin_spec("0"), device="cpu", batch=1)
    [fault] = cluster._objects(cluster._EncoderStage(factory)(cluster._table([])))
    assert "halve --batch" in fault


def test_no_cluster_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = make_videos(tmp_path / "videos", 1)
    assert main(arguments(videos, tmp_path / "out", 0, "--ray", "nowhere")) == 2
    assert "--ray nowhere: no cluster there" in capsys.readouterr().err

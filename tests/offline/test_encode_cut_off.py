"""An encoding that is killed, ten times, ends as one that is left alone."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from offline.data.index import npy_name
from offline.encode import main
from offline.encoding.tasks import read_journal
from tests.offline.encoded import VARIANTS, arguments, lines, made, make_videos, start

CLIPS, KILLS = 40, 10


def test_killed_ten_times(tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "videos", CLIPS)
    assert main(arguments(videos, tmp_path / "whole", 5)) == 0

    out, log = tmp_path / "cut", tmp_path / "log"
    args = arguments(videos, out, 5)
    draw = random.Random(0)
    moments = sorted(draw.sample(range(CLIPS * len(VARIANTS)), KILLS))  # windows encoded by then
    again: list[str] = []  # of what was stored before a kill and encoded after it
    for moment in moments:
        before = len(lines(log))
        known = stored(out)
        run = start(args, log)
        while len(lines(log)) <= moment and run.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.02)
        run.kill()
        assert run.wait() in (-signal.SIGKILL, 0), run.communicate()[0]
        again += [line for line in lines(log)[before:] if line in known]
        for name in (out / "embeddings").glob("*.npy"):
            assert name.read_bytes() == (tmp_path / "whole" / "embeddings" / name.name).read_bytes()
    before, known = len(lines(log)), stored(out)
    run = start(args, log)
    assert run.wait() == 0, run.communicate()[0]
    again += [line for line in lines(log)[before:] if line in known]

    assert again == []
    assert made(out) == made(tmp_path / "whole")
    assert len(set(lines(log))) == CLIPS * len(VARIANTS)
    assert known


def stored(out: Path) -> set[str]:
    """What is stored by now, as the encoder's log names it."""
    return {f"{s.entry.video}#{s.entry.variant}" for s in read_journal(out).values()}


def test_a_stored_embedding_that_was_not_noted_is_made_again(tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "videos", 2)
    out = tmp_path / "out"
    (out / "embeddings").mkdir(parents=True)
    stray = out / npy_name("00", "original")
    stray.write_bytes(b"whatever a machine without power left")
    (out / "embeddings" / ".01.bw.npy-x.part").write_bytes(b"half")
    (out / ".encoded.jsonl").write_bytes(b'{"video_id": "01", "gl')
    assert main(arguments(videos, out, 0)) == 0
    assert main(arguments(videos, tmp_path / "whole", 0)) == 0
    assert made(out) == made(tmp_path / "whole")

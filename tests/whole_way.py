"""A recogniser made from nothing by every offline command in turn, around a tiny V-JEPA 2."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from offline import encode, export, train
from tests.models.tiny_vjepa2 import make_checkpoint


def coloured(path: Path, gloss: str, seed: int) -> Path:
    """Two seconds of green (tree) or of red (floor), with noise: random features tell that."""
    draw = np.random.default_rng(seed)
    colour = np.array((20, 220, 20) if gloss == "tree" else (220, 20, 20))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            image = (colour + draw.integers(-20, 20, (48, 64, 3))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos/, checkpoint/, embeddings/, head.pt and bundle/."""
    root = tmp_path_factory.mktemp("way")
    checkpoint = make_checkpoint(root / "checkpoint")
    (root / "videos").mkdir()
    lines = ["path,gloss,split,signer"]
    for seed in range(10):
        gloss = ("tree", "floor")[seed % 2]
        coloured(root / "videos" / f"{seed}.mp4", gloss, seed)
        lines.append(f"{seed}.mp4,{gloss},{'test' if seed > 7 else 'train'},signer{seed // 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    where = ["--videos", str(root / "videos"), "--labels", str(root / "labels.csv")]
    with_model = ["--encoder", f"vjepa2:{checkpoint}", "--frames", "4", "--device", "cpu"]
    assert encode.main([*where, *with_model, "--out", str(root / "embeddings")]) == 0
    index = ["--index", str(root / "embeddings" / "index.csv"), "--split", "official"]
    how = ["--epochs", "60", "--lr", "1e-3", "--batch", "8", "--threads", "1"]
    assert train.main([*index, *how, "--out", str(root / "head.pt")]) == 0
    bundle = ["--model", str(root / "head.pt"), "--out", str(root / "bundle")]
    assert export.main([*bundle, "--with-encoder", "--name", "colours"]) == 0
    return root

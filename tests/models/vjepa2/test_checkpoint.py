"""V-JEPA 2.1 checkpoints of random weights, as facebookresearch/vjepa2 writes theirs, by path."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.encoders import encoder_spec, open_encoder
from models.schema import Clip, Frame
from models.vjepa2.checkpoint import load_weights, read_checkpoint_file, vjepa2_spec
from models.vjepa2.preprocess import preprocess
from tests.models.vjepa2.reference import PUBLISHED, Weights, random_weights, tokens


def state(seed: int = 0, width: int = 768) -> Weights:
    """B with one block and narrow MLPs, named as within a training run."""
    weights = random_weights(width, 64, 1, seed)
    return {f"module.backbone.{name}": tensor for name, tensor in weights.items()}


def save(file: Path, key: str = "ema_encoder", **held: Any) -> Path:
    """A file of a training run, as `save_checkpoint` of app/vjepa_2_1/train.py writes it."""
    run = {
        "encoder": {"module.backbone.video_mod_embed": torch.zeros(1)},
        "predictor": {"module.backbone.predictor_norm.bias": torch.zeros(3)},
        "opt": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "scaler": None,
        "epoch": 40,
        "loss": 0.5,
        "lr": 6e-4,
        key: state(),
    }
    torch.save({**run, **held}, file)
    return file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("vjepa2") / "vjepa2_1_vitb.pt")


def images() -> list[NDArray[np.uint8]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (90, 120, 3), np.uint8) for _ in range(2)]


def test_encodes_as_the_reference_does(checkpoint: Path) -> None:
    spec = encoder_spec(f"vjepa2-tokens:{checkpoint}", frames=2, fps=None)
    assert (spec.dim, spec.short_side) == (768, 438)  # a crop of 384 px
    clip = Clip(
        stream="s",
        frames=tuple(Frame(image=image, media_s=i / 8) for i, image in enumerate(images())),
        start_s=0.0,
        end_s=0.25,
    )
    [given] = open_encoder(spec, "cpu").encode([clip])
    video = torch.from_numpy(preprocess(images(), 384))[None]
    want = tokens(random_weights(768, 64, 1), video, 12, "2.1")
    assert given.features.shape == (576, 768)
    np.testing.assert_allclose(given.features, want[0].numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", PUBLISHED)
def test_knows_every_published_width(width: int, tmp_path: Path) -> None:
    key = "ema_encoder" if width < 1408 else "target_encoder"
    file = save(tmp_path / "vjepa2_1.pt", key, **{key: state(width=width)})
    shape, weights = read_checkpoint_file(file)
    assert (shape.width, shape.heads) == (width, PUBLISHED[width][1])
    assert (shape.depth, shape.hidden, shape.version) == (1, 64, "2.1")
    assert weights.keys() == random_weights(8, 8, 1).keys()


def test_weights_outlive_their_file(tmp_path: Path) -> None:
    file = save(tmp_path / "vjepa2_1.pt")
    model = load_weights(vjepa2_spec(str(file), frames=2), torch.float32)
    with file.open("r+b") as stream:  # in place, where it is mapped
        stream.write(bytes(file.stat().st_size))
    want = random_weights(768, 64, 1)
    assert torch.equal(model.norm.bias, want["norms_block.3.bias"])
    assert torch.equal(
        model.get_parameter("blocks.0.proj.weight"), want["blocks.0.attn.proj.weight"]
    )


def test_in_bfloat16(checkpoint: Path) -> None:
    model = load_weights(vjepa2_spec(str(checkpoint), frames=2), torch.bfloat16)
    held = [*model.parameters(), *model.buffers()]
    assert {one.dtype for one in held} == {torch.bfloat16}
    assert not any(one.requires_grad for one in held) and not model.training


def test_the_spec_pins_the_file(checkpoint: Path, tmp_path: Path) -> None:
    spec = vjepa2_spec(str(checkpoint), frames=2)
    assert spec.revision.startswith("sha256:") and spec.source == str(checkpoint)
    other = save(tmp_path / "other.pt", ema_encoder=state(seed=1))
    with pytest.raises(ValueError, match="not the checkpoint that the model was trained with"):
        load_weights(replace(spec, source=str(other)), torch.float32)
    with pytest.raises(ValueError, match="dim and short_side"):
        load_weights(replace(spec, short_side=292), torch.float32)
    with pytest.raises(ValueError, match="would lose the last"):
        vjepa2_spec(str(checkpoint), frames=3)
    with pytest.raises(OSError, match="no such folder or file"):
        vjepa2_spec("weights/none.pt")


def without(weights: Weights, name: str) -> Weights:
    return {key: tensor for key, tensor in weights.items() if not key.endswith(name)}


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    for held, message in (
        (without(state(), "attn.proj.bias"), r"vjepa2_1.pt: the checkpoint lacks blocks.0.attn.pr"),
        (without(state(), "norm1.weight"), r"pt: the checkpoint lacks blocks.0.norm1.weight"),
        (without(state(), "patch_embed.proj.bias"), r"pt: the checkpoint lacks patch_embed.proj.b"),
        ({**state(), "module.backbone.blocks.0.mlp.fc1.bias": torch.ones(())}, "it is no bias"),
        ({**state(), "module.backbone.cls_token": torch.zeros(1)}, "has cls_token, which is not"),
        ({**state(), "module.pos_embed": torch.zeros(1)}, "has pos_embed, which is not"),
    ):
        file = save(tmp_path / "vjepa2_1.pt", ema_encoder=held)
        with pytest.raises(ValueError, match=message):
            load_weights(vjepa2_spec(str(file), frames=2), torch.float32)


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"ema_encoder": 3}, "no state dict"),
        ({"ema_encoder": without(state(), "video_mod_embed")}, "768 features; V-JEPA 2.0 has"),
        ({"ema_encoder": state(width=384)}, "384 features; V-JEPA 2.1 has 768, 1024, 1408, 1664"),
        ({"ema_encoder": {**state(), "x": [1]}}, "'x' is no plain tensor"),
        ({"ema_encoder": {1: torch.zeros(1)}}, "1 is no plain tensor"),
        ({"ema_encoder": {**state(), "x": torch.zeros(1).expand(9**9)}}, "'x' is no plain tensor"),
        ({"ema_encoder": {**state(), "x": torch.ones(2, device="meta")}}, "'x' is no plain tensor"),
        ({"ema_encoder": {**state(), "x": torch.eye(2).to_sparse()}}, "'x' is no plain tensor"),
        ({"ema_encoder": {**state(), "video_mod_embed": torch.ones(1)}}, "two weights of one name"),
        ({"opt": Code()}, "has more than tensors in it"),
        ({"opt": [f"{i:020}" for i in range(2**20)]}, "more than 16 MB of pickle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_checkpoint(
    held: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = save(tmp_path / "vjepa2_1.pt", **held)
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint_file(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_neither_encoder(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "a.pt")
    torch.save([1], tmp_path / "b.pt")
    for name in "ab":
        with pytest.raises(ValueError, match="no ema_encoder, target_encoder or encoder"):
            read_checkpoint_file(tmp_path / f"{name}.pt")


def test_cut_and_foreign_files(checkpoint: Path, tmp_path: Path) -> None:
    whole, file = checkpoint.read_bytes(), tmp_path / "vjepa2_1.pt"
    for data in (b"", b"GIF89a", whole[:1000], whole[: len(whole) // 2], whole[:-30]):
        file.write_bytes(data)
        with pytest.raises(OSError, match=r"cut, or not written by torch\.save"):
            read_checkpoint_file(file)
    torch.save({"ema_encoder": state()}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(OSError, match=r"not written by torch\.save"):
        read_checkpoint_file(file)


def rewritten(source: Path, file: Path, pressed: int, cut: int | None = None) -> Path:
    """`source` with its entries compressed by `pressed`, its tensors cut to `cut` bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", pressed) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, data[:cut] if "/data/" in entry.filename else data)
    return file


def test_archives_that_lie(checkpoint: Path, tmp_path: Path) -> None:
    # torch would read what is compressed as if it were weights.
    with pytest.raises(ValueError, match="compressed"):
        read_checkpoint_file(rewritten(checkpoint, tmp_path / "a.pt", zipfile.ZIP_DEFLATED))
    with pytest.raises(OSError, match=r"b.pt: damaged \(RuntimeError\)"):
        read_checkpoint_file(rewritten(checkpoint, tmp_path / "b.pt", zipfile.ZIP_STORED, cut=64))

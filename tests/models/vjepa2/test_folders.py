"""Folders as transformers saves them: whole, in shards, with a head; and what is wrong with one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.vjepa2.checkpoint import load_weights, read_checkpoint_file, vjepa2_spec
from models.vjepa2.model import VideoTransformer
from tests.models.tiny_vjepa2 import make_checkpoint, make_classifier


def loaded(folder: Path) -> VideoTransformer:
    return load_weights(vjepa2_spec(str(folder), frames=4), torch.float32)


def same(a: VideoTransformer, b: VideoTransformer) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


def test_in_shards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = make_checkpoint(tmp_path / "whole")
    VJEPA2Model.from_pretrained(whole).save_pretrained(tmp_path / "cut", max_shard_size="40KB")
    assert len(list((tmp_path / "cut").glob("model-*.safetensors"))) > 2
    capfd.readouterr()
    assert same(loaded(tmp_path / "cut"), loaded(whole))
    assert capfd.readouterr() == ("", "")  # no table of what belongs to other parts
    shard = next((tmp_path / "cut").glob("model-00002-*"))
    shard.unlink()
    with pytest.raises(OSError, match=rf"{shard.name}: missing, though model\.safetensors\.index"):
        loaded(tmp_path / "cut")


def test_the_encoder_of_a_classifier(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It has another prefix there. Nothing is said of the head, which is not asked for."""
    classifier = make_classifier(tmp_path / "classifier", ["a", "b"])
    capfd.readouterr()
    model = loaded(classifier)
    assert capfd.readouterr() == ("", "")
    want = load_file(classifier / "model.safetensors")["vjepa2.encoder.layernorm.weight"]
    assert torch.equal(model.norm.weight, want)


def test_weights_outlive_their_file(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    model, again = loaded(folder), loaded(folder)
    file = folder / "model.safetensors"
    with file.open("r+b") as stream:  # in place, where it is mapped
        stream.write(bytes(file.stat().st_size))
    assert same(model, again) and model.norm.weight.abs().sum() > 0


Weights = dict[str, Tensor]


def _without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def _with(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: change(weights[name])}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without("encoder.layer.1.mlp.fc2.bias"), "the checkpoint lacks layer.1.mlp.fc2.bias"),
        (
            _with("encoder.layer.0.norm1.weight", lambda t: t[:7].clone()),
            "layer.0.norm1.weight is (7,) in the checkpoint, not (32,)",
        ),
        (
            _with("encoder.layernorm.bias", lambda t: t.to(torch.int8)),
            "encoder.layernorm.bias is torch.int8, not floating point",
        ),
        (
            lambda weights: {**weights, "encoder.layer.2.norm1.bias": torch.zeros(32)},
            "the checkpoint has layer.2.norm1.bias, which is not the encoder's",
        ),
        (lambda weights: {"x": torch.zeros(1)}, "the checkpoint lacks embeddings.patch_embed"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, change: Callable[[Weights], Weights], says: str
) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(weights), file)
    with pytest.raises(ValueError) as caught:
        loaded(folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder))


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    spec = vjepa2_spec(str(folder), frames=4)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \.safetensors file in it"):
        vjepa2_spec(str(folder), frames=4)
    save_file({"a": torch.zeros(1)}, folder / "adapter.safetensors")
    with pytest.raises(ValueError, match="not the checkpoint that the model was trained with"):
        load_weights(spec, torch.float32)
    with pytest.raises(ValueError, match=r"no model\.safetensors; pickled weights are never"):
        loaded(folder)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("[]", "lists no files of weights"),
        ('{"weight_map": {"a": 3}}', "lists no files of weights"),
        ("{", "lists no files of weights"),
        ('{"weight_map": {"a": "../other.safetensors"}}', "other.safetensors: missing"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, index: str, says: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    shutil.move(folder / "model.safetensors", tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, folder / "adapter.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises((ValueError, OSError), match=says):
        loaded(folder)


def test_damaged_files(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for data in (b"", b"GIF89a", whole[:1000], whole[:-8], b"\xff" * 100):
        file.write_bytes(data)
        with pytest.raises(OSError, match=r"model\.safetensors: cut or damaged .*; copy it again"):
            loaded(folder)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "its config.json is no JSON object"),
        ("[]", "its config.json is no JSON object"),
        ('{"model_type": "vjepa2", "hidden_size": "many"}', "its config.json: "),
        ('{"model_type": "vjepa2", "hidden_act": "relu"}', "relu in its MLPs, not gelu"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, config: str, says: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    (folder / "config.json").write_text(config)
    with pytest.raises(ValueError) as caught:
        vjepa2_spec(str(folder))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_pt_file_of_2_0_is_the_folder_that_transformers_made_of_it(tmp_path: Path) -> None:
    """L with one block and narrow MLPs, with the names of a training run of 2.0."""
    config = VJEPA2Config(
        hidden_size=1024,
        num_attention_heads=16,
        num_hidden_layers=1,
        mlp_ratio=0.0625,
        pred_num_hidden_layers=1,
    )
    torch.manual_seed(0)
    model = VJEPA2Model(config)
    for parameter in model.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "folder")
    theirs = model.encoder.state_dict()
    run: Weights = {}
    for name, tensor in theirs.items():
        if ".attention." in name and "proj" not in name:
            continue
        name = name.replace("embeddings.patch_embeddings", "patch_embed")
        name = name.replace("layer.", "blocks.").replace("attention.", "attn.")
        run[f"module.backbone.{name.replace('layernorm', 'norm')}"] = tensor
    for part in ("weight", "bias"):
        names = [f"layer.0.attention.{one}.{part}" for one in ("query", "key", "value")]
        run[f"module.backbone.blocks.0.attn.qkv.{part}"] = torch.cat([theirs[n] for n in names])
    predictor = {"module.backbone.predictor_norm.bias": torch.zeros(3)}
    other = {name: torch.zeros_like(tensor) for name, tensor in run.items()}
    file = tmp_path / "vitl.pt"
    torch.save({"encoder": other, "predictor": predictor, "target_encoder": run}, file)
    shape, _ = read_checkpoint_file(file)
    assert (shape.version, shape.heads, shape.hidden) == ("2.0", 16, 64)
    spec = vjepa2_spec(str(file), frames=2)
    assert (spec.dim, spec.short_side) == (1024, 292)  # a crop of 256 px
    want = load_weights(vjepa2_spec(str(tmp_path / "folder"), frames=2), torch.float32)
    assert same(load_weights(spec, torch.float32), want)

    torch.save({"encoder": run}, tmp_path / "vitg-384.pt")  # of a run without a moving average
    larger = vjepa2_spec(str(tmp_path / "vitg-384.pt"), frames=2)
    assert larger.short_side == 438  # by its name, which alone says it
    torch.save({"encoder": run, "crop_size": 384}, tmp_path / "tuned.pt")
    assert vjepa2_spec(str(tmp_path / "tuned.pt"), frames=2).short_side == 438
    assert torch.equal(load_weights(larger, torch.float32).norm.bias, want.norm.bias)

    del run["module.backbone.blocks.0.attn.qkv.bias"]
    torch.save({"target_encoder": run}, file)
    with pytest.raises(ValueError, match=r"vitl\.pt: the checkpoint lacks blocks\.0\.attn\.qkv\."):
        load_weights(vjepa2_spec(str(file), frames=2), torch.float32)


def test_a_folder_named_like_a_hub_id_is_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path / "me" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert vjepa2_spec("me/tiny", frames=4).source == os.fspath(tmp_path / "me" / "tiny")

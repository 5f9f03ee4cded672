"""Which parameters learn, low-rank updates, and ways to compute with less memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.heads import make_head
from models.vjepa2.checkpoint import load_weights, vjepa2_spec
from offline.finetuning.config import FinetuneSettings
from offline.finetuning.tuned_model import TunedModel
from tests.models.tiny_vjepa2 import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


def made(checkpoint: Path, settings: FinetuneSettings, kind: str = "vjepa2") -> TunedModel:
    spec = vjepa2_spec(str(checkpoint), kind=kind, frames=4)
    torch.manual_seed(0)
    head = make_head({"kind": settings.head, "dim": spec.dim, "classes": 3, "dropout": 0.0})
    model = TunedModel(load_weights(spec, torch.float32), head, pooled=kind == "vjepa2")
    model.unfreeze(settings)
    return model


def pictures() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 4, 32, 32, 3), generator=draw, dtype=torch.uint8)


def learnt(model: TunedModel) -> dict[str, Tensor]:
    model(pictures()).logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.learning().items() if p.grad is not None}


def encoder_names(model: TunedModel) -> set[str]:
    return {name for name in model.learning() if name.startswith("encoder.")}


def test_the_last_blocks_learn(checkpoint: Path) -> None:
    model = made(checkpoint, FinetuneSettings(unfreeze="1"))
    names = encoder_names(model)
    assert names and all(".blocks.1." in n or ".norm." in n for n in names)
    assert learnt(model).keys() == model.learning().keys()
    assert encoder_names(made(checkpoint, FinetuneSettings(unfreeze="0"))) == set()
    whole = encoder_names(made(checkpoint, FinetuneSettings(unfreeze="all")))
    assert whole > names and "encoder.model.patch_embed.weight" in whole
    with pytest.raises(ValueError, match="--unfreeze 3: the encoder has 2 blocks"):
        made(checkpoint, FinetuneSettings(unfreeze="3"))


def test_lower_layers_learn_slower(checkpoint: Path) -> None:
    settings = FinetuneSettings(
        unfreeze="all", lr=1.0, encoder_lr=0.1, layer_decay=0.5, weight_decay=0.3
    )
    model = made(checkpoint, settings)
    names = {id(p): name for name, p in model.learning().items()}
    peak, decay = {}, {}
    for group in model.groups(settings):
        for parameter in group["params"]:
            peak[names.pop(id(parameter))] = group["peak"]
            decay[id(parameter)] = group["weight_decay"]
    assert not names  # each is in one group
    assert peak["head.query"] == 1.0
    assert peak["encoder.model.norm.weight"] == peak["encoder.model.blocks.1.fc1.weight"] == 0.1
    assert peak["encoder.model.blocks.0.qkv.bias"] == 0.05
    assert peak["encoder.model.patch_embed.weight"] == 0.025
    assert {decay[id(p)] for p in model.parameters() if p.ndim > 1} == {0.3}
    assert {decay[id(p)] for p in model.parameters() if p.ndim <= 1} == {0.0}


@pytest.mark.parametrize("kind", ["vjepa2", "vjepa2-tokens"])
def test_low_rank_updates_start_at_nothing_and_merge(checkpoint: Path, kind: str) -> None:
    plain = made(checkpoint, FinetuneSettings(unfreeze="0"), kind).eval()
    model = made(checkpoint, FinetuneSettings(lora=2), kind).eval()
    assert torch.equal(model(pictures()).logits, plain(pictures()).logits)
    names = encoder_names(model)
    assert len(names) == 2 * 4 * 2 and all(n.endswith((".down", ".up")) for n in names)
    with torch.no_grad():
        for name, parameter in model.learning().items():
            if name.endswith(".up"):
                parameter.normal_(0, 0.3)
        before = model.features(pictures())
        assert (before - plain.features(pictures())).abs().max() > 0.1
        model.merge()
        torch.testing.assert_close(model.features(pictures()), before, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_checkpointing_changes_no_gradient_and_keeps_less(checkpoint: Path) -> None:
    def kept(model: TunedModel) -> int:
        """Bytes that the backward pass waits for, beside the weights."""
        size, weights = 0, {p.data_ptr() for p in model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            nonlocal size
            size += 0 if tensor.data_ptr() in weights else tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(pictures())
        return size

    plain = made(checkpoint, FinetuneSettings(unfreeze="all"))
    again = made(checkpoint, FinetuneSettings(unfreeze="all", checkpointing=True))
    want, got = learnt(plain), learnt(again)
    assert want.keys() == got.keys()
    for name, gradient in want.items():
        assert torch.equal(gradient, got[name]), name
    assert kept(again) < 0.75 * kept(plain)


def test_frozen_blocks_keep_nothing_for_the_backward_pass(checkpoint: Path) -> None:
    model = made(checkpoint, FinetuneSettings(unfreeze="1"))
    seen: list[bool] = []
    for block in model.encoder.model.blocks:
        block.register_forward_hook(lambda *call: seen.append(call[-1].requires_grad))
    model(pictures())
    assert seen == [False, True]


def test_computes_in_bfloat16(checkpoint: Path) -> None:
    model = made(checkpoint, FinetuneSettings(unfreeze="all")).eval()
    with torch.no_grad():
        want = model(pictures()).logits
        with torch.autocast("cpu", torch.bfloat16):
            got = model(pictures()).logits
    assert not torch.equal(want, got.float())
    torch.testing.assert_close(got.float(), want, atol=0.05, rtol=0.1)

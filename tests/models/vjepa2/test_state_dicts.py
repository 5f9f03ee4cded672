from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.vjepa2.model import Shape
from models.vjepa2.state_dicts import converted
from tests.models.vjepa2.reference import random_weights

CONFIG = VJEPA2Config(
    hidden_size=32, num_attention_heads=2, num_hidden_layers=2, pred_num_hidden_layers=1
)
OF_2_0 = Shape.of(CONFIG)
OF_2_1 = Shape(width=128, depth=2, heads=2, hidden=256, version="2.1")
# What single pictures and training need alone.
UNUSED = {
    "patch_embed_img.proj.weight",
    "patch_embed_img.proj.bias",
    "img_mod_embed",
    *(f"norms_block.{i}.{part}" for i in range(3) for part in ("weight", "bias")),
}


def weights_of(shape: Shape) -> dict[str, Tensor]:
    if shape.version == "2.1":
        return random_weights(shape.width, shape.hidden, shape.depth)
    state: dict[str, Tensor] = VJEPA2Model(CONFIG).encoder.state_dict()
    return state


def test_a_published_file_has_as_many_tensors() -> None:
    # 158 in `ema_encoder` of vjepa2_1_vitb_dist_vitG_384.pt, by those who have converted it.
    assert len(random_weights(64, 64, 12)) == 158


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        (OF_2_0, "layer.1.attention.query.weight"),
        (OF_2_0, "layer.0.mlp.fc1.bias"),
        (OF_2_0, "embeddings.patch_embeddings.proj.weight"),
        (OF_2_1, "blocks.1.attn.qkv.bias"),
        (OF_2_1, "video_mod_embed"),
        (OF_2_1, "norms_block.3.weight"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(shape: Shape, key: str) -> None:
    theirs = weights_of(shape)
    whole = theirs.pop(key)
    with pytest.raises(ValueError, match=rf"lacks {key}$"):
        converted(theirs, shape)
    # As many numbers in another order are wrong too.
    with pytest.raises(ValueError, match=rf"{key} is \({whole.numel()},.* not \("):
        converted({**theirs, key: whole.reshape(-1, 1)}, shape)


@pytest.mark.parametrize("key", sorted(UNUSED))
def test_what_no_video_needs_must_be_there_all_the_same(key: str) -> None:
    theirs = weights_of(OF_2_1)
    del theirs[key]
    with pytest.raises(ValueError, match=f"lacks {key}"):
        converted(theirs, OF_2_1)


def test_what_is_unknown_is_named() -> None:
    for shape, key in ((OF_2_0, "layer.2.norm1.bias"), (OF_2_1, "blocks.2.norm1.bias")):
        with pytest.raises(ValueError, match=f"has {key}"):
            converted({**weights_of(shape), key: torch.zeros(shape.width)}, shape)
    with pytest.raises(ValueError, match="not \\(32, 3, 2, 16, 16\\)"):
        converted(weights_of(OF_2_1), OF_2_0)

"""A video classifier of transformers -> its head as ours, and its glosses.

    VJEPA2ForVideoClassification's config.json and safetensors -> [video_classifier] -> TrainedHead

Its pooler is `models.heads.AttentiveProbe` over all tokens of the encoder, but for the projection
after its query's attention: it has none, so ours is the identity. The logits are the same but for
rounding.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.heads import AttentiveProbe
from models.vjepa2.checkpoint import read_config, read_tensors
from models.vjepa2.source import Source

ARCHITECTURE = "VJEPA2ForVideoClassification"
_PARTS = ("pooler.", "classifier.")
# Our module -> theirs.
_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
}
_LAYERS = "pooler.self_attention_layers."
_LOOK = "pooler.cross_attention_layer"
_MODULES = {
    "before": f"{_LOOK}.layer_norm1",
    "after.0": f"{_LOOK}.layer_norm2",
    "after.1": f"{_LOOK}.mlp.fc1",
    "after.3": f"{_LOOK}.mlp.fc2",
    "classify.1": "classifier",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedHead:
    """The head of a classifier, in evaluation mode, and what else its config says."""

    head: AttentiveProbe
    glosses: tuple[str, ...]  # in the order of the logits
    renamed: tuple[tuple[str, str], ...]  # labels that are no glosses, and what they became
    frames: int  # of a clip


def has_head(found: Source) -> bool:
    """Whether the checkpoint is a classifier with its head."""
    return found.path.is_dir() and ARCHITECTURE in (read_config(found).architectures or ())


def read_video_classifier(found: Source) -> TrainedHead:
    """The head of the checkpoint in folder `found.path`.

    Raises:
        OSError: a file is missing, cut or damaged.
        ValueError: it is no such classifier, or a tensor is missing or of another shape; the
            message names it.
    """
    if not has_head(found):
        raise ValueError(f"{found.name}: has no head of its own, it is no {ARCHITECTURE}")
    config = read_config(found)
    if config.problem_type == "multi_label_classification":
        raise ValueError(f"{found.name}: gives a clip several labels at once, a recogniser one")
    if config.hidden_act != "gelu":
        raise ValueError(f"{found.name}: a head with {config.hidden_act} in its MLPs, not gelu")
    glosses, renamed = _glosses(found, config.id2label or {})
    tensors = read_tensors(
        found.path, lambda name: name if name.startswith(_PARTS) else None, torch.float32
    )
    layers = len({name.split(".")[2] for name in tensors if name.startswith(_LAYERS)})
    try:
        if layers != config.num_pooler_layers:
            raise ValueError(
                f"the checkpoint has {layers} of {config.num_pooler_layers} {_LAYERS}*"
            )
        with torch.device("meta"):  # no random weights first
            head = AttentiveProbe(
                config.hidden_size,
                len(glosses),
                blocks=layers,
                attention_heads=config.num_attention_heads,
                norm_eps=config.layer_norm_eps,
            )
        head.load_state_dict(_converted(tensors, head), assign=True)
    except ValueError as exc:
        raise ValueError(f"{found.name}: {exc}") from exc
    return TrainedHead(
        head=head.eval(), glosses=glosses, renamed=renamed, frames=config.frames_per_clip
    )


def _glosses(
    found: Source, labels: Mapping[Any, str]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The labels as names of glosses, in the order of the logits, and those that had to change.

    A bundle's glosses are distinct and have no control characters: these become spaces, a name
    that comes again gets a number, and an empty one its class's.

    Raises:
        ValueError: they are not numbered from 0 on.
    """
    if sorted(labels) != list(range(len(labels))):
        raise ValueError(f"{found.name}: id2label of its config.json does not count from 0 on")
    glosses: dict[str, str] = {}  # gloss -> label
    for number in range(len(labels)):
        label = str(labels[number])
        plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in label)
        name = unicodedata.normalize("NFC", re.sub(r"\s+", " ", plain).strip())
        name = gloss = name or f"class {number}"
        again = 1
        while gloss in glosses:
            again += 1
            gloss = f"{name} ({again})"
        glosses[gloss] = label
    return tuple(glosses), tuple((old, new) for new, old in glosses.items() if old != new)


def _converted(tensors: Mapping[str, Tensor], head: AttentiveProbe) -> dict[str, Tensor]:
    """The state dict of `head` from the classifier's `tensors`.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the message names it.
    """
    left, ours = dict(tensors), head.state_dict()

    def take(names: Sequence[str], size: Sequence[int]) -> Tensor:
        """The tensors `names`, one below the other: `size` in all."""
        part = (size[0] // len(names), *size[1:])
        for name in names:
            if name not in left:
                raise ValueError(f"the checkpoint lacks {name}")
            if left[name].shape != part:
                found = tuple(left[name].shape)
                raise ValueError(f"{name} is {found} in the checkpoint, not {part}")
        return torch.cat([left.pop(name) for name in names])

    state = {}
    for name, wanted in ours.items():
        module, _, part = name.rpartition(".")
        match name.split("."):
            case ["query"]:
                state[name] = take(["pooler.query_tokens"], wanted.shape)
            case ["look", "out_proj", kind]:
                size = len(wanted)
                state[name] = torch.eye(size) if kind == "weight" else torch.zeros(size)
            case ["look", joined]:
                theirs = f"{_LOOK}.cross_attn"
                state[name] = take(_queries_keys_values(theirs, joined), wanted.shape)
            case ["blocks", i, "self_attn", *rest]:
                theirs = f"{_LAYERS}{i}.self_attn"
                names = [f"{theirs}.out_proj.{part}"]
                if len(rest) == 1:
                    names = _queries_keys_values(theirs, rest[0])
                state[name] = take(names, wanted.shape)
            case ["blocks", i, layer, part]:
                theirs = f"{_LAYERS}{i}.{_LAYER[layer]}"
                state[name] = take([f"{theirs}.{part}"], wanted.shape)
            case _:
                state[name] = take([f"{_MODULES[module]}.{part}"], wanted.shape)
    if left:
        raise ValueError(f"the checkpoint has {min(left)}, which is not the head's")
    return state


def _queries_keys_values(module: str, joined: str) -> list[str]:
    """The tensors that make up in_proj_weight or in_proj_bias."""
    return [f"{module}.{one}_proj.{joined.removeprefix('in_proj_')}" for one in "qkv"]

"""A trained head on disk: `NAME.pt` (tensors: state dicts, background) and `NAME.json`, its card.

`offline.train` writes it, `offline.evaluate` and `offline.export` read it. The card has what a
bundle's card has (see `models.card`) but the files, and two fields more: `glosses`, in the order of
the logits, and `classes`, how many logits each head has before they are folded to the glosses.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.files import replacing
from models.heads import Head, HeadEnsemble, make_head


class CheckpointError(ValueError):
    """A trained head that can't be read; one line that says which file and why."""


def save_checkpoint(
    path: str | os.PathLike[str],
    heads: Sequence[Head],
    card: Mapping[str, Any],
    background: NDArray[np.float32],
) -> Path:
    """Write `path` (`….pt`) and the card beside it (`….json`). Several heads answer together.

    `background` (M, E): see `offline.scoring.takes`.
    """
    file = Path(path)
    states = [{k: v.detach().cpu().clone() for k, v in head.state_dict().items()} for head in heads]
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        torch.save({"states": states, "background": torch.from_numpy(background)}, stream)
    full = {
        **card,
        "head": {
            "kind": heads[0].settings["kind"],
            "args": {"heads": len(heads), **heads[0].settings},
            "idle": int(card["classes"]) > len(card["glosses"]),
        },
    }
    text = json.dumps(full, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(file.with_suffix(".json")) as stream:
        stream.write(text.encode())
    return file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """What training left."""

    head: HeadEnsemble  # all heads as one, in evaluation mode
    card: dict[str, Any]
    background: NDArray[np.float32]  # (M, E), see `offline.scoring.takes`


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """What `save_checkpoint` wrote to `path`.

    Raises:
        CheckpointError: a file is missing, or the two don't belong together.
    """
    file = Path(path)
    try:
        card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        args = dict(card["head"]["args"])
        count = int(args.pop("heads"))
        content = torch.load(file, map_location="cpu", weights_only=True)
        states, background = content["states"], content["background"].numpy()
        if len(states) != count:
            raise ValueError(f"the card tells of {count} heads, the file has {len(states)}")
        heads: list[nn.Module] = []
        for state in states:
            head = make_head(args)
            head.load_state_dict(state, strict=True)
            heads.append(head)
        committee = HeadEnsemble(heads, len(card["glosses"]), int(card["classes"]))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as exc:
        raise CheckpointError(f"{file}: not a trained head: {exc}") from exc
    return Checkpoint(head=committee.eval(), card=card, background=background)

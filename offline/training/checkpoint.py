"""A trained head on disk: `NAME.pt` (state dicts, background) and `NAME.json`, its card.

    trainer -> [checkpoint] -> `offline.evaluate`, `offline.export`

The card has the fields of a bundle's card (see `models.card`) except `files`, and two more:
`glosses`, in the order of the logits, and `classes`, the number of logits of each head before they
are folded to the glosses.
"""

from __future__ import annotations

import copy
import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.card import spec_as_card
from models.files import replacing
from models.heads import Head, HeadEnsemble, last_layer, make_head
from models.schema import EncoderSpec
from offline.data.examples import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """What training wrote."""

    head: HeadEnsemble  # all heads as one, in evaluation mode
    card: dict[str, Any]
    background: NDArray[np.float32]  # (M, E), see `offline.scoring.takes`


def new_card(
    name: str,
    spec: EncoderSpec,
    hop_s: float,
    calibration: Mapping[str, float],
    given: Mapping[str, Any],
    clips: Mapping[str, Any],
    metrics: Mapping[str, Any],
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """The card of a head. `given` are the fields of `--card`; `clips` is added to its `data`."""
    return {
        "name": name,
        "encoder": spec_as_card(spec),
        "window_s": spec.window_s,
        "hop_s": hop_s,
        "calibration": dict(calibration),
        "licence": "not stated",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **given,
        "data": {**given.get("data", {}), **clips},
        "metrics": dict(metrics),
        "glosses": list(vocabulary.glosses),
        "classes": vocabulary.classes,
    }


def save_checkpoint(
    file: Path, heads: Sequence[Head], card: Mapping[str, Any], background: NDArray[np.float32]
) -> Path:
    """Write `file` (`….pt`) and the card beside it (`….json`). Several heads are an ensemble."""
    file.parent.mkdir(parents=True, exist_ok=True)
    states = [{k: v.detach().cpu().clone() for k, v in head.state_dict().items()} for head in heads]
    with replacing(file) as stream:
        torch.save({"states": states, "background": torch.from_numpy(background)}, stream)
    head_card = {
        "kind": heads[0].settings["kind"],
        "args": {"heads": len(heads), **heads[0].settings},
        "idle": int(card["classes"]) > len(card["glosses"]),
    }
    text = json.dumps({**card, "head": head_card}, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(file.with_suffix(".json")) as stream:
        stream.write(f"{text}\n".encode())
    return file


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `save_checkpoint` wrote to `path`.

    Raises:
        ValueError: a file is missing, or the two do not belong together; one line that names it.
    """
    file = Path(path)
    try:
        card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        args = dict(card["head"]["args"])
        count = int(args.pop("heads"))
        content = torch.load(file, map_location="cpu", weights_only=True)
        states, background = content["states"], content["background"].numpy()
        if len(states) != count:
            raise ValueError(f"the card has {count} heads, the file {len(states)}")
        heads: list[nn.Module] = []
        for state in states:
            heads.append(make_head(args))
            heads[-1].load_state_dict(state, strict=True)
        ensemble = HeadEnsemble(heads, len(card["glosses"]), int(card["classes"]))
    except Exception as exc:  # a hostile pickle raises what it likes
        raise ValueError(f"{file}: not a trained head: {exc}") from exc
    return Checkpoint(head=ensemble.eval(), card=card, background=background)


def keep_glosses(checkpoint: Checkpoint, glosses: Sequence[str]) -> Checkpoint:
    """The same heads for fewer `glosses`: the others become signs outside the vocabulary.

    Raises:
        ValueError: the heads have no class for other signs, or do not know one of `glosses`.
    """
    card, known, wanted = checkpoint.card, list(checkpoint.card["glosses"]), set(glosses)
    if not card["head"]["idle"]:
        raise ValueError("heads without --open-set have no class for other signs")
    if unknown := wanted - set(known):
        raise ValueError(f"the heads do not know {', '.join(sorted(unknown))}")
    kept = [known.index(gloss) for gloss in glosses]
    first = kept + [i for i, gloss in enumerate(known) if gloss not in wanted]
    heads = copy.deepcopy(checkpoint.head.heads)
    with torch.no_grad():
        for head in heads:
            layer = last_layer(cast(Head, head))
            order = torch.tensor([*first, *range(len(known), layer.out_features)])
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
    data = dict(card.get("data", {}))
    if "held_out_clips" in data:
        data["held_out_clips"] = [c for c in data["held_out_clips"] if c["gloss"] in wanted]
    if "same_sign" in data:
        data["same_sign"] = {g: words for g, words in data["same_sign"].items() if g in wanted}
    background = checkpoint.background
    background = background[[*first, *range(len(known), len(background))]]
    return Checkpoint(
        head=HeadEnsemble(list(heads), len(kept), int(card["classes"])).eval(),
        card={**card, "data": data, "glosses": list(glosses)},
        background=background,
    )


@torch.no_grad()
def make_likelier(checkpoint: Checkpoint, glosses: Collection[str], more: float) -> None:
    """Add `more` to the logits of those of `glosses` that the heads know, in place."""
    favoured = [i for i, gloss in enumerate(checkpoint.card["glosses"]) if gloss in glosses]
    for head in checkpoint.head.heads:
        last_layer(cast(Head, head)).bias[favoured] += more

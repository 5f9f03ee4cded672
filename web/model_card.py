"""What a bundle's card says that a person should know, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web.drawing import plain


def markdown(card: Mapping[str, Any], glosses: Sequence[str]) -> str:
    """Signs, data, figures, limits and licence. A card may leave any of them out."""
    data, metrics = card.get("data"), card.get("metrics") or {}
    data = data if isinstance(data, Mapping) else {}
    known = ", ".join(sorted(glosses)) or "none yet"
    lines = {
        f"Signs it knows ({len(glosses)})": known,
        "What it learned from": _learned(data),
        "Who is in the data": data.get("who"),
        "How good it is": _figures(metrics),
        "Signs outside its list": _others(metrics),
        "Limits": data.get("limits"),
        "Licence": card.get("licence"),
        "Model": card.get("name"),
    }
    return "\n\n".join(
        f"**{name}.** {plain(str(text).rstrip('.'))}." for name, text in lines.items() if text
    )


def _learned(data: Mapping[str, Any]) -> str:
    if not data.get("signer_groups"):
        return ""
    return (
        f"{data['clips']} clips of {data['signer_groups']} signers or groups of signers: "
        "few people, and many ways of signing are missing."
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    scores = metrics.get("cross_validation") or metrics.get("kept_out") or {}
    if not scores.get("top1"):
        return ""
    said = (
        f"On {scores['clips']} clips of people it had never seen, the right sign came first in "
        f"{100 * scores['top1']:.0f} of 100"
    )
    if scores.get("top1_interval95"):
        low, high = (f"{100 * bound:.0f}" for bound in scores["top1_interval95"])
        said += f" (95 % interval: {low} to {high})"
    return f"{said}."


def _others(metrics: Mapping[str, Any]) -> str:
    for live in metrics.get("live") or []:
        if live.get("taken_for_a_known_sign") is not None:
            share = f"{100 * live['taken_for_a_known_sign']:.0f}"
            return f"{share} of 100 clips of other signs were taken for one that it knows."
    return ""

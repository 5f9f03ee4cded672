"""A bundle's card -> the README.md that stands beside it on a hub, for people.

What it says is what `card.json` says: what it knows, how good it is, under which terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.bundle import Bundle
from models.command_line import printable

_MOST_GLOSSES = 500  # are listed


def readme(bundle: Bundle, place: str) -> str:
    """The text in Markdown; `place` is where it will lie, as `offline.hub pull` takes it."""
    card, encoder = bundle.card, bundle.encoder
    data = card["data"] if isinstance(card["data"], dict) else {}
    listed = ", ".join(map(_plain, bundle.glosses[:_MOST_GLOSSES]))
    more = len(bundle.glosses) - _MOST_GLOSSES
    knows = f"{len(bundle.glosses)} glosses: {listed}" + (f" and {more} more." if more > 0 else ".")
    if not bundle.glosses:
        knows = "No gloss: it has no trained head, and knows what it is taught."
    about = [_plain(data[name]) for name in ("source", "who", "limits") if name in data]
    return "\n".join(
        [
            "---",
            "library_name: livegloss",
            "pipeline_tag: video-classification",
            "license: other",
            "tags: [sign-language, isolated-signs]",
            "---",
            "",
            f"# {_plain(bundle.name)}",
            "",
            "A recogniser of isolated signs for livegloss. **It makes gloss guesses. It is not a "
            "translator**: it knows single signs, no grammar, no fingerspelling, no sentences, and "
            "it is often wrong. Do not use it where a mistake harms someone, least of all in "
            "medical and legal matters.",
            "",
            f"    python -m offline.hub pull {_code(place)} bundles/mine",
            "    python -m streaming --model bundles/mine",
            "",
            "## What it knows",
            "",
            knows,
            "",
            f"A window lasts {encoder.window_s:.2f} s: {encoder.frames} pictures at "
            f"{encoder.fps:g} a second, encoded by `{_code(encoder.kind)}` "
            f"(`{_code(card['encoder']['source'])}`, `{_code(encoder.revision)}`).",
            "",
            "## How good it is",
            "",
            *_figures(card["metrics"]),
            "",
            "## What it learnt from",
            "",
            *([f"* {line}" for line in about] or ["The card does not say."]),
            "",
            "## Licence",
            "",
            _plain(card["licence"]),
            "",
        ]
    )


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """A table of the figures from cross-validation, with their intervals."""
    found = metrics.get("cross_validation")
    if not isinstance(found, dict) or "top1" not in found:
        return ["No figures are in the card: how good it is on signers that it never met is open."]
    lines = [
        f"On {_plain(found.get('clips', '?'))} clips of signers that the head which read them had "
        "not met:",
        "",
        "| | share | 95 % interval |",
        "| --- | --- | --- |",
    ]
    for count, words in ((1, "right gloss first"), (3, "among three"), (5, "among five")):
        share, interval = found.get(f"top{count}"), found.get(f"top{count}_interval95")
        if isinstance(share, float):
            ends = " to ".join(f"{end:.1%}" for end in interval) if interval else ""
            lines.append(f"| {words} | {share:.1%} | {ends} |")
    return lines


def _plain(value: object) -> str:
    """Text of the card as one line of Markdown that formats nothing."""
    line = " ".join(printable(str(value)).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in line)


def _code(value: object) -> str:
    """The same within code."""
    return " ".join(printable(str(value)).replace("`", "'").split())

"""What the demo shows, as HTML, styled by demo.css. Pure; glosses are escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streaming.messages import Message

_STRIP = 8  # pictures of a window
_RESTING = 0.7  # idle probability from which nobody signs a sign that it knows


def percent(p: float) -> str:
    return "< 1 %" if p < 0.005 else f"{100 * p:.0f} %"


def in_words(p: float) -> str:
    """How sure `p` is, as the page of the live server says it (certainty.js)."""
    return "quite sure" if p >= 0.8 else "fairly sure" if p >= 0.5 else "only a guess"


def plain(text: object) -> str:
    """Others' text for where Markdown is read: it is shown as it stands."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|~$:" else c for c in str(text))


def clock(seconds: float) -> str:
    """Seconds of video as 1:07.4."""
    tenths = max(0, round(10 * seconds))
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def sign(newest: Message | None, waiting: str) -> str:
    """The sign of the moment, large; `waiting` says what will happen where there is none."""
    if newest is None:
        return (
            f'<p class="lg-sign" role="status"><span class="lg-sure">{escape(waiting)}</span></p>'
        )
    gloss = escape(newest["gloss"])
    sure = f"{percent(newest['p'])} · {in_words(newest['p'])}"
    return (
        f'<p class="lg-sign" role="status" data-gloss="{gloss}">'
        f'<span class="lg-word">{gloss}</span> <span class="lg-sure">{sure}</span></p>'
    )


def candidates(top: Sequence[Mapping[str, Any]], idle: float) -> str:
    """Glosses and their probabilities as bars, likeliest first."""
    resting = idle >= _RESTING
    rows = "".join(
        f'<li data-gloss="{escape(one["gloss"])}" data-p="{one["p"]:.3f}">'
        f"<span>{escape(one['gloss'])}</span>"
        f'<span class="lg-track"><span style="width: {100 * one["p"]:.1f}%"></span></span>'
        f'<span class="lg-p">{percent(one["p"])}</span></li>'
        for one in top
    )
    note = f"No known sign · {percent(idle)}" if resting else ""
    return (
        f'<p class="lg-head"><b>What it considers</b> <span>{note}</span></p>'
        f'<ol class="lg-bars" data-resting="{str(resting).lower()}">{rows}</ol>'
    )


def attention(
    weights: Sequence[float],
    ends: tuple[str, str],
    pictures: Sequence[NDArray[np.uint8]] = (),
) -> str:
    """How much each moment counted: a strip with pictures of that time above it.

    Args:
        weights: one a moment, oldest first.
        ends: what to write at the strip's two ends.
        pictures: (h, w, 3) RGB, oldest first.
    """
    least = min(weights, default=0.0)
    range_ = max(weights, default=0.0) - least or 1.0
    cells = "".join(f'<i style="opacity: {(w - least) / range_:.2f}"></i>' for w in weights)
    peak = 100 * (int(np.argmax(weights)) + 0.5) / len(weights) if len(weights) else 0.0
    said = f"From {ends[0]} to {ends[1]}: what counted most lies {peak:.0f} % of the way."
    return (
        '<p class="lg-head"><b>Where it looked</b> <span>stronger colour counted more</span></p>'
        f"{_strip(pictures)}"
        f'<div class="lg-heat" role="img" aria-label="{said}">{cells}</div>'
        f'<p class="lg-scale"><span>{ends[0]}</span><span>{ends[1]}</span></p>'
    )


def history(signs: Sequence[Message]) -> str:
    """The signs, newest first, as a table."""
    if not signs:
        return '<p class="lg-none">Signs appear here as they are recognised.</p>'
    rows = "".join(
        f'<tr data-gloss="{escape(one["gloss"])}" data-final="{str(one["final"]).lower()}">'
        f"<td>{clock(one['start_s'])}</td>"
        f"<th scope='row'>{escape(one['gloss'])}{'' if one['final'] else ' …'}</th>"
        f"<td>{percent(one['p'])}</td><td>{_others(one['alternatives'])}</td></tr>"
        for one in reversed(signs)
    )
    names = "".join(f"<th scope='col'>{n}</th>" for n in ("Video time", "Gloss", "Sure", "Or"))
    return f'<table class="lg-history"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>'


def delay(seconds: float, newest_unix_s: float) -> str:
    """How old what is shown is; when its newest picture came stands beside it for programs."""
    return (
        f'<p class="lg-delay" data-newest="{newest_unix_s:.3f}" '
        'title="How old the newest picture is that this was read from.">'
        f"Delay {1000 * seconds:.0f} ms</p>"
    )


def _others(alternatives: Sequence[Mapping[str, Any]]) -> str:
    worth_it = [one for one in alternatives if one["p"] >= 0.05][:2]
    return escape(", ".join(f"{one['gloss']} {percent(one['p'])}" for one in worth_it))


def _strip(pictures: Sequence[NDArray[np.uint8]]) -> str:
    """A few of the pictures side by side, as one JPEG in the page."""
    if not pictures:
        return ""
    at = np.linspace(0, len(pictures) - 1, min(_STRIP, len(pictures))).round().astype(int)
    shape = pictures[-1].shape
    chosen = [pictures[i] for i in at if pictures[i].shape == shape]
    row = np.ascontiguousarray(np.hstack(chosen)[:, :, ::-1])
    done, jpeg = cv2.imencode(".jpg", row, [cv2.IMWRITE_JPEG_QUALITY, 70])
    if not done:
        return ""
    data = base64.b64encode(jpeg.tobytes()).decode()
    return f'<img class="lg-strip" alt="Pictures of that time" src="data:image/jpeg;base64,{data}">'


# MERGED from web.model_card: What a bundle's card says that a person should know, as Markdown.


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
        "Signs outside its list": _other_glosses(metrics),
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


def _other_glosses(metrics: Mapping[str, Any]) -> str:
    for live in metrics.get("live") or []:
        if live.get("taken_for_a_known_sign") is not None:
            share = f"{100 * live['taken_for_a_known_sign']:.0f}"
            return f"{share} of 100 clips of other signs were taken for one that it knows."
    return ""

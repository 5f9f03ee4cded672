"""What the demo shows, as HTML or Markdown: messages, predictions and the bundle's card in.

    live, sources -> [drawing] -> demo

Pure functions. The HTML is styled by demo.css; text from a bundle is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.schema import Prediction
from streaming.messages import Message
from web.known_signs import KnownSigns

_STRIP = 8  # pictures of a window
_RESTING = 0.7  # idle probability from which no known sign is being made


def moment(
    sign: Message | None, top: Sequence[Mapping[str, Any]], idle: float, otherwise: str
) -> str:
    """A sign and what else it could be. Without one, the glosses that a video shows most likely.

    Args:
        top: glosses with their probabilities, which sum to 1 with `idle`, that of no known sign.
        otherwise: what is said where there is no sign, but perhaps one of `top`.
    """
    if sign is not None:
        return current_sign(sign) + candidate_bars([sign, *sign["alternatives"]])
    if idle >= _RESTING:  # nothing to guess from
        return no_sign(f"No known sign · {_percent(idle)}") + candidate_bars([])
    return no_sign(otherwise) + candidate_bars(top)


def no_sign(text: str) -> str:
    """What is said in the place of the current sign."""
    return f'<p class="lg-sign" role="status"><span class="lg-sure">{escape(text)}</span></p>'


def current_sign(newest: Message) -> str:
    """The current sign, large."""
    gloss = escape(newest["gloss"])
    sure = f"{_percent(newest['p'])} · {_in_words(newest['p'])}"
    return (
        f'<p class="lg-sign" role="status" data-gloss="{gloss}">'
        f'<span class="lg-word">{gloss}</span> <span class="lg-sure">{sure}</span></p>'
    )


def candidate_bars(top: Sequence[Mapping[str, Any]]) -> str:
    """Glosses and their probabilities as bars, most likely first; blank without any."""
    rows = "".join(
        f'<li data-gloss="{escape(one["gloss"])}" data-p="{one["p"]:.3f}">'
        f"<span>{escape(one['gloss'])}</span>"
        f'<span class="lg-track"><span style="width: {100 * one["p"]:.1f}%"></span></span>'
        f'<span class="lg-p">{_percent(one["p"])}</span></li>'
        for one in top
    )
    head = "<b>Most likely signs</b>" if top else ""
    resting = str(not top).lower()
    return f'<p class="lg-head">{head}</p><ol class="lg-bars" data-resting="{resting}">{rows}</ol>'


def live_picture(picture: NDArray[np.uint8] | None) -> str:
    """A camera's newest picture (H, W, 3) RGB; nothing without one."""
    source = "" if picture is None else _jpeg(picture)
    return f'<img class="lg-picture" alt="The camera\'s picture" src="{source}">' if source else ""


def attention_strip(
    weights: Sequence[float],
    ends: tuple[str, str],
    pictures: Sequence[NDArray[np.uint8]] = (),
) -> str:
    """The model's attention over time: a strip, with pictures of that time above it.

    Args:
        weights: one a moment, oldest first.
        ends: labels of the strip's two ends.
        pictures: (h, w, 3) RGB, oldest first.
    """
    low = min(weights, default=0.0)
    span = max(weights, default=0.0) - low or 1.0
    cells = "".join(f'<i style="opacity: {(w - low) / span:.2f}"></i>' for w in weights)
    peak = 100 * (int(np.argmax(weights)) + 0.5) / len(weights) if len(weights) else 0.0
    label = f"From {ends[0]} to {ends[1]}: the strongest moment is at {peak:.0f} % of the way."
    return (
        '<p class="lg-head"><b>Attention</b> <span>strong colour: counted more</span></p>'
        f"{_strip(pictures)}"
        f'<div class="lg-heat" role="img" aria-label="{label}">{cells}</div>'
        f'<p class="lg-scale"><span>{ends[0]}</span><span>{ends[1]}</span></p>'
    )


def file_attention(predictions: Sequence[Prediction], moments: int) -> list[float]:
    """The attention to each moment of a video, averaged over the windows that it was part of.

    Windows without a sign count little. Times before the video, where a window repeats its first
    picture, are left out.
    """
    span = 0.0, max(max(prediction.end_s for prediction in predictions), 1e-3)
    weights, shares = np.zeros(moments), np.zeros(moments)
    for prediction in predictions:
        steps = len(prediction.attention)
        times_s = np.linspace(prediction.start_s, prediction.end_s, steps, endpoint=False)
        share = 1 - prediction.idle + 1e-3
        counted = share * steps * prediction.attention
        weights += np.histogram(times_s, moments, span, weights=counted)[0]
        shares += share * np.histogram(times_s, moments, span)[0]
    return list((weights / np.maximum(shares, 1e-9)).tolist())


def history(signs: Sequence[Message]) -> str:
    """The signs, newest first, as a table."""
    if not signs:
        return '<p class="lg-none">Signs appear here as they are recognised.</p>'
    rows = "".join(
        f'<tr data-gloss="{escape(sign["gloss"])}" data-final="{str(sign["final"]).lower()}">'
        f"<td>{clock(sign['start_s'])}</td>"
        f"<th scope='row'>{escape(sign['gloss'])}{'' if sign['final'] else ' …'}</th>"
        f"<td>{_percent(sign['p'])}</td><td>{_alternatives(sign['alternatives'])}</td></tr>"
        for sign in reversed(signs)
    )
    names = "".join(f"<th scope='col'>{n}</th>" for n in ("Video time", "Gloss", "Sure", "Or"))
    return f'<table class="lg-history"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>'


def delay(seconds: float, newest_unix_s: float) -> str:
    """The delay of what is shown; `data-newest` is when its newest picture came (for tests)."""
    return (
        f'<p class="lg-delay" data-newest="{newest_unix_s:.3f}" '
        'title="Age of the newest picture behind this prediction.">'
        f"Delay {1000 * seconds:.0f} ms</p>"
    )


def gloss_names(signs: KnownSigns, glosses: Sequence[str]) -> str:
    """Glosses in a line of Markdown; weak ones with their score."""
    return plain(
        ", ".join(
            f"{gloss} ({signs.score(gloss)})" if signs.is_weak(gloss) else gloss
            for gloss in glosses
        )
    )


def weak_signs(signs: KnownSigns) -> str:
    """What the score of a weak gloss says, as Markdown; nothing where none is weak."""
    if not signs.weak:
        return ""
    return plain(
        f"{len(signs.weak)} of {len(signs.glosses)} are weak: read right in fewer than "
        "two of three tries by people it had not met. They show how often, as in "
        f"“{signs.weak[0]} ({signs.score(signs.weak[0])})”."
    )


def model_card(card: Mapping[str, Any]) -> str:
    """Data, figures, limits and licence of a bundle, as Markdown; each may be missing."""
    data, metrics = card.get("data"), card.get("metrics") or {}
    data = data if isinstance(data, Mapping) else {}
    lines = {
        "What it learned from": _training_data(data),
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


def plain(text: object) -> str:
    """Text for a Markdown element that is shown literally."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|~$:" else c for c in str(text))


def clock(seconds: float) -> str:
    """Seconds of video as 1:07.4."""
    tenths = max(0, round(10 * seconds))
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def _alternatives(alternatives: Sequence[Mapping[str, Any]]) -> str:
    shown = [one for one in alternatives if one["p"] >= 0.05][:2]
    return escape(", ".join(f"{one['gloss']} {_percent(one['p'])}" for one in shown))


def _strip(pictures: Sequence[NDArray[np.uint8]]) -> str:
    """A few of the pictures side by side, as one JPEG."""
    if not pictures:
        return ""
    at = np.linspace(0, len(pictures) - 1, min(_STRIP, len(pictures))).round().astype(int)
    shape = pictures[-1].shape
    chosen = [pictures[i] for i in at if pictures[i].shape == shape]
    source = _jpeg(np.hstack(chosen))
    if not source:
        return ""
    return f'<img class="lg-strip" alt="Pictures of that time" src="{source}">'


def _jpeg(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) RGB as a data URL; empty where it can't be written."""
    pixels = np.ascontiguousarray(picture[:, :, ::-1])
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}" if done else ""


def _training_data(data: Mapping[str, Any]) -> str:
    if not data.get("signer_groups"):
        return ""
    return (
        f"{data['clips']} clips of {data['signer_groups']} signers or groups of signers: "
        "few people, and many styles of signing are missing."
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    scores = metrics.get("cross_validation") or metrics.get("kept_out") or {}
    if not scores.get("top1"):
        return ""
    text = (
        f"On {scores['clips']} clips of people it had never seen, the right sign came first in "
        f"{100 * scores['top1']:.0f} of 100"
    )
    if scores.get("top1_interval95"):
        low, high = (f"{100 * bound:.0f}" for bound in scores["top1_interval95"])
        text += f" (95 % interval: {low} to {high})"
    return f"{text}."


def _other_glosses(metrics: Mapping[str, Any]) -> str:
    for live in metrics.get("live") or []:
        if live.get("taken_for_a_known_sign") is not None:
            share = f"{100 * live['taken_for_a_known_sign']:.0f}"
            return f"{share} of 100 clips of other signs were mistaken for one that it knows."
    return ""


def _percent(p: float) -> str:
    return "< 1 %" if p < 0.005 else f"{100 * p:.0f} %"


def _in_words(p: float) -> str:
    """How sure `p` is, as the page of the live server says it (elements.js)."""
    return "quite sure" if p >= 0.8 else "fairly sure" if p >= 0.5 else "only a guess"

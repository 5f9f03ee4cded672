"""How well signs are told apart that were taught by a few takes, and what that costs the others.

    crossings -> episodes (five new glosses, taught by takes; a clip of one of them) -> figures

In an episode the head has seen no clip of the five glosses and none of the person who signs. Clips
are read as served: the session's `Lexicon` over the head's answers, window by window. Only the
choice of glosses and takes is random; `seed` fixes it.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.decoder import DecoderSettings, SignDecoder, clip_probabilities
from models.lexicon import Lexicon
from models.schema import Prediction
from models.space import FLOOR, TEMPERATURE, trained_space
from offline.answers import predictions
from offline.crossing import Crossing
from offline.crossval import Plan
from offline.examples import Example, scored
from offline.labels import IDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """What is taught in an episode, and how the answers are read."""

    ways: int = 5  # glosses taught
    takes: int = 5  # of each, at most
    rounds: int = 5  # episodes for each clip that is read
    seed: int = 0
    head_temperature: float = 1.0  # the model's calibration
    threshold: float = 0.5
    temperature: float = TEMPERATURE  # of likenesses, see `models.space`
    floor: float = FLOOR


@dataclass(slots=True)
class _Hits:
    """For each clip that was read, in how many of its episodes it was right."""

    of_clip: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def figures(self) -> dict[str, Any]:
        """The mean over clips and its 95 % interval, from a bootstrap over clips."""
        if not self.of_clip:
            return {"clips": 0}
        shares = np.array([np.mean(hits) for hits in self.of_clip.values()])
        picks = np.random.default_rng(0).integers(0, len(shares), (2000, len(shares)))
        low, high = np.percentile(shares[picks].mean(1), [2.5, 97.5])
        return {
            "clips": len(shares),
            "right": round(float(shares.mean()), 4),
            "interval95": [round(float(low), 4), round(float(high), 4)],
        }


def score(crossings: Sequence[Crossing], plan: Plan, settings: EpisodeSettings) -> dict[str, Any]:
    """The figures: new glosses by other people's takes and by the same signer group's, and the cost
    to the glosses that the head knows and to rest."""
    alone = {"across": _Hits(), "same": _Hits()}
    served = {"across": _Hits(), "same": _Hits()}
    before, after = _Hits(), _Hits()
    rest_s, rest_before, rest_after = 0.0, 0, 0
    fair = scored(plan.examples)
    draw = random.Random(settings.seed)
    for crossing in crossings:
        clips = [e for e in fair if e.gloss in crossing.new]
        said = {
            e: predictions_of(crossing, e, plan, settings)
            for e in plan.examples
            if e.video_id in crossing.said and e.split != "extra"
        }
        for example, told in said.items():
            if example.gloss in crossing.new and example in clips:
                for kind in alone:
                    for taught in _episodes(example, clips, kind, draw, settings):
                        lexicon = _lexicon(crossing, taught, settings)
                        p = clip_probabilities([lexicon.read(one) for one in told])
                        places = [lexicon.glosses.index(gloss) for gloss in taught]
                        best = lexicon.glosses[int(p.argmax())]
                        among = list(taught)[int(p[places].argmax())]
                        alone[kind].of_clip[_key(crossing, example)].append(among == example.gloss)
                        served[kind].of_clip[_key(crossing, example)].append(best == example.gloss)
            elif example.gloss in crossing.known and example in fair:
                plain = crossing.known[int(clip_probabilities(told).argmax())]
                before.of_clip[_key(crossing, example)].append(plain == example.gloss)
                for _ in range(settings.rounds):
                    lexicon = _lexicon(crossing, _any(example, clips, draw, settings), settings)
                    p = clip_probabilities([lexicon.read(one) for one in told])
                    best = lexicon.glosses[int(p.argmax())]
                    after.of_clip[_key(crossing, example)].append(best == example.gloss)
            elif example.gloss == IDLE:
                for _ in range(settings.rounds):
                    rest_s += len(example.rows) / plan.spec.fps
                    lexicon = _lexicon(crossing, _any(example, clips, draw, settings), settings)
                    rest_before += _signs(told, crossing.known, settings)
                    read = [lexicon.read(one) for one in told]
                    rest_after += _signs(read, lexicon.glosses, settings)
    return {
        "ways": settings.ways,
        "takes": settings.takes,
        "new_glosses": sum(len(new) for new in {c.new for c in crossings}),
        "across_signers": alone["across"].figures(),
        "same_signer_group": alone["same"].figures(),
        "across_signers_among_all": served["across"].figures(),
        "same_signer_group_among_all": served["same"].figures(),
        "known_before": before.figures(),
        "known_after": after.figures(),
        "false_signs_per_min_before": round(60 * rest_before / rest_s, 2) if rest_s else None,
        "false_signs_per_min_after": round(60 * rest_after / rest_s, 2) if rest_s else None,
    }


def predictions_of(
    crossing: Crossing, example: Example, plan: Plan, settings: EpisodeSettings
) -> list[Prediction]:
    """What the head says of each window of a clip, with its embedding."""
    said = crossing.said[example.video_id]
    told = predictions(
        said.logits, len(crossing.known), plan.spec, plan.hop_s, settings.head_temperature
    )
    return [
        dataclasses.replace(one, embedding=row)
        for one, row in zip(told, said.embeddings, strict=True)
    ]


def _episodes(
    example: Example,
    clips: Sequence[Example],
    kind: str,
    draw: random.Random,
    settings: EpisodeSettings,
) -> Iterator[dict[str, list[str]]]:
    """Takes (video_ids) of each gloss taught, `example`'s among them; none where data lacks.

    `across`: by other signer groups than the one who signs. `same`: all by that one.
    """
    by_gloss: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip is not example and (clip.group == example.group) == (kind == "same"):
            by_gloss[clip.gloss].append(clip.video_id)
    least = settings.takes if kind == "across" else 1
    ready = {gloss: ids for gloss, ids in by_gloss.items() if len(ids) >= least}
    others = sorted(gloss for gloss in ready if gloss != example.gloss)
    if example.gloss not in ready or len(others) < settings.ways - 1:
        return
    for _ in range(settings.rounds):
        ways = [example.gloss, *draw.sample(others, settings.ways - 1)]
        yield _drawn(ready, ways, draw, settings)


def _any(
    example: Example, clips: Sequence[Example], draw: random.Random, settings: EpisodeSettings
) -> dict[str, list[str]]:
    """Takes of any of the new glosses by others than the one who signs in `example`."""
    by_gloss: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip.group != example.group:
            by_gloss[clip.gloss].append(clip.video_id)
    ways = draw.sample(sorted(by_gloss), min(settings.ways, len(by_gloss)))
    return _drawn(by_gloss, ways, draw, settings)


def _drawn(
    ready: dict[str, list[str]],
    ways: Iterable[str],
    draw: random.Random,
    settings: EpisodeSettings,
) -> dict[str, list[str]]:
    return {g: draw.sample(ready[g], min(settings.takes, len(ready[g]))) for g in ways}


def _lexicon(
    crossing: Crossing, taught: dict[str, list[str]], settings: EpisodeSettings
) -> Lexicon:
    space = trained_space(["measured"], crossing.background, settings.temperature, settings.floor)
    lexicon = Lexicon(crossing.known, space)
    for gloss, takes in taught.items():
        lexicon.teach(gloss, np.stack([crossing.takes[take] for take in takes]))
    return lexicon


def _signs(told: Iterable[Prediction], glosses: Sequence[str], settings: EpisodeSettings) -> int:
    """How many signs a session would have been told."""
    decoder = SignDecoder(glosses, DecoderSettings(threshold=settings.threshold))
    ids = {sign.id for one in told for sign in decoder.update(one)}
    return len(ids | {sign.id for sign in decoder.flush()})


def _key(crossing: Crossing, example: Example) -> str:
    return f"{crossing.new[0]}/{example.video_id}"

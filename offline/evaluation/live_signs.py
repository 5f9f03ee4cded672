"""What the sign decoder makes of held-out clips and sentences, and which threshold it should have.

    logits of clips, of sentences -> [live_signs] -> signs at each threshold -> threshold, figures

The threshold that scores best in some folds says nothing certain about others, so each fold is
decoded at the one that is best in the other folds. The score counts what a user meets for each
known sign: right signs, minus the cost of false ones in that sign, in a quarter of another sign,
and in a tenth of a minute in which nobody signs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings
from models.few_shot import IDLE
from offline.data.examples import Example
from offline.data.labels import EXTRA
from offline.scoring.clip_predictions import ClipLogits, hold_end, predictions
from offline.scoring.metrics import Edits, Weights, edits_between, intervals
from offline.scoring.outcomes import source_of
from offline.scoring.sentences import MARGINS_S, SentenceLogits
from offline.scoring.video_predictions import signs_of
from offline.training.selection import TrainingPlan

THRESHOLDS = tuple(percent / 100 for percent in range(16, 92, 3))
COSTS = (0.5, 1.0, 2.0, 4.0)  # of a false sign, compared in a report
OTHERS, IDLE_MIN = 0.25, 0.1  # signs outside the vocabulary, minutes without signing: a known sign
_KNOWN, _OTHER, _IDLE = range(3)


def sampled(
    tests: Sequence[Sequence[Example]], glosses: Sequence[str], others: int, seed: int
) -> list[list[Example]]:
    """The test clips of each fold, captioned ones left out, and of other signs `others` at most."""
    named = {IDLE, *glosses}
    fair = [[e for e in test if e.split != EXTRA] for test in tests]
    outside = sorted(
        (e.video_id, fold) for fold, test in enumerate(fair) for e in test if e.gloss not in named
    )
    if len(outside) > others:
        draw = np.random.default_rng(seed)
        outside = [outside[i] for i in draw.choice(len(outside), others, replace=False)]
    kept = set(outside)
    return [
        [e for e in test if e.gloss in named or (e.video_id, fold) in kept]
        for fold, test in enumerate(fair)
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedClips:
    """The signs of N clips at each of J thresholds."""

    thresholds: tuple[float, ...]  # ascending
    kind: NDArray[np.int64]  # (N,) a known sign, another one, nobody signs
    fold: NDArray[np.int64]  # (N,)
    groups: tuple[str, ...]  # (N,) of signers
    sources: tuple[str, ...]  # (N,) see `source_of`
    minutes: NDArray[np.float64]  # (N,)
    right: NDArray[np.bool_]  # (N, J) the clip's sign is among them
    signs: NDArray[np.int64]  # (N, J) how many
    false: NDArray[np.int64]  # (N, J) how many are not the clip's sign

    def means(self, column: NDArray[np.int64], weights: Weights) -> dict[str, float | None]:
        """The figures with each clip at the threshold of its `column` (N,); None: not measured."""
        rows = np.arange(len(column))
        right, signs, false = (
            table[rows, column] for table in (self.right, self.signs, self.false)
        )
        reported = signs > 0

        def mean(kind: int, values: NDArray[Any], of: NDArray[np.float64] | None = None) -> Any:
            chosen = weights * (self.kind == kind)
            total = float(chosen.sum() if of is None else chosen @ of)
            return float(chosen @ values) / total if total else None

        found = {
            "known_signs_named": mean(_KNOWN, right),
            "known_signs_misnamed": mean(_KNOWN, reported & ~right),
            "known_signs_missed": mean(_KNOWN, ~reported),
            "false_signs_per_known_sign": mean(_KNOWN, false),
            "taken_for_a_known_sign": mean(_OTHER, reported),
            "false_signs_per_other_sign": mean(_OTHER, false),
            "false_signs_per_min": mean(_IDLE, false, self.minutes),
        }
        named = found["known_signs_named"] or 0.0
        errors = _false_signs(found)
        told = named + (found["known_signs_misnamed"] or 0.0)
        found["coverage"] = told
        found["risk"] = 1 - named / told if told else 0.0
        found["risk_with_others"] = errors / (named + errors) if errors else 0.0
        return found

    def of_source(self, source: str) -> DecodedClips:
        """The clips of one source."""
        chosen = np.array(self.sources) == source
        names = [name for name, there in zip(self.groups, chosen, strict=True) if there]
        arrays = ("kind", "fold", "minutes", "right", "signs", "false")
        return replace(
            self,
            groups=tuple(names),
            sources=(source,) * len(names),
            **{name: getattr(self, name)[chosen] for name in arrays},
        )

    def score(self, false_cost: float, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(J,) The score of each threshold on the `chosen` clips (N,)."""
        weights = chosen.astype(np.float64)
        columns = (np.full(len(chosen), j) for j in range(len(self.thresholds)))
        found = [self.means(column, weights) for column in columns]
        return np.array([_score(figures, false_cost) for figures in found])

    def best(self, false_cost: float, chosen: NDArray[np.bool_]) -> int:
        """The column with the highest score on the `chosen` clips; of equal ones the middle."""
        score = self.score(false_cost, chosen)
        equal = np.flatnonzero(score >= score.max() - 1e-9)
        return int(equal[len(equal) // 2])

    def best_elsewhere(self, false_cost: float) -> dict[int, int]:
        """For each fold the column that is best in the other folds."""
        folds = np.unique(self.fold).tolist()
        return {fold: self.best(false_cost, self.fold != fold) for fold in folds}

    def figures(self, of_fold: dict[int, int]) -> dict[str, Any]:
        """The figures with each fold at the threshold of its column, with 95 % intervals."""
        column = np.array([of_fold[fold] for fold in self.fold.tolist()])
        values = self.means(column, np.ones(len(column)))
        measured = {name: value for name, value in values.items() if value is not None}

        def of(name: str, weights: Weights) -> float:
            return self.means(column, weights)[name] or 0.0

        figures: dict[str, Callable[[Weights], float]] = {
            name: partial(of, name) for name in measured
        }
        bounds = intervals(figures, self.groups)
        found: dict[str, Any] = {name: None for name in values}
        for name, value in measured.items():
            found[name] = round(value, 4)
            found[f"{name}_interval95"] = [round(bound, 4) for bound in bounds[name]]
        return found


def _false_signs(figures: dict[str, float | None]) -> float:
    """False signs a known sign, with what goes with it of other signs and of idle time."""
    return (
        (figures["false_signs_per_known_sign"] or 0.0)
        + OTHERS * (figures["false_signs_per_other_sign"] or 0.0)
        + IDLE_MIN * (figures["false_signs_per_min"] or 0.0)
    )


def _score(figures: dict[str, float | None], false_cost: float) -> float:
    return (figures["known_signs_named"] or 0.0) - false_cost * _false_signs(figures)


def decode_clips(
    clips: Sequence[ClipLogits],
    plan: TrainingPlan,
    temperature: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> DecodedClips:
    """The signs of clips at each of the ascending `thresholds`; captioned clips are left out."""
    clips = [clip for clip in clips if clip.example.split != EXTRA]
    shape = len(clips), len(thresholds)
    right, signs, false = np.zeros(shape, bool), np.zeros(shape, int), np.zeros(shape, int)
    kind, minutes = [], []
    for i, clip in enumerate(clips):
        gloss, rows = clip.example.gloss, clip.example.rows
        kind.append(_IDLE if gloss == IDLE else _KNOWN if gloss in plan.glosses else _OTHER)
        minutes.append(len(rows) / plan.spec.fps / 60)
        logits = clip.logits
        if clip.held is not None:
            rows = hold_end(rows, plan.spec)
            logits = np.concatenate([logits, clip.held])
        windows = predictions(logits, len(plan.glosses), plan.spec, plan.hop_s, temperature, rows)
        for j, threshold in enumerate(thresholds):
            found = signs_of(plan.glosses, windows, DecoderSettings(threshold=threshold))
            if not found:
                break  # a higher threshold opens no sign either
            named = [sign.gloss == gloss for sign in found]
            right[i, j], signs[i, j], false[i, j] = any(named), len(named), named.count(False)
    return DecodedClips(
        thresholds=tuple(thresholds),
        kind=np.array(kind),
        fold=np.array([clip.fold for clip in clips]),
        groups=tuple(clip.example.group for clip in clips),
        sources=tuple(source_of(clip.example.video_id) for clip in clips),
        minutes=np.array(minutes),
        right=right,
        signs=signs,
        false=false,
    )


def sign_figures(
    clips: Sequence[ClipLogits],
    sentences: Sequence[SentenceLogits],
    plan: TrainingPlan,
    temperature: float,
    false_cost: float,
    threshold: float | None,
) -> tuple[float, dict[str, Any]]:
    """The decoder's threshold, and the fields `live`, `decoder`, `decoder_by_source` and
    `sentences` of a report.

    A head's own `threshold` is reported as it is; with None, each fold's is chosen in the others,
    and the one that is returned in all.
    """
    grid = tuple(sorted({*THRESHOLDS, *([] if threshold is None else [threshold])}))
    decoded = decode_clips(clips, plan, temperature, grid)
    if threshold is None:
        column_of = decoded.best_elsewhere(false_cost)
        threshold = grid[decoded.best(false_cost, decoded.fold >= 0)]
    else:
        column_of = dict.fromkeys(decoded.fold.tolist(), grid.index(threshold))
    threshold_of = {fold: grid[column] for fold, column in column_of.items()}
    return threshold, {
        "live": _by_threshold(decoded, false_cost),
        "decoder": {
            "false_cost": false_cost,
            "thresholds": list(threshold_of.values()),
            **decoded.figures(column_of),
            "by_cost": _by_cost(decoded) if len(column_of) > 1 else [],
        },
        "decoder_by_source": {
            source: decoded.of_source(source).figures(column_of)
            for source in sorted(set(decoded.sources))
        },
        "sentences": _sentence_figures(sentences, plan, temperature, threshold_of),
    }


def _by_threshold(decoded: DecodedClips, false_cost: float) -> list[dict[str, Any]]:
    """The figures and the score with all clips at one threshold, for each."""
    count = len(decoded.fold)
    idle_s = round(60 * float(decoded.minutes[decoded.kind == _IDLE].sum()), 1)
    others = int((decoded.kind == _OTHER).sum())
    rows = []
    for column, threshold in enumerate(decoded.thresholds):
        found = decoded.means(np.full(count, column), np.ones(count))
        rows.append(
            {
                "threshold": threshold,
                "idle_s": idle_s,
                "clips_of_other_signs": others,
                **{k: v if v is None else round(v, 3) for k, v in found.items()},
                "score": round(_score(found, false_cost), 4),
            }
        )
    return rows


def _by_cost(decoded: DecodedClips) -> list[dict[str, Any]]:
    """What other costs of a false sign would lead to, each fold at the threshold of the others."""
    count = len(decoded.fold)
    rows = []
    for cost in COSTS:
        column_of = decoded.best_elsewhere(cost)
        column = np.array([column_of[fold] for fold in decoded.fold.tolist()])
        found = decoded.means(column, np.ones(count))
        rows.append(
            {
                "false_cost": cost,
                "threshold": decoded.thresholds[decoded.best(cost, decoded.fold >= 0)],
                **{k: v if v is None else round(v, 3) for k, v in found.items()},
            }
        )
    return rows


def _sentence_figures(
    sentences: Sequence[SentenceLogits],
    plan: TrainingPlan,
    temperature: float,
    threshold_of: dict[int, float],
) -> list[dict[str, Any]]:
    """Word errors for each margin, with 95 % intervals from a bootstrap over sentences."""
    rows = []
    for margin_s in MARGINS_S if sentences else ():
        chosen = [s for s in sentences if s.margin_s == margin_s]
        found = [_edits(s, plan, temperature, threshold_of[s.fold]) for s in chosen]
        signed = np.array([len(s.sentence.clips) for s in chosen], np.float64)
        counts = {name: np.array([getattr(e, name) for e in found]) for name in Edits._fields}
        counts["word_error_rate"] = counts["substituted"] + counts["deleted"] + counts["inserted"]
        figures: dict[str, Callable[[Weights], float]] = {
            name: partial(_share, values, signed) for name, values in counts.items()
        }
        bounds = intervals(figures, [str(n) for n in range(len(chosen))])
        row: dict[str, Any] = {
            "margin_s": margin_s,
            "sentences": len(chosen),
            "of_one_signer": sum(s.sentence.one_signer for s in chosen),
            "signs": int(signed.sum()),
        }
        for name, figure in figures.items():
            row[name] = round(figure(np.ones(len(chosen))), 4)
            row[f"{name}_interval95"] = [round(bound, 4) for bound in bounds[name]]
        rows.append(row)
    return rows


def _share(values: NDArray[np.int64], signed: NDArray[np.float64], weights: Weights) -> float:
    return float(weights @ values / (weights @ signed))


def _edits(
    sentence: SentenceLogits, plan: TrainingPlan, temperature: float, threshold: float
) -> Edits:
    windows = predictions(
        sentence.logits, len(plan.glosses), plan.spec, plan.hop_s, temperature, sentence.rows
    )
    signs = signs_of(plan.glosses, windows, DecoderSettings(threshold=threshold))
    return edits_between(sentence.sentence.glosses, [sign.gloss for sign in signs])

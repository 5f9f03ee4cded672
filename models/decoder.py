"""Window predictions -> signs: smoothed over time, opened early, revised, closed.

    [recognizer] -> predictions -> [decoder] -> signs

Predictions come several times a second and their windows overlap, so each sign shows in many of
them. The decoder follows one stream. A sign opens when a gloss has led long enough, may be renamed
while it is young, and closes when the hands rest, when another gloss has taken over, or when its
probability has faded. A movement that comes to rest before a gloss has led long enough is judged as
a whole, as a clip is. Windows go on showing a sign for a second or two after the hands rest: its
gloss opens another sign only once it has faded and leads again. With an encoder that cannot tell
whether hands rest, signs close by fading alone.

Media time comes with each prediction; there is no clock here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.schema import Candidate, Prediction, Sign

_EDGE = 1e-6  # s, against rounding of media times
_GAIN = 0.05  # an open sign is sent again when its probability has grown by this much
_NOISE = 0.02  # probability spread over all glosses of each window: none rules a gloss out alone
_IDLE_WEIGHT = 1e-3  # weight in a movement of a window that shows no signing at all


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings:
    """When signs open and close: times in seconds of media time, levels as probabilities."""

    threshold: float = 0.5  # a smoothed gloss at least this likely opens a sign
    release: float = 0.5  # times `threshold`: below it, the sign has ended
    whole: float = 0.9  # times `threshold`: a movement at least this likely as a whole is a sign
    smooth_s: float = 0.2  # time constant of the smoothing
    hold_s: float = 0.2  # how long a gloss must lead before it opens or takes over
    revise_s: float = 0.5  # a sign this young may still be renamed instead of followed
    alternatives: int = 4  # other candidates listed with a sign

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {self.threshold}")
        if not 0 < self.release <= 1:
            raise ValueError(f"release must lie in (0, 1], not {self.release}")
        if not 0 < self.whole:
            raise ValueError(f"whole must be positive, not {self.whole}")
        if min(self.smooth_s, self.hold_s, self.revise_s) < 0:
            raise ValueError("smooth_s, hold_s and revise_s must not be negative")
        if self.alternatives < 0:
            raise ValueError("alternatives must not be negative")


@dataclass(slots=True)
class _OpenSign:
    id: int
    gloss: int
    opened_s: float  # end of the window that opened it; renaming keeps it
    start_s: float
    end_s: float  # the last moment at which its gloss led
    best: NDArray[np.float64]  # (G,) smoothed probabilities where its gloss was surest


class SignDecoder:
    """Follows one stream of predictions. `settings` may be replaced between two of them."""

    def __init__(self, glosses: Sequence[str], settings: DecoderSettings | None = None) -> None:
        self.settings = settings or DecoderSettings()
        self._glosses = tuple(glosses)
        self._ids = itertools.count(1)
        self._open: _OpenSign | None = None
        self._reset()

    def _reset(self) -> None:
        self._smooth = np.zeros(len(self._glosses))  # (G,)
        self._now_s: float | None = None
        self._leader = -1
        self._leads_since_s = 0.0
        self._led = 0  # predictions in a row in which it led: `hold_s` may be less than a hop
        self._fading: int | None = None  # gloss of a sign that closed at rest and has not faded
        self._movement = Movement(len(self._glosses))  # since the hands rested or a sign closed

    def update(self, prediction: Prediction) -> list[Sign]:
        """The signs that this prediction opened, changed or closed, oldest first.

        A prediction that ends no later than the one before is ignored. After a gap of a window or
        more the open sign is closed and everything starts over.
        """
        signs: list[Sign] = []
        if not self._glosses:
            return signs
        if self._now_s is not None:
            if prediction.end_s <= self._now_s:
                return []
            if prediction.end_s - self._now_s >= prediction.end_s - prediction.start_s:
                signs += self.flush()
        p = self._follow(prediction)
        leads = p >= self.settings.threshold and self._led > 1  # one window is no proof
        held = leads and prediction.end_s - self._leads_since_s >= self.settings.hold_s - _EDGE
        if self._open is None:
            if held and self._leader != self._fading:
                signs.append(self._begin(prediction.end_s))
        elif self._leader == self._open.gloss and p >= self._release:
            signs += self._continue(prediction.end_s, p)
        elif held:
            signs += self._take_over(prediction.end_s)
        elif p < self._release:
            signs += self._close()
        if prediction.resting is False:
            self._movement.add(prediction)
        elif prediction.resting:
            signs += self._come_to_rest(prediction.end_s)
        return signs

    def set_glosses(self, glosses: Sequence[str]) -> list[Sign]:
        """Follow predictions over other glosses from now on; the open sign is closed."""
        signs = self.flush()
        self._glosses = tuple(glosses)
        self._reset()
        return signs

    def flush(self) -> list[Sign]:
        """Close the open sign (the stream ended or jumped) and start over."""
        signs = self._close()
        self._reset()
        return signs

    @property
    def _release(self) -> float:
        return self.settings.threshold * self.settings.release

    def _follow(self, prediction: Prediction) -> float:
        """Smooth the prediction in; return the leader's smoothed probability."""
        now_s = prediction.end_s
        weight = 1.0
        if self._now_s is not None and self.settings.smooth_s:
            weight = 1 - math.exp(-(now_s - self._now_s) / self.settings.smooth_s)
        self._smooth += weight * (prediction.probabilities - self._smooth)
        self._now_s = now_s
        leader = int(self._smooth.argmax())
        p = float(self._smooth[leader])
        if leader != self._leader or p < self._release:
            self._leader, self._leads_since_s, self._led = leader, now_s, 0
        self._led += p >= self._release
        if self._fading is not None and self._smooth[self._fading] < self._release:
            self._fading = None
        return p

    def _begin(self, now_s: float) -> Sign:
        self._open = _OpenSign(
            id=next(self._ids),
            gloss=self._leader,
            opened_s=now_s,
            start_s=self._leads_since_s,
            end_s=now_s,
            best=self._smooth.copy(),
        )
        return self._sign(self._open, final=False)

    def _continue(self, now_s: float, p: float) -> list[Sign]:
        assert self._open is not None
        self._open.end_s = now_s
        if p < self._open.best[self._leader] + _GAIN:
            return []
        self._open.best = self._smooth.copy()
        return [self._sign(self._open, final=False)]

    def _take_over(self, now_s: float) -> list[Sign]:
        """Another gloss leads: it renames a young sign, else it opens the next one."""
        assert self._open is not None
        if self._leads_since_s - self._open.opened_s > self.settings.revise_s:
            return [*self._close(), self._begin(now_s)]
        self._open.gloss, self._open.end_s = self._leader, now_s
        self._open.best = self._smooth.copy()
        return [self._sign(self._open, final=False)]

    def _come_to_rest(self, now_s: float) -> list[Sign]:
        """Close the open sign; without one, the movement as a whole may be a sign."""
        if self._open is None and self._fading is None and self._movement:
            shown = self._movement.probabilities * self._movement.signing
            if shown.max() >= self.settings.threshold * self.settings.whole:
                self._open = _OpenSign(
                    id=next(self._ids),
                    gloss=int(shown.argmax()),
                    opened_s=now_s,
                    start_s=self._movement.start_s,
                    end_s=now_s,
                    best=shown,
                )
        if self._open is not None:
            self._fading = self._open.gloss
        return self._close()

    def _close(self) -> list[Sign]:
        """The open sign for the last time; another movement begins."""
        self._movement = Movement(len(self._glosses))
        if self._open is None:
            return []
        sign = self._sign(self._open, final=True)
        self._open = None
        return [sign]

    def _sign(self, sign: _OpenSign, *, final: bool) -> Sign:
        ranked = top_candidates(self._glosses, sign.best, self.settings.alternatives + 1)
        gloss = self._glosses[sign.gloss]
        return Sign(
            id=sign.id,
            gloss=gloss,
            p=float(sign.best[sign.gloss]),
            alternatives=tuple(c for c in ranked if c.gloss != gloss)[: self.settings.alternatives],
            start_s=sign.start_s,
            end_s=sign.end_s,
            final=final,
        )


class Movement:
    """The geometric mean of windows, each weighted by the probability that someone signs in it.

    Bound: it keeps sums, no windows.
    """

    def __init__(self, glosses: int) -> None:
        self._logs = np.zeros(glosses)  # (G,) weighted log-probabilities, given that it is a gloss
        self._weight = 0.0
        self.signing = 0.0  # probability that a known gloss is signed, in the surest window
        self.start_s = math.inf  # end of the first window, media time

    def add(self, prediction: Prediction) -> None:
        p = prediction.probabilities + _NOISE / len(self._logs)
        weight = 1 - prediction.idle + _IDLE_WEIGHT
        self._logs += weight * np.log(p / p.sum())
        self._weight += weight
        self.signing = max(self.signing, 1 - prediction.idle)
        self.start_s = min(self.start_s, prediction.end_s)

    def __bool__(self) -> bool:
        return self._weight > 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(G,) Given that a known gloss is signed: they sum to 1.

        Raises:
            ValueError: there is no window.
        """
        if not self:
            raise ValueError("a movement needs at least one window")
        mean = self._logs / self._weight
        likelihood = np.exp(mean - mean.max())
        result: NDArray[np.float64] = likelihood / likelihood.sum()
        return result


def clip_probabilities(predictions: Sequence[Prediction]) -> NDArray[np.float32]:
    """The glosses' probabilities for a whole clip of one sign: (G,), sums to 1.

    Raises:
        ValueError: there is no prediction.
    """
    if not predictions:
        raise ValueError("a clip needs at least one window")
    clip = Movement(len(predictions[0].probabilities))
    for prediction in predictions:
        clip.add(prediction)
    return clip.probabilities.astype(np.float32)


def top_candidates(
    glosses: Sequence[str], probabilities: NDArray[np.floating], count: int
) -> tuple[Candidate, ...]:
    """The `count` likeliest glosses of probabilities (G,), likeliest first."""
    best = np.argsort(probabilities, kind="stable")[::-1][:count]
    return tuple(Candidate(gloss=glosses[i], p=float(probabilities[i])) for i in best)

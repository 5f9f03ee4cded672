"""Window predictions -> signs: smoothed in seconds, idle rejected, told early, then revised.

Predictions come several times a second and overlap by most of a window, so each sign shows up in
many of them. The decoder follows one stream: a sign opens when a gloss has led long enough, may be
renamed while it is young, and closes when the hands rest, another gloss has taken over, or it has
faded. A movement that comes to rest before any gloss has led so long is judged as a whole, as clips
are. Windows go on showing a sign that was told at rest for a second or two: its gloss makes a new
sign once it has faded and leads again. Where the encoder can't tell of hands, fading alone closes
signs. Media time comes with each prediction; there is no clock here.
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
_WORTH_TELLING = 0.05  # a sign that grew surer by less is not told again


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings:
    """How sure and how long: times in seconds of media time, levels as probabilities."""

    threshold: float = 0.5  # a smoothed gloss at least this likely opens a sign
    release: float = 0.5  # times `threshold`: below it, the sign has ended
    whole: float = 0.9  # times `threshold`: a movement at least this likely as a whole is a sign
    smooth_s: float = 0.2  # time constant of the smoothing
    hold_s: float = 0.3  # how long a gloss must lead before it opens or takes over
    revise_s: float = 1.2  # a sign this young may still be renamed instead of followed
    alternatives: int = 4  # others named beside a sign

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


def top_candidates(
    glosses: Sequence[str], probabilities: NDArray[np.floating], count: int
) -> tuple[Candidate, ...]:
    """The `count` likeliest glosses of probabilities (G,), likeliest first."""
    best = np.argsort(probabilities, kind="stable")[::-1][:count]
    return tuple(Candidate(gloss=glosses[i], p=float(probabilities[i])) for i in best)


def clip_probabilities(predictions: Sequence[Prediction]) -> NDArray[np.float32]:
    """What a whole clip of one sign shows: (G,), sums to 1.

    Raises:
        ValueError: there is no prediction.
    """
    if not predictions:
        raise ValueError("a clip without a window has no answer")
    clip = Movement(len(predictions[0].probabilities))
    for prediction in predictions:
        clip.add(prediction)
    return clip.probabilities.astype(np.float32)


@dataclass(slots=True)
class _Open:
    """The sign under way."""

    id: int
    gloss: int
    born_s: float  # when it was first told; a rename keeps it
    start_s: float
    end_s: float  # the last moment at which it led
    best: NDArray[np.float64]  # (G,) smoothed probabilities where its gloss was surest


class SignDecoder:
    """Follows one stream of predictions. `settings` may be replaced between two of them."""

    def __init__(self, glosses: Sequence[str], settings: DecoderSettings | None = None) -> None:
        self.settings = settings or DecoderSettings()
        self._glosses = tuple(glosses)
        self._ids = itertools.count(1)
        self._open: _Open | None = None
        self._start_over()

    def _start_over(self) -> None:
        self._smooth = np.zeros(len(self._glosses))  # (G,)
        self._now_s: float | None = None
        self._leader = -1
        self._leads_since_s = 0.0
        self._led = 0  # predictions in a row in which it did: `hold_s` may be less than a hop
        self._told: int | None = None  # gloss of a sign told at rest, until it has faded
        self._movement = Movement(len(self._glosses))  # since the hands rested, or a sign closed

    def update(self, prediction: Prediction) -> list[Sign]:
        """The signs that this prediction opened, changed or closed, oldest first.

        A prediction that ends no later than the one before is ignored. After a gap of a window or
        more the sign under way is closed and everything starts over.
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
            if held and self._leader != self._told:
                signs.append(self._begin(prediction.end_s))
        elif self._leader == self._open.gloss and p >= self._release:
            signs += self._go_on(prediction.end_s, p)
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
        """Follow predictions over other glosses from now on; the sign under way is closed."""
        signs = self.flush()
        self._glosses = tuple(glosses)
        self._start_over()
        return signs

    def flush(self) -> list[Sign]:
        """Close the sign under way (the stream ended or jumped) and start over."""
        signs = self._close()
        self._start_over()
        return signs

    @property
    def _release(self) -> float:
        return self.settings.threshold * self.settings.release

    def _follow(self, prediction: Prediction) -> float:
        """Take the prediction into the smoothed probabilities; return the leader's."""
        now_s = prediction.end_s
        settings = self.settings
        if self._now_s is None:
            weight = 1.0
        else:
            dt_s = now_s - self._now_s
            weight = 1 - math.exp(-dt_s / settings.smooth_s) if settings.smooth_s else 1.0
        self._smooth += weight * (prediction.probabilities - self._smooth)
        self._now_s = now_s
        leader = int(self._smooth.argmax())
        p = float(self._smooth[leader])
        if leader != self._leader or p < self._release:
            self._leader, self._leads_since_s, self._led = leader, now_s, 0
        self._led += p >= self._release
        if self._told is not None and self._smooth[self._told] < self._release:
            self._told = None
        return p

    def _begin(self, now_s: float) -> Sign:
        self._open = _Open(
            id=next(self._ids),
            gloss=self._leader,
            born_s=now_s,
            start_s=self._leads_since_s,
            end_s=now_s,
            best=self._smooth.copy(),
        )
        return self._tell(self._open, final=False)

    def _go_on(self, now_s: float, p: float) -> list[Sign]:
        assert self._open is not None
        self._open.end_s = now_s
        if p < self._open.best[self._leader] + _WORTH_TELLING:
            return []
        self._open.best = self._smooth.copy()
        return [self._tell(self._open, final=False)]

    def _come_to_rest(self, now_s: float) -> list[Sign]:
        """Tell the sign under way; else what the movement shows as a whole, if that is a sign."""
        if self._open is None and self._told is None and self._movement:
            shown = self._movement.probabilities * self._movement.signing
            if shown.max() >= self.settings.threshold * self.settings.whole:
                self._open = _Open(
                    id=next(self._ids),
                    gloss=int(shown.argmax()),
                    born_s=now_s,
                    start_s=self._movement.began_s,
                    end_s=now_s,
                    best=shown,
                )
        if self._open is not None:
            self._told = self._open.gloss
        return self._close()

    def _take_over(self, now_s: float) -> list[Sign]:
        """Another gloss leads: a better reading of a young sign, else the next sign."""
        assert self._open is not None
        if self._leads_since_s - self._open.born_s > self.settings.revise_s:
            return [*self._close(), self._begin(now_s)]
        self._open.gloss, self._open.end_s = self._leader, now_s
        self._open.best = self._smooth.copy()
        return [self._tell(self._open, final=False)]

    def _close(self) -> list[Sign]:
        """Tell the sign under way for the last time; what follows is another movement."""
        self._movement = Movement(len(self._glosses))
        if self._open is None:
            return []
        sign = self._tell(self._open, final=True)
        self._open = None
        return [sign]

    def _tell(self, sign: _Open, *, final: bool) -> Sign:
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


# MERGED from models.movement: What the windows of one movement, or of one clip, show together.
# predictions -> [movement] -> the glosses' probabilities

# Of what a window says so much is taken for noise, shared out over the glosses: no single window
# rules one out, and however many there are, a clip can be sure of its answer.
_DOUBT = 0.02
_LEAST = 1e-3  # weight of a window that shows no signing at all


class Movement:
    """The geometric mean of windows, each weighted by how sure it is that someone signs.

    Bound: it keeps sums, no windows.
    """

    def __init__(self, glosses: int) -> None:
        self._logs = np.zeros(glosses)  # (G,) which gloss, given that there is one; weighted
        self._weight = 0.0
        self.signing = 0.0  # probability that a known gloss is signed, of the surest window
        self.began_s = math.inf  # end of the first window, media time

    def add(self, prediction: Prediction) -> None:
        p = prediction.probabilities + _DOUBT / len(self._logs)
        weight = 1 - prediction.idle + _LEAST
        self._logs += weight * np.log(p / p.sum())
        self._weight += weight
        self.signing = max(self.signing, 1 - prediction.idle)
        self.began_s = min(self.began_s, prediction.end_s)

    def __bool__(self) -> bool:
        return self._weight > 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(G,) Given that a known gloss is signed: they sum to 1.

        Raises:
            ValueError: there is no window.
        """
        if not self:
            raise ValueError("a movement without a window has no answer")
        mean = self._logs / self._weight
        likelihood = np.exp(mean - mean.max())
        result: NDArray[np.float64] = likelihood / likelihood.sum()
        return result

"""What would help the signer, judged from the newest picture and from what the encoder saw in it.

Plain synchronous code; media time comes with the frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.schema import Frame, Seen, Signer

# Measured with 200 of the project's clips (seed 7), all of them well framed: none gets a hint. And
# with 30 of those cropped, scaled or darkened; "kept": hands found where the whole clip had them.
# Mean level of 255. The darkest face had 58. With a tenth of the light 5 of 30 bodies were lost.
_DARK_FACE = 35
_DARK = 60  # 95th percentile, where no face is seen; the darkest clips, on black, had 99
_LIT = 0.05  # of the picture at least is brighter than that, unless it is too dark
# Shoulder widths by the picture's shorter side. The least was 0.19. Scaled to 0.14 (median), 95 %
# of the hands were kept; to 0.1, 86 %, and 4 of 30 bodies were lost.
_FAR = 0.14
_NEAR = 0.45  # shoulder widths by the picture's width: from here no room is the distance's fault
# Shoulder widths of picture below the shoulders. The least was 0.52. With 0.6, 76 % of the hands
# were kept, with 0.3 55 %.
_ROOM = 0.45
_CUT = 0.35  # of a head: the brows are cut. The most was 0.07, of hair
_HEADS = 4.7  # a shoulder width in ways from eyes to mouth, for who stands sideways; the median

_TAU_S = 2.0  # time constant of a trouble's share of the time
_MOST = 0.6  # the share from which it is told: 1.8 s after it came, if it lasts
_OVER_S = 1.0  # and over when it was away for so long
_LONGEST_S = 0.5  # between two looks: after a pause one picture is no proof
_STEP = 8  # px: every eighth pixel of every eighth line is enough


@dataclass(frozen=True, slots=True)
class Hint:
    """A code for programs, words for people, and the picture's edge at which something is cut."""

    code: str
    text: str
    edge: str | None = None  # left, top, right, bottom; the picture's, not mirrored


OK = Hint("ok", "")
TOO_DARK = Hint("too-dark", "It is too dark: turn on a light, or face the window.")
NO_SIGNER = Hint("no-signer", "Nobody is seen: let your head and both hands be in the picture.")
TOO_FAR = Hint("too-far", "You are far away: come closer.")
TOO_NEAR = Hint("too-near", "You are very near: move back, so that your hands show.", "bottom")
_MIDDLE, _DOWN = "move to the middle, or back.", "tilt the camera down, or move back."
_UP = "tilt the camera up, or move back."
_FACE = "Your face is cut off: "
_HANDS = "Your hands leave the picture: "
FACE_OUT = {
    "left": Hint("face-out", _FACE + _MIDDLE, "left"),
    "top": Hint("face-out", _FACE + _UP, "top"),
    "right": Hint("face-out", _FACE + _MIDDLE, "right"),
    "bottom": Hint("face-out", _FACE + _DOWN, "bottom"),
}
HANDS_OUT = {
    "left": Hint("hands-out", _HANDS + _MIDDLE, "left"),
    "top": Hint("hands-out", _HANDS + _UP, "top"),
    "right": Hint("hands-out", _HANDS + _MIDDLE, "right"),
    "bottom": Hint("hands-out", _HANDS + _DOWN, "bottom"),
}


class Hints:
    """Follows one stream. A hint stands from when it is told until another or `OK` is told."""

    def __init__(self) -> None:
        self._shares: dict[Hint, float] = {}  # of the time, by trouble; sums to 1 at most
        self._told = OK
        self._away_s = 0.0  # for how long the told trouble was not there
        self._before_s: float | None = None

    def look(self, frame: Frame, seen: Seen | None) -> Hint | None:
        """What to tell of `frame` and what was `seen` in it; None: what was told last stands."""
        before_s = frame.media_s if self._before_s is None else self._before_s
        step_s = min(max(frame.media_s - before_s, 0.0), _LONGEST_S)
        self._before_s = frame.media_s
        trouble = _trouble(frame.image, seen)
        keep = math.exp(-step_s / _TAU_S)
        self._shares = {hint: keep * share for hint, share in self._shares.items()}
        if trouble is not None:
            self._shares[trouble] = self._shares.get(trouble, 0.0) + 1 - keep
            if self._shares[trouble] >= _MOST and trouble != self._told:
                self._told, self._away_s = trouble, 0.0
                return trouble
        self._away_s = 0.0 if trouble == self._told else self._away_s + step_s
        if self._told is not OK and self._away_s >= _OVER_S:
            self._shares.pop(self._told, None)
            self._told = OK
            return OK
        return None


def _trouble(image: NDArray[np.uint8], seen: Seen | None) -> Hint | None:
    """What stands most in the way in this picture."""
    if _dark(image, seen):
        return TOO_DARK
    if seen is None:
        return None
    signer = seen.signer
    if signer is None:
        return NO_SIGNER
    width = _width(signer, seen.aspect)  # in heights of the picture
    if width < _FAR * min(seen.aspect, 1.0):
        return TOO_FAR
    for edge, out in zip(FACE_OUT, _outside(signer), strict=True):
        if out > _CUT:
            return FACE_OUT[edge]
    room = 1 - (signer.shoulders[0][1] + signer.shoulders[1][1]) / 2
    if room < _ROOM * width:
        return TOO_NEAR if width > _NEAR * seen.aspect else HANDS_OUT["bottom"]
    beyond = next(_raised_out(signer), None)
    return None if beyond is None else HANDS_OUT[beyond]


def _dark(image: NDArray[np.uint8], seen: Seen | None) -> bool:
    """By the face, where there is one: it may be well lit before a black wall."""
    if seen is not None and seen.signer is not None:
        height, width = image.shape[:2]
        left, top, right, bottom = (max(0.0, at) for at in seen.signer.head)
        rows = slice(int(top * height), int(bottom * height) + 1, 2)
        face = image[rows, int(left * width) : int(right * width) + 1 : 2]
        if face.size:
            return bool(face.mean() < _DARK_FACE)
    lit = image[::_STEP, ::_STEP].mean(axis=2) >= _DARK
    return bool(lit.mean() < _LIT)  # a percentile would sort them


def _width(signer: Signer, aspect: float) -> float:
    """The width of the shoulders, were they square to the camera, in heights of the picture."""
    (x, y), (u, v) = signer.shoulders
    _, top, _, bottom = signer.head
    return max(math.hypot((x - u) * aspect, y - v), (bottom - top) / 3.5 * _HEADS)


def _outside(signer: Signer) -> tuple[float, float, float, float]:
    """How much of the head lies beyond the left, top, right and bottom edge, as a share of it."""
    left, top, right, bottom = signer.head
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    return -left / width, -top / height, (right - 1) / width, (bottom - 1) / height


def _raised_out(signer: Signer) -> Iterator[str]:
    """The edges beyond which hands are that are not at rest.

    A hand that has left by the bottom may rest in the lap; one above its elbow does not.
    """
    for hand, (x, y), (_, elbow) in zip(signer.hands, signer.wrists, signer.elbows, strict=True):
        if hand is None and y < 1:
            if x < 0 or x > 1:
                yield "left" if x < 0 else "right"
            elif y < 0:
                yield "top"
        elif hand is None and y < elbow:
            yield "bottom"

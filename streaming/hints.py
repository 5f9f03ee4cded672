"""Hints for the signer, judged from the newest picture and from what the encoder saw in it.

    frame, `Seen` -> [hints] -> the message `hint`

Plain synchronous code; media time comes with the frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.schema import Frame, Seen, Signer
from streaming.messages import Hint

# Thresholds measured with 200 of the project's clips (seed 7), all of them well framed: none gets a
# hint. And with 30 of those cropped, scaled or darkened. "Kept": hands found that were found in the
# whole clip, too.
# Mean level of the face, of 255. The darkest had 58. At a tenth of the light 5 of 30 bodies were
# lost.
_DARK_FACE = 35
# Where no face is seen, a share `_LIT` of the pixels must have this level. It was at least 99, in
# clips before a black wall.
_DARK, _LIT = 60, 0.05
# Shoulder width as a fraction of the picture's shorter side. The least was 0.19. Scaled to 0.14
# (median), 95 % of the hands were kept; to 0.1, 86 %, and 4 of 30 bodies were lost.
_FAR = 0.14
_NEAR = 0.45  # the same, of the picture's width: from here on, the signer is too near
# Height of the picture below the shoulders, in shoulder widths. The least was 0.52. With 0.6, 76 %
# of the hands were kept, with 0.3 55 %.
_BELOW = 0.45
_CUT = 0.35  # share of the head outside: the brows are cut. The most was 0.07, of hair
# Shoulder width as a multiple of the eye-to-mouth distance (median), for a signer seen from the
# side. That distance is the head's height by 3.5.
_SHOULDERS, _EYES_TO_MOUTH = 4.7, 3.5

_TAU_S = 2.0  # time constant of a problem's share of the time
_SEND = 0.6  # share from which the hint is sent: 1.8 s after the problem began, if it lasts
_OVER_S = 1.0  # the hint is over when its problem has been away for so long
_LONGEST_S = 0.5  # a longer pause between two pictures counts as this: one picture is no proof
_STEP = 8  # px: every eighth pixel of every eighth line is enough


OK = Hint("ok", "")
TOO_DARK = Hint("too-dark", "It is too dark: turn on a light, or face the window.")
NO_SIGNER = Hint("no-signer", "Nobody is visible: keep your head and both hands in the picture.")
TOO_FAR = Hint("too-far", "You are far away: come closer.")
TOO_NEAR = Hint("too-near", "You are very near: move back, so that your hands show.", "bottom")
_ADVICE = {  # by the edge
    "left": "move to the middle, or back.",
    "top": "tilt the camera up, or move back.",
    "right": "move to the middle, or back.",
    "bottom": "tilt the camera down, or move back.",
}
FACE_OUT = {
    edge: Hint("face-out", f"Your face is cut off: {advice}", edge)
    for edge, advice in _ADVICE.items()
}
HANDS_OUT = {
    edge: Hint("hands-out", f"Your hands leave the picture: {advice}", edge)
    for edge, advice in _ADVICE.items()
}


class Hints:
    """Follows one stream. A hint holds from when it is sent until another, or `OK`, is sent."""

    def __init__(self) -> None:
        self._shares: dict[Hint, float] = {}  # of the time, by problem; sums to 1 at most
        self._sent = OK
        self._away_s = 0.0  # how long the problem of the sent hint has been away
        self._before_s: float | None = None

    def update(self, frame: Frame, seen: Seen | None) -> Hint | None:
        """The hint to send after `frame`, in which `seen` was seen; None: the last one holds."""
        before_s = frame.media_s if self._before_s is None else self._before_s
        step_s = min(max(frame.media_s - before_s, 0.0), _LONGEST_S)
        self._before_s = frame.media_s
        problem = _problem(frame.image, seen)
        keep = math.exp(-step_s / _TAU_S)
        self._shares = {hint: keep * share for hint, share in self._shares.items()}
        if problem is not None:
            self._shares[problem] = self._shares.get(problem, 0.0) + 1 - keep
            if self._shares[problem] >= _SEND and problem != self._sent:
                self._sent, self._away_s = problem, 0.0
                return problem
        self._away_s = 0.0 if problem == self._sent else self._away_s + step_s
        if self._sent is not OK and self._away_s >= _OVER_S:
            self._shares.pop(self._sent, None)
            self._sent = OK
            return OK
        return None


def _problem(image: NDArray[np.uint8], seen: Seen | None) -> Hint | None:
    """The worst problem of this picture."""
    if _dark(image, seen):
        return TOO_DARK
    if seen is None:
        return None
    signer = seen.signer
    if signer is None:
        return NO_SIGNER
    width = _shoulder_width(signer, seen.aspect)
    if width < _FAR * min(seen.aspect, 1.0):
        return TOO_FAR
    for edge, outside in zip(FACE_OUT, _head_outside(signer), strict=True):
        if outside > _CUT:
            return FACE_OUT[edge]
    below = 1 - (signer.shoulders[0][1] + signer.shoulders[1][1]) / 2
    if below < _BELOW * width:
        return TOO_NEAR if width > _NEAR * seen.aspect else HANDS_OUT["bottom"]
    edge_crossed = next(_edges_crossed(signer), None)
    return None if edge_crossed is None else HANDS_OUT[edge_crossed]


def _dark(image: NDArray[np.uint8], seen: Seen | None) -> bool:
    """Judged by the face if there is one: it may be well lit before a black wall."""
    if seen is not None and seen.signer is not None:
        height, width = image.shape[:2]
        left, top, right, bottom = (max(0.0, at) for at in seen.signer.head)
        rows = slice(int(top * height), int(bottom * height) + 1, 2)
        face = image[rows, int(left * width) : int(right * width) + 1 : 2]
        if face.size:
            return bool(face.mean() < _DARK_FACE)
    lit = image[::_STEP, ::_STEP].mean(axis=2) >= _DARK
    return bool(lit.mean() < _LIT)  # a percentile would sort them


def _shoulder_width(signer: Signer, aspect: float) -> float:
    """Width of the shoulders if they faced the camera, as a fraction of the picture's height."""
    (x, y), (u, v) = signer.shoulders
    _, top, _, bottom = signer.head
    from_face = (bottom - top) / _EYES_TO_MOUTH * _SHOULDERS
    return max(math.hypot((x - u) * aspect, y - v), from_face)


def _head_outside(signer: Signer) -> tuple[float, float, float, float]:
    """The share of the head beyond the left, top, right and bottom edge."""
    left, top, right, bottom = signer.head
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    return -left / width, -top / height, (right - 1) / width, (bottom - 1) / height


def _edges_crossed(signer: Signer) -> Iterator[str]:
    """The edges beyond which there are hands that are in use.

    A hand below the bottom edge may rest in the lap, unless it is above its elbow.
    """
    for hand, (x, y), (_, elbow) in zip(signer.hands, signer.wrists, signer.elbows, strict=True):
        if hand is None and y < 1:
            if x < 0 or x > 1:
                yield "left" if x < 0 else "right"
            elif y < 0:
                yield "top"
        elif hand is None and y < elbow:
            yield "bottom"

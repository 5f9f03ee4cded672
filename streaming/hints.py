"""What would help the signer, seen in the pictures alone: so far, that it is too dark.

Plain synchronous code; media time comes with the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.schema import Frame

_DARK = 35  # mean level of 255: below it hands are noise
_LASTS_S = 1.5  # a hand before the lens or a cut is no hint
_AGAIN_S = 10.0  # between two hints of one kind
_STEP = 8  # px: every eighth pixel of every eighth line is enough


@dataclass(frozen=True, slots=True)
class Hint:
    """A code for programs, words for people."""

    code: str
    text: str


TOO_DARK = Hint("too-dark", "It is too dark: turn on a light, or face the window.")


class Hints:
    """Follows the frames of one stream."""

    def __init__(self) -> None:
        self._dark_since_s: float | None = None
        self._told_s: float | None = None

    def look(self, frame: Frame) -> Hint | None:
        """A hint that this frame gives reason for, at most one every ten seconds."""
        now_s = frame.media_s
        if frame.image[::_STEP, ::_STEP].mean() >= _DARK:
            self._dark_since_s = None
            return None
        if self._dark_since_s is None or now_s < self._dark_since_s:
            self._dark_since_s = now_s
        if now_s - self._dark_since_s < _LASTS_S:
            return None
        if self._told_s is not None and 0 <= now_s - self._told_s < _AGAIN_S:
            return None
        self._told_s = now_s
        return TOO_DARK

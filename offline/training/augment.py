"""Windows for training: cut out of landmark rows at random, then changed as for another signer.

    rows of clips -> [augment] -> batches

A served window ends anywhere: before, in or after a sign, or in the next one. So does a window
here; its target depends on how much of the sign it shows and on how long ago the sign ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.landmarks import layout
from offline.scoring.takes import sign_span

# Shoulder widths: a hand that lies in view stays in so large a place, lies so far below the
# shoulders, and is further than that from the other hand, which it would else support.
_STAYS, _LIES, _APART = 0.25, 0.45, 0.6
_HOLD = 4  # steps for which a lost hand stays in place: layout.HOLD_S at 15 fps
_MIRROR_INDEX = torch.from_numpy(layout.mirror_index())
_MIRROR_SIGN = torch.from_numpy(layout.mirror_sign())
_PIECES = (layout.BODY, *layout.HANDS, layout.SEEN)  # of a row, in its order


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How far a window may be changed. Lengths in shoulder widths, times in seconds."""

    speed: tuple[float, float] = (0.7, 1.4)
    coverage: tuple[float, float] = (0.2, 0.5)  # share of the sign seen: no sign .. that sign
    memory_s: tuple[float, float] = (0.6, 1.1)  # since the sign ended: that sign .. no sign
    before: float = 0.3  # share of windows with the end of another clip's sign before the sign
    rotate_deg: float = 10.0
    scale: float = 0.15
    stretch: float = 0.1
    shift: float = 0.1
    hand_shift: float = 0.04
    noise: float = 0.012
    depth: float = 0.4
    slow_camera: float = 0.25  # share of windows with repeated frames
    lose_hand: float = 0.3  # share of windows with a hand lost for a while
    lose_other: float = 0.1  # share of windows without the hand that is seen less
    flicker: float = 0.2  # share of windows in which hands are lost in up to half of the steps
    rest: float = 0.3  # share of one-handed windows in which the other hand rests in view
    edge: float = 0.15  # share of windows that the picture's lower edge cuts ...
    edge_y: tuple[float, float] = (0.45, 1.05)  # ... so far below the shoulders


class WindowSource:
    """All rows of the training clips, and where in them each clip and its sign lie."""

    def __init__(self, clips: list[NDArray[np.float32]], frames: int, fps: float) -> None:
        self.frames = frames
        self.fps = fps
        lengths = [len(rows) for rows in clips]
        self.rows = torch.from_numpy(np.concatenate(clips))  # N, D
        found = [(self.rows[:, piece] != 0).any(1) for piece in _PIECES[:-1]]
        self.moves = torch.stack([*found, torch.zeros_like(found[0])], 1)  # N, 4: flags do not
        self.start = torch.tensor(np.cumsum([0, *lengths[:-1]]))
        self.length = torch.tensor(lengths)
        spans = torch.tensor([sign_span(rows) for rows in clips])
        whole = spans[:, 1] <= spans[:, 0]
        self.first = torch.where(whole, 0, spans[:, 0])
        self.last = torch.where(whole, self.length, spans[:, 1])
        resting = [_resting_hands(clips, frames, side) for side in (0, 1)]
        self.resting = [torch.from_numpy(hands) for hands in resting]  # N, T, 63: left, right

    def take(self, clip: Tensor, when: Tensor) -> Tensor:
        """Rows (B, T, D) of `clip` (B,) at steps `when` (B, T); its ends are repeated.

        Between two steps the points move in a straight line, if the hand is seen at both.
        """
        top = (self.length[clip] - 1)[:, None]
        when = when.clamp(min=0).minimum(top.to(when.dtype))
        low = when.floor().long()
        high = torch.minimum(low + 1, top)
        part = (when - low)[..., None]  # B, T, 1
        low, high = self.start[clip][:, None] + low, self.start[clip][:, None] + high
        both = self.moves[low] & self.moves[high]  # B, T, 4
        parts = torch.where(both, part, (part >= 0.5).to(part.dtype))
        wide = [
            parts[..., i : i + 1].expand(-1, -1, piece.stop - piece.start)
            for i, piece in enumerate(_PIECES)
        ]
        a, b = (F.embedding(at, self.rows) for at in (low, high))  # quicker than self.rows[at]
        return torch.lerp(a, b, torch.cat(wide, -1))

    def windows(
        self, clip: Tensor, settings: AugmentSettings, draw: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A random window of each `clip` (B,).

        Rows (B, T, D); how far it shows its sign (B,); and the clip whose sign it shows instead, in
        so far as it does not (B,): -1 for none.
        """
        count, frames = len(clip), self.frames
        slow, fast = settings.speed
        speed = slow * (fast / slow) ** torch.rand(count, generator=draw)
        first, last = self.first[clip].float(), self.last[clip].float()
        span = frames * speed
        # A window ends between just before the sign and when the sign no longer counts.
        early = first - 3
        late = last + (settings.memory_s[1] * self.fps * speed)
        end = early + (late - early) * torch.rand(count, generator=draw)
        limit = self.length[clip].float() - 1 + 3
        end = torch.minimum(end, torch.maximum(limit, early))
        seen = shown(end, first, last, span, self.fps * speed, settings)
        when = end[:, None] - speed[:, None] * torch.arange(frames - 1, -1, -1)
        when = when.gather(1, _held(count, frames, settings.slow_camera, draw))
        rows = self.take(clip, when)
        # The end of another clip before the sign: people go on signing, a video loops. While little
        # of the sign is to be seen, that window shows the other one.
        chosen = torch.rand(count, generator=draw) < settings.before
        other = torch.randint(len(self.length), (count,), generator=draw)
        lead = 4 * torch.rand(count, generator=draw)
        foreign = when < (self.first[clip].float() - lead)[:, None]
        until = foreign.sum(1, keepdim=True)  # B, 1
        back = until - 1 - torch.arange(frames)
        stop = self.last[other].float() + 6 * torch.rand(count, generator=draw)
        stop = torch.minimum(stop, self.length[other].float() - 1)
        early = end < last  # not where the sign is over
        length = (self.last[other] - self.first[other]).float()
        whole = until[:, 0] >= torch.minimum(0.7 * length, torch.tensor(frames / 2))
        instead = torch.where(chosen & early & whole & (seen < 1), other, -1)
        put = (chosen & ((seen > 0.99) | (instead >= 0))).nonzero()[:, 0]
        before = self.take(other[put], (stop[:, None] - back)[put])
        rows[put] = torch.where(foreign[put][..., None], before, rows[put])
        return rows, seen, instead

    def rest_a_hand(self, rows: Tensor, settings: AugmentSettings, draw: torch.Generator) -> Tensor:
        """Rows (B, T, D), some one-handed ones with another clip's resting hand as the other hand.

        In studios a resting hand is out of the picture; at a webcam it lies in view.
        """
        out, count = rows.clone(), len(rows)
        seen = rows[..., layout.SEEN].mean(1)  # B, 2
        for side, piece in enumerate(layout.HANDS):
            chosen = torch.rand(count, generator=draw) < settings.rest
            chosen &= (seen[:, side] < 0.25) & (seen[:, 1 - side] > 0.3)
            if not len(self.resting[side]):
                continue
            which = torch.randint(len(self.resting[side]), (count,), generator=draw)
            place = torch.tensor((0.15, 0.12)) * torch.randn(count, 1, 1, 2, generator=draw)
            chosen = chosen.nonzero()[:, 0]  # C
            hand = torch.unflatten(self.resting[side][which[chosen]], -1, (-1, 3))  # C, T, 21, 3
            there = hand.abs().sum((-2, -1)) > 0  # C, T
            moved = torch.cat([hand[..., :2] + place[chosen], hand[..., 2:]], -1).flatten(-2)
            before = rows[chosen, :, piece]
            free = (before.abs().sum(-1) == 0) & there
            out[chosen, :, piece] = torch.where(free[..., None], moved, before)
            flag = layout.LEFT_SEEN + side
            out[chosen, :, flag] = torch.where(free, 1.0, rows[chosen, :, flag])
        return out


def _resting_hands(clips: list[NDArray[np.float32]], frames: int, side: int) -> NDArray[np.float32]:
    """(N, frames, 63) The left / right hand where it lies in view, far from the other hand."""
    found = [np.zeros((0, frames, 63), np.float32)]
    for rows in clips:
        for start in range(0, len(rows) - frames, max(1, frames // 2)):
            window = rows[start : start + frames]
            seen = window[:, layout.SEEN] > 0.5  # T, 2
            hand, other = window[:, layout.HANDS[side]], window[:, layout.HANDS[1 - side]]
            wrist = hand[seen[:, side], :2]
            if len(wrist) < 0.6 * frames or np.ptp(wrist, axis=0).max() > _STAYS:
                continue
            apart = np.hypot(*(hand - other)[seen.all(axis=1), :2].T)
            if np.median(wrist[:, 1]) > _LIES and (not len(apart) or np.median(apart) > _APART):
                found.append(hand[None])
    return np.concatenate(found)


def shown(
    end: Tensor,
    first: Tensor,
    last: Tensor,
    span: Tensor,
    fps: Tensor | float,
    settings: AugmentSettings,
) -> Tensor:
    """How far windows that end at step `end` and last `span` show the sign from `first` to `last`.

    1: that sign; 0: no sign. Less where little of it is in the window, or it ended long ago.
    """
    inside = torch.minimum(end, last) - torch.maximum(end - span, first)
    share = inside.clamp(min=0) / torch.minimum(last - first, span)
    gap_s = ((end - last) / fps).clamp(min=0)
    return _ramp(share, *settings.coverage) * (1 - _ramp(gap_s, *settings.memory_s))


def augment(rows: Tensor, settings: AugmentSettings, draw: torch.Generator) -> Tensor:
    """Rows (B, T, D) as of another signer in front of another camera."""
    count, frames, _ = rows.shape

    def spread(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=draw) - 1

    flip = torch.rand(count, generator=draw) < 0.5
    rows = rows.clone()
    rows[flip] = rows[flip].index_select(-1, _MIRROR_INDEX) * _MIRROR_SIGN

    angle = torch.deg2rad(settings.rotate_deg * spread(count))
    size = torch.exp(settings.scale * spread(count))
    wide = size * torch.exp(settings.stretch * spread(count))
    turn = [wide * angle.cos(), -size * angle.sin(), wide * angle.sin(), size * angle.cos()]
    matrix = torch.stack(turn, -1).view(count, 2, 2)  # B, 2, 2
    shift = settings.shift * spread(count, 1, 1, 2)
    deep = size * torch.exp(settings.depth * spread(count))
    out = rows.clone()
    for piece, columns in ((layout.BODY, 2), (layout.LEFT_HAND, 3), (layout.RIGHT_HAND, 3)):
        points = torch.unflatten(rows[..., piece], -1, (-1, columns))
        there = (points.abs().sum((-2, -1)) > 0)[..., None, None]
        flat = torch.einsum("bij,btpj->btpi", matrix, points[..., :2]) + shift
        if columns == 3:
            flat = flat + settings.hand_shift * torch.randn(count, 1, 1, 2, generator=draw)
            flat = torch.cat([flat, points[..., 2:] * deep[:, None, None, None]], -1)
        flat = flat + settings.noise * torch.randn(flat.shape, generator=draw)
        out[..., piece] = torch.where(there, flat, points).flatten(-2)

    steps = torch.arange(frames)
    for side in (0, 1):
        lost = torch.rand(count, generator=draw) < settings.lose_hand
        begin = torch.randint(1, frames, (count,), generator=draw)
        length = torch.randint(1, 9, (count,), generator=draw)
        inside = (steps >= begin[:, None]) & (steps < (begin + length)[:, None]) & lost[:, None]
        _lose(out, side, inside)

    rare = torch.rand(count, 1, 1, generator=draw) < settings.flicker
    rate = 0.5 * torch.rand(count, 1, 2, generator=draw) * rare
    missed = torch.rand(count, frames, 2, generator=draw) < rate  # B, T, hand
    missed[:, 0] = False
    cut = torch.rand(count, generator=draw) < settings.edge
    low, high = settings.edge_y
    edge = torch.where(cut, low + (high - low) * torch.rand(count, generator=draw), torch.inf)
    for side, piece in enumerate(layout.HANDS):
        flag = layout.LEFT_SEEN + side
        _lose(out, side, missed[..., side])
        gone = out[..., piece.start + 1] > edge[:, None]
        out[..., piece].masked_fill_(gone[..., None], 0.0)
        out[..., flag].masked_fill_(gone, 0.0)

    seen = out[..., layout.SEEN].sum(1)  # B, 2
    drop = torch.rand(count, generator=draw) < settings.lose_other
    for side, piece in enumerate(layout.HANDS):
        flag = layout.LEFT_SEEN + side
        gone = drop & (seen[:, side] < 0.5 * seen[:, 1 - side])
        out[gone, :, piece] = 0.0
        out[gone, :, flag] = 0.0
    return out


def _lose(rows: Tensor, side: int, missed: Tensor) -> None:
    """Lose the left / right hand of rows (B, T, D) in place where `missed` (B, T), as a track does.

    It stays in its last place for a while, unseen, then it is gone. No first step may be missed.
    """
    piece, flag = layout.HANDS[side], layout.LEFT_SEEN + side
    some = missed.any(1).nonzero()[:, 0]  # C
    steps = torch.arange(rows.shape[1])
    kept = torch.where(missed[some], 0, steps).cummax(1).values  # C, T
    points = rows[some[:, None], kept, piece]
    rows[some, :, piece] = torch.where((steps - kept <= _HOLD)[..., None], points, 0.0)
    rows[..., flag].masked_fill_(missed, 0.0)


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def _held(count: int, frames: int, share: float, draw: torch.Generator) -> Tensor:
    """(B, T) The step that each step repeats when a slow camera misses frames; else itself."""
    slow = (torch.rand(count, 1, generator=draw) < share) * 0.5
    slow = slow * torch.rand(count, 1, generator=draw)
    fresh = torch.rand(count, frames, generator=draw) >= slow
    fresh[:, 0] = True
    return torch.where(fresh, torch.arange(frames), 0).cummax(1).values

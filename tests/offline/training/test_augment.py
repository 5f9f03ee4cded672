"""Training windows: labelled by what they show, and changed as bodies may differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.landmarks import layout
from offline.scoring.takes import sign_span
from offline.training.augment import AugmentSettings, WindowSource, augment, shown
from tests.offline.indexes import landmark_rows

_STILL = AugmentSettings(speed=(1.0, 1.0), before=0.0, slow_camera=0.0)


def _clips() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [landmark_rows("up", draw), landmark_rows("down", draw, steps=40)]


def test_a_sign_lasts_while_a_hand_is_raised() -> None:
    rows = np.zeros((10, layout.DIM), np.float32)
    assert sign_span(rows) == (0, 0)
    rows[3:7, layout.RIGHT_SEEN] = 1
    assert sign_span(rows) == (3, 7)
    rows[3, layout.RIGHT_HAND.start + 1] = 1.4  # seen, but hanging down
    assert sign_span(rows) == (4, 7)


def test_a_windows_label_depends_on_how_much_of_the_sign_it_shows_and_when() -> None:
    ends = torch.tensor([5.0, 10.0, 12.0, 20.0, 29.0, 45.0])  # the sign: steps 10 to 20
    same = torch.ones(6)
    seen = shown(ends, 10 * same, 20 * same, 32 * same, 15.0, AugmentSettings())
    assert seen[0] == 0 and seen[1] == 0  # not yet
    assert seen[2] == 0  # a fifth of it
    assert seen[3] == 1
    assert seen[4] == 1  # it ended 0.6 s ago
    assert seen[5] == 0  # long ago


def test_a_window_at_its_own_speed_is_the_clips_own_rows() -> None:
    source = WindowSource(_clips(), frames=8, fps=15.0)
    when = torch.arange(10.0, 18.0)[None]
    taken = source.take(torch.tensor([1]), when)[0].numpy()
    np.testing.assert_array_equal(taken, _clips()[1][10:18])


def test_before_its_start_a_clip_stands_still() -> None:
    source = WindowSource(_clips(), frames=8, fps=15.0)
    taken = source.take(torch.tensor([0]), torch.arange(-4.0, 4.0)[None])[0].numpy()
    assert (taken[:4] == _clips()[0][0]).all()


def test_between_two_rows_points_move_in_a_line_unless_a_hand_is_missing() -> None:
    rows = np.zeros((2, layout.DIM), np.float32)
    rows[:, layout.BODY] = [[0.0] * 26, [1.0] * 26]
    rows[1, layout.RIGHT_HAND] = 2.0
    rows[0, layout.BODY.start] = 0.5
    source = WindowSource([rows], frames=1, fps=15.0)
    taken = source.take(torch.tensor([0]), torch.tensor([[0.25]]))[0, 0]
    assert taken[1] == 0.25
    assert (taken[layout.RIGHT_HAND] == 0).all()  # half a hand is none


def test_random_windows_have_the_shape_and_both_kinds_of_content() -> None:
    source = WindowSource(_clips(), frames=16, fps=15.0)
    draw = torch.Generator().manual_seed(0)
    rows, seen, _ = source.windows(torch.arange(200) % 2, AugmentSettings(), draw)
    assert rows.shape == (200, 16, layout.DIM)
    assert (seen == 1).any() and (seen == 0).any() and ((seen > 0) & (seen < 1)).any()


def test_what_is_missing_stays_missing_and_flags_stay_flags() -> None:
    source = WindowSource(_clips(), frames=16, fps=15.0)
    draw = torch.Generator().manual_seed(0)
    rows, _, _ = source.windows(torch.zeros(64, dtype=torch.long), _STILL, draw)
    changed = augment(rows, AugmentSettings(), draw)
    assert torch.isfinite(changed).all()
    flags = changed[..., layout.SEEN]
    assert ((flags == 0) | (flags == 1)).all()
    one_hand = [(changed[..., hand] != 0).any() for hand in (layout.LEFT_HAND, layout.RIGHT_HAND)]
    assert all(one_hand)  # mirrored or not
    both = (changed[..., layout.LEFT_HAND] != 0).any(-1) & (
        changed[..., layout.RIGHT_HAND] != 0
    ).any(-1)
    assert not both.any()  # never two from one


def test_without_any_change_allowed_rows_are_at_most_mirrored() -> None:
    nothing = AugmentSettings(
        rotate_deg=0, scale=0, stretch=0, shift=0, hand_shift=0, noise=0, depth=0,
        lose_hand=0, lose_other=0, flicker=0, edge=0,
    )  # fmt: skip
    rows = torch.from_numpy(np.stack([_clips()[0]] * 20))
    changed = augment(rows, nothing, torch.Generator().manual_seed(0)).numpy()
    mirrored = layout.mirrored(rows.numpy())
    same = np.isclose(changed, rows.numpy(), atol=1e-6).all((1, 2))
    flipped = np.isclose(changed, mirrored, atol=1e-6).all((1, 2))
    assert (same | flipped).all() and same.any() and flipped.any()


def test_a_window_after_another_sign_shows_that_one_until_its_own_has_begun() -> None:
    source = WindowSource(_clips(), frames=16, fps=15.0)
    settings = AugmentSettings(speed=(1.0, 1.0), before=1.0, slow_camera=0.0)
    clip = torch.arange(400) % 2
    rows, seen, instead = source.windows(clip, settings, torch.Generator().manual_seed(0))
    assert ((instead == -1) | (seen < 1)).all()
    after = instead >= 0
    assert after.any() and not after.all()
    assert (rows[after][..., layout.RIGHT_SEEN].sum(1) > 0).all()  # the other sign is in view


def _one_handed(resting_y: float | None) -> np.ndarray:
    """A right hand that signs for 40 rows, with the left one at rest so far below the shoulders."""
    rows = np.zeros((40, layout.DIM), np.float32)
    right, left = rows[:, layout.RIGHT_HAND], rows[:, layout.LEFT_HAND]
    right.reshape(40, 21, 3)[..., 1] = np.linspace(-0.5, 0.5, 40)[:, None]
    rows[:, layout.RIGHT_SEEN] = 1
    if resting_y is not None:
        left.reshape(40, 21, 3)[..., 0] = 0.9
        left.reshape(40, 21, 3)[..., 1] = resting_y
        rows[:, layout.LEFT_SEEN] = 1
    return rows


def test_resting_hands_are_found_and_put_into_other_clips() -> None:
    settings = AugmentSettings(rest=1.0)
    source = WindowSource([_one_handed(0.8), _one_handed(None)], frames=16, fps=15.0)
    assert len(source.resting[0]) > 0 and len(source.resting[1]) == 0
    alone = torch.from_numpy(_one_handed(None)[None, :16])
    both = source.rest_a_hand(alone, settings, torch.Generator().manual_seed(0))
    assert (both[..., layout.LEFT_SEEN] == 1).all()
    assert torch.equal(both[..., layout.RIGHT_HAND], alone[..., layout.RIGHT_HAND])
    assert (both[..., layout.LEFT_HAND].std(1) < 1e-6).all()  # it lies still


def test_a_hand_that_supports_the_other_is_no_resting_one() -> None:
    rows = _one_handed(0.5)
    rows[:, layout.RIGHT_HAND] = rows[:, layout.LEFT_HAND] - 0.2
    assert not len(WindowSource([rows], frames=16, fps=15.0).resting[0])


def test_the_pictures_edge_hides_low_hands_and_flicker_loses_some() -> None:
    rows = torch.from_numpy(np.stack([_one_handed(0.8)] * 50))
    draw = torch.Generator().manual_seed(0)
    still = AugmentSettings(rotate_deg=0, shift=0, lose_hand=0, lose_other=0, noise=0)
    cut = augment(rows, replace(still, flicker=0, edge=1, edge_y=(0.6, 0.6)), draw)
    low = cut[..., [layout.LEFT_HAND.start + 1, layout.RIGHT_HAND.start + 1]]
    assert (low <= 0.6).all() and (cut[..., layout.SEEN].sum(-1) >= 1).any()
    lost = augment(rows, replace(still, flicker=1, edge=0), draw)
    share = lost[..., layout.SEEN].mean()
    assert 0.5 < share < 0.95

"""Slots of shared memory: who has which, and what is read is what was written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.workers.slots import FrameSlots, SlotPool, nameless_memory


@given(st.lists(st.integers(-4, 4)))
def test_no_slot_is_out_twice_and_none_is_lost(steps: list[int]) -> None:
    """A positive step takes so many, a negative one gives back from the oldest."""
    pool, out = SlotPool(8), list[int]()
    for step in steps:
        taken = pool.take(step) if step > 0 else None
        if taken is not None:
            out += taken
        elif step > 0:
            assert len(pool) < step
        else:
            pool.give(out[:-step])
            del out[:-step]
        assert sorted(set(out)) == sorted(out) and set(out) <= set(range(8))
        assert len(pool) + len(out) == 8


def test_too_many_are_refused_whole() -> None:
    pool = SlotPool(3)
    assert pool.take(4) is None
    assert sorted(pool.take(3) or []) == [0, 1, 2]
    assert pool.take(1) is None
    with pytest.raises(ValueError, match="not -1"):
        SlotPool(-1)


def test_the_slot_that_was_given_back_last_goes_out_first() -> None:
    pool = SlotPool(4)
    slots = pool.take(3)
    assert slots is not None
    pool.give([slots[1]])
    assert pool.take(1) == [slots[1]]


@pytest.mark.parametrize("slot", [0, 7])
def test_only_what_is_out_can_be_given_back(slot: int) -> None:
    pool = SlotPool(2)
    with pytest.raises(ValueError, match=f"slot {slot} is not out"):
        pool.give([slot])


@pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 1), (7, 13), (3, 40)])
def test_a_picture_crosses_in_as_many_slots_as_it_needs(height: int, width: int) -> None:
    memory = nameless_memory(16 * 48)
    here, there = (FrameSlots(memory, count=16, slot_bytes=48) for _ in range(2))
    os.close(memory)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (width, height, 3), np.uint8).transpose(1, 0, 2)  # not in a row
    slots = list(rng.permutation(16)[: here.needs(image)])
    here.write(slots, image)
    copy = there.read(slots, height, width)
    np.testing.assert_array_equal(copy, image)
    here.write(slots, np.zeros_like(image))
    np.testing.assert_array_equal(copy, image)  # nothing that is written later changes it
    for end in (here, there):
        end.close()
        end.close()


@pytest.mark.parametrize(
    ("slots", "height", "width"),
    [([0], 5, 4), ([0, 1], 4, 4), ([16], 4, 4), ([-1], 4, 4), ([], 0, 4), ([0], -4, -4)],
)
def test_what_can_not_be_a_picture_is_refused(slots: list[int], height: int, width: int) -> None:
    memory = nameless_memory(16 * 48)
    here = FrameSlots(memory, count=16, slot_bytes=48)
    os.close(memory)
    with pytest.raises(ValueError, match="no picture"):
        here.read(slots, height, width)
    here.close()

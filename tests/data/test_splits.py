import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ccsweep.data import splits


@given(count=st.integers(20, 100_000))
def test_blocks(count):
    kept, held = splits.blocks(count)
    assert len(np.intersect1d(kept, held)) == 0
    assert (np.diff(kept) > 0).all()
    assert abs(len(held) - count * splits.SHARE) <= splits.BLOCKS
    ends = np.flatnonzero(np.diff(held) > 1)
    number = len(ends) + 1
    assert number == min(splits.BLOCKS, max(1, count // 100))
    assert len(kept) == count - len(held) - 2 * splits.GAP * number


@given(count=st.integers(20, 20_000))
def test_no_neighbour_of_a_validation_image_is_trained_on(count):
    kept, held = splits.blocks(count)
    after = np.searchsorted(held, kept).clip(max=len(held) - 1)
    distance = np.minimum(np.abs(held[after] - kept), np.abs(held[(after - 1).clip(min=0)] - kept))
    assert distance.min() > splits.GAP


def test_blocks_are_spread_over_the_whole_set():
    _, held = splits.blocks(73_257)
    tenths = np.bincount(held * 10 // 73_257)
    assert (abs(tenths - 733) <= 1).all()

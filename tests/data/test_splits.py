import numpy as np
import pytest
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


@pytest.mark.parametrize(
    ("count", "held", "left_out"),
    [
        (1000, [range(100 * b + 45, 100 * b + 55) for b in range(10)], 5),
        (250, [range(56, 68), range(181, 193)], 5),
        (30, [range(14, 17)], 5),
        (8, [range(4, 5)], 5),  # the gaps leave nothing to train on
    ],
)
def test_by_hand(count, held, left_out):
    near = {i for block in held for i in range(block.start - left_out, block.stop + left_out)}
    kept, found = splits.blocks(count)
    assert found.tolist() == [i for block in held for i in block]
    assert kept.tolist() == [i for i in range(count) if i not in near]
    assert splits.settings() == {"blocks": 10, "share": 0.1, "gap": 5}

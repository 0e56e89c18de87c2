"""Batches: every image once per epoch, in an order that seed and epoch decide alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccsweep.data.batches import ArrayBatches
from ccsweep.data.dataset import Split

COUNTS, SIZES, SEEDS, EPOCHS = (
    st.integers(1, 200),
    st.integers(1, 64),
    st.integers(0, 2**31),
    st.integers(0, 1000),
)


def split(count: int) -> Split:
    """Images whose pixels say which they are."""
    return Split(torch.arange(count).float()[:, None].repeat(1, 3), torch.arange(count))


def order(batches: ArrayBatches) -> list[int]:
    return torch.cat([labels for _, labels in batches]).tolist()


@given(count=COUNTS, size=SIZES, seed=SEEDS, epoch=EPOCHS)
def test_an_epoch_is_a_permutation_in_full_batches(count, size, seed, epoch):
    batches = ArrayBatches(split(count), size, seed)
    batches.set_epoch(epoch)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert [len(labels) for _, labels in seen[:-1]] == [size] * (len(seen) - 1)
    assert all(torch.equal(images[:, 0], labels.float()) for images, labels in seen)
    assert sorted(order(batches)) == list(range(count))


@given(seed=SEEDS, epoch=EPOCHS)
def test_order_is_decided_by_seed_and_epoch_alone(seed, epoch):
    worn, fresh = ArrayBatches(split(50), 8, seed), ArrayBatches(split(50), 8, seed)
    for earlier in range(3):
        worn.set_epoch(earlier)
        list(worn)
    torch.rand(3)  # the global generator has no say
    worn.set_epoch(epoch)
    fresh.set_epoch(epoch)
    assert order(worn) == order(fresh)


@given(seed=SEEDS, epoch=EPOCHS)
def test_other_epochs_and_seeds_have_other_orders(seed, epoch):
    orders = []
    for one_seed, one_epoch in ((seed, epoch), (seed, epoch + 1), (seed + 1, epoch)):
        batches = ArrayBatches(split(50), 8, one_seed)
        batches.set_epoch(one_epoch)
        orders.append(order(batches))
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@given(count=COUNTS, size=SIZES, epoch=EPOCHS)
def test_without_a_seed_in_the_split_s_own_order(count, size, epoch):
    batches = ArrayBatches(split(count), size, None)
    batches.set_epoch(epoch)
    assert order(batches) == list(range(count))
    assert len(list(batches)) == len(batches)


def test_the_same_orders_on_every_machine():
    """A run that is resumed elsewhere goes on with the same batches."""
    batches = ArrayBatches(split(50), 8, 3)
    for epoch in (0, 7):
        seed = int(np.random.SeedSequence([3, epoch]).generate_state(1, np.uint64)[0]) // 2
        expected = torch.randperm(50, generator=torch.Generator().manual_seed(seed)).tolist()
        assert order(batches) == expected  # an epoch that is not set is the first
        batches.set_epoch(7)

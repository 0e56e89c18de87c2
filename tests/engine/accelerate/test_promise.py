"""The bound against what it must be, and the promise against new data."""

import math

import pytest
import torch
from torch import nn

from ccsweep.engine.accelerate import accelerate
from ccsweep.engine.accelerate.report import samples_needed, upper_bound


def at_most(changed: int, samples: int, share: float) -> float:
    """Chance of seeing so few changed answers or fewer where this share of all is changed."""
    return sum(math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(changed + 1))


@pytest.mark.parametrize(("changed", "samples"), [(0, 1), (0, 2995), (1, 50), (7, 200), (199, 200)])
def test_the_bound_is_the_share_under_which_so_few_are_seen_once_in_twenty(changed, samples):
    assert at_most(changed, samples, upper_bound(changed, samples)) == pytest.approx(0.05, rel=1e-6)
    assert upper_bound(changed, samples, 0.99) > upper_bound(changed, samples)


def test_where_all_changed_nothing_is_ruled_out():
    assert upper_bound(5, 5) == 1.0


@pytest.mark.parametrize(("share", "needed"), [(0.001, 2995), (0.01, 299), (0.5, 5), (1.0, 1)])
def test_samples_needed(share, needed):
    assert samples_needed(share) == needed
    assert upper_bound(0, needed) <= share or share == 1
    assert needed == 1 or upper_bound(0, needed - 1) > share


def trained(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small classifier on clusters, trained for a moment; inputs to calibrate with, and new ones."""
    torch.manual_seed(seed)
    centres = 1.3 * torch.randn(8, 6)
    mixing = torch.randn(6, 40) / 6**0.5

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 8, (count,))
        return (centres[labels] + torch.randn(count, 6)) @ mixing + 0.02 * torch.randn(count, 40), labels

    model = nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        x, y = draw(128)
        loss = nn.functional.cross_entropy(model(x), y) + 1e-3 * model[1](model[0](x)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), draw(4000)[0], draw(20000)[0]


@pytest.mark.slow
def test_on_twenty_seeds_new_data_do_not_break_the_promise():
    """At 95 % each: more than three of twenty broken would come by chance once in sixty times."""
    promised, broken, gated, small = 0.01, 0, 0, 0
    for seed in range(20):
        model, given, new = trained(seed)
        fast = accelerate(model, given, promised, threads=1, keep="argmax")
        flags = torch.zeros(len(new), dtype=torch.bool)
        (chain,) = fast.chains
        for use in chain.arithmetics[1:]:  # whatever plan
            vars(chain)["at"] = lambda size, chain=chain, use=use: chain.computing(use)
            with torch.no_grad():
                flags |= fast(new).argmax(1) != model(new).argmax(1)
        changed = float(flags.double().mean())
        report = fast.report
        assert report.bound <= promised
        gated += any(layer.gate is not None for layer in chain.layers)
        small += any(chain.int8)
        broken += changed > promised
        print(
            f"seed {seed}: observed {report.observed:.2%}, bound {report.bound:.2%}, on new data {changed:.2%}"
        )
    assert gated >= 10
    assert small >= 15
    assert broken <= 3

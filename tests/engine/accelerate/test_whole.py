"""The whole model in ONNX Runtime: when it is taken, and what it is not trusted with."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import ccsweep
from ccsweep.engine import tune
from ccsweep.engine.accelerate import accelerate, whole
from tests.engine.accelerate.conftest import classifier

pytest.importorskip("onnxruntime")


class Block(nn.Module):
    """Attention, then a ReLU feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.fc2(torch.relu(self.fc1(x)))


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of these tests, where it is left out for time."""
    monkeypatch.setattr(whole, "find_spec", lambda name: name)


def made(faster: bool = True):
    """A block, accelerated; ONNX Runtime or the engine at every size."""
    torch.manual_seed(0)
    model = Block().eval()
    fast = accelerate(model, torch.randn(64, 4, 16), 0, threads=1)
    fast.whole.faster = dict.fromkeys((1, 8, 32, 256, 1024), faster)
    return model, fast


@pytest.mark.parametrize("batch", [0, 1, 7, 40])
@pytest.mark.parametrize("faster", [True, False])
def test_it_gives_the_outputs_of_the_original(exporting, monkeypatch, batch: int, faster: bool) -> None:
    model, fast = made(faster)
    calls: list[int] = []
    plain = whole.Whole.__call__
    monkeypatch.setattr(
        whole.Whole, "__call__", lambda self, tensors: calls.append(len(tensors[0])) or plain(self, tensors)
    )
    x = torch.randn(batch, 4, 16)
    for one in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(one(x), model(x), rtol=1e-4, atol=1e-5)
    assert calls == [batch] * 3 * (faster and batch > 0)


def test_the_clock_decides_once_for_a_size(exporting, monkeypatch) -> None:
    _, fast = made()
    fast.whole.faster = {}
    times = {True: 1.0, False: 2.0}
    raced: list[int] = []

    def turns(runs, seconds):
        raced.append(1)
        return [{name: [times[name]] for name in runs}]

    monkeypatch.setattr(whole, "turns", turns)
    for _ in range(2):
        fast(torch.randn(5, 4, 16))
    times[True] = 1.99  # a tie goes to the engine
    fast(torch.randn(9, 4, 16))
    assert fast.whole.faster == {8: True, 32: False}
    assert len(raced) == 2


def test_what_is_none_of_the_calls_it_was_made_for_is_the_graphs(exporting) -> None:
    model, fast = made()
    longer = torch.randn(3, 6, 16)
    torch.testing.assert_close(fast(longer), model(longer), rtol=1e-4, atol=1e-5)
    x = torch.randn(3, 4, 16)
    assert fast.whole.given(x) is not None
    assert fast.whole.given(longer) is None
    assert fast.whole.given(x.double()) is None
    assert fast.whole.given(x[:0]) is None
    assert fast.whole.given(x, x) is None
    x[1, 2, 3] = float("nan")
    assert fast.whole.given(x) is None
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5, equal_nan=True)
    odd = torch.randn(16, 4, 3).transpose(0, 2)
    torch.testing.assert_close(fast(odd), model(odd), rtol=1e-4, atol=1e-5)


def test_it_is_saved(exporting, tmp_path) -> None:
    _, fast = made()
    fast.save(tmp_path / "fast.pt")
    again = ccsweep.load(tmp_path / "fast.pt")
    assert again.whole.faster == fast.whole.faster
    x = torch.randn(7, 4, 16)
    torch.testing.assert_close(again(x), fast(x))


class Opaque(nn.Module):
    """Goes by a value, which a graph would go by once and for all."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if float(x.sum()) > 0 else x - 1


class WritesItsInput(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.relu_())


class MixesSamples(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x.mean(0)


def hooked() -> nn.Module:
    model = Block()
    model.norm.register_forward_hook(lambda module, inputs, output: None)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Opaque(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2)),
        WritesItsInput,
        MixesSamples,
        hooked,
        lambda: nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2)),  # one chain: a plan's own way
    ],
)
def test_what_is_not_exported(exporting, make) -> None:
    torch.manual_seed(0)
    model = make().eval()
    fast = accelerate(model, torch.randn(64, 4, 16), 0, threads=1)
    assert fast.whole is None
    x = torch.randn(7, 4, 16)
    torch.testing.assert_close(fast(x.clone()), model(x.clone()), rtol=1e-4, atol=1e-5)


def test_one_chain_may_be_left_to_it(monkeypatch) -> None:
    monkeypatch.setattr(
        tune, "race", lambda runs, seconds: {name: [1.0 if "onnx" in str(name) else 2.0] for name in runs}
    )
    model, x = classifier(), torch.randn(40, 60)
    fast = accelerate(model, x, 0, batch_sizes=[32], threads=1)
    assert fast.plans[0].ways == ("dense onnxruntime",) * 3
    assert fast.chains[0].compiled[32].rounded is False
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    x[3, 4] = float("nan")
    assert torch.equal(fast(x).isnan().any(1), model(x).isnan().any(1))


class Transformed(nn.Module):
    """Ends in what ONNX does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.last = classifier(), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(self.last(torch.tanh(self.layers(x)))).abs()


def test_what_cannot_be_exported_says_nothing(exporting, capfd) -> None:
    fast = accelerate(Transformed().eval(), torch.randn(64, 60), 0, threads=1)
    assert fast.whole is None
    assert "graph" not in "".join(capfd.readouterr())


class Recommender(nn.Module):
    """What an index means is the table's business."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.deep = (
            nn.Embedding(20, 8),
            nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1)),
        )

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        return self.deep(torch.cat([numbers, self.table(kinds)], 1)).squeeze(1)


@pytest.mark.parametrize("wrong", [-1, 20])
def test_an_index_that_is_no_index_is_refused_as_by_the_original(exporting, wrong: int) -> None:
    torch.manual_seed(0)
    model = Recommender().eval()
    fast = accelerate(model, (torch.randn(64, 4), torch.randint(20, (64,))), 0, threads=1)
    fast.whole.faster = dict.fromkeys((1, 8, 32, 256, 1024), True)
    numbers, kinds = torch.randn(5, 4), torch.randint(20, (5,))
    torch.testing.assert_close(fast(numbers, kinds), model(numbers, kinds), rtol=1e-4, atol=1e-5)
    kinds[2] = wrong
    with pytest.raises(IndexError, match=r"^index out of range in self$"):
        model(numbers, kinds)
    with pytest.raises(IndexError, match=r"^index out of range in self$"):
        fast(numbers, kinds)

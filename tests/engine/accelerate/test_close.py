"""Close calls: which answers they are, and that they are computed again exactly."""

import pytest
import torch
from torch import Tensor, nn

import ccsweep
from ccsweep.engine import tune
from ccsweep.engine.accelerate import accelerate, call, whole
from ccsweep.engine.accelerate.chain import MODE
from ccsweep.engine.accelerate.close import Close
from ccsweep.engine.accelerate.gates import Step
from ccsweep.engine.accelerate.keep import Margin, criterion

SIGN = Close(Margin("sign", 0.5), 0.1, 0.2)


def rounding(x: Tensor) -> Tensor:
    """Twice the input, a bit too much of it unless it must be exact."""
    MODE.rounded = not MODE.exactly
    return 2 * x if MODE.exactly else 2 * x + 0.05


def test_margins() -> None:
    outputs = torch.tensor([[3.0, 1.0, 2.5], [1.0, 1.0, 0.0]])
    assert Margin("argmax", 1).of(outputs).tolist() == [0.5, 0.0]
    assert Margin("sign", 1.0).of(outputs).tolist() == [0.0, 0.0]
    assert Margin("sign", 0.0).of(outputs[:, 1]).tolist() == [1.0, 1.0]
    positions = torch.stack([outputs, outputs.flip(1) + torch.tensor([0.0, 0.25, 0.0])], 2)
    assert Margin("argmax", 1).of(positions).tolist() == [0.5, 0.0]


def test_only_close_calls_are_computed_again() -> None:
    x = torch.tensor([0.1, 0.24, 0.3, float("nan")])
    found = SIGN.answer(rounding, (x,), {})
    expected = torch.tensor([0.25, 0.48, 0.65, float("nan")])  # 0.48 was 0.53, on the other side of 0.5
    torch.testing.assert_close(found, expected, equal_nan=True)
    torch.testing.assert_close(SIGN.answer(rounding, (x[:1],), {}), expected[:1])
    torch.testing.assert_close(SIGN.answer(rounding, (x[1:2],), {}), expected[1:2])
    torch.testing.assert_close(SIGN.answer(rounding, (), {"x": x[:2]}), expected[:2])
    assert not MODE.exactly


def test_where_samples_cannot_be_told_apart_the_whole_call_is_exact() -> None:
    x = torch.tensor([0.1, 0.2])
    assert torch.equal(SIGN.answer(lambda x, y: rounding(x), (x, torch.ones(3)), {}), 2 * x)
    assert torch.equal(SIGN.answer(lambda x: (rounding(x),), (x,), {})[0], 2 * x)


def test_what_is_exact_already_is_not_asked_again() -> None:
    def run(x: Tensor) -> Tensor:
        asked.append(x)
        return 2 * x

    asked: list[Tensor] = []
    SIGN.answer(run, (torch.tensor([0.25]),), {})
    assert len(asked) == 1


def test_an_error_leaves_no_thread_in_the_exact_mode() -> None:
    def run(x: Tensor) -> Tensor:
        if MODE.exactly:
            raise ValueError("the user's own")
        return rounding(x)

    with pytest.raises(ValueError, match=r"^the user's own$"):
        SIGN.answer(run, (torch.tensor([0.25]),), {})
    assert not MODE.exactly


def test_of_several_outputs_no_margin_is_known() -> None:
    one = torch.randn(8, 3)
    assert criterion("argmax", [one], [8], []).margin == Margin("argmax", 1)
    assert criterion(None, [one], [8], []).margin == Margin("argmax", 1)
    assert criterion("sign", [one], [8], []).margin == Margin("sign", 0.0)
    assert criterion("values", [one], [8], []).margin is None
    assert criterion("sign", [(one, one)], [8], []).margin is None
    assert criterion(lambda a, b: (a == b).all(1), [one], [8], []).margin is None


class Logit(nn.Module):
    """Its output is hard to tell from 0 for many samples."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.deep = nn.Sequential(
            nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        return self.deep(torch.cat([numbers, self.table(kinds)], 1)).squeeze(1)


def drawn(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 32), torch.randint(50, (count,))


@pytest.fixture(scope="module")
def accelerated(tmp_path_factory: pytest.TempPathFactory):
    """The model, and its accelerated copy whose layers would all be in int8 by the clock."""
    torch.manual_seed(0)
    model = Logit().eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "SECONDS", 0.0)
        patch.setattr(whole, "find_spec", lambda name: None)
        patch.setattr(
            call,
            "faster_in_int8",
            lambda chains, inputs, sizes: [Step(chains[0], k, None) for k in range(3)],
        )
        fast = accelerate(model, drawn(8000), 0.001, threads=1, keep="sign")
    return model, fast


def test_int8_is_vouched_for_with_its_close_calls_computed_again(accelerated) -> None:
    model, fast = accelerated
    assert "in int8 layers 1, 2, 3" in fast.report.chains[0]
    assert 0 < fast.report.bound <= 0.001
    share = fast.close.share
    assert 0.005 < share < 0.1
    assert f"close calls, {share:.1%} of answers, are computed again in float32" in fast.report.notes
    (chain,) = fast.chains
    vars(chain)["at"] = lambda size: chain.computing(chain.arithmetics[-1])  # whatever is faster here
    try:
        numbers, kinds = drawn(20000)
        with torch.no_grad():
            expected = model(numbers, kinds)
        found = fast(numbers, kinds)
        assert float(((found > 0) != (expected > 0)).double().mean()) <= 0.001
        assert not torch.allclose(found, expected, atol=1e-4)  # it is in int8
        off = (found - expected).abs() > 1e-4 * expected.abs().max()
        near = expected.abs() < 0.3 * fast.close.least
        assert near.sum() > 20
        assert not off[near].any()
        # One by one the same as all together.
        alone = torch.stack([fast(numbers[k : k + 1], kinds[k : k + 1])[0] for k in range(50)])
        torch.testing.assert_close(alone, found[:50], rtol=1e-4, atol=1e-4)
    finally:
        del vars(chain)["at"]


def test_close_calls_are_saved(accelerated, tmp_path) -> None:
    _, fast = accelerated
    x = drawn(64)
    expected = fast(*x)
    fast.save(tmp_path / "fast.pt")
    again = ccsweep.load(tmp_path / "fast.pt")
    assert again.close == fast.close
    torch.testing.assert_close(again(*x), expected, rtol=1e-4, atol=1e-4)
    (one,), (other,) = fast.chains, again.chains
    assert (other.share_again, {*other.again.compiled}) == (one.share_again, {*one.again.compiled})

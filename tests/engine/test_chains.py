"""What is found in a model, what is left and why, and what is put in its place."""

import pytest
import torch
from torch import nn

from ccsweep.engine.chains import Found, Left, hooked, replace, search


def linear(inputs: int = 4, units: int = 4) -> nn.Linear:
    return nn.Linear(inputs, units)


def without_units() -> nn.Linear:
    module = linear()
    module.weight, module.bias = nn.Parameter(torch.empty(0, 4)), nn.Parameter(torch.empty(0))
    return module


def found_in(*modules: nn.Module) -> list[tuple[str, int, bool]]:
    """Name, linear layers, and whether a ReLU follows the last, of each chain."""
    return [(one.name, len(one.linears), one.ends_in_relu) for one in search(nn.Sequential(*modules))[0]]


def left_in(*modules: nn.Module) -> list[str]:
    return [f"{name}: {reason}" for name, reason in search(nn.Sequential(*modules))[1]]


RELU, TANH, DROPOUT = nn.ReLU, nn.Tanh, nn.Dropout


@pytest.mark.parametrize(
    ("modules", "chains"),
    [
        ([linear(), RELU()], [("0 to 1", 1, True)]),
        ([linear(4, 1), RELU()], [("0 to 1", 1, True)]),
        ([linear(), RELU(), linear()], [("0 to 2", 2, False)]),
        ([linear(), RELU(), linear(), RELU(), TANH()], [("0 to 3", 2, True)]),
        ([TANH(), linear(), RELU()], [("1 to 2", 1, True)]),
        # What does nothing at inference belongs to a chain, but not at its ends.
        (
            [DROPOUT(), linear(), DROPOUT(), RELU(), nn.Identity(), linear(), DROPOUT()],
            [("1 to 5", 2, False)],
        ),
        ([linear(), RELU(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), linear()], [("0 to 4", 2, False)]),
        # Without a ReLU between them the first is left, and the second may begin a chain.
        ([linear(), linear(), RELU()], [("1 to 2", 1, True)]),
        ([linear(), RELU(), RELU(), linear()], [("0 to 3", 2, False)]),
        ([linear(), RELU(), TANH(), linear(), RELU()], [("0 to 1", 1, True), ("3 to 4", 1, True)]),
        ([linear(), RELU(), linear().double(), RELU()], [("0 to 1", 1, True)]),
        ([nn.Sequential(linear()), nn.Sequential(RELU(), linear())], [("0.0 to 1.1", 2, False)]),
        ([linear(), TANH()], []),
        ([linear(), nn.ReLU6()], []),
        ([RELU(), linear()], []),
        ([without_units(), RELU()], []),
        ([], []),
    ],
)
def test_chains_in_a_sequence(modules, chains):
    assert found_in(*modules) == chains


def test_a_chain_holds_its_modules():
    modules = [linear(4, 8), RELU(), DROPOUT(), linear(8, 2)]
    (one,) = search(nn.Sequential(*modules))[0]
    assert one == Found("0 to 3", tuple(modules), (modules[0], modules[3]), False)


class Odd(nn.Linear):
    """Not known to be plain."""


def test_why_modules_are_left():
    hooked = RELU()
    hooked.register_forward_pre_hook(lambda *_: None)
    meta = nn.Linear(4, 4, device="meta")
    assert left_in(
        Odd(4, 4), RELU(), hooked, linear().bfloat16(), linear(), nn.GELU(), meta, without_units()
    ) == [
        "0: Odd is not known to the engine",
        "1: ReLU is not known to the engine",
        "2: ReLU with hooks",
        "3: Linear in torch.bfloat16 on cpu",
        "4: Linear without a ReLU after or before it",
        "5: GELU is not known to the engine",
        "6: Linear in torch.float32 on meta",
        "7: Linear in torch.float32 on cpu",
    ]
    assert left_in(linear(), RELU()) == []


def test_a_model_that_is_no_sequence():
    assert search(linear()) == ([], [Left("Linear", "Linear outside of an nn.Sequential")])
    assert search(linear(), "head") == ([], [Left("head", "Linear outside of an nn.Sequential")])


def test_names_lead_to_what_is_found():
    block = nn.Sequential(linear(), RELU())
    model = nn.ModuleDict(
        {"a": nn.ModuleList([TANH(), block]), "b": nn.Sequential(TANH(), nn.Sequential(linear()))}
    )
    found, left = search(model, "net")
    assert [one.name for one in found] == ["net.a.1.0 to net.a.1.1"]
    assert left == [
        ("net.a.0", "Tanh outside of an nn.Sequential"),
        ("net.b.0", "Tanh is not known to the engine"),
        ("net.b.1.0", "Linear without a ReLU after or before it"),
    ]
    assert [one.name for one in search(block, "Sequential")[0]] == ["0 to 1"]
    inner = nn.Sequential(TANH(), nn.ModuleDict({"x": block, "y": TANH()}))
    assert [one.name for one in search(inner)[0]] == ["1.x.0 to 1.x.1"]
    assert [name for name, _ in search(inner)[1]] == ["0", "1.y"]


class Listening(nn.Sequential):
    """A Sequential of another kind may do more than call its modules."""


def test_only_plain_sequentials_are_looked_into():
    modules = linear(), RELU()
    assert search(Listening(*modules)) == (
        [],
        [Left("0", "Linear outside of an nn.Sequential"), Left("1", "ReLU outside of an nn.Sequential")],
    )
    heard = nn.Sequential(*modules)
    heard.register_forward_hook(lambda *_: None)
    assert search(heard)[0] == []


@pytest.mark.parametrize("listen", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_seen(listen):
    module = RELU()
    assert not hooked(module)
    getattr(module, listen)(lambda *_: None)
    assert hooked(module)


class Named(nn.Module):
    """Something to stand in for chain ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Holder(nn.Module):
    """Two chains, one of them deep, and what has none."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 3
        self.norm = nn.LayerNorm(4)
        self.plain = nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh()))
        self.parts = nn.ModuleList([nn.Sequential(TANH(), nn.Sequential(linear(), RELU()), TANH())])
        self.head = nn.Sequential(linear(), RELU(), nn.Softmax(1))


def test_chains_are_replaced_in_a_copy():
    model = Holder()
    before = {name: module for name, module in model.named_modules()}
    chains, _ = search(model)
    assert [one.name for one in chains] == ["parts.0.1.0 to parts.0.1.1", "head.0 to head.1"]
    made = replace(model, chains, Named)
    assert dict(model.named_modules()) == before
    assert made is not model
    assert made.scale == 3
    assert made.norm is model.norm
    assert made.plain is model.plain
    first, second = made.parts[0], made.head
    assert [type(part) for part in first] == [TANH, Named, TANH]  # flat
    assert first[0] is model.parts[0][0]
    assert first[2] is model.parts[0][2]
    assert [type(part) for part in second] == [Named, nn.Softmax]
    assert (first[1].number, second[0].number) == (0, 1)
    assert made._parameters is not None
    assert list(made._modules) == list(model._modules)


def test_without_chains_a_model_stays_itself():
    model = Holder()
    assert replace(model, [], Named) is model


def test_a_model_that_is_a_chain():
    model = nn.Sequential(linear(), RELU())
    made = replace(model, search(model)[0], Named)
    assert [type(part) for part in made] == [Named]


def test_what_is_shared_is_replaced_wherever_it_stands():
    """Modules inside a Sequential that is no chain itself are reached as well."""
    inner = nn.ModuleDict({"x": nn.Sequential(linear(), RELU())})
    model = nn.Sequential(TANH(), inner, nn.Sequential(TANH()))
    made = replace(model, search(model)[0], Named)
    assert type(made[1]["x"][0]) is Named
    assert type(inner["x"][0]) is nn.Linear
    assert made[2] is model[2]
    assert torch.equal(made[0](torch.ones(1)), torch.ones(1).tanh())

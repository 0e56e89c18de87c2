"""A file that another machine opens, with nothing in it that is executed."""

import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import ccsweep
from ccsweep.engine.accelerate import Accelerated, accelerate, saved
from ccsweep.engine.accelerate.chain import agree
from ccsweep.engine.accelerate.tracing.trace import tensors_in
from ccsweep.errors import UserError
from tests.conftest import ROOT
from tests.engine.accelerate.architectures import ALL, mlp
from tests.engine.accelerate.conftest import classifier

NOT_SAVED = {  # what of the model's own Python they need
    "VariationalEncoder": "it calls Posterior",
    "LooksAtValues": "its forward stays Python",
    "CountsItsCalls": "its forward stays Python",
    "ChoosesAnExpert": "its forward stays Python",
    "encoder_of_torch": "its forward stays Python",
    "encoder_layer_of_torch": "its forward stays Python",
    "with_a_hook": "0 is no plain module of torch",
    "HookedInside": "its forward stays Python",
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fast.pt"


@pytest.mark.parametrize("name", ALL)
def test_it_is_opened_again_or_refused_in_one_line(name, file):
    make, inputs, _ = ALL[name]
    torch.manual_seed(0)
    given = inputs(64)
    fast = accelerate(make().eval(), given, max_disagreement=0, threads=1)
    if name in NOT_SAVED:
        message = f"the model cannot be saved without its own code ({NOT_SAVED[name]}): use torch.save, which keeps it pickled"
        with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
            fast.save(file)
        assert not file.exists()
        return
    fast.save(file)
    again = ccsweep.load(file)
    for (place, a), (other, b) in zip(tensors_in(again(*given)), tensors_in(fast(*given)), strict=True):
        assert place == other
        torch.testing.assert_close(a, b)
    assert again.report == fast.report
    again.save(file)
    assert type(ccsweep.load(file)(*given)) is type(fast(*given))


def test_gates_and_plans_come_along(inputs, file):
    fast = accelerate(classifier(), inputs, 0.15, batch_sizes=[1, 20], threads=1, keep="argmax")
    assert not fast.report.exact
    fast.save(file)
    again = ccsweep.load(file)
    assert again.plans == fast.plans
    assert str(again.report) == str(fast.report)
    torch.testing.assert_close(again(inputs[:20]), fast(inputs[:20]))
    with pytest.raises(UserError, match=r"^an accelerated model only predicts"):
        again.train()
    with pytest.raises(
        UserError, match=r"^a loaded model takes calls of the form that it was calibrated with"
    ):
        again(inputs, inputs)


def in_int8() -> tuple[nn.Module, Accelerated, torch.Tensor]:
    """A model with both layers in int8, whoever vouches for it."""
    torch.manual_seed(0)
    model, x = mlp(24, 32, 5).eval(), torch.randn(40, 24)
    fast = accelerate(model, x, max_disagreement=0, threads=1)
    (one,) = fast.chains
    for k in range(2):
        one.allow(k, None)
    one.compile(x, 1)
    one.at(1)
    return model, fast, x


def test_what_is_in_int8_comes_along(file):
    _, fast, x = in_int8()
    fast.save(file)
    again = ccsweep.load(file)
    assert again.chains[0].int8 == [True, True]
    assert again.model.only == again.chains[0].forward
    assert again.plans == fast.plans
    for use in fast.chains[0].arithmetics:
        assert torch.equal(again.chains[0].computing(use)(x), fast.chains[0].computing(use)(x))


def test_what_many_chains_agreed_on_comes_along(file):
    torch.manual_seed(0)
    x = torch.randn(40, 24)
    blocks = nn.Sequential(*(nn.Sequential(*mlp(24, 32, 24), nn.Tanh()) for _ in range(5))).eval()
    fast = accelerate(blocks, x, max_disagreement=0, threads=1)
    assert len(fast.chains) == 5
    for one in fast.chains:
        one.allow(0, None)
        one.compile(x, 1)
    agree(fast.chains)
    fast(x)
    agreed = fast.chains[0].together.use
    fast.save(file)
    again = ccsweep.load(file)
    (together,) = {one.together for one in again.chains}
    assert (together.use, together.largest) == (agreed, again.chains[0])


def test_a_damaged_file_is_said_to_be_one(file):
    _, fast, _ = in_int8()
    fast.save(file)
    content = bytearray(file.read_bytes())
    content[content.index(fast.chains[0].layers[0].weight.tobytes()[:64])] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"fast.pt: is damaged \(the checksum of its part .* does not match\); accelerate the model again$",
    ):
        ccsweep.load(file)


@pytest.mark.slow
def test_on_another_cpu_plans_are_made_anew_and_keep_to_the_same_arithmetics(file):
    """Another process, which compiles for a CPU of before AVX."""
    model, fast, x = in_int8()
    fast.save(file)
    torch.save(x, file.parent / "x.pt")
    expected = [fast.chains[0].computing(use)(x) for use in fast.chains[0].arithmetics]
    code = (
        "import sys, torch, ccsweep\n"
        "from ccsweep.engine import tune\n"
        "tune.SECONDS = 0.0\n"
        "fast, x = ccsweep.load(sys.argv[1]), torch.load(sys.argv[2])\n"
        "print(len(fast.plans))\n"
        "(one,) = fast.chains\n"
        "ours = [one.computing(use)(x) for use in one.arithmetics]\n"
        "torch.save((fast(x), torch.cat([fast(row[None]) for row in x]), *ours), sys.argv[3])\n"
        "print(len(fast.plans))\n"
        "possible = [one.ways(use) for use in one.arithmetics]\n"
        "possible.append([('input-sparse', 'dense onnxruntime')] * len(one.layers))  # exact, too\n"
        "for plan in fast.plans:\n"
        "    assert any(all(map(tuple.__contains__, ways, plan.ways)) for ways in possible)\n"
    )
    for target, plans in (
        ({}, ["1", "2"]),
        ({"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"}, ["0", "2"]),
    ):
        files = [str(file), str(file.parent / "x.pt"), str(file.parent / "y.pt")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **target}
        done = subprocess.run(
            [sys.executable, "-c", code, *files], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == plans
        *answers, exact, small = torch.load(file.parent / "y.pt")
        for got in (exact, small):
            torch.testing.assert_close(got, expected[got is small], rtol=1e-5, atol=1e-6)
        for got in answers:
            assert any(torch.allclose(got, one, rtol=1e-4, atol=1e-5) for one in (exact, small))
        torch.testing.assert_close(exact, model(x).detach(), rtol=1e-4, atol=1e-4)


def test_what_is_no_such_file(file):
    with pytest.raises(UserError, match=r"fast.pt is missing: expected a file that accelerated.save wrote$"):
        ccsweep.load(file)
    file.write_text("nothing")
    with pytest.raises(UserError, match=r"fast.pt is no file that accelerated.save wrote \(\w+: .*\)$"):
        ccsweep.load(file)
    torch.save({"ccsweep accelerated": 0}, file)
    with pytest.raises(
        UserError, match=r"was written by another version of ccsweep: accelerate the model again$"
    ):
        ccsweep.load(file)


@pytest.mark.parametrize(
    "node",
    [
        ["call_function", "bad", "operator.call", [], {}],
        ["call_function", "bad", "torch.load", [], {}],
        ["call_function", "bad", "torch.from_file", [], {}],
        ["call_function", "bad", "F.warnings.warn", [], {}],
        ["call_function", "bad", "F.importlib", [], {}],
        ["call_function", "bad", "builtins.exec", [], {}],
        ["call_method", "bad", "__reduce__", [], {}],
        ["call_method", "bad", "apply_", [], {}],
        ["call_function", "bad", "getattr", ["tuple", ["value", "a"], ["value", "__class__"]], ["dict"]],
    ],
)
def test_nothing_but_torchs_operators_is_called(node, file):
    fast = accelerate(mlp(24, 32, 5).eval(), torch.randn(40, 24), max_disagreement=0, threads=1)
    fast.save(file)
    with torch.serialization.safe_globals(saved._modules_of_torch()):
        content = torch.load(file, weights_only=True)
    content["nodes"].insert(1, node)
    torch.save(content, file)
    with pytest.raises(UserError):
        ccsweep.load(file)


def test_no_pickled_class_of_another_kind_is_read(file):
    class Own(nn.Module):
        pass

    Own.__qualname__ = "Own"
    globals()["Own"] = Own
    torch.save({"ccsweep accelerated": 1, "modules": {"a": Own()}}, file)
    with pytest.raises(UserError, match=r"is no file that accelerated.save wrote \(UnpicklingError: "):
        ccsweep.load(file)

"""What an accelerated model is: its own thing, in every context, refusing in one line what it cannot do."""

import copy
import io
import multiprocessing
import os
import re
import socket
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torch.utils.data import DataLoader, TensorDataset

from ccsweep.engine.accelerate import Accelerated, accelerate
from ccsweep.errors import UserError
from tests.engine.accelerate.architectures import ActorCritic, Autoencoder, mlp
from tests.engine.accelerate.conftest import classifier


@pytest.fixture(scope="module")
def fast() -> Accelerated:
    torch.manual_seed(0)
    return accelerate(mlp(24, 64, 5).eval(), torch.randn(40, 24), max_disagreement=0, threads=1)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(8, 24, generator=torch.Generator().manual_seed(5))


def test_what_is_done_to_it_is_not_done_to_the_original(x):
    model = nn.Sequential(nn.LayerNorm(24), *mlp(24, 32, 5)).eval()
    fast = accelerate(model, torch.randn(40, 24), max_disagreement=0, threads=1)
    ours = {id(part) for part in (*model.parameters(), *model.buffers())}
    assert not ours & {id(part) for part in (*fast.parameters(), *fast.buffers())}
    memory = {part.data_ptr() for part in model.parameters()}
    assert not memory & {part.data_ptr() for part in fast.parameters()}
    fast.zero_grad()
    model(x).sum().backward()
    assert all(part.grad is not None and part.requires_grad for part in model.parameters())
    assert not any(part.requires_grad for part in fast.parameters())
    before = fast(x)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(1.0)
    assert torch.equal(fast(x), before)


REFUSED = {
    "takes no other weights: load them into the original, and accelerate it again": (
        lambda fast: fast.load_state_dict(fast.state_dict())
    ),
    "computes in float32 on the CPU, and cannot be cast to torch.float64 on cpu": lambda fast: fast.double(),
    "computes in float32 on the CPU, and cannot be cast to torch.bfloat16 on cpu": (
        lambda fast: fast.to(torch.bfloat16)
    ),
    "computes in float32 on the CPU, and cannot be cast to torch.float32 on meta": lambda fast: fast.to(
        "meta"
    ),
    "has no gradients: change the original and accelerate it again": lambda fast: fast.requires_grad_(),
    "cannot be traced: a trace would record one answer; save it with save(path) or torch.save": (
        lambda fast: torch.jit.trace(fast, torch.randn(2, 24))
    ),
    "cannot be exported: the engine is no graph; save it with save(path) or torch.save": (
        lambda fast: torch.export.export(fast, (torch.randn(2, 24),))
    ),
    "cannot be scripted: save it with save(path) or torch.save": torch.jit.script,
    "only predicts: train the original and accelerate it again": lambda fast: fast.train(),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(fast, what):
    with pytest.raises(UserError, match="^" + re.escape(f"an accelerated model {what}") + "$"):
        REFUSED[what](fast)


def test_torch_compile_calls_it_and_does_not_look_into_it(fast, x):
    expected = fast(x)
    alone = torch.compile(fast, backend="eager")
    around = torch.compile(lambda x: 2 * fast(x) + 1, backend="eager")
    for size in (8, 3, 1):
        assert torch.equal(alone(x[:size]), fast(x[:size]))
        torch.testing.assert_close(around(x[:size]), 2 * fast(x[:size]) + 1)
    assert torch.equal(fast(x), expected)


def test_what_changes_nothing_is_allowed(fast, x):
    before = fast(x)
    for same in (
        fast.float(),
        fast.to("cpu"),
        fast.cpu(),
        fast.eval(),
        fast.requires_grad_(False),
        fast.train(False),
    ):
        assert same is fast
    assert not fast.training
    assert torch.equal(fast(x), before)


def test_hooks_inside_are_refused_and_outside_are_called(fast, x):
    message = (
        "a module inside of an accelerated model takes no hooks, its work may be done elsewhere: put them on the "
        "original and accelerate it again, or on the accelerated model itself"
    )
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
            getattr(fast.model[0], register)(lambda *_: None)
    seen = []
    handle = fast.register_forward_hook(lambda module, inputs, output: seen.append(output))
    fast(x)
    handle.remove()
    assert len(seen) == 1


def test_a_model_that_is_one_chain_is_called_past_its_graph(fast, x, monkeypatch):
    monkeypatch.setattr(fast.model.forward, "graph", None)
    assert fast(x).shape == (8, 5)
    torch.manual_seed(0)
    more = accelerate(Autoencoder().eval(), torch.randn(40, 24), max_disagreement=0, threads=1)
    assert more.model.forward.only is None


def test_attributes_of_the_model_are_handed_on():
    class Model(nn.Module):
        labels = ("a", "b")

        def __init__(self) -> None:
            super().__init__()
            self.body, self.temperature = mlp(24, 16, 2), 2.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) / self.temperature

        def predict(self, x: torch.Tensor) -> list[str]:
            return [self.labels[k] for k in self(x).argmax(1)]

    model = Model().eval()
    given = torch.randn(40, 24)
    fast = accelerate(model, given, max_disagreement=0, threads=1)
    assert (fast.temperature, fast.labels) == (2.0, ("a", "b"))
    assert fast.predict(given) == model.predict(given)
    assert isinstance(fast.body[0], nn.Linear)
    with pytest.raises(AttributeError, match=r"^'Model' object has no attribute 'nothing'$"):
        fast.nothing  # noqa: B018
    message = "an accelerated model is fixed, and would not heed another temperature: change the original and accelerate it again"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        fast.temperature = 1.0
    fast.mine = 3
    assert fast.mine == 3


def test_it_is_copied_and_saved(fast, x):
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    for again in (copy.deepcopy(fast), torch.load(file, weights_only=False)):
        torch.testing.assert_close(again(x), fast(x))
        assert again.model.forward.only == again.chains[0].forward
        assert str(again.report) == str(fast.report)
        with pytest.raises(UserError):
            again.train()
        with pytest.raises(UserError):
            again.model[0].register_forward_hook(print)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_autocast_changes_no_dtype(fast, batch):
    given = torch.randn(batch, 24)
    expected = fast(given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(given), expected)
        narrow = fast(given.bfloat16())  # as another layer in autocast would give it
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, fast(given.bfloat16().float()))


def test_inference_mode_and_inputs_with_gradients(fast, x):
    with torch.inference_mode():
        inside = fast(x.clone())
    assert torch.equal(inside, fast(x))
    with_gradient = fast(x.clone().requires_grad_())
    assert not with_gradient.requires_grad
    assert torch.equal(with_gradient, inside)


def test_other_inputs_are_refused(fast):
    for given, found in (
        (torch.randn(2, 24).double(), "torch.float64 on cpu"),
        (torch.randn(2, 24, device="meta"), "torch.float32 on meta"),
    ):
        message = (
            f"0 to 2 got {found}: an accelerated model computes in float32 on the CPU, give it such inputs"
        )
        with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
            fast(given)


def test_threads_at_once():
    """All ask for batches whose plan is still to be chosen."""
    model = mlp(24, 64, 5).eval()
    fast = accelerate(model, torch.randn(40, 24), max_disagreement=0, threads=2)
    inputs = [torch.randn(size, 24) for size in (1, 3, 20, 100) for _ in range(3)]
    found: dict[int, torch.Tensor] = {}

    def ask(k: int) -> None:
        found[k] = fast(inputs[k])

    asking = [threading.Thread(target=ask, args=(k,)) for k in range(len(inputs))]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    for k, given in enumerate(inputs):
        torch.testing.assert_close(found[k], model(given).detach())
    assert sorted(plan.batch_size for plan in fast.plans) == [1, 8, 32, 256]


@pytest.fixture
def wide():
    """A model and inputs for which both threads have something to do."""
    torch.manual_seed(0)
    model = mlp(64, 256, 128, 6).eval()
    fast = accelerate(model, torch.randn(512, 64), max_disagreement=0, threads=2, batch_sizes=[256])
    x = torch.randn(512, 64)
    fast(x[:256])  # the parent has answered before it forks
    return model, fast, x


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_of_a_data_loader(wide):
    model, fast, x = wide

    def collate(rows):
        return fast(torch.stack([row[0] for row in rows]))

    loader = DataLoader(TensorDataset(x), 256, num_workers=1, collate_fn=collate, timeout=20)
    torch.testing.assert_close(torch.cat(list(loader)), model(x).detach())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_workers_that_a_server_forks(wide):
    """As gunicorn --preload does: the model is loaded once, workers accept on one socket."""
    model, fast, x = wide
    context = multiprocessing.get_context("fork")

    def serve(listening: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with connection:
                size = int(connection.recv(16))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    connection.sendall(f"{os.getpid()} ".encode() + fast(x[:size]).numpy().tobytes())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        workers = [context.Process(target=serve, args=(listening,), daemon=True) for _ in range(2)]
        for worker in workers:
            worker.start()
        try:
            for size in (1, 20, 256, 300):
                with socket.create_connection(listening.getsockname(), timeout=20) as asking:
                    asking.settimeout(20)
                    asking.sendall(str(size).encode())
                    answer = b"".join(iter(lambda asking=asking: asking.recv(2**16), b""))
                pid, _, logits = answer.partition(b" ")
                assert int(pid) in {worker.pid for worker in workers}
                got = torch.frombuffer(bytearray(logits), dtype=torch.float32).reshape(size, 6)
                torch.testing.assert_close(got, model(x[:size]).detach())
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


OLD = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "weight norm": weight_norm,
    "spectral norm": spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("how", OLD)
def test_weights_that_a_hook_computes(how):
    model = mlp(24, 32, 16, 5)
    OLD[how](model[0])
    model.eval()
    given = torch.randn(40, 24)
    expected = model(given).detach()
    fast = accelerate(model, given, max_disagreement=0, threads=1)
    assert fast.report.chains == ("in the engine: 0 to 4: 24-32-16-5, ranks 0-0-0",)
    torch.testing.assert_close(fast(given), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(given).detach(), expected)
    assert len(model[0]._forward_pre_hooks) == 1


@pytest.mark.parametrize("where", ["a layer", "the Sequential"])
def test_a_forward_that_closes_over_what_was_there(where):
    """A copied function would go on calling the original: it is closed over the copy."""
    model = mlp(24, 32, 5).eval()
    module = model[0] if where == "a layer" else model
    plain, adapter = module.forward, torch.randn(24, 32 if where == "a layer" else 5)
    module.forward = lambda x, plain=plain: plain(x) + x @ adapter
    given = torch.randn(40, 24)
    expected = model(given).detach()
    if where == "a layer":  # a sum with what is no constant: no chain is left
        with pytest.raises(UserError, match=r"^no Linear -> ReLU chain was found"):
            accelerate(model, given, max_disagreement=0, threads=1)
        return
    fast = accelerate(model, given, max_disagreement=0, threads=1)
    with torch.no_grad():
        adapter.add_(1)
        for part in model.parameters():
            part.add_(1)
    torch.testing.assert_close(fast(given), expected, rtol=1e-4, atol=1e-4)


def test_the_original_keeps_its_mode(inputs):
    model = classifier().train()
    accelerate(model, inputs, max_disagreement=0.0, threads=1)
    assert model.training
    assert model[2].training


def test_calls_of_another_form_go_through_the_copys_own_forward():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(24, 32, 5)

        def forward(
            self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 1.0
        ) -> torch.Tensor:
            return self.body(x if mask is None else x * mask) * scale

    model = Model().eval()
    given, mask = torch.randn(40, 24), (torch.rand(40, 24) > 0.5).float()
    fast = accelerate(model, given, max_disagreement=0, threads=1)
    for arguments, options in (
        ((), {"x": given}),
        ((given, mask), {}),
        ((given,), {"scale": 2.0}),
        ((given, None, 3.0), {}),
    ):
        torch.testing.assert_close(
            fast(*arguments, **options), model(*arguments, **options).detach(), rtol=1e-4, atol=1e-4
        )
    with pytest.raises(TypeError, match="unexpected keyword"):
        fast(given, masks=mask)


def test_outputs_of_several_kinds():
    for make, kind in ((ActorCritic, tuple), (Autoencoder, dict)):
        given = torch.randn(40, 24)
        assert type(accelerate(make().eval(), given, max_disagreement=0, threads=1)(given)) is kind

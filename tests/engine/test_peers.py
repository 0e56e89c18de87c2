"""Every peer gives what the layers give; one that cannot run says why."""

import sys
import warnings

import numpy as np
import pytest
import torch

from ccsweep.engine import peers
from ccsweep.engine.layers import chain
from ccsweep.estimator.cost import INPUT_SPARSE
from tests.engine.conftest import draw


@pytest.mark.parametrize("sizes", [[40, 24, 16, 5], [7, 3]])
def test_the_same_logits(sizes):
    layers = draw(sizes, rank=4, seed=0)
    x = torch.randint(-2, 3, (9, sizes[0])).float()  # whole numbers, so sums are exact
    expected = torch.from_numpy(chain(layers, x.numpy(), gated=False)[-1])
    torch.testing.assert_close(peers.eager(layers)(x), expected)
    torch.testing.assert_close(peers.exact_skip(layers, threads=1)(x), expected)
    pytest.importorskip("onnxruntime")
    (found,) = peers.onnxruntime(layers, threads=1)(x)
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
@pytest.mark.parametrize("made", [peers.onnxruntime, peers.onnxruntime_int8])
def test_onnx_runtime_is_not_installed(missing, made, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(peers.UnavailableError, match=r"^not installed: pip install onnxruntime onnx$"):
        made(draw([7, 3], rank=2, seed=0), threads=1)


def test_coarser_numbers_give_nearly_the_same_logits(caplog):
    generator = torch.Generator().manual_seed(0)
    layers = draw([40, 24, 16, 5], rank=4, seed=0)
    x = torch.randn(300, 40, generator=generator)
    expected = chain(layers, x.numpy(), gated=False)[-1]
    pytest.importorskip("onnxruntime")
    made = {
        "bfloat16": peers.bfloat16(layers)(x).float().numpy(),
        "int8 of torch": peers.int8_of_torch(layers)(x).numpy(),
        "int8": peers.onnxruntime_int8(layers, 1)(x)[0],
        "static int8": peers.onnxruntime_int8(layers, 1, x)(x)[0],
    }
    for name, found in made.items():
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert 1e-5 < error < 0.05, name
    assert not caplog.records  # ONNX Runtime's advice is not the user's business


def test_a_network_that_ends_in_a_relu():
    layers = [layer._replace(relu=True) for layer in draw([6, 5, 4], rank=2, seed=0)]
    x = torch.randint(-2, 3, (9, 6)).float()
    expected = torch.from_numpy(chain(layers, x.numpy(), gated=False)[-1])
    assert (expected == 0).any()
    torch.testing.assert_close(peers.eager(layers)(x), expected)
    pytest.importorskip("onnxruntime")
    (found,) = peers.onnxruntime(layers, threads=1)(x)
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_layers_without_a_relu_between_them():
    pytest.importorskip("onnxruntime")
    layers = [layer._replace(relu=False) for layer in draw([6, 5, 4, 3], rank=2, seed=0)]
    x = torch.randint(-2, 3, (9, 6)).float()
    (found,) = peers.onnxruntime(layers, threads=1)(x)
    np.testing.assert_array_equal(found, chain(layers, x.numpy())[-1])


def test_peers_share_the_layers_memory_and_give_no_gradients():
    layers = draw([6, 5, 4], rank=2, seed=0)
    model = peers._sequential(layers)
    assert not model.training
    assert [type(part).__name__ for part in model] == ["Linear", "ReLU", "Linear"]
    assert model[0].weight.data_ptr() == layers[0].weight.ctypes.data
    assert not any(parameter.requires_grad for parameter in model.parameters())
    out = peers.eager(layers)(torch.ones(1, 6, requires_grad=True))
    assert out.is_inference()


def test_exact_skip_takes_its_threads():
    run = peers.exact_skip(draw([6, 5, 4], rank=2, seed=0), threads=2)
    assert (run.ways, run.threads) == ((INPUT_SPARSE, INPUT_SPARSE), 2)


def test_onnx_runtime_takes_its_threads(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    asked = {}

    class Session:
        def __init__(self, model, options, providers):
            asked.update(options=options, providers=providers)

        def run(self, wanted, given):
            asked.update(wanted=wanted, given=given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    peers.onnxruntime(draw([6, 5, 4], rank=2, seed=0), threads=3)(torch.ones(1, 6))
    options = asked["options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert asked["providers"] == ["CPUExecutionProvider"]
    assert asked["wanted"] is None
    assert list(asked["given"]) == ["x"]


def test_the_onnx_model_is_what_any_runtime_reads():
    onnx = pytest.importorskip("onnx")
    layers = draw([6, 5, 4], rank=2, seed=0)
    model = onnx.load_from_string(peers.onnx(layers))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm"]
    shapes = [
        [(d.dim_param or d.dim_value) for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 6], ["batch", 4]]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "logits"]
    assert [held.name for held in model.graph.initializer] == ["weight0", "bias0", "weight1", "bias1"]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)  # what older runtimes read


def test_torch_compile_is_asked_for_one_shape(monkeypatch):
    """What it compiles is torch's business; here, that it is asked afresh and first run on the example."""
    asked, example = [], torch.ones(3, 6)
    monkeypatch.setattr(torch.compiler, "reset", lambda: asked.append("reset"))

    def compile(model, dynamic):
        asked.append(dynamic)
        return lambda x: asked.append(x) or model(x)

    monkeypatch.setattr(torch, "compile", compile)
    layers = draw([6, 5, 4], rank=2, seed=0)
    run = peers.compiled_by_torch(layers, example)
    assert asked == ["reset", False, example]
    torch.testing.assert_close(run(example), peers.eager(layers)(example))


def test_torch_compile_that_fails_says_why(monkeypatch):
    def compile(model, dynamic):
        raise RuntimeError("\nno compiler\nand more\nand more")

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(
        peers.UnavailableError, match=r"^no compiler; it needs a C\+\+ compiler, such as g\+\+$"
    ):
        peers.compiled_by_torch(draw([6, 4], rank=2, seed=0), torch.ones(3, 6))


def test_torch_warns_of_its_own_code_in_vain(monkeypatch):
    def compile(model, dynamic):
        warnings.warn("deprecated", stacklevel=1)
        return model

    monkeypatch.setattr(torch, "compile", compile)
    peers.compiled_by_torch(draw([6, 4], rank=2, seed=0), torch.ones(3, 6))  # warnings are errors here

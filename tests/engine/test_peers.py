"""Every peer gives what the layers give; one that cannot run says why."""

import sys
import warnings

import numpy as np
import pytest
import torch

from ccsweep.engine import peers
from ccsweep.engine.layers import Layer, chain
from tests.engine.conftest import draw

onnx = pytest.importorskip("onnx")


def plain(layers: list[Layer]) -> list[Layer]:
    """The same without gates."""
    return [layer._replace(gate=None) for layer in layers]


@pytest.mark.parametrize("which", [plain, list])
@pytest.mark.parametrize("sizes", [[40, 24, 16, 5], [7, 3]])
def test_the_same_logits(sizes, which):
    layers = which(draw(sizes, rank=4, seed=0))
    x = torch.randint(-2, 3, (9, sizes[0])).float()  # whole numbers, so sums are exact
    expected = torch.from_numpy(chain(layers, x.numpy())[-1])
    torch.testing.assert_close(peers.eager(layers)(x), expected)
    pytest.importorskip("onnxruntime")
    (found,) = peers.onnxruntime(peers.onnx(layers), threads=1)(x)
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
def test_onnx_runtime_is_not_installed(missing, monkeypatch):
    pytest.importorskip("onnxruntime")
    layers = draw([7, 3], rank=2, seed=0)
    model = peers.onnx(layers)
    monkeypatch.setitem(sys.modules, missing, None)
    makes = [lambda: peers.int8(layers)]
    makes += (
        [lambda: peers.onnxruntime(model, 1)] if missing == "onnxruntime" else [lambda: peers.onnx(layers)]
    )
    for make in makes:
        with pytest.raises(peers.UnavailableError, match=r"^not installed: pip install onnxruntime onnx$"):
            make()


@pytest.mark.parametrize("which", [plain, list])
def test_coarser_numbers_give_nearly_the_same_logits(which, caplog):
    generator = torch.Generator().manual_seed(0)
    layers = which(draw([40, 24, 16, 5], rank=4, seed=0))
    x = torch.randn(300, 40, generator=generator)
    x = x.bfloat16().float()  # a gate that gets what it would get anyway decides the same
    expected = chain(layers, x.numpy())[-1]
    pytest.importorskip("onnxruntime")
    made = {
        "bfloat16": peers.bfloat16(layers)(x).float().numpy(),
        "int8 of torch": peers.int8_of_torch(layers)(x).numpy(),
        "int8": peers.onnxruntime(peers.int8(layers), 1)(x)[0],
        "static int8": peers.onnxruntime(peers.int8(layers, x), 1)(x)[0],
    }
    for name, found in made.items():
        errors = np.abs(found - expected).max(1) / np.abs(expected).max()
        assert 1e-5 < np.median(errors) < 0.05, name
    assert not caplog.records  # ONNX Runtime's advice is not the user's business


def test_gates_stay_in_float32():
    """In another precision their factors would decide otherwise."""
    pytest.importorskip("onnxruntime")
    layers = draw([40, 24, 16, 5], rank=4, seed=0)
    model = peers._sequential(layers).bfloat16()
    for given, made in zip(layers[:2], model[:2], strict=True):
        assert all(held.dtype is torch.float32 for held in (made._u, made._v, made._start))
        assert torch.equal(made._start, torch.from_numpy(given.bias) + given.gate.shift)
    for content in (peers.int8(layers), peers.int8(layers, torch.randn(50, 40))):
        held = {each.name: each.data_type for each in onnx.load_from_string(content).graph.initializer}
        assert {held[f"{name}{k}"] for name in "uv" for k in (0, 1)} == {onnx.TensorProto.FLOAT}
        weights = [
            kind for name, kind in held.items() if name.startswith("weight0") and name.endswith("_quantized")
        ]
        assert weights == [onnx.TensorProto.INT8]


def test_a_network_that_ends_in_a_relu():
    layers = [layer._replace(relu=True) for layer in plain(draw([6, 5, 4], rank=2, seed=0))]
    x = torch.randint(-2, 3, (9, 6)).float()
    expected = torch.from_numpy(chain(layers, x.numpy())[-1])
    assert (expected == 0).any()
    torch.testing.assert_close(peers.eager(layers)(x), expected)
    pytest.importorskip("onnxruntime")
    (found,) = peers.onnxruntime(peers.onnx(layers), threads=1)(x)
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_layers_without_a_relu_between_them():
    pytest.importorskip("onnxruntime")
    layers = [layer._replace(relu=False) for layer in plain(draw([6, 5, 4, 3], rank=2, seed=0))]
    x = torch.randint(-2, 3, (9, 6)).float()
    (found,) = peers.onnxruntime(peers.onnx(layers), threads=1)(x)
    np.testing.assert_array_equal(found, chain(layers, x.numpy())[-1])


def test_peers_share_the_layers_memory_and_give_no_gradients():
    layers = plain(draw([6, 5, 4], rank=2, seed=0))
    model = peers._sequential(layers)
    assert not model.training
    assert [type(part).__name__ for part in model] == ["Linear", "ReLU", "Linear"]
    assert model[0].weight.data_ptr() == layers[0].weight.ctypes.data
    assert not any(parameter.requires_grad for parameter in model.parameters())
    out = peers.eager(layers)(torch.ones(1, 6, requires_grad=True))
    assert out.is_inference()


def test_onnx_runtime_takes_its_threads(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    asked = {}

    class Session:
        def __init__(self, model, options, providers):
            asked.update(model=model, options=options, providers=providers)

        def run(self, wanted, given):
            asked.update(wanted=wanted, given=given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    peers.onnxruntime(b"a model", threads=3)(torch.ones(1, 6))
    options = asked["options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert asked["model"] == b"a model"
    assert asked["providers"] == ["CPUExecutionProvider"]
    assert asked["wanted"] == ["logits"]
    assert list(asked["given"]) == ["x"]


def test_the_onnx_model_is_what_any_runtime_reads():
    layers = plain(draw([6, 5, 4], rank=2, seed=0))
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
    gated = onnx.load_from_string(peers.onnx(draw([6, 5, 4], rank=2, seed=0)))
    onnx.checker.check_model(gated, full_check=True)
    gate = ["MatMul", "MatMul", "Add", "Greater", "Where"]
    assert [node.op_type for node in gated.graph.node] == ["Gemm", "Relu", *gate, "Gemm"]


def test_torch_compile_is_asked_for_one_shape(monkeypatch):
    """What it compiles is torch's business; here, that it is asked afresh and first run on the example."""
    asked, example = [], torch.ones(3, 6)
    monkeypatch.setattr(torch.compiler, "reset", lambda: asked.append("reset"))

    def compile(model, dynamic):
        asked.append(dynamic)
        return lambda x: asked.append(x) or model(x)

    monkeypatch.setattr(torch, "compile", compile)
    layers = plain(draw([6, 5, 4], rank=2, seed=0))
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

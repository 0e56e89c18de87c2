"""Models of others in files of every kind, and files that hold none."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from ccsweep.errors import UserError
from ccsweep.tasks.foreign import read

X = torch.randn(9, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def gives(path, model, x=X):
    with torch.no_grad():
        torch.testing.assert_close(read(str(path))(x), model(x), rtol=1e-5, atol=1e-6)


def test_an_exported_program(model, tmp_path):
    path = tmp_path / "net.pt2"
    any_batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model, (X,), dynamic_shapes=any_batch), path)
    for count in (0, 1, 9):
        gives(path, model, X[:count])


@pytest.mark.parametrize("form", ["plain", "checkpoint", "without biases", "half"])
def test_a_state_dict(form, model, tmp_path):
    path = tmp_path / "net.pt"
    if form == "without biases":
        model = nn.Sequential(nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
    if form == "half":
        model = model.half().float()
    content = {key: value.half() if form == "half" else value for key, value in model.state_dict().items()}
    torch.save({"state_dict": content, "epoch": 3} if form == "checkpoint" else content, path)
    gives(path, model)


def written(path, nodes, weights, width=12):
    onnx = pytest.importorskip("onnx")
    float32, made = (
        onnx.TensorProto.FLOAT,
        [onnx.helper.make_node(*node, **options) for *node, options in nodes],
    )
    ends = [
        onnx.helper.make_tensor_value_info(name, float32, ["batch", None])
        for name in ("x", made[-1].output[0])
    ]
    held = [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(made, "net", ends[:1], ends[1:], held)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )


def test_onnx(model, tmp_path):
    path, (a, _, b, _, c) = tmp_path / "net.onnx", model
    nodes = [
        ("Flatten", ["x"], ["f"], {}),
        ("Gemm", ["f", "a", "a0"], ["1"], {"transB": 1}),
        ("Relu", ["1"], ["2"], {}),
        ("MatMul", ["2", "b"], ["3"], {}),
        ("Add", ["b0", "3"], ["4"], {}),
        ("Relu", ["4"], ["5"], {}),
        ("Gemm", ["5", "c", "c0"], ["6"], {"alpha": 0.5, "beta": 2.0}),
    ]
    weights = {
        "a": a.weight,
        "a0": a.bias,
        "b": b.weight.T,
        "b0": b.bias,
        "c": 2 * c.weight.T,
        "c0": c.bias / 2,
    }
    written(path, nodes, {name: value.contiguous() for name, value in weights.items()})
    gives(path, model)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("Tanh", ["x"], ["y"], {}), "Tanh t is not known; expected Gemm, MatMul, Add and Relu"),
        (("Relu", ["x"], ["y"], {}), "Relu t is not known; expected Gemm, MatMul, Add and Relu"),
        (("Flatten", ["x"], ["y"], {}), "holds no Gemm and no MatMul; expected a chain of them"),
        (("MatMul", ["w", "x"], ["y"], {}), "MatMul t is no linear layer of the inputs"),
        (("MatMul", ["x", "x"], ["y"], {}), "MatMul t is not next in a chain; expected one path of layers"),
    ],
)
def test_onnx_of_other_operations(node, message, tmp_path):
    path = tmp_path / "net.onnx"
    *head, options = node
    written(path, [(*head, {**options, "name": "t"})], {"w": torch.ones(12, 12)})
    with pytest.raises(UserError, match="^" + re.escape(f"model={path}: {message}") + "$"):
        read(str(path))


EXPECTED = (
    "expected an exported program (.pt2), a state dict of linear layers (.pt, .pth) or an ONNX file (.onnx)"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a.weight": torch.ones(3, 2, 5)},
            "a.weight of shape (3, 2, 5) is no linear layer's; expected an MLP's, or a .pt2",
        ),
        (
            {"a.weight": torch.ones(3)},
            "a.weight of shape (3,) is no linear layer's; expected an MLP's, or a .pt2",
        ),
        (
            {"a.running_mean": torch.ones(3)},
            "holds a.running_mean, which is no linear layer's; expected an MLP's state dict, or a .pt2",
        ),
        ({}, "holds nothing, which is no linear layer's; expected an MLP's state dict, or a .pt2"),
        ({"a": 3}, "holds no state dict; expected one: torch.save(model.state_dict(), path)"),
        (
            {"a.weight": torch.ones(3, 2), "b.weight": torch.ones(2, 4)},
            "a layer of 3 units stands before one of 4 inputs; expected a chain",
        ),
    ],
)
def test_other_state_dicts(content, message, tmp_path):
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match="^" + re.escape(f"model={path}: {message}") + "$"):
        read(str(path))


def test_no_code_is_executed(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(3, 2), path)
    with pytest.raises(UserError, match=r"net.pt: cannot be read \(Weights only load failed"):
        read(str(path))


def test_other_files(tmp_path):
    with pytest.raises(UserError, match="^" + re.escape(f"model=net.h5: {EXPECTED}") + "$"):
        read("net.h5")
    missing = tmp_path / "net.onnx"
    with pytest.raises(UserError, match="^" + re.escape(f"model={missing}: no such file; {EXPECTED}") + "$"):
        read(str(missing))
    for suffix in ("pt", "pt2", "onnx"):
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(np.arange(100, dtype=np.uint8).tobytes())
        with pytest.raises(UserError, match=r"broken\.\w+: cannot be read \(.*\); expected an exported"):
            read(str(path))

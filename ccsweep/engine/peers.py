"""The network's layers as others run them: what the engine is timed beside.

A layer with a gate computes it beside its units, in float32, and sets to zero what it turns off.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ccsweep.engine.layers import Layer
from ccsweep.estimator.factors import Factors

MISSING = "not installed: pip install onnxruntime onnx"
# Inputs that scales of activations are taken from.
CALIBRATED = 1000
# Further from 0 than any score.
FAR = 1e30
# What the names of a gate's operations begin with.
GATE = "gate"

Run = Callable[[Tensor], object]
"""From inputs (batch, in_features), float32 on the CPU, to logits, as its library gives them."""
Model = bytes
"""Of ONNX."""


class UnavailableError(Exception):
    """A peer cannot run here; the message says why, and what would help."""


def eager(layers: Sequence[Layer]) -> Run:
    """The dense network as anyone would write it in torch."""
    return _inferring(_sequential(layers))


def bfloat16(layers: Sequence[Layer]) -> Run:
    """The same in bfloat16, as ``model.bfloat16()`` makes it."""
    run = _inferring(_sequential(layers).bfloat16())
    return lambda x: run(x.bfloat16())


def int8_of_torch(layers: Sequence[Layer]) -> Run:
    """The same by torch's ``quantize_dynamic``: weights in int8, activations as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to torchao some day
        return _inferring(
            torch.ao.quantization.quantize_dynamic(_sequential(layers), {nn.Linear}, torch.qint8)
        )


def compiled_by_torch(layers: Sequence[Layer], example: Tensor) -> Run:
    """The dense network in ``torch.compile``, for inputs of the example's shape and torch's threads.

    Raises:
        UnavailableError: it does not compile; mostly there is no C++ compiler.
    """
    torch.compiler.reset()  # after eight shapes of one module it would fall back to eager and say nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about torch's own code
            run = _inferring(torch.compile(_sequential(layers), dynamic=False))
            run(example)
    except Exception as error:  # of many kinds, most of them private to torch
        reason = str(error).strip().partition("\n")[0]
        raise UnavailableError(f"{reason}; it needs a C++ compiler, such as g++") from error
    return run


def onnxruntime(model: Model, threads: int) -> Run:
    """A model of ONNX in ONNX Runtime, from ``x`` to ``logits``.

    Raises:
        UnavailableError: it is not installed.
    """
    run = session(model, threads).run
    return lambda x: run(["logits"], {"x": x.numpy()})


def direct(model: Model, threads: int) -> Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]:
    """The same for inputs by name, to all outputs, without its checks of each call.

    For one sample ``session.run`` takes 1.0 us more of 64-256-128-10 (6.2 us) and, where weights push its
    Python out of the cache, 5 to 8 us more of 784-1000-600-400-10 (280 us); ``run_with_iobinding`` takes
    twice that. Seen on a Xeon with AMX.

    Raises:
        UnavailableError: it is not installed.
    """
    made = session(model, threads)
    names, run = [output.name for output in made.get_outputs()], made._sess.run
    return lambda given: run(names, given, None)


def session(model: Model, threads: int) -> Any:
    """A model in ONNX Runtime, as it calls it.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what it refuses is said by whoever asked
    # Its threads would otherwise go on spinning through the others' turns.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def int8(layers: Sequence[Layer], calibration: Tensor | None = None) -> Model:
    """The ONNX model quantised by ONNX Runtime, weights per channel, gates left in float32.

    Args:
        layers: of the network.
        calibration: inputs that the scales of activations are taken from; None means from each call's.

    Raises:
        UnavailableError: it is not installed.
    """
    model = onnx(layers)
    try:
        import onnx as library
        from onnxruntime import quantization
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    with tempfile.TemporaryDirectory() as folder, _silent():
        file, loaded = Path(folder) / "int8.onnx", library.load_from_string(model)
        gates = [node.name for node in loaded.graph.node if node.name.startswith(GATE)]
        if calibration is None:
            quantization.quantize_dynamic(loaded, file, per_channel=True, nodes_to_exclude=gates)
        else:
            few = _Reader(calibration[:CALIBRATED].numpy())
            unsigned = (
                quantization.QuantType.QUInt8
            )  # what x86 multiplies; beside a gate others become floats
            quantization.quantize_static(
                loaded, file, few, per_channel=True, activation_type=unsigned, nodes_to_exclude=gates
            )
        return file.read_bytes()


class _Reader:
    """Calibration inputs as ONNX Runtime asks for them."""

    def __init__(self, inputs: np.ndarray) -> None:
        self._left = iter(np.array_split(inputs, max(len(inputs) // 100, 1)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next ones by the input's name, or None."""
        part = next(self._left, None)
        return None if part is None else {"x": part}


@contextmanager
def _silent() -> Iterator[None]:
    """Without ONNX Runtime's advice, which goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def onnx(layers: Sequence[Layer]) -> Model:
    """The dense network as an ONNX model: Gemm and Relu in turns, from ``x`` to ``logits``.

    Raises:
        UnavailableError: onnx is not installed.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    nodes, held = [], []

    def keep(name: str, array: Any) -> str:
        held.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One operation; what comes out of it has its name."""
        nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    zero = keep("zero", np.float32(0)) if any(layer.gate for layer in layers) else ""
    last = "x"
    for k, layer in enumerate(layers):
        x, weights = last, [keep(f"weight{k}", layer.weight), keep(f"bias{k}", layer.bias)]
        last = node("Gemm", [x, *weights], f"product{k}", transB=1)
        if layer.relu:
            last = node("Relu", [last], f"activation{k}")
        if layer.gate is not None:
            u, v = keep(f"u{k}", layer.gate.u), keep(f"v{k}", layer.gate.v)
            shift = layer.gate.shift.numpy().clip(
                -FAR, FAR
            )  # quantising looks at all numbers, infinite ones too
            start = keep(f"start{k}", layer.bias + shift)
            # Not Gemm, of which quantising would make operations with names that it does not know.
            scores = node("MatMul", [node("MatMul", [x, u], f"{GATE}{k} t"), v], f"{GATE}{k} product")
            on = node("Greater", [node("Add", [scores, start], f"{GATE}{k} scores"), zero], f"{GATE}{k} on")
            last = node("Where", [on, last, zero], f"{GATE}{k}")
    nodes[-1].output[0] = "logits"

    def batches(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])

    graph = helper.make_graph(
        nodes, "network", [batches("x", layers[0].inputs)], [batches("logits", layers[-1].units)], held
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: Model = model.SerializeToString()
    return content


class _Gated(nn.Module):
    """A layer, its ReLU and its gate.

    The factors are no parameters: they stay in float32, whatever becomes of the weights.
    """

    def __init__(self, linear: nn.Linear, gate: Factors) -> None:
        super().__init__()
        self.linear = linear
        self._u, self._v, self._start = gate.u, gate.v, linear.bias.detach() + gate.shift

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (batch, units) of x (batch, in_features)."""
        scores = torch.addmm(self._start, x.float() @ self._u, self._v)
        return self.linear(x).relu_().masked_fill_(scores <= 0, 0)


def _sequential(layers: Sequence[Layer]) -> nn.Module:
    """Modules that share the layers' memory."""
    parts: list[nn.Module] = []
    for layer in layers:
        linear = nn.Linear(layer.inputs, layer.units, device="meta")
        linear.weight, linear.bias = (
            nn.Parameter(torch.from_numpy(part), requires_grad=False) for part in (layer.weight, layer.bias)
        )
        if layer.gate is not None:
            parts.append(_Gated(linear, layer.gate))
        else:
            parts += [linear, nn.ReLU()] if layer.relu else [linear]
    return nn.Sequential(*parts).eval()


def _inferring(model: Callable[[Tensor], Any]) -> Run:
    @torch.inference_mode()
    def run(x: Tensor) -> object:
        return model(x)

    return run

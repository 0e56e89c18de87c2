"""The network's layers as others run them: what the engine is timed beside."""

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

from ccsweep.engine.compiled import Compiled
from ccsweep.engine.layers import Layer
from ccsweep.engine.layout import Layout
from ccsweep.estimator.cost import INPUT_SPARSE

MISSING = "not installed: pip install onnxruntime onnx"
# Inputs that scales of activations are taken from.
CALIBRATED = 1000

Run = Callable[[Tensor], object]
"""From inputs (batch, in_features), float32 on the CPU, to logits, as its library gives them."""


class UnavailableError(Exception):
    """A peer cannot run here; the message says why, and what would help."""


def eager(layers: Sequence[Layer]) -> Run:
    """The dense network as anyone would write it in torch."""
    return _inferring(_sequential(layers))


def exact_skip(layers: Sequence[Layer], threads: int) -> Run:
    """The engine without any estimator: zero inputs are left out, and nothing else."""
    return Compiled(Layout(layers), (INPUT_SPARSE,) * len(layers), threads)


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


def onnxruntime(layers: Sequence[Layer], threads: int) -> Run:
    """The dense network in ONNX Runtime.

    Raises:
        UnavailableError: it is not installed.
    """
    return _session(onnx(layers), threads)


def onnxruntime_int8(layers: Sequence[Layer], threads: int, calibration: Tensor | None = None) -> Run:
    """The dense network quantised by ONNX Runtime, weights per channel.

    Args:
        layers: of the network.
        threads: to use.
        calibration: inputs that the scales of activations are taken from; None means from each call's.

    Raises:
        UnavailableError: it is not installed.
    """
    model = onnx(layers)
    try:
        import onnx as library
        from onnxruntime import quantization  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    with tempfile.TemporaryDirectory() as folder, _silent():
        file, loaded = Path(folder) / "int8.onnx", library.load_from_string(model)
        if calibration is None:
            quantization.quantize_dynamic(loaded, file, per_channel=True)
        else:
            few = calibration[:CALIBRATED].numpy()
            quantization.quantize_static(loaded, file, _Reader(few), per_channel=True)
        return _session(file.read_bytes(), threads)


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


def _session(model: bytes, threads: int) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Its threads would otherwise go on spinning through the others' turns.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})


def onnx(layers: Sequence[Layer]) -> bytes:
    """The dense network as an ONNX model: Gemm and Relu in turns, from ``x`` to ``logits``.

    Raises:
        UnavailableError: onnx is not installed.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise UnavailableError(MISSING) from error
    nodes, weights, last = [], [], "x"
    for k, layer in enumerate(layers):
        weights.append(numpy_helper.from_array(layer.weight, f"weight{k}"))
        weights.append(numpy_helper.from_array(layer.bias, f"bias{k}"))
        ends = k == len(layers) - 1
        product = "logits" if ends and not layer.relu else f"product{k}"
        nodes.append(helper.make_node("Gemm", [last, f"weight{k}", f"bias{k}"], [product], transB=1))
        last = product
        if layer.relu:
            last = "logits" if ends else f"activation{k}"
            nodes.append(helper.make_node("Relu", [product], [last]))

    def batches(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])

    graph = helper.make_graph(
        nodes, "network", [batches("x", layers[0].inputs)], [batches("logits", layers[-1].units)], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _sequential(layers: Sequence[Layer]) -> nn.Module:
    """Modules that share the layers' memory."""
    parts: list[nn.Module] = []
    for layer in layers:
        linear = nn.Linear(layer.inputs, layer.units, device="meta")
        linear.weight, linear.bias = (
            nn.Parameter(torch.from_numpy(part), requires_grad=False) for part in (layer.weight, layer.bias)
        )
        parts += [linear, nn.ReLU()] if layer.relu else [linear]
    return nn.Sequential(*parts).eval()


def _inferring(model: Callable[[Tensor], Any]) -> Run:
    @torch.inference_mode()
    def run(x: Tensor) -> object:
        return model(x)

    return run

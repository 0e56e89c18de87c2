"""OpenVINO in a process of its own, which times its own calls: where it crashes, it takes nothing with it."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from torch import Tensor

from ccsweep.engine.clock import turn
from ccsweep.engine.peers import UnavailableError

LONGEST = 300.0  # seconds that one answer may take


class Apart:
    """A model in OpenVINO, for calls and for turns of the clock.

    Args:
        model: of ONNX.
        precision: that it may compute in, ``f32`` or ``bf16``; of what is quantised, of the rest.
        threads: to use.
        batches: what it is timed with, one after the other.

    Raises:
        UnavailableError: OpenVINO is not installed, does not take the model, or crashes.
    """

    def __init__(self, model: bytes, precision: str, threads: int, batches: Sequence[Tensor]) -> None:
        if find_spec("openvino") is None:
            raise UnavailableError("not installed: pip install openvino")
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        theirs.close()
        self._asked((model, precision, threads, [batch.numpy() for batch in batches]))
        self(batches[0])

    def __call__(self, x: Tensor) -> np.ndarray:
        """Logits (batch, classes) of x (batch, in_features)."""
        logits: np.ndarray = self._asked(x.numpy())
        return logits

    def turn(self) -> list[float]:
        """Microseconds of each call in one turn."""
        times: list[float] = self._asked(None)
        return times

    def _asked(self, what: Any) -> Any:
        try:
            self._connection.send(what)
            found = self._connection.recv() if self._connection.poll(LONGEST) else TimeoutError("no answer")
        except (EOFError, OSError) as error:
            raise UnavailableError(f"its process ended with {self._process.wait()}") from error
        if isinstance(found, Exception):
            raise UnavailableError(str(found).strip().partition("\n")[0])
        return found

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._connection.close()
            self._process.kill()
            self._process.wait()


def serve(connection: Connection) -> None:
    """Answer what an :class:`Apart` asks, until it is gone."""
    import openvino  # type: ignore[import-untyped]

    model, precision, threads, batches = connection.recv()
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    try:
        request = openvino.compile_model(
            openvino.Core().read_model(model), "CPU", settings
        ).create_infer_request()
    except Exception as error:  # of its own kinds
        connection.send(error)
        return
    coming = cycle(batches)

    def run(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = request.infer([x], share_inputs=True, share_outputs=True)[0]
        return found

    connection.send(None)
    while True:
        try:
            x = connection.recv()
        except EOFError:
            return
        connection.send(turn(lambda: run(next(coming))) if x is None else run(x))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))

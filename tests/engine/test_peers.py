"""Every peer gives what the layers give; one that cannot run says why."""

import sys

import pytest
import torch

from ccsweep.engine import peers
from ccsweep.engine.layers import chain
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
def test_onnx_runtime_is_not_installed(missing, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(peers.UnavailableError, match=r"^not installed: pip install onnxruntime onnx$"):
        peers.onnxruntime(draw([7, 3], rank=2, seed=0), threads=1)

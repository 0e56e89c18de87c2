"""OpenVINO in a process of its own: what it gives, and what is said when it is gone."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ccsweep.engine import apart, peers
from ccsweep.engine.apart import Apart
from ccsweep.engine.layers import chain
from ccsweep.engine.peers import UnavailableError
from tests.engine.conftest import draw


@pytest.mark.slow  # a process, which imports torch
def test_the_same_logits_and_turns_of_its_own(monkeypatch):
    pytest.importorskip("openvino")
    layers = draw([40, 24, 16, 5], rank=4, seed=0)
    x = torch.randint(-2, 3, (9, 40)).float()
    made = Apart(peers.onnx(layers), "f32", 1, [x[:4], x[4:8]])
    np.testing.assert_allclose(made(x), chain(layers, x.numpy())[-1], rtol=1e-5)
    assert all(0 < took < 1e6 for took in made.turn())
    made._process.kill()
    with pytest.raises(UnavailableError, match=r"^its process ended with -9$"):
        made.turn()


@pytest.mark.slow
def test_a_model_that_it_does_not_take():
    pytest.importorskip("openvino")
    with pytest.raises(UnavailableError, match=r"^Exception from "):
        Apart(b"no model", "f32", 1, [torch.ones(1, 4)])


def test_a_process_that_crashes_takes_nothing_with_it(monkeypatch):
    monkeypatch.setattr(apart, "find_spec", lambda name: name)
    monkeypatch.setattr(apart, "sys", SimpleNamespace(executable="/bin/false"))
    with pytest.raises(UnavailableError, match=r"^its process ended with 1$"):
        Apart(b"", "f32", 1, [torch.ones(1, 4)])


def test_one_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(apart, "find_spec", lambda name: name)
    monkeypatch.setattr(apart, "LONGEST", 0.05)
    silent = [sys.executable, "-c", "import time; time.sleep(9)"]
    popen = apart.subprocess.Popen
    monkeypatch.setattr(apart.subprocess, "Popen", lambda command, **options: popen(silent, **options))
    with pytest.raises(UnavailableError, match=r"^no answer$"):
        Apart(b"", "f32", 1, [torch.ones(1, 4)])


def test_openvino_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match=r"^not installed: pip install openvino$"):
        Apart(b"", "f32", 1, [torch.ones(1, 4)])

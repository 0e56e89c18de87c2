import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ccsweep.tracking.contents import cut, flatten, loggable, without_passwords


def test_values_read_as_in_a_config_file():
    config = {"a": {"b": {"c": [75, 50], "d": None}, "e": True}, "f": 1e-3, "g": "text", "h": {}}
    assert flatten(config) == {
        "a.b.c": "[75, 50]",
        "a.b.d": "null",
        "a.e": "true",
        "f": "0.001",
        "g": "text",
        "h": "{}",
    }


def test_other_types_become_text():
    assert flatten({"a": np.float32(0.5), "b": (1, 2), "c": Path("x")}) == {
        "a": "0.5",
        "b": "[1, 2]",
        "c": "x",
    }


def test_hydras_own_containers():
    config = OmegaConf.create({"ranks": {"layers": [75, 50]}, "twice": "${ranks.layers}"})
    assert flatten(config) == {"ranks.layers": "[75, 50]", "twice": "[75, 50]"}


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False))
def test_values_come_back(value):
    assert json.loads(flatten({"key": value})["key"]) == value


@given(st.text(max_size=30), st.integers(1, 40))
def test_a_cut_shows(text, limit):
    shown = cut(text, limit)
    assert len(shown) <= limit
    assert shown == text or shown.endswith("…")


def test_loggable_hides_before_it_cuts():
    # A cut in the middle of a password would leave a piece that no longer looks like one.
    assert loggable({"uri": "http://ann:0123456789@host"}, 20) == {"uri": "http://ann:***@host"}


def test_a_copy_without_passwords_keeps_what_is_no_utf8(tmp_path):
    file = tmp_path / "run.LOG"
    file.write_bytes(b"caf\xe9 http://ann:pw@host\n")
    with without_passwords(file) as shown:
        assert shown != file
        assert shown.name == file.name
        assert shown.read_bytes() == b"caf\xe9 http://ann:***@host\n"
    assert not shown.exists()
    file.write_bytes(b"caf\xe9 \n")
    with without_passwords(file) as shown:
        assert shown == file  # nothing to hide, nothing copied

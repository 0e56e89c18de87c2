"""The example of docs/accelerate.md runs."""

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "accelerate.md").read_text()


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    printed = capsys.readouterr().out
    assert printed.startswith("in the engine: 0 to 5: 64-512-256-10, ranks ")
    assert "kept: the largest along axis 1\nchanged answers: " in printed
    assert (tmp_path / "fast.pt").is_file()


def test_the_figures_of_the_page_are_those_of_the_code():
    from ccsweep.engine.accelerate import call, gates, keep
    from ccsweep.engine.accelerate.report import CONFIDENCE, samples_needed

    assert (
        f"takes\n{-(-samples_needed(0.001) // (1 - call.FITTING - call.CHOOSING)):,.0f} calibration inputs"
        in PAGE
    )
    assert f"with {CONFIDENCE:.0%}".replace("%", " %") in PAGE
    assert f"at most {keep.VALUES:.0%}".replace("%", " %") in PAGE
    assert f"within {keep.LOOSE:.0%}".replace("%", " %") in PAGE
    assert (gates.SAFETY, call.FITTING, call.CHOOSING) == (3, 1 / 4, 1 / 4)

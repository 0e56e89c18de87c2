from pathlib import Path

import pytest

from ccsweep.config.places import groups, named, root
from tests.conftest import ROOT


def test_configs_lie_in_the_checkout() -> None:
    assert root() == ROOT


def test_groups_and_their_options() -> None:
    known = groups()
    assert known["architecture"] == ["digits", "mnist", "svhn"]
    assert "digits_pareto" in known["sweeps"]
    assert "hydra" not in known
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert set(known) == folders - {"hydra"} | {"sweeps"}


def test_a_study_by_its_name_or_by_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert named("digits") == Path("outputs/sweeps/digits")
    assert named("mine/digits") == Path("mine/digits")
    assert named("~/digits") == Path("/home/ann/digits")

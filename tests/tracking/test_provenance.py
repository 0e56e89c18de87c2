import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccsweep.tracking import provenance


@pytest.fixture
def package(tmp_path) -> Path:
    """A package in a fresh repository, committed."""
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    for arguments in (
        ["init", "-q", "-b", "trunk"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *arguments], cwd=package, check=True)
    return package


class TestGit:
    def test_clean(self, package):
        state = provenance.checkout(package)
        assert (state.branch, state.dirty, state.untracked) == ("trunk", False, [])
        assert len(state.commit) == 40
        assert provenance.uncommitted(package) == ""

    def test_changed(self, package):
        (package / "__init__.py").write_text("a = 'http://ann:pw@host'\n")
        (package / "new file.py").touch()
        state = provenance.checkout(package)
        assert state.dirty
        assert [Path(name).name for name in state.untracked] == ["new file.py"]
        assert "+a = 'http://ann:***@host'" in provenance.uncommitted(package).splitlines()

    def test_a_long_diff_is_cut_visibly(self, package, monkeypatch):
        monkeypatch.setattr(provenance, "DIFF_LIMIT", 100)
        (package / "__init__.py").write_text("x" * 1000)
        diff = provenance.uncommitted(package)
        assert len(diff) < 150
        assert diff.endswith(" more characters]\n")

    def test_detached(self, package):
        subprocess.run(["git", "checkout", "-q", "--detach"], cwd=package, check=True)
        assert provenance.checkout(package).branch is None

    def test_an_installed_wheel_inside_a_checkout(self, package):
        wheel = package.parent / ".venv" / "site-packages" / "package"
        wheel.mkdir(parents=True)
        (wheel / "__init__.py").touch()
        assert provenance.checkout(wheel) is None

    def test_no_repository(self, tmp_path):
        assert provenance.checkout(tmp_path) is None

    def test_no_git(self, package, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert provenance.checkout(package) is None


def test_what_is_collected(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ccsweep", "tracking.uri=http://a:b@c"])
    began = time.perf_counter()
    found = provenance.collect(threads=2)
    assert time.perf_counter() - began < 1  # 0.05 s on an idle machine
    assert found["command"] == "python -m ccsweep tracking.uri=http://a:***@c"
    assert found["packages"]["mlflow"].startswith("3.")
    assert {"python", "torch", "pytorch-lightning", "hydra-core", "numpy"} <= set(found["packages"])
    assert found["hardware"]["threads"] == 2
    assert found["hardware"]["memory"] > 1e8
    cpu = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    )
    assert cpu.endswith(f": {found['hardware']['cpu']}")
    assert found["hardware"]["gpus"] == []
    monkeypatch.setitem(sys.modules, "torch", Torch())
    assert provenance.collect()["hardware"]["gpus"] == ["gpu 0", "gpu 1"]


class Torch:
    """As far as it is asked for GPUs."""

    class cuda:  # noqa: N801
        is_available = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        get_device_name = staticmethod(lambda index: f"gpu {index}")


def test_written_files(tmp_path, package, monkeypatch):
    (package / "__init__.py").write_text("a = 2\n")
    checkout, uncommitted = provenance.checkout, provenance.uncommitted
    monkeypatch.setattr(provenance, "checkout", lambda: checkout(package))
    monkeypatch.setattr(provenance, "uncommitted", lambda: uncommitted(package))
    monkeypatch.setattr(
        provenance, "_own_checkout", provenance._own_checkout.__wrapped__
    )  # this process looked
    monkeypatch.setattr(provenance, "_own_changes", provenance._own_changes.__wrapped__)
    assert [path.name for path in provenance.write(tmp_path)] == ["environment.json", "git.diff"]
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["git"]["branch"] == "trunk"
    assert "+a = 2" in (tmp_path / "git.diff").read_text()
    tags = provenance.code_tags()
    assert tags["mlflow.source.git.commit"] == written["git"]["commit"]
    assert tags["ccsweep.dirty"] == "true"

"""The recipes of README.md, followed to the letter in a copy of the project."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, User


def edited(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path}: {before}"
    path.write_text(text.replace(before, after))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with one more architecture, data set, estimator, sampler, objective and column."""
    for folder in ("ccsweep", "conf", "sweeps", "hydra_plugins"):
        ignored = shutil.ignore_patterns("*.pyc")  # compiled kernels are taken along
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignored)
    copy = tmp_path / "copy"
    package = copy / "ccsweep"

    (copy / "conf/architecture/narrow.yaml").write_text("hidden: [32, 16]\n")

    (package / "data/halves.py").write_text(
        "from dataclasses import replace\n"
        "from ccsweep.data import digits\n"
        "def load(request):\n"
        "    whole = digits.load(request)\n"
        "    return replace(whole, name='halves', label='half of the digits', train=whole.train.first(600))\n"
    )
    sources = '    "digits": "ccsweep.data.digits:load",\n'
    edited(package / "data/__init__.py", sources, sources + '    "halves": "ccsweep.data.halves:load",\n')
    (copy / "conf/data/halves.yaml").write_text("name: halves\nfeatures: 64\nclasses: 10\n")

    (package / "estimator/mine.py").write_text(
        "from ccsweep.estimator.lowrank import LowRank\nclass Mine(LowRank):\n    name = 'mine'\n"
    )
    estimators, entry = package / "estimator/__init__.py", '    "svd": Svd(),\n'
    edited(estimators, entry, entry + '    "mine": Mine(),\n')
    edited(estimators, "import Svd\n", "import Svd\nfrom ccsweep.estimator.mine import Mine\n")
    (copy / "conf/estimator/mine.yaml").write_text("defaults:\n  - svd\n\nname: mine\n")

    edited(package / "config/schema.py", '"gp", "random"', '"gp", "qmc", "random"')
    edited(copy / "conf/config.yaml", "| gp | random", "| gp | qmc | random")
    last = "        return samplers.RandomSampler(seed=own)\n"
    chosen = '        if name == "qmc":\n            return samplers.QMCSampler(seed=own)\n'
    edited(package / "study/samplers.py", last, chosen + last)

    figures = package / "figures.py"
    edited(
        figures,
        "\nRUN = (\n",
        '\nWORST = Figure("worst", "worst false-off", better="minimize")\nRUN = (\n    WORST,\n',
    )
    worst = '    report["worst"] = max(layer.statistics.false_off for layer in validated.layers)\n'
    edited(
        package / "report/run.py",
        "    if trained is not None:\n        report |=",
        f"{worst}    if trained is not None:\n        report |=",
    )
    edited(figures, "GATING = (DENSITY,", 'GATING = (DENSITY, Figure("epochs", "epochs"),')
    return copy  # fmt: skip


@pytest.mark.slow
def test_all_of_them_in_one_study(copy: Path, user: User) -> None:
    user.environment["PYTHONPATH"] = str(copy)
    network = ["data=halves", "architecture=narrow", "estimator=mine", "training.epochs=1"]
    study = ["sweep.name=s", "sweep.sampler=qmc", "sweep.n_trials=1", "+sweep.objectives.worst=minimize"]
    done = user.run("-m", *network, *study, "ranks.layers.0=interval(2,16)")
    assert done.returncode == 0, done.stderr + done.stdout
    folder = user.folder / "outputs" / "sweeps" / "s"
    report = json.loads((folder / "trials" / "0" / "report.json").read_text())
    assert (report["data"], report["samples"]["train"]) == ("half of the digits", 600)
    assert (report["layer_sizes"], report["estimator"]) == ([64, 32, 16, 10], "mine")
    assert 2 <= report["layers"][0]["rank"] <= 16
    assert report["worst"] == max(layer["false_off"] for layer in report["layers"])
    assert json.loads((folder / "study.json").read_text())["sampler"] == "qmc"
    page = (folder / "report.html").read_text()
    assert "<th>worst ↓" in page
    assert "<th>epochs" in page
    refused = user.run("-m", "sweep.sampler=qcm", "training.l1=interval(0,1)")
    assert refused.stderr.strip().endswith("did you mean 'qmc'?")

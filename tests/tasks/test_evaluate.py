"""A trained run tested again, as a user does on the command line."""

import re
from typing import Any

import pytest

from ccsweep.study.folder import StudyFolder
from tests.conftest import User
from tests.tasks.conftest import Place
from tests.tasks.runs import reports


@pytest.mark.slow
def test_evaluate_gives_the_same_figures_and_with_other_ranks_others(
    digits: tuple[User, Any],
) -> None:
    user, _ = digits
    trained = reports(user)[0]
    same = user.run("task=evaluate", f"run={trained['run_id'][:8]}")
    assert same.returncode == 0, same.stderr
    again = reports(user)[-1]
    assert again["test_error"] == trained["test_error"]
    assert again["layers"] == trained["layers"]
    assert again["validation_error"] == pytest.approx(trained["validation_error"], abs=1e-3)
    other = user.run(
        "-m", "task=evaluate", f"run={trained['folder']}", "ranks.layers=[64,128],[8,6]", "estimator=whitened"
    )
    assert other.returncode == 0, other.stderr
    full, low = reports(user)[-2:]
    assert [layer["rank"] for layer in full["layers"]] == [64, 128]
    # At full rank the estimate is the pre-activation itself, but for rounding.
    assert all(layer["sign_agreement"] > 0.999 for layer in full["layers"])
    assert all(0.6 < layer["sign_agreement"] < 0.99 for layer in low["layers"])
    assert re.search(r"^8-6 +\d", other.stdout, flags=re.MULTILINE)
    assert user.runs()[-1].data.tags["ccsweep.evaluates"] == trained["run_id"]


def test_evaluate_checks_ranks_against_the_trained_network(digits: tuple[User, Any]) -> None:
    user, _ = digits
    folder = reports(user)[0]["folder"]
    done = user.run("task=evaluate", f"run={folder}", "ranks=50-35-25")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: ranks.layers=[50, 35, 25]: expected 2 ranks, one per hidden layer of 64-256-128-10; found 3"
    )


def test_evaluate_refuses_what_a_trained_run_cannot_change(digits: tuple[User, Any]) -> None:
    user, _ = digits
    done = user.run("task=evaluate", f"run={reports(user)[0]['folder']}", "training.learning_rate=1")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ccsweep: training.learning_rate: cannot change with run=...; only test, data.dir, data.verify, "
        "data.file, ranks, estimator, training.device, training.precision, tracking can"
    )


def test_a_search_on_a_trained_run_times_what_it_aims_at_and_leaves_little(
    place: Place, trained: dict[str, Any]
) -> None:
    folder = StudyFolder(place.folder / "posthoc")
    folder.path.mkdir()
    of_study = [f"tracking.sweep={folder.path}", "+sweep.objectives.measured_speedup_batch256=maximize"]
    given = ["task=evaluate", f"run={trained['folder']}", "ranks.layers=[9,8]", "test=false", *of_study]
    found = place.run("posthoc/trials/0", *given)
    assert [key for key in found if key.startswith("measured_speedup")] == [
        f"measured_speedup_batch256{end}" for end in ("", "_low", "_high")
    ]
    assert not folder.trial("0").environment.exists()
    tags = place.client.get_run(found["run_id"]).data.tags
    assert (folder.path / tags["ccsweep.environment"]).is_file()

"""The figures of a page, read from what plotly is given."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from ccsweep.report.study import charts
from ccsweep.report.study import points as charts_points
from ccsweep.report.study.standing import Standing, standing
from tests.report.study import studies


def of(study: optuna.Study, objectives: dict[str, str] | None = None) -> Standing:
    now = studies.BEGAN + timedelta(seconds=480)
    return standing(study.get_trials(), objectives or studies.OBJECTIVES, 20, 2, now)


def traces(chart: charts.Chart) -> dict[str, Any]:
    assert not isinstance(chart, str), chart
    return {trace.name: trace for trace in chart.data}


def dimensions(chart: charts.Chart) -> dict[str, Any]:
    assert not isinstance(chart, str), chart
    (trace,) = chart.data
    return {axis.label: axis for axis in trace.dimensions}


def test_what_a_point_says(study: optuna.Study) -> None:
    (chart,) = charts.fronts(of(study))
    knee = traces(chart)["knee"]
    assert (list(knee.x), list(knee.y)) == ([4.2], [2.0])
    assert knee.hovertext[0] == (
        "<b>trial 7</b>  ranks 39<br>validation_error 2.00<br>measured_speedup_batch1 4.20<br>"
        "estimator=whitened<br>ranks.layers.0=39<br>training.l1=1e-06<br>took 1 min<br>"
        f"run {'07' + 'ab' * 15}<br>{study.user_attrs['folder']}/trials/7"
    )
    assert sorted(traces(chart)["front"].x) == [1.2, 3.0, 4.5]  # the knee has a mark of its own
    assert not isinstance(chart, str)
    assert chart.layout.xaxis.title.text == "measured_speedup_batch1 ↑"
    assert chart.layout.yaxis.title.text == "validation_error ↓"


def test_how_the_front_grew(study: optuna.Study, tmp_path: Path) -> None:
    chart = charts.growth(of(study))
    assert not isinstance(chart, str)
    names = [note.text for note in chart.layout.annotations]
    assert names == ["hypervolume", "best validation_error ↓", "best measured_speedup_batch1 ↑"]
    volume, error, speedup = chart.data
    assert (volume.x[0], volume.x[-1]) == (1, 12)
    assert list(zip(error.x, error.y, strict=True)) == [(1, 2.5), (2, 1.6), (5, 1.4), (12, 1.4)]
    assert speedup.y[-1] == 4.5  # 5.0 breaks the constraint
    few = studies.create(tmp_path / "few")
    studies.add(few, TrialState.COMPLETE, (1.0, 1.0))
    assert charts.growth(of(few)) == "Two completed trials are needed to show how the front grew."


def test_what_decides_a_maximised_objective_is_asked_of_its_best_trials(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for i in range(40):
        # The fastest tenth is what it is by its ranks, the slowest by its L1 penalty.
        rank, l1 = (4 if i < 4 else 10 + i), (1e-6 if i > 35 else 10 ** (-5 + i % 9 / 5))
        params = {"ranks.layers.0": rank, "training.l1": l1}
        speedup = 9.0 if i < 4 else 1.0 if i > 35 else 5.0 + i / 100
        studies.add(study, TrialState.COMPLETE, (1.0 + i, speedup), params=params)
    bars = traces(charts.importances(study, of(study)))["measured_speedup_batch1"]
    assert list(bars.y) == ["training.l1", "ranks.layers.0"]  # the most important one on top
    assert bars.x[1] > 0.6


def test_a_parameter_that_only_some_trials_have_is_compared_too(tmp_path: Path) -> None:
    study, without = studies.create(tmp_path / "s"), studies.create(tmp_path / "without")
    for i in range(charts.ENOUGH):
        ranks = {"ranks.layers.0": 4 + i} if i % 2 else {}
        params = {"training.l1": 10.0 ** -(3 + i % 3)} | ranks
        studies.add(study, TrialState.COMPLETE, (1.0 + i, 1.0), params=params)
        studies.add(without, TrialState.COMPLETE, (1.0 + i, 1.0), params={})
    bars = traces(charts.importances(study, of(study)))
    assert set(bars["validation_error"].y) == {"training.l1", "ranks.layers.0"}
    assert charts.importances(without, of(without)) == "The trials have no parameters to compare."


def test_the_axes_of_parallel_coordinates(study: optuna.Study) -> None:
    chart = charts.parallel(of(study))
    axes = dimensions(chart)
    assert list(axes) == [
        "estimator",
        "ranks.layers.0",
        "training.l1",
        "validation_error ↓",
        "measured_speedup_batch1 ↑",
    ]
    assert list(axes["estimator"].ticktext) == ["svd", "whitened"]
    assert list(axes["estimator"].values) == [0, 1] * 6
    assert list(axes["ranks.layers.0"].values) == [4 + 5 * i for i in range(12)]
    # logarithmic: its values are exponents, its ticks are not
    assert list(axes["training.l1"].values[:3]) == pytest.approx([-6, -6 + 1 / 3, -6 + 2 / 3])
    assert axes["training.l1"].ticktext[0] == "1e-06"
    assert axes["training.l1"].ticktext[-1] == "0.0001"
    assert not isinstance(chart, str)
    assert list(chart.data[0].line.color) == [error for error, _ in studies.VALUES]
    assert chart.data[0].line.reversescale  # less is better


def test_a_value_that_a_trial_has_not_lies_below_all_others(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for rank in (10, None, 30):
        params = {"estimator": "svd"} | ({} if rank is None else {"ranks.layers.0": rank})
        studies.add(study, TrialState.COMPLETE, (1.0, 2.0), params=params)
    ranks = dimensions(charts.parallel(of(study)))["ranks.layers.0"]
    assert list(ranks.values) == pytest.approx([10, 7, 30])
    assert list(ranks.tickvals) == pytest.approx([7, 10, 15, 20, 25, 30])
    assert list(ranks.ticktext) == ["–", "10", "15", "20", "25", "30"]


def test_choices_are_cut_and_without_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = ["postgresql://ann:s3cret@h", "a very long choice of something"]
    space = {"tracking.uri": optuna.distributions.CategoricalDistribution(choices)}
    monkeypatch.setattr(studies, "SPACE", space)
    study = studies.create(tmp_path / "s")
    for choice in choices:
        studies.add(study, TrialState.COMPLETE, (1.0, 2.0), params={"tracking.uri": choice})
    axis = dimensions(charts.parallel(of(study)))["tracking.uri"]
    assert list(axis.ticktext) == ["a very long choic…", "postgresql://ann:…"]


def test_what_workers_did_when(study: optuna.Study, tmp_path: Path) -> None:
    bars = traces(charts.timeline(of(study)))
    assert list(bars) == ["complete", "pruned", "failed", "failed, tried again", "stopped", "running"]
    assert list(bars["running"].x) == [30_000]  # milliseconds until now
    assert list(bars["failed"].y) == ["here-1", "here-0"]
    assert bars["failed"].hovertext[0].splitlines()[0].startswith("<b>trial 14</b>")
    assert "validation_error is nan" in bars["failed"].hovertext[0]
    assert charts.timeline(of(studies.create(tmp_path / "empty"))) == "No trial has begun."


def test_of_many_trials_some_are_drawn_and_the_front_whole(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts_points, "MOST", 3)
    monkeypatch.setattr(charts, "MOST", 3)
    now = of(study)
    (chart,) = charts.fronts(now)
    assert list(traces(chart)) == [None, "beaten, 3 of 7", "breaks a constraint", "front", "knee"]
    drawn = traces(chart)["beaten, 3 of 7"]
    assert [text.split("  ")[0] for text in drawn.hovertext] == [f"<b>trial {n}</b>" for n in (0, 5, 11)]
    lines = dimensions(charts.parallel(now))["validation_error ↓"]
    assert list(lines.values) == [2.5, 1.6, 1.4, 2.0, 3.2, 3.0]  # trials 0, 4 and 8, and the front
    assert len(traces(charts.timeline(now))["complete"].x) == 3


def test_why_there_is_nothing_to_draw(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    now = of(study)
    assert charts.fronts(now) == ["No trial is complete, so there is nothing to compare."]
    assert charts.parallel(now) == "Parallel coordinates need two completed trials with parameters."
    assert charts.importances(study, now) == "Importances need 10 completed trials; there are 0."

"""``front.png``, before it becomes pixels."""

from datetime import timedelta
from pathlib import Path

import optuna
import pytest
from matplotlib.figure import Figure
from optuna.trial import TrialState

from ccsweep.report.study import picture
from ccsweep.report.study.standing import standing
from tests.report.study import studies

NOW = studies.BEGAN + timedelta(seconds=480)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What was drawn, which is not written."""
    figures: list[Figure] = []
    monkeypatch.setattr(picture, "save", lambda figure, path: (figures.append(figure), path)[1])
    return figures


def test_the_front(study: optuna.Study, drawn: list[Figure], tmp_path: Path) -> None:
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    assert picture.draw_front(tmp_path / "front.png", "a title", now) == tmp_path / "front.png"
    (figure,) = drawn
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "4 of 12 trials on the front"
    assert axes.get_xlabel() == "measured speed-up at batch 1, times  (↑ better)"
    assert axes.get_ylabel() == "validation error, %  (↓ better)"
    assert sorted(text.get_text() for text in axes.texts) == ["24", "39", "49", "9"]  # their ranks
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["front", "knee: trial 7", "beaten", "breaks a constraint"]


def test_on_a_long_front_the_ends_and_the_knee_are_named(drawn: list[Figure], tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for i in range(13):
        studies.add(study, TrialState.COMPLETE, (1.0 + i, (1.0 + i) ** 0.5), params={"ranks.layers.0": 4 + i})
    for error in (1000.0, 1001.0):  # far away
        studies.add(study, TrialState.COMPLETE, (error, 0.5), params={"ranks.layers.0": 60})
    now = standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW)
    picture.draw_front(tmp_path / "front.png", "a title", now)
    (axes,) = drawn[0].axes
    assert axes.get_title(loc="left") == "13 of 15 trials on the front; farther out: 2"
    texts = {text.get_text() for text in axes.texts}
    assert {"4", "16"} <= texts
    assert len(texts) <= 3


def test_a_front_that_does_not_bend_has_no_knee(drawn: list[Figure], tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for i in range(3):
        studies.add(study, TrialState.COMPLETE, (1.0 + i, 1.0 + i))
    picture.draw_front(tmp_path / "f.png", "", standing(study.get_trials(), studies.OBJECTIVES, 20, 2, NOW))
    assert drawn[0].axes[0].get_title(loc="left") == "3 of 3 trials on the front, no knee"
    assert "knee" not in "".join(text.get_text() for text in drawn[0].legends[0].get_texts())


def test_one_objective_by_trial(drawn: list[Figure], tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s", objectives={"seconds": "minimize"})
    # The third trial ends first.
    for value, at in ((9.0, 60), (5.0, 120), (7.0, 0)):
        studies.add(study, TrialState.COMPLETE, (value,), at=at)
    now = standing(study.get_trials(), {"seconds": "minimize"}, 20, 2, NOW)
    picture.draw_front(tmp_path / "front.png", "a title", now)
    (axes,) = drawn[0].axes
    assert axes.get_title(loc="left") == "3 trials"
    assert axes.get_ylabel() == "duration, s  (↓ better)"
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["trial", "best", "best so far"]
    assert list(lines["best"].get_xdata()) == [1]
    assert list(lines["best so far"].get_xdata()) == [2, 2, 2]
    assert list(lines["best so far"].get_ydata()) == [7.0, 7.0, 5.0]

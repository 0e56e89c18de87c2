"""MLflow's own pages on a study and a grid, as whoever compares networks sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccsweep.study.alone import trials_of
from ccsweep.study.folder import StudyFolder
from ccsweep.study.front import counted
from ccsweep.study.notes import notes
from ccsweep.study.storage import open_study
from tests.browser.conftest import Browser
from tests.conftest import User

pytestmark = pytest.mark.browser

Pages = Callable[[str], dict[str, str]]

ROWS = "return [...document.querySelectorAll('[role=row][row-id]')].map(row => row.getAttribute('row-id'))"
HEADERS = """
return [...document.querySelectorAll('.ag-header-cell')]
  .sort((a, b) => a.getAttribute('aria-colindex') - b.getAttribute('aria-colindex'))
  .map(cell => cell.innerText.trim()).filter(text => text)
"""
AXES = """
const chart = document.querySelector('.parcoords');
return chart && [...chart.querySelectorAll('.dimension')].map(
  axis => [axis.querySelector('.label').textContent, [...axis.querySelectorAll('.tick text')].map(t => t.textContent)])
"""


def unique(values: list[str]) -> list[str]:
    """AG Grid draws a row once for each of its pinned parts."""
    return list(dict.fromkeys(values))


@pytest.mark.parametrize("study", ["front", "grid"])
def test_the_trials_are_sorted_as_the_study_sorts_them(
    study: str, home: User, pages: Pages, browser: Browser, shots: Path
) -> None:
    trials = counted(trials_of(open_study(StudyFolder(home.folder / "outputs" / "sweeps" / study))))
    errors = {notes(trial).run_id: trial.values[0] for trial in trials}
    browser.open(pages(study)["trials"])
    browser.wait(f"return (() => {{ {ROWS} }})().length >= arguments[0]", len(errors))
    shown = unique(browser(ROWS))
    assert set(shown) == set(errors)
    assert [errors[run] for run in shown] == sorted(errors.values())
    headers = browser.wait(HEADERS)
    for name in ("ranks", "rank1", "rank2", "validation_error", "measured_speedup_batch1", "density"):
        assert name in headers
    browser.shoot(shots / f"compare_{study}_trials.png")


@pytest.mark.parametrize("study", ["front", "grid"])
def test_parallel_coordinates_have_ranks_as_numbers(
    study: str, pages: Pages, browser: Browser, shots: Path
) -> None:
    browser.open(pages(study)["compare"])
    axes = dict(browser.wait(AXES))
    assert {"rank1", "validation_error"} <= set(axes)
    for ticks in axes.values():
        assert ticks
        [float(tick) for tick in ticks]
    browser.shoot(shots / f"compare_{study}.png")

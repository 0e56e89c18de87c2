from typing import Any

import pytest

from ccsweep.report.rows import Entry, rows

PAPER = {"control": 1.4, "16-12": 2.0, "8-6": 3.0}


def report(ranks: str, seed: int, test_error: float, **changes: Any) -> dict[str, Any]:
    """What a finished run hands over, as far as a table needs it."""
    layers = [{"density": 0.5 + seed / 10, "false_off": 0.1}, {"density": 0.25, "false_off": 0.2}]
    return {
        "data": "digits",
        "notes": [],
        "layer_sizes": [64, 32, 16, 10],
        "samples": {"test": 360},
        "ranks": ranks,
        "estimator": None if ranks == "control" else "svd",
        "threshold": 0.0,
        "energy_loss": None,
        "target_density": None,
        "seed": seed,
        "test_error": test_error,
        "validation_error": test_error + 1,
        "layers": layers,
        "theoretical_speedup_inference": 2.0 + seed,
        "run_id": f"{ranks}:{seed}",
    } | changes


def entry(ranks: str, seed: int, test_error: float | None, *more: str, **changes: Any) -> Entry:
    """One run of ``-m training.epochs=4 ranks=... seeds=...``; a test error of None is a failure."""
    overrides = ["training.epochs=4", f"ranks={ranks}", *more, f"training.seed={seed}"]
    if test_error is None:
        return Entry(overrides, ranks, None, "no disk")
    return Entry(overrides, ranks, report(ranks, seed, test_error, **changes))


def test_runs_that_differ_by_seed_are_one_row() -> None:
    control, gated = rows(
        [entry("control", 0, 1.0), entry("16-12", 0, 3.0), entry("control", 1, 2.0), entry("16-12", 1, 3.0)]
    )
    assert control.settings == {"ranks": "control"}
    assert (control.runs, control.seeds) == (2, [0, 1])
    assert control.test_error == pytest.approx(1.5)
    assert control.test_error_sd == pytest.approx(0.5**0.5)  # n - 1, not n
    assert control.validation_error == pytest.approx(2.5)
    assert control.density == pytest.approx([0.55, 0.25])
    assert control.false_off == pytest.approx([0.1, 0.2])
    assert control.theoretical_speedup_inference == pytest.approx(2.5)
    assert gated.settings == {"ranks": "16-12"}
    assert gated.test_error_sd == 0


def test_one_seed_has_no_spread() -> None:
    (row,) = rows([entry("16-12", 0, 3.0)])
    assert row.test_error == 3
    assert row.test_error_sd is None


def test_a_row_whose_runs_failed_stays_in_its_place() -> None:
    some, none, all_of_them = rows(
        [
            *(entry("control", seed, error) for seed, error in enumerate((1.0, None, 2.0))),
            *(entry("16-12", seed, None) for seed in range(3)),
            *(entry("8-6", seed, 3.0) for seed in range(3)),
        ],
        PAPER,
    )
    assert (some.runs, some.seeds, some.test_error) == (3, [0, 2], 1.5)
    assert (none.runs, none.seeds, none.test_error, none.density) == (3, [], None, [])
    assert none.settings == {"ranks": "16-12"}
    assert none.paper == 2
    assert (all_of_them.runs, all_of_them.seeds) == (3, [0, 1, 2])


def test_what_differs_is_named_with_the_ranks_in_the_papers_notation() -> None:
    entries = [
        Entry(
            [f"ranks.layers=[{rank},6]", "data=digits", f"training.learning_rate={rate}"],
            f"{rank}-6",
            report(f"{rank}-6", 0, 1.0),
        )
        for rank in (8, 12)
        for rate in (0.1, 0.2)
    ]
    found = rows(entries, PAPER)
    assert [row.settings for row in found] == [
        {"ranks": f"{rank}-6", "training.learning_rate": rate} for rank in (8, 12) for rate in ("0.1", "0.2")
    ]
    assert [row.label for row in found][:2] == ["8-6 learning_rate=0.1", "8-6 learning_rate=0.2"]
    assert [row.paper for row in found] == [3, 3, None, None]


def test_when_nothing_differs_the_row_is_named_by_its_ranks() -> None:
    (row,) = rows([entry("16-12", 0, 3.0), entry("16-12", 1, 3.0)])
    assert row.settings == {"ranks": "16-12"}


def test_an_evaluated_run_has_its_own_ranks() -> None:
    (row,) = rows([Entry(["task=evaluate", "run=abcdef"], "16-12", report("8-6", 0, 2.0))])
    assert row.settings == {"ranks": "8-6"}


@pytest.mark.parametrize("changes", [{"estimator": "whitened"}, {"energy_loss": 0.01}, {"threshold": 0.1}])
def test_the_papers_values_stand_beside_its_own_estimator_only(changes: dict[str, Any]) -> None:
    (own,) = rows([entry("16-12", 0, 3.0)], PAPER)
    (other,) = rows([entry("16-12", 0, 3.0, **changes)], PAPER)
    assert (own.paper, other.paper) == (2.0, None)

import json
from pathlib import Path
from typing import Any

import pytest

from ccsweep.report import grid
from ccsweep.report.grid import Entry, rows

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


DENSE = {"layers": [{"density": 1.0, "false_off": 0.0}] * 2, "notes": ["[odd] files"]}
ENTRIES = [
    entry("control", 0, 1.0, **DENSE),
    entry("control", 1, 2.0, **DENSE),
    entry("16-12", 0, 3.0),
    entry("16-12", 1, None),
    entry("8-6", 0, None),
]


def test_runs_that_differ_by_seed_are_one_row() -> None:
    control, gated = rows(
        [entry("control", 0, 1.0), entry("16-12", 0, 3.0), entry("control", 1, 2.0), entry("16-12", 1, 3.0)]
    )
    assert control.settings == {"ranks": "control"}
    assert (control.runs, control.seeds) == (2, [0, 1])
    assert control.figures["test_error"] == pytest.approx(1.5)
    assert control.figures["test_error_sd"] == pytest.approx(0.5**0.5)  # n - 1, not n
    assert control.figures["validation_error"] == pytest.approx(2.5)
    assert control.figures["density"] == pytest.approx([0.55, 0.25])
    assert control.figures["false_off"] == pytest.approx([0.1, 0.2])
    assert control.figures["theoretical_speedup_inference"] == pytest.approx(2.5)
    assert gated.settings == {"ranks": "16-12"}
    assert gated.figures["test_error_sd"] == 0


def test_one_seed_has_no_spread() -> None:
    (row,) = rows([entry("16-12", 0, 3.0)])
    assert row.figures["test_error"] == 3
    assert row.figures["test_error_sd"] is None


def test_a_row_whose_runs_failed_stays_in_its_place() -> None:
    some, none, all_of_them = rows(
        [
            *(entry("control", seed, error) for seed, error in enumerate((1.0, None, 2.0))),
            *(entry("16-12", seed, None) for seed in range(3)),
            *(entry("8-6", seed, 3.0) for seed in range(3)),
        ],
        PAPER,
    )
    assert (some.runs, some.seeds, some.figures["test_error"]) == (3, [0, 2], 1.5)
    assert (none.runs, none.seeds, none.figures["test_error"], none.figures["density"]) == (3, [], None, [])
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


def test_the_table_as_markdown() -> None:
    assert grid.markdown("python -m ccsweep -m ...", ENTRIES, rows(ENTRIES, PAPER)) == (
        """    python -m ccsweep -m ...

digits, 64-32-16-10, test n = 360

note: [odd] files

| ranks | test error % | paper (recalled) | validation % | seeds | density | false-off | theoretical speed-up |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| control | 1.50 ± 0.71 | 1.40 | 2.50 | 2 | 1 1 | 0 0 | 2.50x |
| 16-12 | 3.00 | 2.00 | 4.00 | 1 of 2 | .50 .25 | .10 .20 | 2.00x |
| 8-6 | failed | 3.00 | - | 0 of 1 | - | - | - |

Errors are means over seeds; ± is their standard deviation (n - 1).
Density and false-off by layer; the speed-up is counted, not timed.
paper (recalled): from memory, on the paper's data with its settings; not to be matched.

- failed: `training.epochs=4 ranks=16-12 training.seed=1`: no disk
- failed: `training.epochs=4 ranks=8-6 training.seed=0`: no disk
"""
    )


def test_without_the_papers_values_there_is_no_column_for_them() -> None:
    header, *_ = grid.cells(rows(ENTRIES))
    assert grid.PAPER not in header


def test_the_table_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    grid.show(ENTRIES, rows(ENTRIES, PAPER))
    assert capsys.readouterr().out == (
        """
digits, 64-32-16-10, test n = 360
note: [odd] files
ranks    test error %  paper (recalled)  validation %   seeds  density  false-off  theoretical speed-up
───────────────────────────────────────────────────────────────────────────────────────────────────────
control   1.50 ± 0.71              1.40          2.50       2      1 1        0 0                 2.50x
16-12            3.00              2.00          4.00  1 of 2  .50 .25    .10 .20                 2.00x
8-6            failed              3.00             -  0 of 1        -          -                     -
Errors are means over seeds; ± is their standard deviation (n - 1).
Density and false-off by layer; the speed-up is counted, not timed.
paper (recalled): from memory, on the paper's data with its settings; not to be matched.
"""
    )


def test_a_wide_table_is_folded_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        Entry([f"run={'abc' * 9}{i}", f"training.source={'x' * 40}{i}"], "8-6", report("8-6", 0, 1.0))
        for i in (0, 1)
    ]
    grid.show(entries, rows(entries))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) == 120
    assert "…" not in shown
    assert [shown.count(text) for text in ("x" * 10, "speed-up")] == [6, 2]


def test_one_seed_says_nothing_of_a_spread(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [entry("16-12", 0, 3.0)]
    grid.show(entries, rows(entries))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Density and false-off by layer; the speed-up is counted, not timed."
    )


def test_what_is_written_for_machines(tmp_path: Path) -> None:
    secret = entry("16-12", 0, 3.0, "tracking.uri=postgresql://me:s3cret@host/db")
    entries = [secret, entry("8-6", 0, None, "tracking.uri=postgresql://me:s3cret@host/db")]
    files = grid.write(tmp_path, "the command", entries, rows(entries, PAPER))
    assert [file.name for file in files] == ["table.md", "table.json"]
    assert not any("s3cret" in file.read_text() for file in files)
    found = json.loads(files[1].read_text())
    assert found["command"] == "the command"
    assert [row["test_error"] for row in found["rows"]] == [3.0, None]
    assert [row["paper"] for row in found["rows"]] == [2.0, 3.0]
    done, failed = found["runs"]
    assert done["overrides"][1] == "ranks=16-12"
    assert done["run_id"] == "16-12:0"
    assert done["report"] == secret.report
    assert (failed["run_id"], failed["report"], failed["error"]) == (None, None, "no disk")
    assert "\n  " in files[1].read_text()  # a person may read it, too
    assert files[0].read_text().startswith("    the command\n")


def test_a_row_in_plain_types() -> None:
    row = rows([entry("16-12", 0, 1.0), entry("16-12", 1, 2.0)], PAPER)[0].as_json()
    assert list(row.items()) == [
        ("settings", {"ranks": "16-12"}),
        ("runs", 2),
        ("seeds", [0, 1]),
        ("test_error", 1.5),
        ("test_error_sd", pytest.approx(0.5**0.5)),
        ("validation_error", 2.5),
        ("density", [pytest.approx(0.55), 0.25]),
        ("false_off", [pytest.approx(0.1), 0.2]),
        ("theoretical_speedup_inference", 2.5),
        ("paper", 2.0),
    ]


def test_a_value_may_hold_what_parts_keys() -> None:
    entries = [Entry([f"data.options.url='a=b.{i}'", "training.seed=3"], "8-6", None, "why") for i in (0, 1)]
    first, second = rows(entries)
    assert first.settings == {"data.options.url": "'a=b.0'"}
    assert second.label == "url='a=b.1'"
    assert rows([]) == []

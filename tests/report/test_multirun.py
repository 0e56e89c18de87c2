import json
from pathlib import Path

import pytest

from ccsweep.report import multirun
from ccsweep.report.rows import rows
from tests.report.test_rows import PAPER, entry

DENSE = {"layers": [{"density": 1.0, "false_off": 0.0}] * 2, "notes": ["[odd] files"]}
ENTRIES = [
    entry("control", 0, 1.0, **DENSE),
    entry("control", 1, 2.0, **DENSE),
    entry("16-12", 0, 3.0),
    entry("16-12", 1, None),
    entry("8-6", 0, None),
]


def test_the_table_as_markdown() -> None:
    assert multirun.markdown("python -m ccsweep -m ...", ENTRIES, rows(ENTRIES, PAPER)) == (
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
    header, *_ = multirun.cells(rows(ENTRIES))
    assert multirun.PAPER not in header


def test_the_terminal_shows_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(ENTRIES, PAPER)
    multirun.show(ENTRIES, found)
    shown = capsys.readouterr().out
    for text in ("digits, 64-32-16-10, test n = 360", "note: [odd] files", "n - 1", "not to be matched"):
        assert text in shown
    for texts in multirun.cells(found)[1:]:
        line = " ".join(texts)
        assert line in [" ".join(printed.split()) for printed in shown.splitlines()]


def test_what_is_written_for_machines(tmp_path: Path) -> None:
    secret = entry("16-12", 0, 3.0, "tracking.uri=postgresql://me:s3cret@host/db")
    entries = [secret, entry("8-6", 0, None, "tracking.uri=postgresql://me:s3cret@host/db")]
    files = multirun.write(tmp_path, "the command", entries, rows(entries, PAPER))
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

"""Two hundred command lines that nobody would type: each is refused in a line or two, or runs."""

from pathlib import Path

import pytest

from benchmarks import fuzz


@pytest.mark.slow
def test_two_hundred_lines_end_in_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers = [fuzz.answer(line) for line in fuzz.lines(200, seed=20)]
    assert {" ".join(found.line): found.complaint for found in answers if found.complaint is not None} == {}
    assert sum(found.status == 2 for found in answers) > 100  # most of them cannot be meant
    assert sum(found.status == 0 for found in answers) > 5
    assert max(found.seconds for found in answers) < fuzz.SECONDS
    left = {path.name for path in Path().rglob("*") if path.is_file()}
    assert left <= {"mlflow.db", "mlflow.db.lock"}, "what is refused leaves nothing"


def test_what_is_wrong_with_an_answer() -> None:
    """The judge judges: a traceback, a page, silence."""
    assert fuzz.Answer(["x"], None, "AssertionError: ", 0.1).complaint == "AssertionError: "
    assert fuzz.Answer(["x"], 1, "a\nb\nc", 0.1).complaint == "3 lines: a\nb\nc"
    assert fuzz.Answer(["x"], 2, "", 0.1).complaint == "0 lines: "
    assert fuzz.Answer(["x"], 2, "ccsweep: x: no such key\n", 0.1).complaint is None
    assert fuzz.Answer(["x"], 0, "", 0.1).complaint is None


def test_lines_are_the_same_for_the_same_seed() -> None:
    assert list(fuzz.lines(50, 3)) == list(fuzz.lines(50, 3))
    assert list(fuzz.lines(50, 3)) != list(fuzz.lines(50, 4))

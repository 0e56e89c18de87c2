import io
import re

import pytest

from ccsweep.data import progress


class Clock:
    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


def test_without_a_terminal_a_line_every_ten_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Bar("drawing", 3000, "images") as bar:
        for seconds in (0.9, 0.1, 9.9, 0.1, 9.0):
            clock.now += seconds
            bar.update(500)
        bar.update()
    assert capsys.readouterr() == (
        "",
        ("drawing: 1,000 of 3,000 images\ndrawing: 2,000 of 3,000 images\ndrawing: 2,501 of 3,000 images\n"),
    )


def test_what_is_done_within_a_second_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar("drawing", 3, "images") as bar:
        clock.now += 0.99
        bar.update(3)
    assert capsys.readouterr() == ("", "")


def test_as_pooch_uses_it(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """pooch sets the total, counts whole chunks, at the end resets and counts the total, and closes."""
    with progress.Bar("train.mat", 0, "B") as bar:
        assert bar
        bar.total = 182_040_794
        clock.now += 2
        bar.update(1 << 16)
        bar.reset()
        assert bar.done == 0
        bar.update(bar.total)
        bar.close()
    assert capsys.readouterr().err == "train.mat: 65.5 kB of 182.0 MB\ntrain.mat: 182.0 MB of 182.0 MB\n"


def test_on_a_terminal_a_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress.Bar("timing", 4, "cases") as bar:
        bar.update(2)
        assert not screen.getvalue()
        clock.now += 1
        bar.update()
        (task,) = bar._bar.tasks
        assert (task.description, task.completed, task.total) == ("timing", 3, 4)
        bar.update()
        bar.reset()
        bar.update(4)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).split("\r")
    assert re.fullmatch(r"timing ━+  -:--:-- left", lines[0])
    assert re.fullmatch(r"timing ━+ 4 of 4 cases 0:00:00 left\s*", lines[-1])

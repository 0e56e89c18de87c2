import io
import re
from types import SimpleNamespace

import pytest
import torch

from ccsweep.training import progress
from ccsweep.training.progress import ShowProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=50.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    return clock


def trainer_at(epoch: int, error: float = 2.345) -> SimpleNamespace:
    metrics = {"validation/error": torch.tensor(error)}
    return SimpleNamespace(
        max_epochs=4, num_training_batches=5, current_epoch=epoch, callback_metrics=metrics
    )


def test_without_a_terminal_a_line_every_ten_seconds_and_at_the_end(clock, capsys) -> None:
    shown = ShowProgress()
    shown.on_train_start(trainer_at(0), None)
    for epoch, seconds in ((0, 10.0), (1, 0.1), (2, 10.0), (3, 0.0)):
        clock.now += seconds
        for _ in range(5):
            shown.on_train_batch_end(trainer_at(epoch), None)
        shown.on_validation_end(trainer_at(epoch), None)
    shown.on_train_end(trainer_at(4), None)
    assert capsys.readouterr() == (
        "",
        "epoch 2/4  validation error 2.35 %\nepoch 4/4  validation error 2.35 %\n",
    )


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error; not a fixture, for pytest takes it back before the test begins."""
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_on_a_terminal_a_bar_over_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    shown = ShowProgress()
    shown.on_train_start(trainer_at(1), None)  # a resumed run stands where it was
    (task,) = shown.bar.tasks
    assert (task.description, task.completed, task.total) == ("training", 5, 20)
    assert shown.bar.live.is_started
    for _ in range(5):
        shown.on_train_batch_end(trainer_at(1), None)
    assert task.completed == 10
    shown.on_validation_end(trainer_at(1), None)
    shown.on_train_end(trainer_at(2), None)
    assert not shown.bar.live.is_started
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).splitlines()
    assert re.fullmatch(r"training [━╺]+  0:00:00 so far, -:--:-- left", lines[0])
    assert re.fullmatch(
        r"epoch 2/4 [━╺]+ validation error 2\.35 % 0:00:0\d so far, 0:00:\d\d left", lines[-1]
    )


def test_an_error_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    shown = ShowProgress()
    shown.on_train_start(trainer_at(0), None)
    assert shown.bar.live.is_started
    shown.on_exception(trainer_at(0), None, ValueError())
    assert not shown.bar.live.is_started

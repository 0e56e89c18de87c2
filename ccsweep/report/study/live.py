"""A study while it runs: a table that stays in place on a terminal, plain lines anywhere else."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ccsweep.figures import VALIDATION_ERROR, arrow, of
from ccsweep.report.canvas import terminal
from ccsweep.report.study.standing import (
    Standing,
    cause_of,
    counts,
    duration,
    pace,
    ranks_of,
    run_of,
    seconds_of,
    settings_of,
    shortened,
    standing,
)
from ccsweep.study import front
from ccsweep.study.front import Objectives
from ccsweep.study.notes import Kind, notes

_MOST_CAUSES = 3


class View:
    """Shows a study at every :meth:`update`, on standard output.

    On a terminal one table is redrawn, at most once a second unless a trial changed, so that it does
    not flicker; log lines appear above it. Elsewhere (a file, a pipe, SLURM's log) each trial that
    ends gives one line, once; those that had ended before the view began are only counted.

    Args:
        objectives: of the study.
        target: how many trials are asked for.
        console: where to, standard output unless given.
    """

    def __init__(self, objectives: Objectives, target: int | None, console: Console | None = None) -> None:
        self._objectives = objectives
        self._target = target
        self._console = console or terminal()
        self._live: Live | None = None
        self._shown: set[int] | None = None
        self._drawn: tuple[Any, ...] = ()
        self._last: Standing | None = None

    def __enter__(self) -> Self:
        self._began = datetime.now()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._last is not None:
            self._say(counts(self._last))

    def update(
        self,
        trials: Sequence[FrozenTrial],
        workers: Sequence[Mapping[str, Any]],
        now: datetime | float | None = None,
        waiting: Sequence[str] = (),
    ) -> None:
        """Show how the study stands.

        Args:
            trials: all of the study.
            workers: the leases of those at work.
            now: the present, a datetime without zone as Optuna's, or seconds since the epoch.
            waiting: what there is to say of workers that have no machine yet, a line each.
        """
        if isinstance(now, int | float):
            now = datetime.fromtimestamp(now)
        self._last = standing(trials, self._objectives, self._target, len(workers), now)
        if self._live is None:
            self._lines(trials)
            return
        size = self._console.size
        seen = (
            int(self._last.now.timestamp()),
            size,
            len(workers),
            *waiting,
            *(trial.state for trial in trials),
        )
        if seen != self._drawn:
            self._drawn = seen
            drawn = render(self._last, size.width, size.height - 1, workers, waiting)
            self._live.update(drawn, refresh=True)

    def _lines(self, trials: Sequence[FrozenTrial]) -> None:
        ended = [trial for trial in trials if trial.state.is_finished()]
        if self._shown is None:
            before = [
                t for t in ended if t.datetime_complete is not None and t.datetime_complete < self._began
            ]
            self._shown = {trial.number for trial in before}
            if before and self._last is not None:
                self._say(f"going on: {counts(self._last)}")
        for trial in front.by_end(ended):
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                self._say(line(trial, self._objectives))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)  # one line, however long
        self._console.file.flush()  # whoever reads a pipe waits for it


def line(trial: FrozenTrial, objectives: front.Objectives) -> str:
    """What became of a trial, as ``trial 7  ranks=50-35-25  validation_error 1.39  152 s``."""
    words = [f"trial {trial.number}", settings_of(trial) or "no settings of its own"]
    if trial.state == TrialState.COMPLETE:
        words += [f"{k} {of(k).text(v)}" for k, v in zip(objectives, trial.values, strict=True)]
        if (first := notes(trial).reuses) is not None:
            return "  ".join([*words, f"as trial {first}, not run again"])
        if not front.is_feasible(trial):
            words.append("breaks a constraint")
    else:
        word, known = {TrialState.PRUNED: "pruned"}.get(trial.state, "failed"), notes(trial)
        if known.excused:
            word = "handed back"  # another worker tries it, as if it had not been
        if known.kind == Kind.STOPPED:
            word = "stopped"
        words.append(f"{word}: {cause_of(trial)}")
    if (seconds := seconds_of(trial)) is not None:
        words.append(duration(seconds))
    return "  ".join(words)


def render(
    now: Standing,
    width: int,
    height: int,
    workers: Sequence[Mapping[str, Any]] = (),
    waiting: Sequence[str] = (),
) -> Text:
    """The table of a study in at most ``height`` lines of ``width`` characters, each cut to fit.

    Args:
        now: how the study stands.
        width: of the terminal.
        height: lines there are; the front gives way before the counts, what runs and what failed.
        workers: the leases of those at work.
        waiting: what there is to say of workers that have no machine yet.
    """
    lines = [Text(counts(now), style="bold")]
    if now.target:
        lines.append(_bar(now.done / now.target, min(width, 60)))
    lines.append(Text(pace(now, bool(workers)), style="dim"))
    lines += [Text(line, style="yellow") for line in waiting]
    causes = [Text(f"failed {times}x: {cause}", style="red") for cause, times in now.causes[:_MOST_CAUSES]]
    room = height - len(lines) - len(causes)
    lines += _running(now, workers)[: max(1, room - 5)]
    best = front.pareto(now.complete, now.objectives)
    room = height - len(lines) - len(causes) - 3  # a blank line, a title and a header
    if best and room >= 1:
        lines += [Text(""), *_front(now, best, room)]
    lines = [*lines, *causes][: max(1, height)]
    for text in lines:  # here, and not by rich, which forgets it where texts are joined
        text.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _running(now: Standing, workers: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Trials that run, with the last epoch and its error as their workers say."""
    epochs = {lease["trial"]: lease["epoch"] for lease in workers if lease.get("epoch") is not None}
    rows = []
    for trial in now.running:
        began = trial.datetime_start or now.now
        since = duration(max(0, int((now.now - began).total_seconds())))
        if trial.number in epochs:
            epoch, error = epochs[trial.number]
            since += f", epoch {epoch}: {VALIDATION_ERROR.text(error)} %"
        rows.append([f"trial {trial.number}", since, shortened(settings_of(trial))])
    return [Text(line, style="cyan") for line in _aligned(rows, left=(0, 2))]


def _front(now: Standing, best: Sequence[FrozenTrial], most: int) -> list[Text]:
    """The front, with its knee in bold; ``most`` rows, those around the knee."""
    knee = front.knee(best, now.objectives)
    middle = 0 if knee is None else [t.number for t in best].index(knee.number)
    start = max(0, min(middle - most // 2, len(best) - most))
    shown = best[start : start + most]
    title = "best so far"
    if len(now.objectives) > 1:
        left_out = f", {len(shown)} shown" if len(shown) < len(best) else ""
        bend = "no knee" if knee is None else f"the knee is trial {knee.number}"
        title = f"front: {len(best)} trials{left_out}; {bend}"
    heads = [f"{key} {arrow(direction)}" for key, direction in now.objectives.items()]
    rows = [["trial", *heads, "ranks", "run", "settings"]]
    for trial in shown:
        figures = [of(k).text(v) for k, v in zip(now.objectives, trial.values, strict=True)]
        rows.append(
            [str(trial.number), *figures, ranks_of(trial), run_of(trial), shortened(settings_of(trial))]
        )
    after = len(heads) + 1
    head, *body = _aligned(rows, left=(after, after + 1, after + 2))
    lines = [
        Text(line, style="bold" if trial is knee else "") for line, trial in zip(body, shown, strict=True)
    ]
    return [Text(title), Text(head, style="dim"), *lines]


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Lines whose columns are aligned, to the right unless in ``left``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(size) if i in left else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _bar(share: float, width: int) -> Text:
    full = round(min(1.0, share) * width)
    return Text("━" * full, style="green") + Text("━" * (width - full), style="bright_black")

"""How far something is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds before anything shows, and between two lines where there is no terminal.
DELAY, QUIET = 1.0, 10.0


class Bar:
    """Shows on standard error what takes more than a second; has the methods that pooch wants of a bar.

    Args:
        what: is being done.
        total: steps.
        unit: of the steps: ``B`` for bytes, or a word.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, amount="")
        self._due = time.perf_counter() + DELAY
        self._shown = False

    def update(self, count: int = 1) -> None:
        """So many steps more are done."""
        self.done += count
        if time.perf_counter() >= self._due:
            self._show()

    def reset(self) -> None:
        """None is done."""
        self.done = 0

    def close(self) -> None:
        """Leave the end on the screen, if anything was shown."""
        if self._shown:
            self._show()
        self._shown = False
        self._bar.stop()

    def _show(self) -> None:
        amount = f"{self.done:,} of {self.total:,} {self.unit}"
        if self.unit == "B":
            amount = f"{decimal(self.done)} of {decimal(self.total)}"
        if self._bar.disable:
            print(f"{self.what}: {amount}", file=sys.stderr, flush=True)
            self._due = time.perf_counter() + QUIET
        else:
            self._bar.start()
            self._bar.update(self._task, total=self.total, completed=self.done, amount=amount)
        self._shown = True

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""What a run, a grid and a study came to: on the terminal, in files and in pictures."""

from ccsweep.report.run import show, summarise, write

__all__ = ["show", "summarise", "write"]

"""What a run came to: report.json and a table on the terminal."""

from ccsweep.report.summary import summarise, write
from ccsweep.report.table import show

__all__ = ["show", "summarise", "write"]

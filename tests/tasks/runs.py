"""What whole runs in a shell leave behind."""

import json
from typing import Any

from tests.conftest import User

# A way of its own: which one is the quicker may differ from run to run, and with it the last digit.
SHORT = ("training.epochs=4", "training.step=skipping", "tracking.system_metrics=false")


def reports(user: User) -> list[dict[str, Any]]:
    """All of the user's, the oldest first."""
    files = sorted(user.folder.glob("outputs/**/report.json"), key=lambda p: p.stat().st_mtime)
    return [json.loads(f.read_text()) for f in files if "mlartifacts" not in f.parts]


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whenever the same is run again."""
    return {k: report[k] for k in ("test_error", "validation_error", "best_epoch", "layers")}

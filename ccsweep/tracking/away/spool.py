"""What a run logs while its store is away: lines in its folder, sent when the store is back.

A line says one thing that a store can be told, and is told in one way, now or later.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccsweep.errors import UserError
from ccsweep.tracking.away.wait import Away, why_away
from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.find import run_id_of, store_of

NAME = "spool"
"""Of the folder, in the run's own."""
_LINES = "lines.jsonl"
_BATCH = 100  # parameters or tags that MLflow takes in one call
LOOK = 30.0
"""Seconds between two looks for a store that stayed away."""

Line = Mapping[str, Any]
"""``{"metrics": {name: value}, "step": 3, "time": milliseconds, "link": {...}}`` with the metrics' model and
data, ``{"tags": {name: value}}``, ``{"params": {name: value}}``, ``{"artifact": path, "place": folder}`` or
``{"status": "FINISHED", "time": milliseconds}``."""

log = logging.getLogger(__name__)


def now() -> int:
    """Milliseconds, as MLflow counts time."""
    return int(time.time() * 1000)


def tell(client: Any, run_id: str, line: Line) -> None:
    """Tell a store one line of a run's."""
    from mlflow.entities import Metric, Param, RunTag

    if "metrics" in line:
        when, link = (line["time"], line["step"]), line.get("link", {})
        metrics = [Metric(key, value, *when, **link) for key, value in line["metrics"].items()]
        client.log_batch(run_id, metrics=metrics)
    elif "tags" in line or "params" in line:
        tags = [RunTag(*item) for item in line.get("tags", {}).items()]
        params = [Param(*item) for item in line.get("params", {}).items()]
        for start in range(0, max(len(tags), len(params)), _BATCH):
            some = slice(start, start + _BATCH)
            client.log_batch(run_id, tags=tags[some], params=params[some])
    elif "artifact" in line:
        client.log_artifact(run_id, line["artifact"], line["place"])
    else:
        client.set_terminated(run_id, line["status"], line["time"])


class Spool:
    """What is kept for a run in ``folder``, which is the run's own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lines = self.path / _LINES

    @property
    def holds_something(self) -> bool:
        """Whether there is something to be sent."""
        return self._lines.exists()

    def keep(self, line: Line) -> None:
        """Keep a line, with a copy of the file that it is about."""
        self.path.mkdir(parents=True, exist_ok=True)
        if "artifact" in line:
            source = Path(line["artifact"])
            place = self.path / str(sum(1 for _ in self.path.iterdir()))
            place.mkdir()
            shutil.copyfile(source, place / source.name)
            line = {**line, "artifact": f"{place.name}/{source.name}"}
        with self._lines.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def send(self, client: Any, run_id: str) -> None:
        """Send all of it and keep nothing; what was sent in part is sent again, and is the same then."""
        for text in self._lines.read_text().splitlines():
            line = json.loads(text)
            if "artifact" in line:
                line["artifact"] = str(self.path / line["artifact"])
            tell(client, run_id, line)
        shutil.rmtree(self.path)


class Teller:
    """Tells a store the lines of a run, or keeps them while the store is away.

    Args:
        client: that waits for its store.
        uri: of the store.
        run_id: of the run.
        folder: the run's own; None: nothing is kept.
    """

    def __init__(self, client: Any, uri: str, run_id: str, folder: Path | None) -> None:
        self._client, self._uri, self._run_id = client, uri, run_id
        self._spool = None if folder is None else Spool(folder)
        self._looked = 0.0

    @property
    def is_away(self) -> bool:
        """Whether lines are kept."""
        return self._spool is not None and self._spool.holds_something

    def tell(self, line: Line) -> None:
        """Tell the store, or keep it.

        Raises:
            UserError: the store failed, and lines are not kept.
        """
        if self._spool is not None and self.is_away and not self._sent(self._spool):
            self._spool.keep(line)
            return
        try:
            with store_errors(self._uri):
                tell(self._client, self._run_id, line)
        except Away as away:
            if self._spool is None:
                raise
            log.warning("%s; what the run logs is kept in %s and sent later", away, self._spool.path)
            self._looked = time.monotonic()
            self._spool.keep(line)

    def _sent(self, spool: Spool) -> bool:
        """Send what was kept, if the store is back."""
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        if why_away(self._uri) is not None:
            return False
        with store_errors(self._uri):
            spool.send(connect(self._uri), self._run_id)
        return True


def send_kept(folder: Path, uri: str | None = None) -> Iterator[Path]:
    """Send what the run in ``folder`` and the runs below it have kept; yields the folders of those.

    Args:
        folder: of a run, of a study, or of many.
        uri: of the store of runs that do not say theirs, as it has a password in it.

    Raises:
        UserError: a store is still away.
    """
    for path in sorted(folder.rglob(f"{NAME}/{_LINES}")):
        own = path.parents[1]
        run_id, store = run_id_of(own), store_of(own) or uri
        if run_id is None or store is None:
            continue
        if (reason := why_away(store)) is not None:
            raise UserError(reason)
        with store_errors(store):
            Spool(own).send(connect(store), run_id)
        yield own

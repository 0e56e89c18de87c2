"""One tracked run, from its start to its end in every case."""

import getpass
import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from ccsweep.errors import Pruned
from ccsweep.interrupt import finishing
from ccsweep.tracking.away.spool import Teller, now
from ccsweep.tracking.away.wait import Away, Waiting
from ccsweep.tracking.client import connect, store_errors
from ccsweep.tracking.contents import PARAM_LIMIT, TAG_LIMIT, flatten, loggable, placed, without_passwords
from ccsweep.tracking.find import FOLDER_TAG, history, stored_run, write_run_file
from ccsweep.tracking.mask import mask
from ccsweep.tracking.model import check_registry, log_model, register
from ccsweep.tracking.monitor import Monitor, start_monitor
from ccsweep.tracking.outcome import Status, describe, status_after
from ccsweep.tracking.provenance import code_tags, processors
from ccsweep.tracking.store import experiment_id, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient

ERROR_TAG = "ccsweep.error"
PRUNED_TAG = "ccsweep.pruned"
NOTE_TAG = "mlflow.note.content"

_DIGEST_LIMIT = 36  # characters

_log = logging.getLogger(__name__)


class Run:
    """A run in an MLflow store; made by ``Run.start`` or ``Run.resume``, ended by ``with``.

    A sweep's parent is a run like any other, whose id its children are started with:

        with Run.start(uri, ..., system_metrics=False) as parent:
            for job in jobs:
                with Run.start(uri, ..., parent_id=parent.id) as run:
                    run.log_metrics({"val_error": 0.12}, step=0)

    The methods may be called from several threads. Passwords in anything logged become ``***``.
    All methods raise UserError when the store or the disk fails. A server that is away is waited for; if it
    stays away, what is logged is kept in the run's folder (``ccsweep.tracking.away``), and what cannot be
    kept raises :class:`~ccsweep.tracking.away.wait.Away`.
    """

    def __init__(
        self, client: "MlflowClient", uri: str, run_id: str, folder: Path | None = None, patience: float = 0.0
    ):
        self.id = run_id
        self.uri = uri  # may hold a password: show mask(uri)
        self._client = cast("MlflowClient", Waiting(client, uri, patience))
        self._teller = Teller(self._client, uri, run_id, folder if patience > 0 else None)
        self._monitor: Monitor | None = None
        self.model_id: str | None = None  # of the network that it logged
        self._ended = False
        self._ending = threading.Lock()

    @classmethod
    def start(
        cls,
        uri: str,
        *,
        experiment: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        folder: Path,
        parent_id: str | None = None,
        system_metrics: bool = True,
        patience: float = 0.0,
    ) -> Self:
        """Start a run in the store at ``uri``, which is made ready first if need be.

        Args:
            uri: from ``resolve_uri``.
            experiment: made on first use, also when several processes start in it at once.
            name: what the UI shows.
            params: nested or flat; flattened to dotted keys, cut at 6000 characters each.
            tags: cut at 8000 characters each.
            folder: the run's own folder, created if missing; ``run.json`` in it names the run.
            parent_id: the run that this one belongs under.
            system_metrics: log the machine's load; False for a parent, which only waits.
            patience: seconds to wait for a server that goes away once the run has begun.

        Raises:
            UserError: the store does not answer or cannot be written; the experiment is deleted.
        """
        prepare(uri)
        client = connect(uri)
        folder = folder.absolute()
        own_tags = {
            FOLDER_TAG: str(folder),
            "ccsweep.host": socket.gethostname(),
            "mlflow.user": _user(),
            "mlflow.source.name": "ccsweep",
            "mlflow.source.type": "LOCAL",
            **code_tags(),
            **{f"ccsweep.{name}": found for name, found in processors().items()},
        }
        if parent_id:
            own_tags["mlflow.parentRunId"] = parent_id
        with store_errors(uri):
            folder.mkdir(parents=True, exist_ok=True)
            run_id = client.create_run(
                experiment_id(client, uri, experiment),
                run_name=name,
                tags=loggable({**own_tags, **tags}, TAG_LIMIT),
            ).info.run_id
        run = cls(client, uri, run_id, folder, patience)
        try:
            run._log_params(params)
            with store_errors(uri):
                write_run_file(folder, uri, run_id)
            if system_metrics:
                run._monitor = start_monitor(run_id, uri, resume=False)
        except BaseException as error:
            run._end_after(error)
            raise
        return run

    @classmethod
    def resume(
        cls,
        uri: str,
        run_id: str,
        *,
        system_metrics: bool = True,
        folder: Path | None = None,
        patience: float = 0.0,
    ) -> Self:
        """Go on with a run that was ended or killed; its status becomes RUNNING again.

        Its params stay as they were logged at its start.

        Raises:
            UserError: no such run in the store, or it was deleted.
        """
        prepare(uri)
        client = connect(uri)
        tags = stored_run(client, uri, run_id).data.tags
        with store_errors(uri):
            client.update_run(run_id, status="RUNNING")
            if ERROR_TAG in tags:
                client.delete_tag(run_id, ERROR_TAG)
            run = cls(client, uri, run_id, folder, patience)
            if system_metrics:
                run._monitor = start_monitor(run_id, uri, resume=True)
        return run

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log all of ``metrics`` at ``step`` in one commit (5 to 50 ms in sqlite).

        NaN is kept as NaN; infinities become the largest finite numbers, as MLflow stores them.
        """
        if metrics:
            plain = {key: float(value) for key, value in metrics.items()}
            self._teller.tell({"metrics": plain, "step": step, "time": now()})

    def log_final(self, metrics: Mapping[str, float], dataset: tuple[str, str]) -> None:
        """Log what a run came to, each figure under its own short name, and link it to model and data.

        What the run has already is logged again only for its model.

        Args:
            metrics: final values.
            dataset: name and digest of what they were measured on, as :meth:`log_dataset` has them.
        """
        known = self._known("metrics") if self.model_id is None else {}
        name, digest = dataset
        link = {"model_id": self.model_id, "dataset_name": name, "dataset_digest": digest[:_DIGEST_LIMIT]}
        new = {key: float(value) for key, value in metrics.items() if known.get(key) != value}
        self._teller.tell({"metrics": new, "step": 0, "time": now(), "link": link})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters that are known only now; one that the run has already stays as it is."""
        known = self._known("params")
        self._log_params({key: value for key, value in params.items() if key not in known})

    def _known(self, what: str) -> dict[str, Any]:
        """What the run has already; nothing while its store is away."""
        with suppress(Away), store_errors(self.uri):
            return {} if self.is_away else dict(getattr(self._client.get_run(self.id).data, what))
        return {}

    def describe(self, text: str) -> None:
        """Give the run a description, in Markdown, which the UI shows above everything else."""
        self.set_tags({NOTE_TAG: text})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or a folder under its own name, into the run's artifacts.

        Args:
            path: a file, or a folder that is copied with all that it holds.
            folder: where to put it among the artifacts, the top by default.
        """
        for file, place in placed(path, folder):
            with without_passwords(file) as shown:
                self._teller.tell({"artifact": str(shown), "place": place})

    def log_model(self, name: str, **about: Any) -> str:
        """Log a trained network as an MLflow model; returns its id. See ``model.log_model``."""
        self.model_id = log_model(self._client, self.uri, self.id, name, **about)
        return self.model_id

    def check_registry(self, name: str) -> None:
        """Raise UserError if the store's registry would not take a model of this name."""
        check_registry(self._client, self.uri, name)

    def register(self, model_id: str, name: str, text: str) -> int:
        """Put a logged model into the store's registry, described by ``text``; returns the version."""
        return register(self._client, self.uri, self.id, model_id, name, text)

    def log_dataset(
        self,
        name: str,
        *,
        digest: str,
        source: str,
        context: str,
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Note a data set that the run reads, shown by the UI beside the run.

        Args:
            name: for example ``"mnist"``.
            digest: of its content; MLflow keeps 36 characters.
            source: a URL or a path.
            context: what it is used for: ``"train"``, ``"validation"``, ``"test"``.
            profile: facts about it, for example ``{"num_rows": 60000}``.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        remote = "://" in source
        dataset = Dataset(
            name=name,
            digest=digest[:_DIGEST_LIMIT],
            source_type="http" if remote else "local",
            source=json.dumps({"url" if remote else "uri": mask(source)}),
            profile=json.dumps(profile) if profile else None,
        )
        tag = InputTag("mlflow.data.context", context)
        inputs = [DatasetInput(dataset, [tag])]
        with store_errors(self.uri):
            try:
                self._client.log_inputs(self.id, inputs)
            except MlflowException as error:
                if "unique constraint" not in str(error).lower():
                    raise
                # Another run of the experiment was the first to write the data set down, at this moment.
                self._client.log_inputs(self.id, inputs)

    def history(self, prefix: str) -> dict[str, list[tuple[int, float]]]:
        """Return what was logged under names that begin with ``prefix``, as (step, value) by step."""
        return history(self.uri, self.id, prefix)

    def tag(self, name: str) -> str:
        """Return a tag of the run; empty where it has none of this name."""
        return str(stored_run(self._client, self.uri, self.id).data.tags.get(name, ""))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a tag that exists is replaced."""
        self._teller.tell({"tags": loggable(tags, TAG_LIMIT)})

    def end(self, status: Status) -> None:
        """End the run; once that is done, further calls do nothing."""
        with finishing(), self._ending:
            if self._ended:
                return
            if self._monitor is not None:
                self._monitor.finish()
            self._teller.tell({"status": status, "time": now()})
            self._ended = True

    @property
    def is_away(self) -> bool:
        """Whether the store is away, and what is logged is kept in the run's folder."""
        return self._teller.is_away

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end("FINISHED")
        else:
            self._end_after(error)

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {mask(self.uri)!r})"

    def _log_params(self, params: Mapping[str, object]) -> None:
        self._teller.tell({"params": loggable(flatten(params), PARAM_LIMIT)})

    def _end_after(self, error: BaseException) -> None:
        """End with the status that ``error`` means; never puts another error in its place."""
        status = status_after(error)
        try:
            if isinstance(error, Pruned):
                self.set_tags({PRUNED_TAG: describe(error)})
            if status == "FAILED" and not self._ended:
                self.set_tags({ERROR_TAG: describe(error)})
        except Exception as second:
            _log.warning("run %s: its error was not logged: %s", self.id, describe(second))
        try:
            self.end(status)
        except Exception as second:
            _log.warning("run %s: not ended: %s", self.id, describe(second))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return str(os.getuid())

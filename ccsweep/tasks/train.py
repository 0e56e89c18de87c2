"""``task=train``: train and test a network; with ``training.resume`` go on with a run that was stopped."""

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.files import read_json
from ccsweep.interrupt import finishing
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks.earlier import Earlier, find
from ccsweep.tasks.run import begun, held, log_file, prepared, started, write_settings
from ccsweep.tracking import Run, mask, resolve_uri
from ccsweep.tracking.find import is_stored

if TYPE_CHECKING:
    from ccsweep.data.dataset import Dataset

log = logging.getLogger(__name__)


def train(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Train a network from the start, or one that was stopped to its end; returns the report.

    Args:
        config: checked; with ``training.resume``, read on top of that run's own.
        folder: of the run; a run that goes on does so in its own.
        overrides: what the command says.

    Raises:
        UserError: data that cannot be had, or a run that cannot go on.
    """
    if config.training.resume is not None:
        return _resume(config, overrides)
    with prepared(config) as dataset, begun(config, folder, overrides, dataset) as run:
        return _to_the_end(run, config, folder, dataset, resumed=False)


def _resume(config: Config, overrides: list[str]) -> dict[str, Any]:
    earlier = find(config, overrides, "training.resume")
    require_folder(earlier)
    run_id, folder, settings = earlier.run_id, earlier.folder, earlier.settings
    uri = resolve_uri(settings.tracking.uri)
    with held(folder), prepared(settings) as dataset, contextlib.ExitStack() as stack:
        check_can_go_on(earlier, dataset)
        if run_id is None or not is_stored(uri, run_id):  # a copy's, or its store is gone
            log.warning("%s does not hold the run of %s: it goes on as a new run", mask(uri), folder.path)
            run = stack.enter_context(started(settings, folder, overrides, dataset))
        else:
            with finishing():
                patience = 60 * settings.tracking.patience
                run = stack.enter_context(Run.resume(uri, run_id, folder=folder.path, patience=patience))
            stack.enter_context(log_file(folder))
            write_settings(settings, folder)
            run.log_artifact(folder.settings)
        run.set_tags({"ccsweep.resumed_with": " ".join(overrides)})
        return _to_the_end(run, settings, folder, dataset, resumed=True)


def _to_the_end(
    run: Run, config: Config, folder: TrialFolder, dataset: "Dataset", resumed: bool
) -> dict[str, Any]:
    from ccsweep.tasks.result import conclude  # what cannot be imported is known before hours of training
    from ccsweep.training import checkpoint
    from ccsweep.training.fit import Job

    began = time.perf_counter()
    try:
        job = Job(config, dataset, folder.path)
        trained = job.fit(run, resumed)
        if not config.of_a_search:
            run.log_artifact(checkpoint.best(folder.path), "checkpoints")
        return conclude(run, job, job.validate(), trained, dataset, began, resumed)
    except KeyboardInterrupt:
        if config.tracking.sweep is None:  # a study goes on with its trials itself
            log.warning("stopped; go on with: python -m ccsweep training.resume=%s", folder.path)
        raise


def require_folder(earlier: Earlier) -> None:
    """Refuse a run whose own folder, with its last checkpoint, is not on this machine.

    Raises:
        UserError: only its artifacts are.
    """
    if not earlier.folder.data.exists():  # which is no artifact
        raise UserError(
            "training.resume: the run's own folder is not on this machine, and its artifacts hold no "
            "checkpoint to go on from: resume where it was trained (tags ccsweep.host, ccsweep.folder)"
        )


def check_can_go_on(earlier: Earlier, dataset: "Dataset") -> None:
    """Refuse, before anything is touched, what would not continue the earlier run.

    Raises:
        UserError: other data, a damaged checkpoint, or all epochs done that are asked for.
    """
    from ccsweep.training import checkpoint

    began = read_json(earlier.folder.data, "train the run anew")
    if began.get("digest") != dataset.digest:
        raise UserError(
            f"training.resume: the run began with {began.get('label')} ({began.get('digest')}), found "
            f"{dataset.label} ({dataset.digest}): set data.dir to the same data, or train anew"
        )
    done = checkpoint.epochs_done(earlier.folder.path)
    if done > (epochs := earlier.settings.training.epochs):
        raise UserError(f"training.epochs={epochs}: the run has done {done} already; expected {done} or more")

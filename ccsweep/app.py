"""The entry point: Hydra composes, the schema checks, a task runs, errors become one line.

torch, Lightning and MLflow are imported by the tasks only, so ``--help``, ``--cfg job`` and shell
completion answer at once.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ccsweep import interrupt
from ccsweep.config.explain import explain
from ccsweep.config.places import root
from ccsweep.config.register import register
from ccsweep.errors import UserError
from ccsweep.tasks import perform
from ccsweep.tracking.mask import mask, mask_log_records

# At import, so that a worker that a launcher starts in another process has them too.
register()


def run_task(cfg: DictConfig) -> dict[str, Any]:
    """Run the task that the config names; returns its report, for the sweeper."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    os.chdir(
        hydra_config.runtime.cwd
    )  # with hydra.job.chdir, too, paths are meant from where they were typed
    try:
        return perform(cfg)
    except UserError as error:
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # one job's mistake must not end the others: the sweeper counts it
        _fail(str(error), status=2)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # Hydra made it for every command; not all write something


def main() -> None:
    """Console entry point: ``ccsweep`` and ``python -m ccsweep``."""
    mask_log_records()
    sys.argv[1:] = map(_quoted, sys.argv[1:])
    if {"-m", "--multirun"} & {*sys.argv} and any(
        a.startswith(("--cfg", "-c", "--info", "-i")) for a in sys.argv
    ):
        _fail(
            "-m: many configs cannot be shown at once; add sweep.preview=5 to see its first points", status=2
        )
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints errors its own way and over several lines; so it hands them on instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupt.install()  # a scheduler's stop ends a run as Ctrl-C does
    try:
        config_path = str(root() / "conf")
        with _masked_config():
            hydra.main(config_path=config_path, config_name="config", version_base="1.3")(run_task)()
    except KeyboardInterrupt:
        _fail("stopped", status=130)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        _fail(str(error) if isinstance(error, UserError) else explain(error), status=2)
    except OSError as error:  # a folder that cannot be written, a full disk
        if traceback_wanted or error.filename is None:
            raise
        hint = "choose another place, or see the traceback with HYDRA_FULL_ERROR=1"
        _fail(f"{error.filename}: {error.strerror}; {hint}", status=2)


def _quoted(argument: str) -> str:
    """``pick=error<=1.6``, whose quotes the shell took, as Hydra reads it."""
    key, _, value = argument.partition("=")
    plain = key == "pick" and value[:1] not in ("'", '"')
    return f"{key}='{value}'" if plain and any(sign in value for sign in "<>") else argument


@contextlib.contextmanager
def _masked_config() -> Iterator[None]:
    """Mask what ``--cfg`` prints; nothing else that Hydra writes to stdout shows the config."""
    if not any(argument.startswith(("--cfg", "-c")) for argument in sys.argv[1:]):
        yield
        return
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            yield
    finally:
        sys.stdout.write(mask(shown.getvalue()))


def _fail(line: str, status: int) -> NoReturn:
    logging.shutdown()
    print(f"ccsweep: {mask(line)}", file=sys.stderr)
    sys.exit(status)

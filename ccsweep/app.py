"""The entry point: Hydra composes, the schema checks, a task runs, errors become one line.

torch, Lightning and MLflow are imported by the tasks only, so ``--help``, ``--cfg job`` and shell
completion answer at once.
"""

import contextlib
import logging
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn, TextIO

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ccsweep import interrupt
from ccsweep.config.explain import explained
from ccsweep.config.places import root
from ccsweep.config.quoting import check_path, quoted
from ccsweep.config.register import register
from ccsweep.errors import UserError, is_full_disk, is_interrupt, machine_fault
from ccsweep.files import private_folder, user_cache
from ccsweep.study.folder import TrialFolder
from ccsweep.tasks import perform
from ccsweep.tracking.mask import mask_log_records, mask_streams
from ccsweep.tracking.outcome import describe

_OPEN = "sweep.slurm"  # has keys of SLURM's, which no schema knows
ENVIRONMENT = dict(os.environ)
"""As it was given: what is done here changes it."""
_TRACEBACK_WANTED = ENVIRONMENT.get("HYDRA_FULL_ERROR") == "1"

# At import, so that a worker that a launcher starts in another process has them too.
register()


class ToStandardError(logging.StreamHandler[TextIO]):
    """Log lines go where standard error goes at that moment: above a bar while one is drawn, not into it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """What the process prints errors to now."""
        return sys.stderr


def run_task(cfg: DictConfig) -> dict[str, Any]:
    """Run the task that the config names; returns its report, for the sweeper."""
    hydra_config = HydraConfig.get()
    folder = TrialFolder(Path(hydra_config.runtime.output_dir))
    os.chdir(
        hydra_config.runtime.cwd
    )  # with hydra.job.chdir, too, paths are meant from where they were typed
    try:
        check_path("hydra.run.dir", str(folder.path))
        return perform(cfg)
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        if hydra_config.mode == RunMode.MULTIRUN or (line := _line(error, folder)) is None:
            raise  # one job's mistake must not end the others: the sweeper counts it
        _fail(line, status=2)
    finally:
        with contextlib.suppress(OSError):
            folder.path.rmdir()  # Hydra made it for every command; not all write something


def main() -> None:
    """Console entry point: ``ccsweep`` and ``python -m ccsweep``."""
    mask_log_records()
    mask_streams()
    logging.raiseExceptions = False  # a log on a full disk is no reason for a page of tracebacks
    _find_places()
    sys.argv[1:] = map(_quoted, sys.argv[1:])
    # Hydra prints errors its own way and over several lines; so it hands them on instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupt.install()  # a scheduler's stop ends a run as Ctrl-C does
    try:
        _check_place()
        _check_flags(sys.argv[1:])
        config_path = str(root() / "conf")
        hydra.main(config_path=config_path, config_name="config", version_base="1.3")(run_task)()
    except KeyboardInterrupt:
        _fail("stopped", status=130)
    except Exception as error:
        if (line := _line(error)) is None:
            raise
        _fail(line, status=2)


def _check_place() -> None:
    """Refuse a working directory that is gone, or whose name a config cannot hold."""
    try:
        check_path("the working directory", os.getcwd())
    except FileNotFoundError:
        raise UserError("the working directory is gone; cd to one that exists") from None


def _check_flags(arguments: list[str]) -> None:
    """Read the flags as Hydra will, which would print two dozen lines about a wrong one."""

    def refuse(message: str) -> NoReturn:
        lost = message.startswith("unrecognized arguments: ") and "=" in message
        hint = "flags go before all overrides, or after them; " if lost else ""
        raise UserError(f"{message}; {hint}python -m ccsweep --hydra-help lists the flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args([argument for argument in arguments if argument != "--version"])
    if flags.multirun and (flags.cfg or flags.info):
        raise UserError(
            "-m: many configs cannot be shown at once; add sweep.preview=5 to see its first points"
        )
    chosen = next((word for word in flags.overrides if word.startswith("+sweeps=")), None)
    if chosen is not None and not (flags.multirun or flags.cfg or flags.info or flags.help):
        print(f"{chosen} without -m: one network, as its trials begin; -m runs the study", file=sys.stderr)
    if flags.experimental_rerun is not None:  # a pickle, which may run anything
        raise UserError("--experimental-rerun: is not supported; give the command of that run again")


def _line(error: Exception, folder: TrialFolder | None = None) -> str | None:
    """What to say of an error; None for a mistake in the program, and where the traceback is asked for."""
    if isinstance(error, UserError):
        return str(error)
    if _TRACEBACK_WANTED:
        return None
    of_a_path = isinstance(error, OSError) and error.filename is not None
    if isinstance(error, HydraException | OmegaConfBaseException) or (not of_a_path and _is_of_hydra(error)):
        return explained(error, sys.argv[1:])
    fault = machine_fault(error)
    if fault is not None and is_full_disk(fault):
        place = getattr(fault, "filename", None) or (folder.path if folder is not None else Path.cwd())
        again = "give the same command again"
        if folder is not None and folder.last_checkpoint.exists():
            again = f"go on with: {shlex.join(['python', '-m', 'ccsweep', f'training.resume={folder.path}'])}"
        return f"{place}: no space left on device; make room there, then {again}"
    if fault is not None and not isinstance(fault, OSError):
        return f"the machine failed ({describe(fault)}); see the traceback with HYDRA_FULL_ERROR=1"
    if isinstance(error, OSError) and of_a_path:  # a folder that cannot be written
        hint = "choose another place, or see the traceback with HYDRA_FULL_ERROR=1"
        return f"{error.filename}: {error.strerror}; {hint}"
    return None


def _is_of_hydra(error: Exception) -> bool:
    """Whether an error was raised before Hydra called anything of this program."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = {str(frame.f_globals.get("__name__")) for frame in frames}
    ours = {name for name in names if name.startswith(("ccsweep.", "hydra_plugins."))}
    task = any(frame.f_code is run_task.__code__ for frame in frames)
    return not task and ours <= {__name__, "ccsweep.__main__"}


def _find_places() -> None:
    """A private folder instead of a home that is not there (for MLflow), or not writable (for Matplotlib)."""
    with contextlib.suppress(OSError):
        try:
            Path.home()
        except RuntimeError:  # a container's user id without a name
            os.environ["HOME"] = str(private_folder())
        if (cache := user_cache()) == private_folder():
            os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))


def _quoted(argument: str) -> str:
    """``pick=error<=1.6``, whose quotes the shell took, and ``sweep.slurm.time=60``, as Hydra reads them."""
    key, _, value = argument.partition("=")
    if key == _OPEN or key.startswith(f"{_OPEN}."):
        return f"++{argument}"
    plain = key == "pick" and value[:1] not in ("'", '"')
    return f"{key}={quoted(value)}" if plain and any(sign in value for sign in "<>") else argument


def _fail(line: str, status: int) -> NoReturn:
    logging.shutdown()
    print(f"ccsweep: {' '.join(line.splitlines())}", file=sys.stderr)
    sys.exit(status)

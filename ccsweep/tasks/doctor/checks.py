"""Each thing that is looked at, and its line."""

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ccsweep.config.schema import Config
from ccsweep.errors import UserError
from ccsweep.study.folder import StudyFolder, TrialFolder
from ccsweep.sweep.cluster import slurm
from ccsweep.tasks.doctor.probe import Seen, look
from ccsweep.tracking.mask import mask
from ccsweep.tracking.outcome import describe
from ccsweep.tracking.store import FOLDER, prepare, resolve_uri

SECONDS = 120.0
"""To wait for a job to start and to answer."""
SKEW = 5.0
"""Seconds that a node's clock may be away from this one's."""
ROOM = 2**30
"""Bytes of disk, less of which are too few."""


def doctor(config: Config, folder: TrialFolder, overrides: list[str]) -> dict[str, Any]:
    """Try what a sweep with this config needs; prints a line for each thing, and returns them.

    Args:
        config: its ``sweep`` and ``tracking`` are read.
        folder: not needed.
        overrides: not needed.

    Raises:
        UserError: something is wrong.
    """
    lines: list[tuple[bool, str, str]] = []

    def tried(what: str, action: Callable[[], str]) -> bool:
        try:
            ok, said = True, action()
        except Exception as error:
            ok, said = False, describe(error)
        lines.append((ok, what, said))
        print(f"{'ok' if ok else 'WRONG':6}{what:10}{said}", flush=True)
        return ok

    tried("storage", lambda: _storage(config))
    tried("tracking", lambda: _tracking(config))
    tried("disk", lambda: _room(shutil.disk_usage(_existing(FOLDER)).free))
    if config.sweep.cluster == "slurm" and tried("slurm", lambda: _slurm(config)):
        seen: list[Seen] = []
        with _shared() as place:
            if tried("job", lambda: _job(config, place, seen)):
                _on_node(config, seen[0], tried)
    wrong = sum(not ok for ok, _, _ in lines)
    if wrong:
        raise UserError(f"task=doctor: {wrong} of {len(lines)} things are wrong; see above")
    return {"task": config.task, "checks": {what: said for _, what, said in lines}}


def _on_node(config: Config, seen: Seen, tried: Callable[[str, Callable[[], str]], bool]) -> None:
    tried("folder", lambda: _right(seen.token_read, f"{seen.host} reads and writes {FOLDER.absolute()}"))
    tried("locks", lambda: _right(seen.lock_held, f"a lock that is held here is held on {seen.host}"))
    tried("clock", lambda: _right(abs(seen.skew) < SKEW, f"{seen.host} is {seen.skew:+.1f} s away from here"))
    here = f"Python {platform.python_version()} at {sys.executable}, ccsweep at {Path(__file__).parents[2]}"
    same = seen.python == here
    tried("python", lambda: _right(same, seen.python + ("" if same else f" on {seen.host}; here is {here}")))
    asked = any("gpu" in str(key) or "gpu" in str(value) for key, value in config.sweep.slurm.items())
    gpus = ", ".join(f"GPU {name}" for name in seen.gpus) or "no GPU"
    tried("gpu", lambda: _right(bool(seen.gpus) or not asked, f"{gpus} for a worker"))
    tried("node disk", lambda: _room(seen.free))
    tried("node net", lambda: _right(not seen.unreachable, "; ".join(seen.unreachable) or "reaches both"))


def _storage(config: Config) -> str:
    from ccsweep.study.storage import connect

    url = config.sweep.storage
    if url is None:
        return "a file in the study's folder"
    connect(StudyFolder(FOLDER), url)
    return mask(url)


def _tracking(config: Config) -> str:
    uri = resolve_uri(config.tracking.uri)
    prepare(uri)
    return mask(uri)


def _slurm(config: Config) -> str:
    slurm.check(config.sweep.slurm)
    try:
        said = subprocess.run(
            ["sinfo", "--noheader", "-o", "%P %a %l %D nodes %t"], capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        raise UserError("there is no sinfo here: this is no machine of a SLURM cluster") from None
    except subprocess.TimeoutExpired:
        raise UserError("sinfo does not answer within 30 s") from None
    if said.returncode:
        raise UserError(mask(said.stderr.strip().partition("\n")[0]))
    return "; ".join(" ".join(line.split()) for line in said.stdout.splitlines())


def _job(config: Config, place: Path, seen: list[Seen]) -> str:
    """Run a job as a worker's would be; what it saw is put into ``seen``."""
    import submitit
    from filelock import FileLock

    executor = submitit.AutoExecutor(folder=place, cluster="slurm")
    executor.update_parameters(**slurm.parameters(config.sweep.slurm, "doctor", place))
    token, lock = place / "token", place / "lock"
    token.write_text("written here")
    began = time.monotonic()
    with FileLock(lock):
        try:
            uri = resolve_uri(config.tracking.uri)
            job = executor.submit(look, token, lock, config.sweep.storage, uri)
        except Exception as error:
            raise UserError(mask(str(error)).strip().partition("\n")[0]) from error
        watch = slurm.Watch()
        try:
            while not job.paths.result_pickle.exists():
                watch.look([job.job_id])
                if watch.is_gone(job.job_id) and not job.paths.result_pickle.exists():
                    raise UserError(
                        f"job {job.job_id} ended without an answer; see {_tail(job.paths.stderr)}"
                    )
                if time.monotonic() - began > SECONDS:
                    waits = "; ".join(watch.waiting([job.job_id])) or f"job {job.job_id} does not answer"
                    raise UserError(f"{waits}, after {SECONDS:.0f} s")
                time.sleep(0.2)
        finally:
            slurm.cancel([job.job_id])
        found = job.result()
    if not token.with_suffix(".back").exists():
        found.token_read = False
    seen.append(found)
    return f"started and answered in {time.monotonic() - began:.0f} s, on {found.host}"


def _tail(path: Path) -> str:
    """What a job's errors end with, as its folder is removed."""
    return (
        path.read_text(errors="replace").strip().rpartition("\n")[2]
        if path.exists()
        else "nothing: its node does not see this folder"
    )


@contextmanager
def _shared() -> Any:
    """A folder where studies are, as far as nodes see that."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=FOLDER) as place:
        yield Path(place).absolute()


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else folder.absolute().parent


def _room(free: int) -> str:
    return _right(free > ROOM, f"{free / 2**30:.0f} GiB free")


def _right(ok: bool, said: str) -> str:
    if not ok:
        raise UserError(said)
    return said

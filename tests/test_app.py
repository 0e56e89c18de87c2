"""The command line itself: quick to answer, one line for a mistake, found from anywhere."""

import contextlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import fuzz
from benchmarks.chaos import small_disk
from ccsweep.app import ToStandardError
from ccsweep.config.places import root
from tests.conftest import ROOT, User
from tests.report.study import studies

HEAVY = ("torch", "pytorch_lightning", "mlflow", "sklearn", "matplotlib")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["-sc", "query=bash"]])
def test_quick_answers_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"COMP_LINE": "ccsweep ranks=", "COMP_POINT": "14"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ccsweep", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.returncode == 0, done.stderr
    assert "hydra" in imported
    assert imported.isdisjoint(HEAVY)


def test_help_shows_commands_and_groups(user: User) -> None:
    out = user.run("--help").stdout
    assert "python -m ccsweep +experiment=svhn" in out
    assert "75-50-40-30" in out
    for other in (
        "-m +sweeps=digits_pareto",
        "task=sweep_status",
        "task=export",
        "task=confirm",
        ".tracking.ui",
    ):
        assert f"python -m ccsweep{'' if other[0] == '.' else ' '}{other}" in out
    of_people = [line for line in out.splitlines() if "python -m" in line or "ccsweep trains" in line]
    assert max(map(len, of_people)) <= 80


def test_a_study_without_m_says_so(user: User) -> None:
    done = user.run("+sweeps=digits_pareto", "training.epochs=0")
    assert done.stderr.splitlines()[0] == (
        "+sweeps=digits_pareto without -m: one network, as its trials begin; -m runs the study"
    )


def test_completion_knows_the_options(user: User) -> None:
    user.environment |= {"COMP_LINE": "ccsweep ranks=75", "COMP_POINT": "16"}
    assert user.run("-sc", "query=bash").stdout.split() == ["ranks=75-50-40-30"]


def test_a_mistake_is_one_line_and_leaves_nothing_behind(user: User) -> None:
    for mistake in ("training.learning_rate=abc", "training.epochs=0", "ranks.layers=[1]", "rank=1"):
        done = user.run(mistake)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("ccsweep: ")
    assert not any(p.is_file() for p in user.folder.rglob("*"))


def test_a_command_that_writes_nothing_leaves_no_folder(user: User) -> None:
    studies.typical(user.folder / "outputs" / "sweeps" / "digits_pareto")
    done = user.run("task=sweep_status", "sweep.name=digits_pareto")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (user.folder / "outputs").iterdir()] == ["sweeps"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("unexpected pos 30 vs 0")])
def test_what_a_library_makes_of_ctrl_c_is_an_interrupt(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise error  # in the first one's context, as torch's writer does

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz, "_nothing", lambda name: interrupted)
    found = fuzz.answer(["training.epochs=1"])
    assert (found.status, found.err) == (130, "ccsweep: stopped\n")


def test_a_folder_that_cannot_be_written_is_one_line(user: User) -> None:
    done = user.run("hydra.run.dir=/proc/nowhere/run")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "ccsweep: /proc/nowhere: No such file or directory; choose another place, "
        "or see the traceback with HYDRA_FULL_ERROR=1"
    ]


def test_a_wheel_carries_its_configs_and_runs_from_any_folder(user: User, tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            "w",
            ROOT,
        ],
        cwd=tmp_path,
        check=True,
    )
    (wheel,) = (tmp_path / "w").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    configs = {
        f"ccsweep/{p.relative_to(ROOT)}" for f in ("conf", "sweeps") for p in (root() / f).rglob("*.yaml")
    }
    assert configs <= set(names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)
    user.environment["PYTHONPATH"] = str(tmp_path / "site")
    done = user.run("+sweeps=mnist_table", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "name: mnist" in done.stdout
    sources = user.run("--info", "searchpath").stdout
    assert f"{tmp_path}/site/ccsweep/conf" in sources


@pytest.mark.parametrize("shown", [["--cfg", "job"], ["--info", "searchpath"], ["-c", "hydra"]])
def test_what_a_multirun_would_be_is_asked_with_a_preview(shown: list[str], user: User) -> None:
    done = user.run("-m", "ranks=16-12,control", *shown)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ccsweep: -m: many configs cannot be shown at once; add sweep.preview=5 to see its first points\n"
    )


@pytest.mark.slow
def test_paths_are_meant_from_where_they_were_typed_also_with_chdir(user: User) -> None:
    (user.folder / "mine.csv").write_text("a,label\n" + "".join(f"{n},{n % 2}\n" for n in range(60)))
    done = user.run(
        "hydra.job.chdir=true",
        "data=arrays",
        "data.file=mine.csv",
        "training.epochs=1",
        "tracking.system_metrics=false",
    )
    assert done.returncode == 0, done.stderr
    assert [path.relative_to(user.folder).as_posix() for path in user.folder.rglob("mlflow.db")] == [
        "outputs/mlflow.db"
    ]


NAMELESS = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=+dac_read_search"]
NAMELESS += ["--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"]
"""As a user without a name, who may read everything."""


@pytest.mark.slow
def test_a_user_without_a_name_home_or_writable_package_trains(tmp_path: Path) -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    for folder in (tmp_path, tmp_path / "tmp"):
        os.chown(folder, 12345, 12345)
    quick = ["training.epochs=1", "training.step=dense", "tracking.system_metrics=false"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [*NAMELESS, sys.executable, "-m", "ccsweep", *quick],
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "once: they are kept on disk" in done.stderr
    assert "measured, 1 thread, engine over torch: " in done.stdout, done.stderr
    assert list((tmp_path / "tmp" / "ccsweep-12345").rglob("*.nbc"))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(user: User) -> None:
    disk = user.folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted:
        if not mounted:
            pytest.skip("needs a disk of its own: root")
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        os.truncate(filler, filler.stat().st_size - 2**18)  # room for its settings, and for no checkpoint
        run = ["training.epochs=2", "tracking.system_metrics=false"]
        done = user.run(*run, f"hydra.run.dir={disk}/run")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("ccsweep: ")]
        (line,) = lines
        assert "no space left on device; make room there, then give the same command again" in line
        (stored,) = user.runs()
        assert stored.info.status == "FAILED"
        filler.unlink()
        done = user.run(f"training.resume={disk}/run")
        assert done.returncode == 0, done.stderr
        assert [stored.info.status for stored in user.runs()] == ["FINISHED"]


def test_log_lines_stand_above_a_bar():
    """Rich takes over standard error while it draws; a handler with a stream of its own would write into it."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "compiled in 3 s", (), None)
    with Progress(console=screen, auto_refresh=False) as bar:
        bar.add_task("training", total=2)
        bar.refresh()
        ToStandardError().emit(record)
    (line,) = [line for line in screen.file.getvalue().splitlines() if "compiled" in line]
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() == "compiled in 3 s"

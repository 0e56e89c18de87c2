"""What a person may get wrong: one clear line, and nothing has run."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ccsweep.errors import UserError
from ccsweep.sweep import recover
from tests.sweep.conftest import AIM, Command, Shell, Sweep, computed, stored

L1 = "training.l1=interval(0,1)"
KEYS = (
    "validation_error, density, false_off, theoretical_speedup, theoretical_speedup_inference, "
    "measured_speedup_batch1, measured_speedup_batch256, engine_over_best_peer_batch1, "
    "engine_over_best_peer_batch256, best_epoch, epochs, seconds"
)
SWEEPS = "expected choice(a,b), range(1,10) or interval(0,1)"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            [L1, "+sweep.objectives.validation_eror=minimize", "sweep.n_trials=3"],
            f"sweep.objectives: validation_eror is no figure of report.json; expected one of {KEYS}; did you mean 'validation_error'?",
        ),
        (
            [L1, "+sweep.objectives.validation_error=down", "sweep.n_trials=3"],
            "sweep.objectives.validation_error=down: expected one of minimize, maximize",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "sweep.constraints=['false_off<0.2']"],
            "sweep.constraints: false_off<0.2 cannot be read; expected key<=number or key>=number",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "sweep.constraints=['fals_off<=0.2']"],
            f"sweep.constraints: fals_off is no figure of report.json; expected one of {KEYS}; did you mean 'false_off'?",
        ),
        (
            [
                "+sweep.space={trainin.l1:'interval(0,1)'}",
                AIM,
                "sweep.n_trials=3",
            ],
            "trainin: no such key; did you mean 'training'?",
        ),
        (
            ["training.lr=interval(0,1)", AIM, "sweep.n_trials=3"],
            "training.lr: no such key; did you mean 'training.learning_rate'?",
        ),
        (
            [AIM, "sweep.n_trials=3"],
            "sweep.space={}: names no parameter to search; expected for example training.l1: tag(log,interval(1e-6,1e-3))",
        ),
        ([L1, AIM], "sweep.n_trials=null: expected a number of trials with sweep.sampler=tpe"),
        (
            [L1, "sweep.sampler=gp", "sweep.n_trials=3"],
            "sweep.sampler=gp: has nothing to aim at; expected sweep.objectives, as {validation_error: minimize}",
        ),
        (
            [L1],
            "sweep.space: training.l1=interval(0,1): a grid cannot list an interval; expected choice(a,b) or range(1,10), or sweep.objectives and another sweep.sampler",
        ),
        (
            ["sweep.sampler=tp", "training.l1=0,1"],
            "sweep.sampler=tp: expected one of tpe, nsgaii, gp, random, grid; did you mean 'tpe'?",
        ),
        (["training.l1=0,1", "sweep.workers=0"], "sweep.workers=0: expected 1 or more"),
        (["training.l1=0,1", "sweep.name=.."], "sweep.name=..: expected a name, or the path of a folder"),
        (
            ["training.l1=tag(x,interval(0,1))", AIM, "sweep.n_trials=3"],
            "sweep.space: training.l1=tag(x,interval(0,1)): tag x means nothing here; expected tag(log,...)",
        ),
        (
            ["training.l1=interval(1,0)", AIM, "sweep.n_trials=3"],
            f"sweep.space: training.l1=interval(1,0): the first end is above the second; {SWEEPS}",
        ),
        (
            ["training.l1=tag(log,interval(0,1))", AIM, "sweep.n_trials=3"],
            f"sweep.space: training.l1=tag(log,interval(0,1)): tag(log,...) wants numbers above 0; {SWEEPS}",
        ),
        (
            ["ranks.layers.0=interval(500,500)", AIM, "sweep.n_trials=3"],
            "sweep.space allows ranks.layers.0=500: ranks.layers[0]=500: expected 1 to 64, the smaller side of the 64x256 layer",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "sweep.points=['training.l1=7']"],
            "sweep.points: training.l1=7: expected a value of sweep.space, training.l1=interval(0,1)",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "sweep.points=['trainin.l1=0.5']"],
            "sweep.points: trainin.l1=0.5 is no value of a searched key (training.l1); did you mean 'training.l1'?",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "+sweep.conditions={training.l2:'ranks=control'}"],
            "sweep.conditions: training.l2 is not in sweep.space; did you mean 'training.l1'?",
        ),
        (
            [L1, AIM, "sweep.n_trials=3", "+sweep.conditions={training.l1:'rank=control'}"],
            "sweep.conditions: training.l1: rank is neither in sweep.space nor given",
        ),
        (
            ["sweep.sampler=tpe,random"],
            "sweep.sampler=tpe,random: is the same for all trials; expected one value",
        ),
        (
            ["training.l1=0,1", "sweep.storage=nothing"],
            "sweep.storage=nothing: is no URL of a storage; expected for example sqlite:////tmp/study.db or postgresql+psycopg://user@host/name",
        ),
        (
            ["training.l1=0,1", "sweep.storage=sqlite:////proc/none/study.db"],
            "sweep.storage=sqlite:////proc/none/study.db: cannot be opened (its folder is not there, or not writable); start that server, or leave sweep.storage out for a file in the study's folder",
        ),
    ],
)
def test_one_line(overrides: list[str], complaint: str, sweep: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        sweep(*overrides)
    assert str(caught.value) == complaint
    assert computed() == []


def test_no_cluster_here(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        sweep("training.l1=0,1", "sweep.cluster=slurm")
    assert (
        str(caught.value) == "sweep.cluster=slurm: there is no srun here; expected a SLURM cluster, or local"
    )


def test_a_path_that_cannot_be_written(shell: Shell) -> None:
    Path("file").write_text("no folder")
    status, out = shell.run("training.l1=0,1", "hydra.sweep.dir=file/out")
    folder = Path("file/out").resolve()
    assert status == 2
    assert (
        out.splitlines()[-1]
        == f"ccsweep: {folder}: cannot be written (Not a directory); choose another sweep.name or hydra.sweep.dir"
    )


def test_a_storage_that_does_not_answer(sweep: Sweep) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        url = f"postgresql+psycopg2://ann:s3cret@127.0.0.1:{port}/runs"
        with pytest.raises(UserError) as caught:
            sweep("training.l1=0,1", f"sweep.storage='{url}'")
    assert str(caught.value) == (
        f"sweep.storage=postgresql+psycopg2://ann:***@127.0.0.1:{port}/runs: does not answer (Connection refused); "
        "start that server, or leave sweep.storage out for a file in the study's folder"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("+sweep.objectives.density=minimize", "began with sweep.objectives.density=nothing, found minimize"),
        ("training.l1=choice(0,1)", "began with sweep.space.training.l1=choice(0,1,2), found choice(0,1)"),
        ("training.l2=0.5", "began with training.l2=0.0005, found 0.5"),
        ("sweep.sampler=grid", "began with sweep.sampler=random, found grid"),
    ],
)
def test_another_definition_is_refused(change: str, complaint: str, begun: Sweep) -> None:
    with pytest.raises(UserError) as caught:
        begun(change)
    assert str(caught.value) == f"sweep.name=out: {complaint}; choose another sweep.name"
    assert len(stored().get_trials()) == 0


@pytest.fixture
def begun(command: Callable[..., Command], sweep: Sweep) -> Sweep:
    """A study that has begun, without a trial yet."""
    words = [AIM, "training.l1=choice(0,1,2)", "sweep.sampler=random", "sweep.n_trials=3"]
    plan = command(*words).plan
    plan.folder.path.mkdir()
    recover.open_or_begin(plan)
    return lambda *overrides: sweep(*words, *overrides)


def test_passwords_appear_nowhere(shell: Shell) -> None:
    """Neither in a file that stays, nor in what is printed, nor in what other users see of a worker."""
    process = shell.start(
        "training.l1=0,1",
        "training.source='1'",
        "hydra.sweep.dir=out",
        "sweep.storage='sqlite:///study.db?password=s3cret'",
        "tracking.uri='sqlite:///runs.db?password=s3cret'",
    )
    workers = []
    typed = " ".join(
        psutil.Process(process.pid).cmdline()
    )  # which a child shows, too, until it is another program
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                workers.append(" ".join(child.cmdline()))
        time.sleep(0.2)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert "s3cret" not in out
    assert any("submitit" in line for line in workers)
    assert not any("s3cret" in line for line in workers if line != typed)
    for path in Path(".").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["task=evaluate", "run=nope", "ranks=control,16-12"], "run: nope is no run folder and no run id (6 or more characters) in sqlite:///{here}/outputs/mlflow.db; it has no runs yet; see all with python -m ccsweep.tracking.ui"),
        (["task=evaluate", "run=empty", "ranks=control,16-12"], "run=empty: {here}/empty/config.yaml is missing; expected a run id or the folder of a ccsweep run"),
        (["training.device=cuda", "training.l1=0,1"], "training.device=cuda: no CUDA GPU is visible to torch here; use training.device=cpu or auto"),
        (["tracking.uri=http://127.0.0.1:1", "training.l1=0,1"], "tracking.uri: http://127.0.0.1:1 does not answer (Connection refused); start that server, or leave tracking.uri out to use a local store"),
    ],
)  # fmt: skip
def test_what_all_trials_share_is_looked_up_first(
    overrides: list[str], complaint: str, sweep: Sweep, folder: Path
) -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError) as caught:
        sweep(*overrides)
    assert str(caught.value) == complaint.format(here=folder)
    assert computed() == []
    assert not Path("out").exists()


@pytest.mark.slow
def test_passwords_appear_nowhere_in_what_fails(shell: Shell) -> None:
    """Not in what Hydra, Python, MLflow or this program print of an error, nor in any file that stays."""
    secret = "tracking.uri='sqlite:///runs.db?password=s3cret'"
    bearer = "data.dir='/x/Bearer s3cret.s3cret'"
    key = "training.source='{password: s3cret, api_key: s3cret}'"
    said = []
    for words in (
        [secret, "training.source=raise"],  # a bug: Hydra's own lines, and a traceback
        [secret, bearer, "training.epochs=many"],
        ["-m", secret, "training.source=raise,nan", "hydra.sweep.dir=out"],
        ["-m", secret, bearer, "training.source=raise,pruned", "hydra.sweep.dir=out"],  # another definition
        ["-m", secret, "training.l1=0,1", "sweep.storage=postgresql://ann:s3cret@127.0.0.1:1/x"],
        [secret, key, "--cfg=job"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from tests.sweep.tasks import main; main()", *words],
            cwd=shell.folder,
            env=shell.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        said.append(done.stdout + done.stderr)
    assert [line for text in said for line in text.splitlines() if "s3cret" in line] == []
    assert "Error executing job with overrides" in said[0]
    assert "***" in said[0]
    for path in Path(".").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path

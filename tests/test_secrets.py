"""No password in a byte that is written or printed, whatever goes wrong."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.chaos import small_disk
from benchmarks.fuzz import Answer, answer
from tests.conftest import User

SECRET = "Zq7pw"
URI = f"tracking.uri='sqlite:///runs.db?password={SECRET}'"
SERVER = f"tracking.uri=http://ann:{SECRET}@127.0.0.1:1"
STORAGE = f"sweep.storage=postgresql://ann:{SECRET}@127.0.0.1:1/x"
BEARER = f"data.file='/x/Bearer {SECRET}.{SECRET}'"
KEYS = f"training.source='{{password: {SECRET}, api_key: {SECRET}}}'"
AIM = ["-m", "+sweep.objectives.validation_error=minimize", "sweep.n_trials=3", "training.l1=interval(0,1)"]

FAILING = [
    # a value that cannot be meant, and what stands beside it
    [URI, "training.epochs=many"],
    [URI, KEYS, "training.learning_rate=nan"],
    [f"training.epochs=postgresql://ann:{SECRET}@db/x"],
    [f"data=https://{SECRET}@host/x"],
    [f"+experiment=https://ann:{SECRET}@host"],
    [f"training.learning_rate='token={SECRET}'"],
    [f"+password={SECRET}"],
    [f"trainin.source='password: {SECRET}'"],
    [f"training.source='password: {SECRET}", URI],
    [f"ranks.layers=[password={SECRET}]"],
    [f"--config-dir=https://ann:{SECRET}@host/x", URI],
    [f"--api-key {SECRET}"],
    [f"sweep.name='/x/token={SECRET}'", "task=sweep_status", "training.epochs=0"],
    # what is not there, or does not answer
    [SERVER],
    [URI, BEARER, "data=arrays"],
    [f"tracking.uri=postgresql://ann:{SECRET}@127.0.0.1:1/runs"],
    [f"tracking.uri=nonsense://ann:{SECRET}@host/x"],
    [f"tracking.uri=mysql+pymysql://ann:{SECRET}@127.0.0.1:1/x"],
    ["task=evaluate", f"run=https://ann:{SECRET}@host/x", URI],
    ["task=evaluate", "run=broken", URI],
    ["task=benchmark", f"run=token={SECRET}", URI],
    [f"training.resume=https://ann:{SECRET}@host"],
    ["task=accelerate", f"model=https://ann:{SECRET}@host/net.onnx", URI],
    ["task=accelerate", "model=broken.pt", URI, f"data.file='a?token={SECRET}'", "data=arrays"],
    ["task=sweep_status", f"sweep.name=token={SECRET}"],
    ["task=sweep_status", "sweep.name=s", STORAGE],
    ["task=export", "sweep.name=s", STORAGE, f"pick=token={SECRET}", f"to=password={SECRET}"],
    ["task=confirm", "sweep.name=s", f"sweep.storage='nonsense://ann:{SECRET}@h'"],
    ["task=sweep_finish", f"sweep.name=/x/password={SECRET}", URI],
    # stores and studies that are damaged
    [f"tracking.uri='sqlite:///broken.db?password={SECRET}'"],
    [f"tracking.uri='sqlite:////proc/x.db?password={SECRET}'"],
    [f"tracking.register='token={SECRET}'", SERVER],
    # many runs
    ["-m", URI, "training.epochs=many,2"],
    ["-m", SERVER, "training.l1=0,1"],
    [*AIM, STORAGE, URI],
    [*AIM, f"sweep.storage='oracle://ann:{SECRET}@h'"],
    [*AIM, URI, f"sweep.constraints=['password={SECRET}']"],
    [*AIM, URI, f"+sweep.conditions.training.l1='token={SECRET}'"],
    [*AIM, URI, f"sweep.points=['training.l1=token={SECRET}']"],
    ["-m", "+sweeps=mnist_posthoc", f"run=https://ann:{SECRET}@host", URI],
    ["-m", URI, f"training.source=choice('password: {SECRET}',b)", "training.epochs=range(0,2)"],
    ["-m", f"+sweep.space={{training.l1:'token={SECRET}'}}"],
]  # fmt: skip


def written(folder: Path) -> list[str]:
    """Files with the secret in their bytes or their names."""
    found = [path for path in folder.rglob("*") if SECRET in path.name]
    found += [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    return [str(path.relative_to(folder)) for path in found]


def printed(found: Answer) -> list[str]:
    return [line for line in (found.out + found.err).splitlines() if SECRET in line]


@pytest.mark.slow
def test_what_is_refused_shows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.db").write_text("no database")
    Path("broken.pt").write_text("no model")
    Path("broken").mkdir()
    Path("broken", "config.yaml").write_text(f"training: {{password: {SECRET}")
    Path("broken", "config.yaml").chmod(0o600)
    shown, wrong = {}, {}
    for line in FAILING:
        found = answer(line, whole=True)
        if printed(found):
            shown[" ".join(line)] = printed(found)
        if found.complaint is not None or found.status == 0:
            wrong[" ".join(line)] = (found.status, found.err)
    assert shown == {}
    assert wrong == {}
    Path("broken", "config.yaml").unlink()
    assert written(tmp_path) == []


@pytest.mark.slow
def test_a_run_that_is_stopped_starved_and_damaged_shows_none(user: User) -> None:
    """From its first line to its last: a mistake in the program, Ctrl-C, a full disk, damaged files."""
    quick = ["training.step=dense", "tracking.system_metrics=false", KEYS, URI]
    said = []
    process = user.start("training.epochs=4000", *quick, "hydra.run.dir=run")
    checkpoint = user.folder / "run" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    process.send_signal(signal.SIGINT)
    said += process.communicate()
    assert process.returncode == 130, said
    disk = user.folder / "disk"
    disk.mkdir()
    with small_disk(disk) as mounted:
        if mounted:
            with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
                while file.write(bytes(2**16)):
                    pass
            os.truncate(disk / "filler", (disk / "filler").stat().st_size - 2**18)
            done = user.run(*quick, "training.epochs=1", f"hydra.run.dir={disk}/run")
            said += [done.stdout, done.stderr]
            assert "no space left on device" in done.stderr
            assert written(disk) == []
    checkpoint.write_bytes(checkpoint.read_bytes()[:999])
    for words in ([f"training.resume={user.folder}/run"], ["task=evaluate", "run=run", URI]):
        done = user.run(*words)
        said += [done.stdout, done.stderr]
    assert "last.ckpt: is damaged" in said[-3]
    (user.folder / "runs.db").write_text("no database")
    done = user.run(*quick, "training.epochs=1")
    said += [done.stdout, done.stderr]
    assert "runs.db as a store (it is damaged, or no database)" in done.stderr
    assert [line for text in said for line in text.splitlines() if SECRET in line] == []
    assert written(user.folder) == []

"""What makes a process a worker, seen from outside of it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = """
import logging, os, signal, sys, time
from pathlib import Path
from ccsweep.sweep.process import forget_pickle, install_signals, redirect, time_is_up

forget_pickle()  # outside of submitit there is none
redirect(Path(sys.argv[1]))
install_signals()
print("printed", flush=True)
os.system("echo by another program")
logging.getLogger("ccsweep.sweep.worker").info("at http://ann:%s@host", "s3cret")
logging.getLogger("ccsweep.study.storage").info("of a storage")
logging.getLogger("ccsweep.training").info("not for this log")
logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))  # as Hydra sets it for a job
logging.getLogger("ccsweep.sweep.worker").info("once")
os.kill(os.getpid(), signal.SIGINT)  # the terminal's is for the sweeper
try:
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(60)
except KeyboardInterrupt:
    for number in (signal.SIGTERM, signal.SIGUSR2):
        os.kill(os.getpid(), number)  # a second one does not cut short what the first one began
    print("time is up" if time_is_up() else "stopped", flush=True)
    print("ended well", flush=True)
os.abort()
"""


@pytest.mark.parametrize(("number", "why"), [(signal.SIGTERM, "stopped"), (signal.SIGUSR2, "time is up")])
def test_a_worker_of_its_own(number: signal.Signals, why: str, tmp_path: Path) -> None:
    log = tmp_path / "w0.log"
    log.write_text("before\n")
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, log, str(int(number))], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGABRT, "", "")
    text = log.read_text()
    assert text.startswith("before\nprinted\nby another program\n")
    assert "at http://ann:***@host\n" in text
    assert " of a storage\n" in text
    assert "not for this log" not in text
    assert text.count("once") == 1
    assert f"{why}\nended well\nFatal Python error: Aborted\n" in text  # as the sweeper looks for it

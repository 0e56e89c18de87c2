import logging
import tempfile
from threading import Event, Thread

import pytest
from filelock import FileLock

from ccsweep.engine.alone import alone, lock_file


@pytest.fixture(autouse=True)
def _lock_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_second_timing_waits_and_says_so(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    began = Event()

    def second():
        with alone():
            began.set()

    thread = Thread(target=second)
    with FileLock(lock_file()):  # as another process holds it
        thread.start()
        assert not began.wait(0.2)
    thread.join(timeout=20)
    assert began.is_set()
    assert caplog.messages == ["waiting for another run on this host to end its timing"]


def test_nobody_else_is_timing(caplog):
    caplog.set_level(logging.INFO, "ccsweep.engine")
    for _ in range(2):
        with alone():
            pass
    assert caplog.messages == []


def test_the_lock_falls_with_an_error():
    with pytest.raises(ZeroDivisionError), alone():
        _ = 1 / 0
    with FileLock(lock_file(), timeout=0):
        pass

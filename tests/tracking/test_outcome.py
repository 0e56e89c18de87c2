import sys

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking.outcome import describe, status_after


class Terminated(SystemExit):
    """Like Lightning's SIGTERMException."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(), "FINISHED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(143), "KILLED"),
        (Terminated(), "KILLED"),
        (SystemExit(128), "FAILED"),
        (SystemExit(129), "KILLED"),
        (SystemExit(1), "FAILED"),
        (SystemExit("no data"), "FAILED"),
        (ValueError("x"), "FAILED"),
        (UserError("x"), "FAILED"),
    ],
)
def test_status(error, status):
    assert status_after(error) == status


def test_lightnings_exit_after_ctrl_c():
    def exit_as_lightning_does():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit) as caught:
        exit_as_lightning_does()
    assert status_after(caught.value) == "KILLED"


def test_what_torch_makes_of_ctrl_c_while_it_writes():
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 30 vs 0")
    error.__context__ = KeyboardInterrupt()
    assert status_after(error) == "KILLED"


def test_descriptions_are_one_line_without_passwords():
    assert describe(ValueError("cannot\n open http://a:b@c")) == ("ValueError: cannot open http://a:***@c")
    assert describe(UserError("data.dir: gone")) == "data.dir: gone"
    assert describe(RuntimeError()) == "RuntimeError"

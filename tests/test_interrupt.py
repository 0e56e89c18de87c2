import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ccsweep import interrupt


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started deaf to it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and under nohup to this
    interrupt.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_a_commit_is_finished_first() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupt.finishing(), interrupt.finishing():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("commit")
    assert done == ["commit"]


def test_a_second_signal_does_not_wait() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupt.finishing():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("commit")
    assert done == []


def test_what_another_thread_is_finishing_does_not_hold_an_interrupt_back() -> None:
    begun, over, met = threading.Event(), threading.Event(), []

    def commit() -> None:
        try:
            with interrupt.finishing():
                begun.set()
                over.wait(10)
        except BaseException as error:
            met.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    begun.wait(10)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    over.set()
    thread.join(10)
    assert met == []


def test_nohup_is_respected() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    interrupt.install()
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)

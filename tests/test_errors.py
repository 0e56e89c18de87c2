"""Whose fault an error is."""

import errno

import pytest

from ccsweep.errors import UserError, is_full_disk, is_interrupt, machine_fault


class OutOfMemoryError(RuntimeError):
    """As torch names its own, which derives from RuntimeError, too."""


def caused(by: BaseException) -> BaseException:
    error = ValueError("what came of it")
    error.__cause__ = by
    return error


def met_while_handling(first: BaseException) -> BaseException:
    """As torch raises: it says only that it failed to write."""
    error = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    error.__context__ = first
    return error


def in_a_circle() -> BaseException:
    error = ValueError("a")
    error.__cause__ = caused(error)
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA ran out"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("unable to mmap 8 bytes: cannot allocate memory"),
        *(OSError(getattr(errno, name), name) for name in ("ENOSPC", "EDQUOT", "EIO", "ENOMEM", "EMFILE")),
        *(OSError(getattr(errno, name), name) for name in ("ENFILE", "ESTALE", "EROFS", "ETIMEDOUT")),
        ConnectionResetError("without a number"),
        UserError("tracking.uri: postgresql://db/runs does not answer"),
        caused(OSError(errno.ENOSPC, "No space left on device")),
        caused(caused(MemoryError())),
        met_while_handling(OSError(errno.ENOSPC, "No space left on device")),
    ],
    ids=repr,
)
def test_what_may_go_well_another_time(error: BaseException) -> None:
    assert machine_fault(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        UserError("training.epochs=0: expected a positive whole number"),
        UserError("run: no tracking.uri: was there"),
        SystemExit(1),
        caused(KeyError("a")),
        met_while_handling(KeyError("a")),
        in_a_circle(),
    ],
    ids=repr,
)
def test_what_is_the_trials_own_fault(error: BaseException) -> None:
    assert machine_fault(error) is None


def test_the_fault_is_what_the_machine_did() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert machine_fault(caused(met_while_handling(full))) is full
    hidden = caused(KeyError("a"))
    hidden.__cause__, hidden.__context__, hidden.__suppress_context__ = (
        None,
        full,
        True,
    )  # raise ... from None
    assert machine_fault(hidden) is None


def test_a_full_disk() -> None:
    assert is_full_disk(met_while_handling(OSError(errno.ENOSPC, "No space left on device")))
    assert is_full_disk(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not is_full_disk(OSError(errno.EIO, "Input/output error"))
    assert not is_full_disk(MemoryError())


def test_an_interrupt_by_any_name() -> None:
    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(met_while_handling(KeyboardInterrupt()))
    assert is_interrupt(caused(met_while_handling(KeyboardInterrupt())))
    assert not is_interrupt(SystemExit(1))
    assert not is_interrupt(in_a_circle())

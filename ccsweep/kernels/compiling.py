"""How kernels are compiled, for which CPU, and where on disk they are kept.

numba keeps what it compiled beside the source or in the user's cache, and knows only of the file that the
entry point is in. Here a folder of its own is added for each state of all the kernels' files and for each
CPU: a change in any of them is noticed, and the nodes of a cluster that share a home do not mix.
"""

import hashlib
import logging
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
from llvmlite import ir
from numba.core import caching, event
from numba.core.registry import cpu_target

from ccsweep.files import in_turn, private_folder

HERE = Path(__file__).parent
WAIT = 60.0
"""Seconds to wait for another process that keeps what it compiled; TimeoutError is an OSError."""

log = logging.getLogger("ccsweep.kernels")


class Target(NamedTuple):
    """What numba compiles for: the CPU it runs on, or NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""

    triple: str
    cpu: str
    features: str


@cache
def target() -> Target:
    """Of this process."""
    return Target(*cpu_target.target_context.codegen().magic_tuple())


def emitted(build: Callable[..., Any], result: ir.Type, *arguments: ir.Type) -> str:
    """What LLVM makes, on the target, of what ``build(builder, *values)`` returns."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(result, arguments), "emitted")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(build(builder, *function.args))
    triple, cpu, features = target()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    made: str = machine.emit_assembly(llvm.parse_assembly(str(module)))
    return made


def key(folder: Path, target: Target) -> str:
    """Names the kernels in a folder as compiled for a target: other sources, another key."""
    digest = hashlib.sha256("\n".join(target).encode())
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return f"ccsweep-{target.cpu or platform.machine()}-{digest.hexdigest()[:16]}"


@cache
def _key() -> str:
    return key(HERE, target())


class _Keyed:
    """One of numba's places for compiled functions, with a folder of its own for each key."""

    def get_cache_path(self) -> str:
        place: str = super().get_cache_path()  # type: ignore[misc]
        if place.startswith("~"):  # numba would make a folder of this name
            raise OSError("no home folder")
        return str(Path(place, _key()))


class _Provided(_Keyed, caching.UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR."""


class _Beside(_Keyed, caching.InTreeCacheLocator):
    """``__pycache__`` beside the source."""


class _OfUser(_Keyed, caching.UserWideCacheLocator):
    """The user's cache."""


class _Private(caching.UserWideCacheLocator):
    """In the temporary folder, where the user has no home that is writable."""

    def get_cache_path(self) -> str:
        return str(private_folder() / "kernels" / _key())


class _Places(caching.CompileResultCacheImpl):
    _locator_classes = [_Provided, _Beside, _OfUser, _Private]  # noqa: RUF012


class _Cache(caching.FunctionCache):
    _impl_class = _Places

    def save_overload(self, sig: Any, data: Any) -> None:
        try:  # numba reads its index and writes it anew: two at once would lose one's, or mix up their files
            with in_turn(Path(self.cache_path, ".lock"), longest=WAIT):
                super().save_overload(sig, data)
        except OSError as error:  # a full disk should not end what it only makes faster
            log.warning("compiled kernels are not kept in %s: %s", self.cache_path, error)


# Sums may be reordered and fused; NaN, Inf and their comparisons keep their meaning.
jit = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
"""Compiles a part of kernels."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a kernel that Python calls: once for each key, in every process where no place is writable."""
    compiled: Any = jit(function)
    with suppress(RuntimeError):  # numba's, having tried all places
        compiled._cache = _Cache(function)
    return compiled


def announced(kernel: Any) -> AbstractContextManager[None]:
    """Logs if this kernel is compiled meanwhile, once, and how long it took."""
    return event.install_listener("numba:compile", _Announce(kernel))


class _Announce(event.Listener):
    def __init__(self, kernel: Any) -> None:
        self._kernel, self._started = kernel, 0.0

    def on_start(self, event: event.Event) -> None:
        if self._started:
            return
        self._started = time.perf_counter()
        kept = "once: they are kept on disk"
        if self._kernel.stats.cache_path is None:
            kept = "in every process: no folder to keep them is writable, set NUMBA_CACHE_DIR to one that is"
        log.warning("compiling the engine's kernels: takes about 15 s, %s", kept)

    def on_end(self, event: event.Event) -> None:
        if event.data["dispatcher"] is self._kernel:
            log.info("compiled the engine's kernels in %.0f s", time.perf_counter() - self._started)

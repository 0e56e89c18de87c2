"""Products of bytes in tiles, Intel's AMX, from Sapphire Rapids on: 16384 of them an instruction.

Linux has a process ask before its first tile; the answer goes into the kernels' table, as compiled kernels
are kept for all processes.
"""

import ctypes
import platform
from functools import cache

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import target
from ccsweep.kernels.simd import I32, I64
from ccsweep.kernels.vnni import BYTES, I8, address

SIDE = 32
"""Samples, and units, of a block of sums: two tiles each way."""
SUMS = 4 * SIDE * SIDE
"""Bytes of a block of sums."""
PANEL = SIDE * BYTES
"""Bytes of a panel's weights for a chunk of 64 inputs."""
KNOWN = platform.system() == "Linux" and "+amx-int8" in target().features.split(",")
"""Whether kernels are compiled with tiles in them. A CPU that is only named (NUMBA_CPU_NAME) has none."""
_ARCH_PRCTL, _REQUEST, _TILES = 158, 0x1023, 18


@cache
def allowed() -> bool:
    """Whether this process may use tiles: asks for it."""
    return KNOWN and ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILES) == 0


def _configuration() -> np.ndarray:
    """All eight tiles 16 rows of 64 bytes, as Intel's manual lays it out."""
    made = np.zeros(64, np.uint8)
    made[0], made[48:56] = 1, 16
    made[16:32].view(np.uint16)[:] = BYTES
    return made


_WHOLE = ir.Constant(ir.ArrayType(I8, 64), bytearray(_configuration().tobytes()))


def _do(builder, name, *arguments):
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


@intrinsic
def start_tiles(typing):
    """Before the first block, in this thread."""

    def codegen(context, builder, signature, arguments):
        held = cgutils.global_constant(builder, "ccsweep_tiles", _WHOLE)
        _do(builder, "ldtilecfg", builder.bitcast(held, I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def end_tiles(typing):
    """After the last block: a thread that holds tiles is slower to switch."""

    def codegen(context, builder, signature, arguments):
        _do(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def begin_sums(typing, start):
    """A block of sums begins: ``start``, the address of int32 (32), in each of its rows."""

    def codegen(context, builder, signature, arguments):
        for tile in range(4):  # rows 0 bytes apart: all the same
            place = address(builder, arguments[0], I64(BYTES * (tile % 2)))
            _do(builder, "tileloadd64", I8(tile), place, I64(0))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def add_chunk(typing, x, wide, panel):
    """Adds to the block 64 bytes of 32 rows, ``wide`` bytes apart, times 64 rows of a panel.

    ``x`` uint8, ``panel`` int8 (16 groups of four inputs, 32 units, 4) are addresses. The weights behind,
    the next chunk's, are fetched: else a tenth of a batch's time is spent on waiting for them.
    """

    def codegen(context, builder, signature, arguments):
        x, wide, panel = arguments
        lower = builder.add(x, builder.mul(wide, I64(SIDE // 2)))
        for tile, rows in ((4, x), (5, lower)):
            _do(builder, "tileloadd64", I8(tile), address(builder, rows, I64(0)), wide)
        for tile, further in ((6, 0), (7, BYTES)):
            _do(builder, "tileloadd64", I8(tile), address(builder, panel, I64(further)), I64(4 * SIDE))
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for line in range(0, PANEL, BYTES):
            builder.call(fetch, [address(builder, panel, I64(PANEL + line)), I32(0), I32(3), I32(1)])
        for tile in range(4):
            _do(builder, "tdpbusd", I8(tile), I8(4 + tile // 2), I8(6 + tile % 2))
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size), codegen


@intrinsic
def end_sums(typing, sums):
    """Writes the block to the address of int32 (32, 32)."""

    def codegen(context, builder, signature, arguments):
        for tile in range(4):
            place = I64(4 * SIDE * (SIDE // 2) * (tile // 2) + BYTES * (tile % 2))
            place = address(builder, arguments[0], place)
            _do(builder, "tilestored64", I8(tile), place, I64(4 * SIDE))
        return context.get_dummy_value()

    return types.void(types.intp), codegen

"""The dense int8 kernel: every product computed, in tiles where the CPU has them; a gate only masks.

Tiles are Intel's AMX, from Sapphire Rapids on: 16384 products an instruction. There a batch is faster so than
by leaving work out, for its samples share each weight. Linux has a process ask before its first tile; the
answer goes into the kernels' table, as compiled kernels are kept for all processes.
"""

import ctypes
import platform
from functools import cache

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import jit, target
from ccsweep.kernels.int8 import OFFSET, quantise, quantise_rows
from ccsweep.kernels.memory import ints, zero_bytes
from ccsweep.kernels.simd import I64, LANES
from ccsweep.kernels.table import MASKED
from ccsweep.kernels.vnni import (
    BYTES,
    GROUP,
    I8,
    address,
    mask,
    reach,
    rescale,
    rescale_and_rectify,
    score_four,
)

SIDE = 32
"""Samples, and units, of a block of sums: two tiles each way."""
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
def tile_sums(typing, x, wide, panel, chunks, start, sums):
    """int32 ``sums`` (32, 32): ``start`` (32), and 32 rows of bytes, ``wide`` bytes apart, times a panel.

    ``x`` uint8, of so many chunks of 64, ``panel`` int8 (groups of four inputs, 32 units, 4), ``start`` and
    ``sums`` are addresses.
    """

    def codegen(context, builder, signature, arguments):
        x, wide, panel, chunks, start, sums = arguments
        row = I64(4 * SIDE)
        for tile in range(4):  # rows 0 bytes apart: all the same
            _do(builder, "tileloadd64", I8(tile), address(builder, start, I64(BYTES * (tile % 2))), I64(0))
        lower = builder.add(x, builder.mul(wide, I64(SIDE // 2)))
        with cgutils.for_range(builder, chunks) as loop:
            across = builder.mul(loop.index, I64(BYTES))
            down = builder.mul(loop.index, I64(4 * SIDE * BYTES // 4))
            for tile, rows in ((4, x), (5, lower)):
                _do(builder, "tileloadd64", I8(tile), address(builder, rows, across), wide)
            for tile, further in ((6, 0), (7, BYTES)):
                place = address(builder, panel, builder.add(down, I64(further)))
                _do(builder, "tileloadd64", I8(tile), place, row)
            for tile in range(4):
                _do(builder, "tdpbusd", I8(tile), I8(4 + tile // 2), I8(6 + tile % 2))
        for tile in range(4):
            place = I64(4 * SIDE * (SIDE // 2) * (tile // 2) + BYTES * (tile % 2))
            _do(builder, "tilestored64", I8(tile), address(builder, sums, place), row)
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size, size, size, size), codegen


@jit
def _multiply(tiles, samples, quantised, panel, start, block):
    """int32 (samples, 32): ``start``, and rows of bytes times a panel of weights for 32 units."""
    stride = quantised.shape[1]
    if KNOWN and tiles:
        for s in range(0, samples, SIDE):
            byte, sums = quantised.ctypes.data + s * stride, block.ctypes.data + 4 * SIDE * s
            tile_sums(byte, stride, panel, stride // BYTES, start, sums)
    else:
        for s in range(0, samples, GROUP):
            byte, sums = quantised.ctypes.data + s * stride, block.ctypes.data + 4 * SIDE * s
            score_four(byte, stride, stride // GROUP, panel, 4 * SIDE, start, sums, 4 * SIDE)


@jit
def _without_offset(samples, offsets, totals, block):
    for s in range(samples):
        if offsets[s]:
            for j in range(SIDE):
                block[s, j] -= OFFSET * totals[j]


@jit
def _estimate(layer, tiles, samples, quantised, offsets, scales, block):
    """t = x U of all samples as bytes around ``OFFSET``, and what a step of each is worth."""
    wide = -(-layer.rank // BYTES) * BYTES
    t, t_scales = np.zeros((samples, wide), np.float32), np.empty(samples, np.float32)
    made = zero_bytes(len(quantised), wide)
    nothing, zeros = np.zeros(SIDE, np.int32), np.zeros(SIDE, np.float32)
    for first in range(0, layer.rank, SIDE):
        panel = layer.u + first * layer.stride
        _multiply(tiles, samples, quantised, panel, nothing.ctypes.data, block)
        _without_offset(samples, offsets, ints(layer.u_totals + 4 * first, SIDE), block)
        for s in range(samples):
            for j in range(0, SIDE, LANES):
                sums, row = block.ctypes.data + 4 * (SIDE * s + j), t.ctypes.data + 4 * (wide * s + first + j)
                rescale(sums, scales[s], layer.u_scales + 4 * (first + j), zeros.ctypes.data, row)
    for s in range(samples):
        row, byte = t.ctypes.data + 4 * wide * s, made.ctypes.data + wide * s
        t_scales[s] = quantise(row, wide, abs(reach(row, wide)), True, OFFSET, byte)
    return made, t_scales


@jit
def all_units(layer, samples, x, rows, out):
    """A layer with all its units computed, of rows x in whole vectors; returns whether all of x was finite.

    Masked, it sets to zero what its gate turns off. Its outputs go on in ``rows``, in whole blocks of units,
    or to ``out`` without a ReLU.
    """
    filled, units, stride = -(-samples // SIDE) * SIDE, layer.units, layer.stride
    quantised = zero_bytes(filled, stride)
    offsets, scales = np.empty(samples, np.int64), np.empty(samples, np.float32)
    finite = quantise_rows(layer, samples, x, quantised, offsets, scales)
    block, scores = np.empty((filled, SIDE), np.int32), np.empty((filled, SIDE), np.int32)
    nothing, made = np.zeros(SIDE, np.int32), np.empty(SIDE, np.float32)
    tiles, masked = layer.tiles and samples > GROUP, layer.way == MASKED
    estimates, t_scales = quantised, scales
    if KNOWN and tiles:
        start_tiles()
    if masked:
        estimates, t_scales = _estimate(layer, tiles, samples, quantised, offsets, scales, block)
    for first in range(0, units, SIDE):
        _multiply(tiles, samples, quantised, layer.rows + first * stride, nothing.ctypes.data, block)
        _without_offset(samples, offsets, ints(layer.totals + 4 * first, SIDE), block)
        if masked:
            panel = layer.v + first * estimates.shape[1]
            _multiply(tiles, samples, estimates, panel, layer.v_start + 4 * first, scores)
        for s in range(samples):
            for j in range(0, SIDE, LANES):
                here, at = 4 * (SIDE * s + j), 4 * (first + j)
                sums, scale, bias = block.ctypes.data + here, layer.scales + at, layer.bias + at
                if layer.relu:
                    row = rows.ctypes.data + s * rows.strides[0] + at
                    rescale_and_rectify(sums, scales[s], scale, bias, row)
                    if masked:
                        sums, bias = scores.ctypes.data + here, layer.gate_bias + at
                        mask(sums, t_scales[s], layer.v_scales + at, bias, row)
                else:
                    rescale(sums, scales[s], scale, bias, made.ctypes.data + 4 * j)
            if not layer.relu:
                last = min(units - first, SIDE)
                out[s, first : first + last] = made[:last]
    if KNOWN and tiles:
        end_tiles()
    return finite

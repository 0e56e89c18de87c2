"""The dense int8 kernel: every product computed, in tiles where the CPU has them; a gate only masks.

In tiles a batch is faster so than by leaving work out, for its samples share each weight.
"""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import jit
from ccsweep.kernels.int8 import OFFSET, quantise
from ccsweep.kernels.memory import ints, zero_bytes
from ccsweep.kernels.simd import F32, FLOATS, I32, I64, INTS, LANES, load, splat, store
from ccsweep.kernels.tiles import (
    KNOWN,
    PANEL,
    SIDE,
    SUMS,
    add_chunk,
    begin_sums,
    end_sums,
    end_tiles,
    start_tiles,
)
from ccsweep.kernels.vnni import BYTES, GROUP, address, load_at, reach, rescale, rescaled, score_four


@jit
def _block(tiles, samples, x, stride, panel, start, sums):
    """int32 ``sums`` (32, 32): ``start``, and rows of bytes times a panel of weights for 32 units.

    Without tiles of so many samples, in fours; with them of 32, whatever stands in the last ones.
    """
    if KNOWN and tiles:
        begin_sums(start)
        for chunk in range(stride // BYTES):
            add_chunk(x + BYTES * chunk, stride, panel + PANEL * chunk)
        end_sums(sums)
    else:
        wide = 4 * SIDE
        for s in range(0, samples, GROUP):
            score_four(x + s * stride, stride, stride // GROUP, panel, wide, start, sums + wide * s, wide)


@jit
def _without_offset(samples, offsets, totals, block):
    for s in range(samples):
        if offsets[s]:
            for j in range(SIDE):
                block[s, j] -= OFFSET * totals[j]


@jit
def _estimate(layer, tiles, samples, quantised, offsets, scales):
    """t = x U of all samples as bytes around ``OFFSET``, and what a step of each is worth."""
    wide = -(-layer.rank // BYTES) * BYTES
    t, t_scales = np.zeros((samples, wide), np.float32), np.empty(samples, np.float32)
    made = zero_bytes(len(quantised), wide)
    block = np.empty((len(quantised), SIDE), np.int32)
    nothing, zeros = np.zeros(SIDE, np.int32), np.zeros(SIDE, np.float32)
    for first in range(0, layer.rank, SIDE):
        panel, stride = layer.u + first * layer.stride, layer.stride
        for s in range(0, samples, SIDE):
            byte, sums = quantised.ctypes.data + s * stride, block.ctypes.data + 4 * SIDE * s
            _block(tiles, samples - s, byte, stride, panel, nothing.ctypes.data, sums)
        _without_offset(samples, offsets, ints(layer.u_totals + 4 * first, SIDE), block)
        for s in range(samples):
            for j in range(0, SIDE, LANES):
                sums, row = block.ctypes.data + 4 * (SIDE * s + j), t.ctypes.data + 4 * (wide * s + first + j)
                rescale(sums, scales[s], layer.u_scales + 4 * (first + j), zeros.ctypes.data, row)
    for s in range(samples):
        row, byte = t.ctypes.data + 4 * wide * s, made.ctypes.data + wide * s
        t_scales[s] = quantise(row, wide, abs(reach(row, wide)), True, OFFSET, byte)
    return made, t_scales


def finisher(masked: bool):
    """Outputs of some samples for 32 units from their sums: rescaled, with a ReLU or without.

    Masked, what has no positive score is zero, too: ``scores`` are rescaled by what follows them. ``tops``,
    16 floats a sample, keeps the largest of its outputs; see :func:`ccsweep.kernels.vnni.reach`. All but
    ``count``, ``relu`` and ``wide``, from one sample's outputs to the next one's, are addresses.
    """

    def finish(
        typing,
        count,
        sums,
        offsets,
        factors,
        totals,
        scales,
        bias,
        relu,
        floats,
        wide,
        tops,
        scores,
        steps,
        v_scales,
        v_bias,
    ):
        def codegen(context, builder, signature, arguments):
            count, sums, offsets, factors, totals, scales, bias, relu, floats, wide, tops = arguments[:11]
            scores, steps, v_scales, v_bias = arguments[11:]
            zeros, parts = ir.Constant(FLOATS, [0.0] * LANES), [I64(BYTES * k) for k in range(SIDE // LANES)]

            def of_units(start, kind=FLOATS):
                return [load_at(builder, start, part, kind) for part in parts]

            units = list(zip(of_units(totals, INTS), of_units(scales), of_units(bias), strict=True))
            gates = list(zip(of_units(v_scales), of_units(v_bias), strict=True)) if masked else []
            rectified = builder.icmp_signed("!=", relu, I64(0))
            least = splat(builder, builder.select(rectified, F32(0.0), F32(float("nan"))))
            with cgutils.for_range(builder, count) as loop:
                s = loop.index
                four = builder.mul(s, I64(4))
                factor = load_at(builder, factors, four, F32)
                offset = builder.trunc(load_at(builder, offsets, builder.mul(s, I64(8)), I64), I32)
                row, block = builder.mul(s, wide), builder.mul(s, I64(4 * SIDE))
                top = address(builder, tops, builder.mul(s, I64(BYTES)))
                largest = load(builder, top, INTS)
                for k, (part, (total, scale, shift)) in enumerate(zip(parts, units, strict=True)):
                    place = builder.add(block, part)
                    share = builder.mul(splat(builder, offset), total)
                    whole = builder.sub(load_at(builder, sums, place, INTS), share)
                    made = rescaled(builder, whole, factor, scale, shift)
                    off = builder.fcmp_ordered("<=", made, least)  # NaN is not, and goes on
                    if masked:
                        step, whole = (
                            load_at(builder, steps, four, F32),
                            load_at(builder, scores, place, INTS),
                        )
                        score = rescaled(builder, whole, step, *gates[k])
                        off = builder.or_(off, builder.fcmp_ordered("<=", score, zeros))
                    made = builder.select(off, zeros, made)
                    store(builder, made, address(builder, floats, builder.add(row, part)))
                    bits = builder.and_(builder.bitcast(made, INTS), ir.Constant(INTS, [2**31 - 1] * LANES))
                    largest = builder.select(builder.icmp_signed(">", bits, largest), bits, largest)
                store(builder, largest, top)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 15), codegen

    return intrinsic(finish)


@jit
def as_bytes(stride, samples, quantised, offsets, scales):
    """Room for rows of bytes, whole blocks of them, with an offset and a scale for each sample."""
    filled = -(-samples // SIDE) * SIDE
    return quantised[: filled * stride].reshape(filled, stride), offsets, scales


@jit
def _pass_on(units, begin, end, rows, tops, new):
    """Outputs of some samples as the bytes that the next layer takes; ``tops`` begins anew."""
    quantised, offsets, scales = new
    offsets[begin:end] = 0
    for s in range(begin, end):
        row = rows.ctypes.data + (s - begin) * rows.strides[0]
        byte = quantised.ctypes.data + s * quantised.strides[0]
        largest = reach(tops.ctypes.data + BYTES * (s - begin), LANES)
        scales[s] = quantise(row, -(-units // LANES) * LANES, abs(largest), largest < 0, 0, byte)
    tops[:] = 0


def _runner(masked: bool):
    """A layer with all its units computed; masked, what its gate turns off is zero.

    It goes through a block of samples unit by unit, so that their bytes stay in the first-level cache. While
    the tiles of a block are multiplied, the sums of the one before become outputs, in other parts of the CPU.
    """
    finish = finisher(masked)

    @jit
    def run(layer, samples, given, floats, new, onward):
        """Of ``given`` bytes; returns rows of outputs, which lie in ``floats``.

        ``onward``: outputs go on as bytes, in ``new``, and there are rows for one block of samples at a time,
        which stay in the cache as well.
        """
        quantised, offsets, scales = given
        filled, stride, panels = len(quantised), layer.stride, -(-layer.units // SIDE)
        tall, width = SIDE if onward else filled, SIDE * panels + LANES  # an odd number of vectors
        rows = floats[: tall * width].reshape(tall, width)
        tiles, estimates, t_scales = KNOWN and layer.tiles and samples > GROUP, quantised, scales
        if tiles:
            start_tiles()
        if masked:
            estimates, t_scales = _estimate(layer, tiles, samples, quantised, offsets, scales)
        t_wide, wide = estimates.shape[1], rows.strides[0]
        nothing, tops, held = np.zeros(SIDE, np.int32), zero_bytes(SIDE, BYTES), zero_bytes(4, SUMS)
        base = np.intp(held.ctypes.data)
        here, there = base, base + 2 * SUMS  # sums and scores, of this block and of the one before
        chunks, each = stride // BYTES, -(-SIDE // (stride // BYTES))
        blocks, first, start = panels * (filled // SIDE), 0, 0
        left = at = s = 0  # of the block before: samples to finish, where its units are, and the next sample
        row = top = np.intp(0)  # its outputs
        for block in range(blocks + 1):
            panel, byte = layer.rows + first * stride, quantised.ctypes.data + start * stride
            some = min(SIDE, samples - start)
            if block < blocks:
                if masked:
                    v, t = layer.v + first * t_wide, estimates.ctypes.data + start * t_wide
                    _block(tiles, some, t, t_wide, v, layer.v_start + 4 * first, here + SUMS)
                if tiles:
                    begin_sums(nothing.ctypes.data)
                else:
                    _block(tiles, some, byte, stride, panel, nothing.ctypes.data, here)
            for chunk in range(chunks):
                if tiles and block < blocks:
                    add_chunk(byte + BYTES * chunk, stride, panel + PANEL * chunk)
                count = min(each, left)
                finish(
                    count,
                    there,
                    offsets.ctypes.data + 8 * s,
                    scales.ctypes.data + 4 * s,
                    layer.totals + at,
                    layer.scales + at,
                    layer.bias + at,
                    layer.relu,
                    row,
                    wide,
                    top,
                    there + SUMS,
                    t_scales.ctypes.data + 4 * s,
                    layer.v_scales + at,
                    layer.gate_bias + at,
                )
                left, s, there = left - count, s + count, there + 4 * SIDE * count
                row, top = row + wide * count, top + BYTES * count
            if onward and first == 0 and block > 0:  # the samples before are whole
                _pass_on(layer.units, start - SIDE, min(start, samples), rows, tops, new)
            if block < blocks:
                if tiles:
                    end_sums(here)
                there, here = here, 2 * base + 2 * SUMS - here
                left, at, s = some, 4 * first, start
                row, top = rows.ctypes.data + (0 if onward else start * wide) + at, np.intp(tops.ctypes.data)
                first += SIDE
                if first >= layer.units:
                    first, start = 0, start + SIDE
        if tiles:
            end_tiles()
        return rows[:samples]

    return run


all_units, all_units_masked = _runner(masked=False), _runner(masked=True)

"""The compiled part of the engine: layers that skip work, a whole run of them in one call.

What is skipped, and how the rest is laid out:

- input-sparse: a sample is a list of its non-zero inputs. Each adds its row of W (one row per input)
  to the units' sums, 128 units at a time, which stay in registers.
- gated: t = x U from the same list, scores = t V + b + shift, and the units whose score is positive
  are listed. Each is a dot product with its row of W^T (one row per unit), four at a time.
- two-sided: gated, and the dot products leave out every chunk of 16 inputs that holds only zeros.

Layers hand (index, value) lists on, so only the first one looks for zeros. What remains runs at the
speed of the second-level cache, half that of a dense product: each weight is loaded for one sample.

Lists are compressed and sums kept in registers by a few vector instructions written out for LLVM
below; numba's own loops were half as fast. Everything is in this one file because numba's cache on
disk is renewed when the file of the entry point changes, and knows of no other.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

#: Floats of a vector; rows of weights are padded to a multiple of it.
LANES = 16
#: Units whose sums are kept in registers together.
TILE = 8 * LANES
#: Samples that go through a layer together: their lists stay in the cache.
SAMPLES = 64

INPUT_SPARSE, GATED, TWO_SIDED = range(3)
#: Columns of the table with one layer per row. ROWS, BIAS, U, V and GATE_BIAS are addresses of float32
#: arrays, see ``ccsweep.engine.layout``; BLOCK is how many units all samples go through together.
WAY, INPUTS, UNITS, RELU, BLOCK, ROWS, STRIDE, BIAS, U, RANK, V, GATE_BIAS, GATE_STRIDE, FIELDS = range(14)

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
# Sums may be reordered and fused; NaN, Inf and their comparisons keep their meaning.
jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
Builder = Any  # llvmlite has no types


def _at(context: Any, builder: Builder, kind: Any, array: Any, start: Any) -> Any:
    """The address of ``array[start]``."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [start])


def _floats(builder: Builder, address: Any) -> Any:
    return builder.inttoptr(address, F32.as_pointer())


def _load(builder: Builder, address: Any, kind: ir.VectorType) -> Any:
    value = builder.load(builder.bitcast(address, kind.as_pointer()))
    value.align = 4
    return value


def _store(builder: Builder, value: Any, address: Any) -> None:
    builder.store(value, builder.bitcast(address, value.type.as_pointer())).align = 4


def _splat(builder: Builder, scalar: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(INTS, [0] * LANES))


def _call(builder: Builder, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _add_rows(vectors: int) -> Any:
    """``sums[at : at + 16 * vectors] = bias + values @ rows[indices]``, kept in registers till the end."""

    def add_rows(
        typing: Any,
        indices: Any,
        values: Any,
        count: Any,
        rows: Any,
        stride: Any,
        bias: Any,
        sums: Any,
        at: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        size = types.intp

        def codegen(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            zero = I64(0)
            index = _at(context, builder, kinds[0], arguments[0], zero)
            value = _at(context, builder, kinds[1], arguments[1], zero)
            first, bias = (_floats(builder, arguments[k]) for k in (3, 5))
            target = _at(context, builder, kinds[6], arguments[6], arguments[7])
            held = [cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)]
            for k, hold in enumerate(held):
                builder.store(_load(builder, builder.gep(bias, [I64(LANES * k)]), FLOATS), hold)
            with cgutils.for_range(builder, arguments[2]) as loop:
                i = builder.zext(builder.load(builder.gep(index, [loop.index])), I64)
                x = _splat(builder, builder.load(builder.gep(value, [loop.index])))
                row = builder.gep(first, [builder.mul(i, arguments[4])])
                for k, hold in enumerate(held):
                    w = _load(builder, builder.gep(row, [I64(LANES * k)]), FLOATS)
                    builder.store(_call(builder, "llvm.fma.v16f32", FLOATS, x, w, builder.load(hold)), hold)
            for k, hold in enumerate(held):
                _store(builder, builder.load(hold), builder.gep(target, [I64(LANES * k)]))
            return context.get_dummy_value()

        return types.void(indices, values, size, size, size, size, sums, size), codegen

    return intrinsic(add_rows)


_add_8, _add_4, _add_2, _add_1 = (_add_rows(k) for k in (8, 4, 2, 1))


@intrinsic
def _four_dots(
    typing: Any, x: Any, chunks: Any, count: Any, a: Any, b: Any, c: Any, d: Any, sums: Any, at: Any
) -> tuple[Any, Callable[..., Any]]:
    """``sums[at : at + 4]``: x times the rows at the addresses a, b, c, d, over the listed chunks of 16."""

    def codegen(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        zero = I64(0)
        inputs = _at(context, builder, kinds[0], arguments[0], zero)
        chunk = _at(context, builder, kinds[1], arguments[1], zero)
        starts = [_floats(builder, arguments[k]) for k in (3, 4, 5, 6)]
        held = [cgutils.alloca_once(builder, FLOATS) for _ in starts]
        for hold in held:
            builder.store(ir.Constant(FLOATS, [0.0] * LANES), hold)
        with cgutils.for_range(builder, arguments[2]) as loop:
            j = builder.zext(builder.load(builder.gep(chunk, [loop.index])), I64)
            v = _load(builder, builder.gep(inputs, [j]), FLOATS)
            for start, hold in zip(starts, held, strict=True):
                w = _load(builder, builder.gep(start, [j]), FLOATS)
                builder.store(_call(builder, "llvm.fma.v16f32", FLOATS, v, w, builder.load(hold)), hold)
        for k, hold in enumerate(held):
            vector = builder.load(hold)
            total = _call(builder, "llvm.vector.reduce.fadd.v16f32", F32, ir.Constant(F32, 0.0), vector)
            total.fastmath.add("reassoc")
            builder.store(
                total, _at(context, builder, kinds[7], arguments[7], builder.add(arguments[8], I64(k)))
            )
        return context.get_dummy_value()

    size = types.intp
    return types.void(x, chunks, size, size, size, size, size, sums, size), codegen


@intrinsic
def _float_at(typing: Any, address: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """The float at ``address[index]``."""

    def codegen(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.gep(_floats(builder, arguments[0]), [arguments[1]]))

    return types.float32(types.intp, types.intp), codegen


def _keep(comparison: str) -> Any:
    """Appends those of 16 (index, value) pairs whose value compares so with 0, NaN included."""

    def keep(
        typing: Any, from_indices: Any, from_values: Any, start: Any, indices: Any, values: Any, at: Any
    ) -> tuple[Any, Callable[..., Any]]:
        def codegen(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            i = _load(builder, _at(context, builder, kinds[0], arguments[0], arguments[2]), INTS)
            v = _load(builder, _at(context, builder, kinds[1], arguments[1], arguments[2]), FLOATS)
            mask = builder.fcmp_unordered(comparison, v, ir.Constant(FLOATS, [0.0] * LANES))
            for k, vector, name in ((3, i, "i32"), (4, v, "f32")):
                undefined = ir.Constant(vector.type, ir.Undefined)
                packed = _call(
                    builder,
                    f"llvm.experimental.vector.compress.v16{name}",
                    vector.type,
                    vector,
                    mask,
                    undefined,
                )
                _store(builder, packed, _at(context, builder, kinds[k], arguments[k], arguments[5]))
            bits = builder.bitcast(mask, ir.IntType(LANES))
            return builder.zext(builder.ctpop(bits), I64)

        size = types.intp
        return size(from_indices, from_values, size, indices, values, size), codegen

    return intrinsic(keep)


_keep_nonzero, _keep_positive = _keep("!="), _keep(">")


@jit
def _add(indices, values, count, rows, stride, bias, sums, width):  # type: ignore[no-untyped-def]
    """``sums[:width] = bias + values @ rows[indices]``; rows and bias are addresses."""
    k = 0
    while k + 128 <= width:
        _add_8(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 128
    if k + 64 <= width:
        _add_4(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 64
    if k + 32 <= width:
        _add_2(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)
        k += 32
    if k < width:
        _add_1(indices, values, count, rows + 4 * k, stride, bias + 4 * k, sums, k)


@jit
def _within(index, count, units):  # type: ignore[no-untyped-def]
    """The list's length without what fills up the last vector: NaN gets there too."""
    while count > 0 and index[count - 1] >= units:
        count -= 1
    return count


@jit
def _list_inputs(x, numbers, indices, values, counts):  # type: ignore[no-untyped-def]
    """Lists the non-zero inputs of each sample; False if one is NaN or infinite."""
    inputs = x.shape[1]
    whole = inputs - inputs % LANES
    odd = np.uint32(0)
    for s in range(x.shape[0]):
        row, index, value = x[s], indices[s], values[s]
        c = 0
        for j in range(0, whole, LANES):
            c += _keep_nonzero(numbers, row, j, index, value, c)
        for j in range(whole, inputs):
            index[c], value[c] = j, row[j]
            c += row[j] != 0
        counts[s] = c
        bits = value[:c].view(np.uint32)
        for j in range(c):
            odd |= (bits[j] & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return odd == 0


@jit
def _input_sparse(layer, numbers, samples, lists, new, out):  # type: ignore[no-untyped-def]
    indices, values, counts = lists
    new_indices, new_values, new_counts = new
    rows, stride, units, bias = layer[ROWS], layer[STRIDE], layer[UNITS], layer[BIAS]
    sums = np.empty(layer[BLOCK], np.float32)
    new_counts[:samples] = 0
    for first in range(0, stride, layer[BLOCK]):
        width = min(layer[BLOCK], stride - first)
        for s in range(samples):
            _add(indices[s], values[s], counts[s], rows + 4 * first, stride, bias + 4 * first, sums, width)
            if layer[RELU]:
                c, index, value = new_counts[s], new_indices[s], new_values[s]
                for j in range(0, width, LANES):
                    c += _keep_positive(numbers[first:], sums, j, index, value, c)
                new_counts[s] = _within(index, c, units)
            else:
                last = min(units - first, width)
                out[s, first : first + last] = sums[:last]


@jit
def _project(layer, samples, lists):  # type: ignore[no-untyped-def]
    """t = x U, in rows of whole vectors."""
    indices, values, counts = lists
    width = -(-layer[RANK] // LANES) * LANES
    zeros = np.zeros(width, np.float32)
    t = np.empty((samples, width), np.float32)
    for s in range(samples):
        _add(indices[s], values[s], counts[s], layer[U], width, zeros.ctypes.data, t[s], width)
    return t


@jit
def _gate(layer, numbers, samples, t, on, counts_on):  # type: ignore[no-untyped-def]
    """Lists the units of each sample that the estimator does not call negative."""
    stride = layer[GATE_STRIDE]
    scores = np.empty(TILE, np.float32)
    unused = np.empty(stride + LANES, np.float32)
    counts_on[:samples] = 0
    for first in range(0, stride, TILE):
        width = min(TILE, stride - first)
        v, bias = layer[V] + 4 * first, layer[GATE_BIAS] + 4 * first
        for s in range(samples):
            _add(numbers, t[s], layer[RANK], v, stride, bias, scores, width)
            c = counts_on[s]
            for j in range(0, width, LANES):
                c += _keep_positive(numbers[first:], scores, j, on[s], unused, c)
            counts_on[s] = _within(on[s], c, layer[UNITS])


@jit
def _chunks(layer, samples, lists, chunks, counts_chunks):  # type: ignore[no-untyped-def]
    """Lists where the chunks of 16 inputs start that a sample's dot products go through."""
    indices, _, counts = lists
    for s in range(samples):
        c = 0
        if layer[WAY] == TWO_SIDED:
            before = -1
            for p in range(counts[s]):
                chunk = indices[s, p] // LANES
                chunks[s, c] = chunk * LANES
                # The place is kept, and the chunk counted, where a new one begins.
                c += chunk != before
                before = chunk
        else:
            for j in range(0, layer[INPUTS], LANES):
                chunks[s, c] = j
                c += 1
        counts_chunks[s] = c


@jit
def _spread(samples, inputs, lists, x):  # type: ignore[no-untyped-def]
    """Writes lists back into rows."""
    indices, values, counts = lists
    x[:samples, :inputs] = 0
    for s in range(samples):
        for p in range(counts[s]):
            x[s, indices[s, p]] = values[s, p]


@jit
def _gated(layer, numbers, samples, x, t, lists, new):  # type: ignore[no-untyped-def]
    new_indices, new_values, new_counts = new
    units, stride = layer[UNITS], layer[STRIDE]
    on = np.empty((samples, layer[GATE_STRIDE] + LANES), np.int32)
    counts_on = np.empty(samples, np.int64)
    chunks = np.empty((samples, stride // LANES + 1), np.int32)
    counts_chunks = np.empty(samples, np.int64)
    _gate(layer, numbers, samples, t, on, counts_on)
    _chunks(layer, samples, lists, chunks, counts_chunks)
    dots = np.empty(units + LANES, np.float32)
    place = np.zeros(samples, np.int64)
    new_counts[:samples] = 0
    for end in range(layer[BLOCK], units + layer[BLOCK], layer[BLOCK]):
        for s in range(samples):
            first = last = place[s]
            while last < counts_on[s] and on[s, last] < end:
                last += 1
            place[s] = last
            count = last - first
            # At the end of the list one unit fills up the four: its row is in the cache already.
            for p in range(0, count, 4):
                a, b, c, d = (
                    layer[ROWS] + 4 * stride * on[s, first + p],
                    layer[ROWS] + 4 * stride * on[s, min(first + p + 1, last - 1)],
                    layer[ROWS] + 4 * stride * on[s, min(first + p + 2, last - 1)],
                    layer[ROWS] + 4 * stride * on[s, min(first + p + 3, last - 1)],
                )
                _four_dots(x[s], chunks[s], counts_chunks[s], a, b, c, d, dots, p)  # type: ignore[call-arg]
            for p in range(count):
                dots[p] += _float_at(layer[BIAS], on[s, first + p])  # type: ignore[call-arg]
            dots[count : count + LANES] = 0
            c = new_counts[s]
            for p in range(0, count, LANES):
                c += _keep_positive(on[s, first:], dots, p, new_indices[s], new_values[s], c)
            new_counts[s] = c


@jit
def run(x, projected, numbers, table, together, out):  # type: ignore[no-untyped-def]
    """Run consecutive layers, none of them dense.

    Args:
        x: float32 (batch, inputs of the first layer), contiguous.
        projected: float32 (batch, rank in whole vectors), x U for a gated first layer; or (0, 0) to
            have it computed here, which only pays for few samples or many zeros.
        numbers: int32, 0, 1, 2, ...
        table: int64 (layers, FIELDS).
        together: samples that go through a layer together; their lists should fit the cache.
        out: float32 (batch, units of the last layer), contiguous; filled.

    Returns:
        Whether all inputs were finite; rows that were not are not to be used, where layers are gated.
    """
    batch, most = x.shape[0], min(x.shape[0], together)
    wide = max(table[:, INPUTS].max(), table[:, UNITS].max()) + TILE + LANES
    indices = np.empty((2, most, wide), np.int32)
    values = np.empty((2, most, wide), np.float32)
    counts = np.empty((2, most), np.int64)
    finite = True
    for first in range(0, batch, together):
        samples = min(together, batch - first)
        part = x[first : first + samples]
        rest = out[first : first + samples]
        finite &= _list_inputs(part, numbers, indices[0], values[0], counts[0])
        for k in range(table.shape[0]):
            layer = table[k]
            lists = indices[k % 2], values[k % 2], counts[k % 2]
            new = indices[1 - k % 2], values[1 - k % 2], counts[1 - k % 2]
            if layer[WAY] == INPUT_SPARSE:
                _input_sparse(layer, numbers, samples, lists, new, rest)
            else:
                if k > 0 or layer[INPUTS] % LANES:
                    part = np.zeros((samples, -(-layer[INPUTS] // LANES) * LANES), np.float32)
                    _spread(samples, layer[INPUTS], lists, part)
                known = k == 0 and projected.shape[1] > 0
                t = projected[first : first + samples] if known else _project(layer, samples, lists)
                _gated(layer, numbers, samples, part, t, lists, new)
        last = table.shape[0] - 1
        if table[last, RELU]:
            _spread(
                samples,
                table[last, UNITS],
                (indices[1 - last % 2], values[1 - last % 2], counts[1 - last % 2]),
                rest,
            )
    return finite

"""The few vector instructions, written out for LLVM: numba's own loops were half as fast.

Each has a twin in plain numba, which serves CPUs that lack the instruction, and which tests compare it with.
"""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import emitted, jit

LANES = 16
"""Floats of a vector; rows of weights are padded to a multiple of it."""

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS, MASK = (ir.VectorType(kind, LANES) for kind in (F32, I32, ir.IntType(1)))
FMA, COMPRESS = "llvm.fma.v16f32", "llvm.experimental.vector.compress.v16"


def call(builder, name, result, *arguments):
    """What one of LLVM's own functions returns."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _emitted(name, result, *kinds):
    return emitted(lambda builder, *values: call(builder, name, result, *values), result, *kinds)


# Without the instruction LLVM calls C's fmaf for each number, and compresses in 100 steps through memory.
FUSES = "fmaf" not in _emitted(FMA, FLOATS, FLOATS, FLOATS, FLOATS)
COMPRESSES = "vcompressps" in _emitted(f"{COMPRESS}f32", FLOATS, FLOATS, MASK, FLOATS)


def element(context, builder, kind, array, start):
    """The address of ``array[start]``."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [start])


def _floats(builder, address):
    return builder.inttoptr(address, F32.as_pointer())


def load(builder, address, kind):
    """What stands at an address."""
    value = builder.load(builder.bitcast(address, kind.as_pointer()))
    value.align = 4
    return value


def store(builder, value, address):
    """Puts it there; returns the instruction."""
    stored = builder.store(value, builder.bitcast(address, value.type.as_pointer()))
    stored.align = 4
    return stored


def splat(builder, scalar):
    """A vector of so many times the scalar."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(INTS, [0] * LANES))


@intrinsic
def float_at(typing, address, index):
    """The float at ``address[index]``."""

    def codegen(context, builder, signature, arguments):
        return builder.load(builder.gep(_floats(builder, arguments[0]), [arguments[1]]))

    return types.float32(types.intp, types.intp), codegen


def fused_add(vectors: int):
    """``sums[at : at + 16 * vectors] = bias + values @ rows[indices]``, in registers until the end.

    ``rows``, ``stride`` floats apart, and ``bias`` are addresses.
    """

    def add(typing, indices, values, count, rows, stride, bias, sums, at):
        size = types.intp

        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            zero = I64(0)
            index = element(context, builder, kinds[0], arguments[0], zero)
            value = element(context, builder, kinds[1], arguments[1], zero)
            first, bias = (_floats(builder, arguments[k]) for k in (3, 5))
            target = element(context, builder, kinds[6], arguments[6], arguments[7])
            held = [cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)]
            for k, hold in enumerate(held):
                builder.store(load(builder, builder.gep(bias, [I64(LANES * k)]), FLOATS), hold)
            with cgutils.for_range(builder, arguments[2]) as loop:
                i = builder.zext(builder.load(builder.gep(index, [loop.index])), I64)
                x = splat(builder, builder.load(builder.gep(value, [loop.index])))
                row = builder.gep(first, [builder.mul(i, arguments[4])])
                for k, hold in enumerate(held):
                    w = load(builder, builder.gep(row, [I64(LANES * k)]), FLOATS)
                    builder.store(call(builder, FMA, FLOATS, x, w, builder.load(hold)), hold)
            for k, hold in enumerate(held):
                store(builder, builder.load(hold), builder.gep(target, [I64(LANES * k)]))
            return context.get_dummy_value()

        return types.void(indices, values, size, size, size, size, sums, size), codegen

    return intrinsic(add)


def plain_add(vectors: int):
    """The twin of :func:`fused_add`."""

    @jit
    def add(indices, values, count, rows, stride, bias, sums, at):
        for k in range(LANES * vectors):
            sums[at + k] = float_at(bias, k)
        for i in range(count):
            x, row = values[i], rows + 4 * stride * indices[i]
            for k in range(LANES * vectors):
                sums[at + k] += x * float_at(row, k)

    return add


@intrinsic
def fused_dots(typing, x, chunks, count, a, b, c, d, sums, at):
    """``sums[at : at + 4]``: x times the rows at the addresses a, b, c, d, over the listed chunks of 16."""

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        zero = I64(0)
        inputs = element(context, builder, kinds[0], arguments[0], zero)
        chunk = element(context, builder, kinds[1], arguments[1], zero)
        starts = [_floats(builder, arguments[k]) for k in (3, 4, 5, 6)]
        held = [cgutils.alloca_once(builder, FLOATS) for _ in starts]
        for hold in held:
            builder.store(ir.Constant(FLOATS, [0.0] * LANES), hold)
        with cgutils.for_range(builder, arguments[2]) as loop:
            j = builder.zext(builder.load(builder.gep(chunk, [loop.index])), I64)
            v = load(builder, builder.gep(inputs, [j]), FLOATS)
            for start, hold in zip(starts, held, strict=True):
                w = load(builder, builder.gep(start, [j]), FLOATS)
                builder.store(call(builder, FMA, FLOATS, v, w, builder.load(hold)), hold)
        for k, hold in enumerate(held):
            vector = builder.load(hold)
            total = call(builder, "llvm.vector.reduce.fadd.v16f32", F32, ir.Constant(F32, 0.0), vector)
            total.fastmath.add("reassoc")
            builder.store(
                total, element(context, builder, kinds[7], arguments[7], builder.add(arguments[8], I64(k)))
            )
        return context.get_dummy_value()

    size = types.intp
    return types.void(x, chunks, size, size, size, size, size, sums, size), codegen


@jit
def plain_dots(x, chunks, count, a, b, c, d, sums, at):
    """The twin of :func:`fused_dots`."""
    for k, row in enumerate((a, b, c, d)):
        total = np.float32(0)
        for i in range(count):
            for j in range(chunks[i], chunks[i] + LANES):
                total += x[j] * float_at(row, j)
        sums[at + k] = total


def pack(context, builder, kinds, arguments, mask, pairs):
    """Writes the pairs that a mask leaves to the list that the arguments name; returns how many."""
    for k, vector, name in ((3, pairs[0], "i32"), (4, pairs[1], "f32")):
        undefined = ir.Constant(vector.type, ir.Undefined)
        packed = call(builder, COMPRESS + name, vector.type, vector, mask, undefined)
        store(builder, packed, element(context, builder, kinds[k], arguments[k], arguments[5]))
    return builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(LANES))), I64)


def compress(comparison: str):
    """Writes those of 16 (index, value) pairs whose value compares so with 0, or is NaN, to a list.

    The pairs stand at ``start``, the list goes on at ``at``: there is room for all 16. Returns how many.
    """

    def keep(typing, from_indices, from_values, start, indices, values, at):
        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            i = load(builder, element(context, builder, kinds[0], arguments[0], arguments[2]), INTS)
            v = load(builder, element(context, builder, kinds[1], arguments[1], arguments[2]), FLOATS)
            mask = builder.fcmp_unordered(comparison, v, ir.Constant(FLOATS, [0.0] * LANES))
            return pack(context, builder, kinds, arguments, mask, (i, v))

        size = types.intp
        return size(from_indices, from_values, size, indices, values, size), codegen

    return intrinsic(keep)


@intrinsic
def compress_indices(typing, from_indices, from_values, start, indices, at):
    """:func:`compress` for ``>``, of the indices alone."""

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        i = load(builder, element(context, builder, kinds[0], arguments[0], arguments[2]), INTS)
        v = load(builder, element(context, builder, kinds[1], arguments[1], arguments[2]), FLOATS)
        mask = builder.fcmp_unordered(">", v, ir.Constant(FLOATS, [0.0] * LANES))
        packed = call(builder, COMPRESS + "i32", INTS, i, mask, ir.Constant(INTS, ir.Undefined))
        store(builder, packed, element(context, builder, kinds[3], arguments[3], arguments[4]))
        return builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(LANES))), I64)

    size = types.intp
    return size(from_indices, from_values, size, indices, size), codegen


@jit
def plain_indices(from_indices, from_values, start, indices, at):
    """The twin of :func:`compress_indices`."""
    count = 0
    for j in range(start, start + LANES):
        indices[at + count] = from_indices[j]
        count += not from_values[j] <= 0
    return count


def plain_keep(positive: bool):
    """The twin of :func:`compress`, for the comparison ``>``, or ``!=``."""

    @jit
    def keep(from_indices, from_values, start, indices, values, at):
        count = 0
        for j in range(start, start + LANES):
            # Without a branch: the place is written, and taken where the value counts.
            indices[at + count], values[at + count] = from_indices[j], from_values[j]
            count += not from_values[j] <= 0 if positive else from_values[j] != 0
        return count

    return keep


def fused_add_and_dot(vectors: int):
    """``sums[at : at + 16 * vectors] = values @ rows[indices]``; each of these rows times ``weights`` is
    added to ``dots``, which goes along with the indices.

    ``rows``, ``stride`` floats apart, and ``weights`` are addresses. A row is loaded once for both.
    """

    def both(typing, indices, values, count, rows, stride, weights, sums, at, dots):
        size = types.intp

        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            zero = I64(0)
            index, value = (element(context, builder, kinds[k], arguments[k], zero) for k in (0, 1))
            dot = element(context, builder, kinds[8], arguments[8], zero)
            first, weight = (_floats(builder, arguments[k]) for k in (3, 5))
            target = element(context, builder, kinds[6], arguments[6], arguments[7])
            nothing = ir.Constant(FLOATS, [0.0] * LANES)
            places = [I64(LANES * k) for k in range(vectors)]
            held = [cgutils.alloca_once(builder, FLOATS) for _ in places]
            for hold in held:
                builder.store(nothing, hold)
            weight = [load(builder, builder.gep(weight, [place]), FLOATS) for place in places]
            with cgutils.for_range(builder, arguments[2]) as loop:
                i = builder.zext(builder.load(builder.gep(index, [loop.index])), I64)
                x = splat(builder, builder.load(builder.gep(value, [loop.index])))
                row = builder.gep(first, [builder.mul(i, arguments[4])])
                total = [nothing, nothing]  # two chains of additions, which go side by side
                for k, hold in enumerate(held):
                    v = load(builder, builder.gep(row, [places[k]]), FLOATS)
                    builder.store(call(builder, FMA, FLOATS, x, v, builder.load(hold)), hold)
                    total[k % 2] = call(builder, FMA, FLOATS, v, weight[k], total[k % 2])
                here = builder.gep(dot, [loop.index])
                start = builder.load(here)
                whole = builder.fadd(*total)
                summed = call(builder, "llvm.vector.reduce.fadd.v16f32", F32, start, whole)
                summed.fastmath.add("reassoc")
                builder.store(summed, here)
            for place, hold in zip(places, held, strict=True):
                store(builder, builder.load(hold), builder.gep(target, [place]))
            return context.get_dummy_value()

        return types.void(indices, values, size, size, size, size, sums, size, dots), codegen

    return intrinsic(both)


def plain_add_and_dot(vectors: int):
    """The twin of :func:`fused_add_and_dot`."""

    @jit
    def both(indices, values, count, rows, stride, weights, sums, at, dots):
        sums[at : at + LANES * vectors] = 0
        for i in range(count):
            x, row, total = values[i], rows + 4 * stride * indices[i], np.float32(0)
            for k in range(LANES * vectors):
                v = float_at(row, k)
                sums[at + k] += x * v
                total += v * float_at(weights, k)
            dots[i] += total

    return both


@intrinsic
def transpose(typing, source, stride, target, target_stride):
    """Turns 16 x 16 floats at an address round, to another; rows are so many floats apart.

    Shuffles are what every CPU has, so there is no twin.
    """

    def codegen(context, builder, signature, arguments):
        source, target = (_floats(builder, arguments[k]) for k in (0, 2))
        rows = [
            load(builder, builder.gep(source, [builder.mul(arguments[1], I64(k))]), FLOATS)
            for k in range(LANES)
        ]
        for far in (1, 2, 4, 8):  # change places with who is so far across the diagonal
            for k in (k for k in range(LANES) if not k & far):
                upper, lower = rows[k], rows[k | far]
                masks = [
                    [LANES + (j ^ far) if j & far else j for j in range(LANES)],
                    [LANES + j if j & far else j ^ far for j in range(LANES)],
                ]
                rows[k], rows[k | far] = (
                    builder.shuffle_vector(upper, lower, ir.Constant(INTS, mask)) for mask in masks
                )
        for k, row in enumerate(rows):
            store(builder, row, builder.gep(target, [builder.mul(arguments[3], I64(k))]))
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size, size), codegen


add_8, add_4, add_2, add_1 = (fused_add(k) if FUSES else plain_add(k) for k in (8, 4, 2, 1))
four_dots = fused_dots if FUSES else plain_dots
keep_nonzero = compress("!=") if COMPRESSES else plain_keep(positive=False)
keep_positive = compress(">") if COMPRESSES else plain_keep(positive=True)
keep_positive_indices = compress_indices if COMPRESSES else plain_indices
add_and_dot_8, add_and_dot_4, add_and_dot_2, add_and_dot_1 = (
    fused_add_and_dot(k) if FUSES else plain_add_and_dot(k) for k in (8, 4, 2, 1)
)

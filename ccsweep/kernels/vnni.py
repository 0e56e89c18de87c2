"""Products of bytes, summed four at a time into int32: exact, whatever the CPU.

One instruction where it has VNNI, unsigned times signed; elsewhere bytes are widened, which costs more
steps and gives the same. All else here is shuffles, which every CPU has, so nothing needs a twin.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from ccsweep.kernels.compiling import emitted
from ccsweep.kernels.simd import F32, FLOATS, I32, I64, INTS, LANES, call, load, splat, store

I8 = ir.IntType(8)
BYTES = 64
"""Of a vector; rows of byte weights are padded to a multiple of it."""
VECTOR = ir.VectorType(I8, BYTES)
GROUP = 4
"""Products that are summed at once."""
# Added to a float below 2**22, it leaves the nearest whole number in the low bits, halves to even.
MAGIC = 1.5 * 2**23


def _reduced(builder, unsigned, signed):
    """What LLVM knows as VNNI's pattern."""
    wide = ir.VectorType(I32, BYTES)
    product = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
    return call(builder, f"llvm.vector.reduce.add.v{BYTES}i32", I32, product)


_FOUND = emitted(_reduced, I32, VECTOR, VECTOR)
WIDTH = 0 if "vpdpbusd" not in _FOUND else 512 if "zmm" in _FOUND else 256
"""Bits of the VNNI vectors that the CPU has; 0 without."""


def _halves(builder, vector, lanes):
    undefined = ir.Constant(vector.type, ir.Undefined)
    for first in (0, lanes // 2):
        chosen = ir.Constant(ir.VectorType(I32, lanes // 2), list(range(first, first + lanes // 2)))
        yield builder.shuffle_vector(vector, undefined, chosen)


def add_products(builder, sums, unsigned, signed, width: int = WIDTH):
    """int32 (16) plus the products of (64) unsigned and (64) signed bytes, four neighbours into each."""
    if width == 512:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
    if width == 256:
        parts = zip(
            _halves(builder, sums, LANES),
            _halves(builder, unsigned, BYTES),
            _halves(builder, signed, BYTES),
            strict=True,
        )
        low, high = (call(builder, "llvm.x86.avx512.vpdpbusd.256", part[0].type, *part) for part in parts)
        return builder.shuffle_vector(low, high, ir.Constant(INTS, list(range(LANES))))
    unsigned, signed = (builder.bitcast(vector, INTS) for vector in (unsigned, signed))
    low = ir.Constant(INTS, [255] * LANES)
    for k in range(GROUP):
        down, up = (ir.Constant(INTS, [bits] * LANES) for bits in (8 * k, 24 - 8 * k))
        a = builder.and_(builder.lshr(unsigned, down), low)
        b = builder.ashr(builder.shl(signed, up), ir.Constant(INTS, [24] * LANES))
        sums = builder.add(sums, builder.mul(a, b))
    return sums


def address(builder, start, offset):
    """``start + offset``, in bytes, as a pointer."""
    return builder.inttoptr(builder.add(start, offset), I8.as_pointer())


def load_at(builder, start, offset, kind):
    """What is ``offset`` bytes behind an address."""
    value = load(builder, address(builder, start, offset), kind)
    value.align = 1
    return value


def _four(builder, start, offset):
    """Four bytes, over and over: as bytes (64)."""
    return builder.bitcast(splat(builder, load_at(builder, start, offset, I32)), VECTOR)


def _zeros(builder, count):
    held = [cgutils.alloca_once(builder, INTS) for _ in range(count)]
    for hold in held:
        builder.store(ir.Constant(INTS, [0] * LANES), hold)
    return held


# Where two vectors meet in each 128 bits: the lower halves, byte by byte or word by word, and the upper.
def _mixed(size: int, upper: bool) -> ir.Constant:
    lane, count = 16 // size, BYTES // size
    chosen = []
    for first in range(0, count, lane):
        start = first + upper * lane // 2
        for j in range(start, start + lane // 2):
            chosen += [j, count + j]
    return ir.Constant(ir.VectorType(I32, count), chosen)


def _interleaved(builder, rows):
    """Of four rows of 64 bytes, the bytes of each place beside each other; in the order of ``ORDER``."""
    words = ir.VectorType(ir.IntType(16), BYTES // 2)
    pairs = [
        [builder.bitcast(builder.shuffle_vector(*two, _mixed(1, upper)), words) for upper in (False, True)]
        for two in (rows[:2], rows[2:])
    ]
    for half in (0, 1):
        for upper in (False, True):
            mixed = builder.shuffle_vector(pairs[0][half], pairs[1][half], _mixed(2, upper))
            yield builder.bitcast(mixed, VECTOR)


ORDER = [16 * k + 4 * lane + e for lane in range(4) for k in range(4) for e in range(4)]
"""Which of 64 neighbouring units each byte of a row of inputs is of: so their sums come in order."""


def row_adder(blocks: int, width: int = WIDTH):
    """``sums[: 64 * blocks]``: bytes times the listed rows, the first ``negatives`` of them subtracted.

    ``indices`` int32, ``quantised`` uint8, ``rows`` int8, ``stride`` bytes apart and ordered by ``ORDER``,
    and ``sums`` int32 are addresses; ``negatives`` and ``count`` are multiples of four.
    """

    def add(typing, indices, quantised, negatives, count, rows, stride, sums):
        def codegen(context, builder, signature, arguments):
            indices, quantised, negatives, count, rows, stride, sums = arguments
            held = _zeros(builder, 4 * blocks)
            with cgutils.for_range(builder, I64(2)) as part:
                for hold in held:
                    builder.store(builder.neg(builder.load(hold)), hold)
                ahead = builder.icmp_signed("==", part.index, I64(0))
                first = builder.select(ahead, I64(0), negatives)
                last = builder.select(ahead, negatives, count)
                with cgutils.for_range_slice(builder, first, last, I64(GROUP), inc=True) as (place, _):
                    value = _four(builder, quantised, place)
                    starts = []
                    for k in range(GROUP):
                        at = builder.mul(I64(4), builder.add(place, I64(k)))
                        index = builder.zext(load_at(builder, indices, at, I32), I64)
                        starts.append(builder.add(rows, builder.mul(index, stride)))
                    for block in range(blocks):
                        four = [load_at(builder, start, I64(BYTES * block), VECTOR) for start in starts]
                        for k, mixed in enumerate(_interleaved(builder, four)):
                            hold = held[4 * block + k]
                            builder.store(
                                add_products(builder, builder.load(hold), value, mixed, width), hold
                            )
            for k, hold in enumerate(held):
                store(builder, builder.load(hold), address(builder, sums, I64(4 * LANES * k)))
            return context.get_dummy_value()

        size = types.intp
        return types.void(size, size, size, size, size, size, size), codegen

    return intrinsic(add)


def dotter(width: int = WIDTH):
    """Four int32 at ``sums``: the bytes x times the rows a, b, c, d, over the listed chunks of 64.

    ``x`` uint8, ``chunks`` int32, the rows int8 and ``sums`` are addresses.
    """

    def dots(typing, x, chunks, count, a, b, c, d, sums):
        def codegen(context, builder, signature, arguments):
            x, chunks, count, *rows, sums = arguments
            held = _zeros(builder, GROUP)
            with cgutils.for_range(builder, count) as loop:
                chunk = builder.zext(load_at(builder, chunks, builder.mul(loop.index, I64(4)), I32), I64)
                value = load_at(builder, x, chunk, VECTOR)
                for row, hold in zip(rows, held, strict=True):
                    weights = load_at(builder, row, chunk, VECTOR)
                    builder.store(add_products(builder, builder.load(hold), value, weights, width), hold)
            store(
                builder,
                _totals(builder, [builder.load(hold) for hold in held]),
                address(builder, sums, I64(0)),
            )
            return context.get_dummy_value()

        size = types.intp
        return types.void(size, size, size, size, size, size, size, size), codegen

    return intrinsic(dots)


def _totals(builder, vectors):
    """The totals of four vectors of int32, as one of four; halves are added to halves."""

    def halved(one, other, far):
        """Neighbours ``far`` apart summed, of one and of the other in turns."""
        lanes = one.type.count
        first = [j if not j & far else lanes + j - far for j in range(lanes)]
        second = [j + far if not j & far else lanes + j for j in range(lanes)]
        return builder.add(
            *(
                builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, lanes), chosen))
                for chosen in (first, second)
            )
        )

    a, b, c, d = vectors
    total = halved(halved(a, b, 1), halved(c, d, 1), 2)
    while total.type.count > GROUP:
        total = builder.add(*_halves(builder, total, total.type.count))
    return total


def scorer(samples: int, vectors: int, width: int = WIDTH):
    """``sums[s, : 16 * vectors]``: ``start``, and the bytes of each sample times columns of weights.

    ``x`` uint8, rows ``wide`` bytes apart, ``weights`` int8 (groups of four rows, units, 4), groups
    ``stride`` bytes apart, ``start`` int32 and ``sums`` int32, rows ``apart`` bytes apart, are addresses.
    """

    def score(typing, x, wide, groups, weights, stride, start, sums, apart):
        def codegen(context, builder, signature, arguments):
            x, wide, groups, weights, stride, start, sums, apart = arguments
            held = [_zeros(builder, vectors) for _ in range(samples)]
            for k in range(vectors):
                begun = load_at(builder, start, I64(4 * LANES * k), INTS)
                for each in held:
                    builder.store(begun, each[k])
            with cgutils.for_range(builder, groups) as loop:
                row = builder.add(weights, builder.mul(loop.index, stride))
                columns = [load_at(builder, row, I64(BYTES * k), VECTOR) for k in range(vectors)]
                for s in range(samples):
                    sample = builder.add(x, builder.mul(I64(s), wide))
                    value = _four(builder, sample, builder.mul(loop.index, I64(GROUP)))
                    for hold, column in zip(held[s], columns, strict=True):
                        builder.store(add_products(builder, builder.load(hold), value, column, width), hold)
            for s in range(samples):
                row = builder.add(sums, builder.mul(I64(s), apart))
                for k, hold in enumerate(held[s]):
                    store(builder, builder.load(hold), address(builder, row, I64(4 * LANES * k)))
            return context.get_dummy_value()

        size = types.intp
        return types.void(size, size, size, size, size, size, size, size), codegen

    return intrinsic(score)


@intrinsic
def reach(typing, values, count):
    """The largest magnitude of floats at an address; negative if any of them is (not -0), NaN if any is.

    A multiple of 16 of them. Bits of positive floats are in order as whole numbers, infinity and NaN last.
    """

    def codegen(context, builder, signature, arguments):
        values, count = arguments
        largest, signs = _zeros(builder, 2)
        with cgutils.for_range_slice(builder, I64(0), count, I64(LANES), inc=True) as (place, _):
            bits = load_at(builder, values, builder.mul(place, I64(4)), INTS)
            positive = builder.and_(bits, ir.Constant(INTS, [2**31 - 1] * LANES))
            before = builder.load(largest)
            more = builder.icmp_signed(">", positive, before)
            builder.store(builder.select(more, positive, before), largest)
            zeros = ir.Constant(INTS, [0] * LANES)
            signed = builder.select(builder.icmp_signed("!=", positive, zeros), bits, zeros)
            builder.store(builder.or_(signed, builder.load(signs)), signs)
        found = call(builder, "llvm.vector.reduce.smax.v16i32", I32, builder.load(largest))
        sign = call(builder, "llvm.vector.reduce.or.v16i32", I32, builder.load(signs))
        return builder.bitcast(builder.or_(found, builder.and_(sign, I32(-(2**31)))), F32)

    return types.float32(types.intp, types.intp), codegen


@intrinsic
def round_to_bytes(typing, values, factor, offset, quantised):
    """16 floats at an address times ``factor``, to the nearest whole number, plus ``offset``, as 16 bytes."""

    def codegen(context, builder, signature, arguments):
        values, factor, offset, quantised = arguments
        scaled = builder.fmul(load_at(builder, values, I64(0), FLOATS), splat(builder, factor))
        rounded = builder.fadd(scaled, ir.Constant(FLOATS, [MAGIC] * LANES))
        whole = builder.add(builder.bitcast(rounded, INTS), splat(builder, offset))
        few = builder.trunc(whole, ir.VectorType(I8, LANES))
        store(builder, few, address(builder, quantised, I64(0))).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.int32, types.intp), codegen


def rescaled(builder, whole, factor, scales, bias):
    """16 int32 as floats: ``whole * (factor * scales) + bias``."""
    scale = builder.fmul(splat(builder, factor), scales)
    product = builder.fmul(builder.sitofp(whole, FLOATS), scale, flags=("contract",))
    return builder.fadd(product, bias, flags=("contract",))


@intrinsic
def rescale(typing, sums, factor, scales, bias, floats):
    """16 int32 as floats, ``sums * (factor * scales) + bias``; all but the factor are addresses."""

    def codegen(context, builder, signature, arguments):
        sums, factor, scales, bias, floats = arguments
        whole = load_at(builder, sums, I64(0), INTS)
        scales, bias = (load_at(builder, start, I64(0), FLOATS) for start in (scales, bias))
        store(builder, rescaled(builder, whole, factor, scales, bias), address(builder, floats, I64(0)))
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, types.float32, size, size, size), codegen


@intrinsic
def occupied(typing, quantised):
    """Whether any of 64 bytes at an address is not zero."""

    def codegen(context, builder, signature, arguments):
        found = builder.bitcast(load_at(builder, arguments[0], I64(0), VECTOR), ir.VectorType(I64, 8))
        whole = call(builder, "llvm.vector.reduce.or.v8i64", I64, found)
        return builder.icmp_unsigned("!=", whole, I64(0))

    return types.boolean(types.intp), codegen


add_rows_4, add_rows_3, add_rows_2, add_rows_1 = (row_adder(k) for k in (4, 3, 2, 1))
four_byte_dots = dotter()
score_four, score_one = scorer(4, 2), scorer(1, 8)

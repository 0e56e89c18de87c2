"""Lists of (index, value) pairs: what is not zero, or positive, in a row; only these are computed with."""

import numpy as np

from ccsweep.kernels.compiling import jit
from ccsweep.kernels.simd import LANES, keep_nonzero, keep_positive


@jit
def list_inputs(x, inputs, numbers, indices, values, counts):
    """Lists the non-zero inputs of each sample, its first so many; False if one is NaN or infinite."""
    whole = inputs - inputs % LANES
    odd = np.uint32(0)
    for s in range(x.shape[0]):
        row, index, value = x[s], indices[s], values[s]
        c = 0
        for j in range(0, whole, LANES):
            c += keep_nonzero(numbers, row, j, index, value, c)
        for j in range(whole, inputs):
            index[c], value[c] = j, row[j]
            c += row[j] != 0
        counts[s] = c
        bits = value[:c].view(np.uint32)
        for j in range(c):
            odd |= (bits[j] & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return odd == 0


@jit
def append_positive(numbers, sums, width, indices, values, count):
    """Appends those of ``sums[:width]`` that are positive or NaN to a list of so many; returns its length."""
    for j in range(0, width, LANES):
        count += keep_positive(numbers, sums, j, indices, values, count)
    return count


@jit
def within(indices, count, units):
    """The list's length without what fills up the last vector: NaN gets there too."""
    while count > 0 and indices[count - 1] >= units:
        count -= 1
    return count


@jit
def list_chunks(inputs, samples, chunks, counts_chunks):
    """Lists where the chunks of 16 inputs start."""
    for s in range(samples):
        c = 0
        for j in range(0, inputs, LANES):
            chunks[s, c] = j
            c += 1
        counts_chunks[s] = c


@jit
def list_occupied_chunks(samples, lists, chunks, counts_chunks):
    """Lists where those chunks of 16 inputs start that hold a non-zero one."""
    indices, _, counts = lists
    for s in range(samples):
        c = 0
        before = -1
        for p in range(counts[s]):
            chunk = indices[s, p] // LANES
            chunks[s, c] = chunk * LANES
            # The place is kept, and the chunk counted, where a new one begins.
            c += chunk != before
            before = chunk
        counts_chunks[s] = c


@jit
def below(listed, start, count, end):
    """Where those of a list's first so many indices that are below ``end`` end, from ``start`` on."""
    last = start
    while last < count and listed[last] < end:
        last += 1
    return last


@jit
def four_rows(rows, width, listed, place, last):
    """Addresses of the rows, ``width`` bytes apart, of four listed units.

    At the end of the list one unit fills up the four: its row is in the cache already.
    """
    return (
        rows + width * listed[place],
        rows + width * listed[min(place + 1, last - 1)],
        rows + width * listed[min(place + 2, last - 1)],
        rows + width * listed[min(place + 3, last - 1)],
    )


@jit
def spread(samples, inputs, lists, x):
    """Writes lists back into rows."""
    indices, values, counts = lists
    x[:samples, :inputs] = 0
    for s in range(samples):
        for p in range(counts[s]):
            x[s, indices[s, p]] = values[s, p]


@jit
def turn(lists, first, last, starts, samples, values, low, high):
    """Turns the lists of some samples round: for each index those that have it, ascending, and their values.

    Index i has ``samples[starts[i] : starts[i + 1]]``; filled in for indices from ``low`` to ``high`` alone.
    """
    listed, listed_values, counts = lists
    starts[:] = 0
    for s in range(first, last):
        for p in range(counts[s]):
            starts[listed[s, p] + 1] += 1
    for i in range(starts.size - 1):
        starts[i + 1] += starts[i]
    place = starts.copy()
    for s in range(first, last):
        for p in range(counts[s]):
            i = listed[s, p]
            if low <= i < high:
                samples[place[i]], values[place[i]] = s, listed_values[s, p]
                place[i] += 1

"""Dropout masks as they are defined, in NumPy."""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(state: np.ndarray) -> np.ndarray:
    """The finaliser of Steele, Lea & Flood 2014, on uint64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def murmur3(x: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Appleby's finaliser, on uint32, with ``high`` mixed in before the second product."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13)) ^ high) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def hashes(key: int, level: int, batch: int, units: int) -> np.ndarray:
    """uint32 (batch, units)."""
    steps = np.uint64(level << 32) + np.arange(1, batch + 1, dtype=np.uint64)
    words = splitmix64(np.array(key, np.uint64) + np.uint64(GOLDEN) * steps)
    low, high = (words & np.uint64(0xFFFFFFFF)).astype(np.uint32), (words >> np.uint64(32)).astype(np.uint32)
    return murmur3(np.arange(units, dtype=np.uint32) + low[:, None], high[:, None])


def kept(key: int, level: int, batch: int, units: int, dropped: float) -> np.ndarray:
    """Which units dropout keeps: bool (batch, units)."""
    return hashes(key, level, batch, units) < (1 - dropped) * 2**32


def quantised(x: np.ndarray, offset: int) -> tuple[np.ndarray, np.float32]:
    """A sample's bytes around the offset, 0 or 128, and what a step of them is worth."""
    levels, largest = np.float32(127 if offset else 255), np.abs(x).max(initial=np.float32(0))
    if largest <= np.float32(1e-30):
        return np.full(x.shape, offset, np.int64), np.float32(0)
    return np.rint(x * (levels / largest)).astype(np.int64) + offset, largest / levels

"""Mapped files: what was read of one and is not needed for now need not stay in memory."""

from __future__ import annotations

import mmap
import zlib

import numpy as np

CHUNK = 2**22
"""Bytes that are read before the first of them are let go."""

SMALL = 2**15
"""Bytes: less is left in memory."""


def checksum_of(data: memoryview) -> int:
    """CRC-32 of a part of a file. Of a mapped file no more than a chunk stays in memory."""
    value = 0
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        value = zlib.crc32(chunk, value)
        forget(np.frombuffer(chunk, np.uint8))
    return value


def forget(array: np.ndarray) -> None:
    """Let go of the pages behind an array that lies in a mapped file; any other array is left alone. The next use reads
    them again, from the system's own cache of the file as a rule."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = np.frombuffer(mapped, np.uint8, 1).ctypes.data
    first = -(-(array.ctypes.data - start) // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (array.ctypes.data + array.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if array.flags.c_contiguous and first < last:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)

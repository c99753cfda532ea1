"""Mapped files: what was read of one and is not needed for now need not stay in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

import numpy as np

NEAR = 2**15
"""Bytes between two arrays that are let go with them: asking the system twice takes longer than reading them again."""


def address_of(array: np.ndarray) -> int:
    """Where an array's first value lies."""
    return int(array.__array_interface__["data"][0])  # a third of what array.ctypes.data takes


def forget(arrays: Iterable[np.ndarray]) -> None:
    """Let go of the pages behind arrays that lie in a mapped file; any other array is left alone. The next use reads
    them again, from the system's own cache of the file as a rule."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    spans: dict[mmap.mmap, list[tuple[int, int]]] = {}
    for array in arrays:
        # Of less than a page none is an array's own.
        mapped = mapping_of(array) if array.nbytes >= mmap.PAGESIZE and array.flags.c_contiguous else None
        if mapped is not None:
            spans.setdefault(mapped, []).append((address_of(array), address_of(array) + array.nbytes))
    for mapped, found in spans.items():
        start = address_of(np.frombuffer(mapped, np.uint8))
        for first, last in _joined(sorted(found)):
            first = -(-(first - start) // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (last - start) // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """The mapped file that an array lies in."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    return mapped if isinstance(mapped, mmap.mmap) else None


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that lie near each other made one."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first - joined[-1][1] <= NEAR:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined

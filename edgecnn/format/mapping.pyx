"""Memory that holds a file: what was read of it and is not needed for now need not stay."""

import mmap

import numpy as np

from edgecnn.format.source import MappedFile, PrivateCopy

from libc.stdint cimport uintptr_t

from edgecnn.format.arrays cimport values_of


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)


# Bytes between two arrays that are let go with them: asking the system twice takes longer than reading them again.
cdef uintptr_t NEAR = 2**15
cdef uintptr_t PAGE = mmap.PAGESIZE
cdef bint CAN_FORGET = hasattr(mmap, "MADV_DONTNEED")


def address_of(array):
    """Where a contiguous array's first value lies."""
    return <uintptr_t>values_of(array)


def forget(arrays):
    """Let go of the pages behind arrays that lie in a mapped file; any other array is left alone. The next use reads
    them again, from the system's own cache of the file as a rule."""
    cdef uintptr_t start, first, last, size
    if not CAN_FORGET:
        return
    spans = {}
    for array in arrays:
        size = array.nbytes
        # Of less than a page none is an array's own.
        mapped = mapping_of(array) if size >= PAGE and array.flags.c_contiguous else None
        if mapped is not None:
            first = <uintptr_t>values_of(array)
            spans.setdefault(mapped, []).append((first, first + size))
    for mapped, found in spans.items():
        start = <uintptr_t>values_of(mapped)
        for first, last in _joined(sorted(found)):
            first = (first - start + PAGE - 1) // PAGE * PAGE
            last = (last - start) // PAGE * PAGE
            if first < last:
                mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def mapping_of(array):
    """The mapped file that an array lies in, or None."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    return mapped if isinstance(mapped, MappedFile) else None


def give_back(list box, bint wait=False):
    """Give the pages of an array in a `PrivateCopy` back to the system: its values are lost. Nothing is done where
    anybody else holds the array, or memory that it shares, or is still adding up the copy.

    Args:
        box: holds the array, which nothing else holds; it is empty when the pages are gone.
        wait: whether to wait for what adds up the copy.

    Returns:
        Whether the pages are gone.
    """
    cdef uintptr_t start, first, last
    array = box.pop()
    base = array.base
    copy = base.base.obj if isinstance(base, np.ndarray) and isinstance(base.base, memoryview) else None
    # Each is held by its variable here, and `base` by `array`, too.
    alone = Py_REFCNT(array) == 1 and Py_REFCNT(base) == 2 and isinstance(copy, PrivateCopy) and CAN_FORGET
    if alone and copy.checksum is not None and not copy.checksum.finished:
        if wait:
            copy.checksum.value
        else:
            alone = False
    if not alone:
        box.append(array)
        return False
    start = <uintptr_t>values_of(copy)
    first = (<uintptr_t>values_of(array) - start + PAGE - 1) // PAGE * PAGE
    last = (<uintptr_t>values_of(array) + <uintptr_t>array.nbytes - start) // PAGE * PAGE
    if first < last:
        copy.madvise(mmap.MADV_DONTNEED, first, last - first)
    return True


def _joined(spans):
    """Spans in order, those that lie near each other made one."""
    joined = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + NEAR:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined

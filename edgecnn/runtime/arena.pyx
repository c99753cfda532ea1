"""Offsets of blocks of memory that are in use at different times.

Source: Pisarchyk & Lee 2020 (arXiv 2001.03288), section 4.2, "greedy by size".
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove


ctypedef struct block:
    size_t offset, end
    Py_ssize_t first, last


def place(list blocks):
    """Place blocks one after the other, each at the lowest offset where it meets none that is in use when it is.

    Args:
        blocks: (size, first, last) of each: it is in use from time `first` to time `last`, both included. The order, by
            falling sizes as a rule, is that in which they are placed.

    Returns:
        A list of offsets, and the end of all blocks.
    """
    cdef size_t count = len(blocks), placed = 0, size, offset, total = 0, at, i
    cdef Py_ssize_t first, last
    # What is placed, in the order of offsets.
    cdef block *known = <block *>malloc((count + 1) * sizeof(block))
    if known == NULL:
        raise MemoryError("no memory for a plan")
    offsets = []
    try:
        for size, first, last in blocks:
            PyErr_CheckSignals()  # of a hundred thousand blocks each meets all the others: that must end when it shall
            offset = 0
            for i in range(placed):
                if known[i].last < first or last < known[i].first:
                    continue
                if offset + size <= known[i].offset:
                    break
                offset = max(offset, known[i].end)
            at = placed
            while at > 0 and known[at - 1].offset > offset:
                at -= 1
            memmove(known + at + 1, known + at, (placed - at) * sizeof(block))
            known[at].offset, known[at].end, known[at].first, known[at].last = offset, offset + size, first, last
            placed += 1
            offsets.append(offset)
            total = max(total, offset + size)
    finally:
        free(known)
    return offsets, total

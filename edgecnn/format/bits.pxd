"""Bits of a mask."""

from libc.stdint cimport uint64_t


cdef extern from * nogil:
    """
    static inline unsigned ec_lowest(unsigned long long bits) { return (unsigned)__builtin_ctzll(bits); }
    static inline unsigned ec_count(unsigned long long bits) { return (unsigned)__builtin_popcountll(bits); }
    """
    unsigned ec_lowest(uint64_t bits)
    unsigned ec_count(uint64_t bits)

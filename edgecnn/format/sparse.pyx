"""Values whose zeros were left out, put back at their places: without the interpreter.

Nothing is written before it is known that all of it fits.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from edgecnn.format.arrays cimport values_of


cdef extern from * nogil:
    """
    static inline unsigned ec_lowest(unsigned long long bits) { return (unsigned)__builtin_ctzll(bits); }
    static inline unsigned ec_count(unsigned long long bits) { return (unsigned)__builtin_popcountll(bits); }
    """
    unsigned ec_lowest(uint64_t bits)
    unsigned ec_count(uint64_t bits)


LONG_GAP = 255
"""A gap byte that means: 255 zeros, and no value after them."""

cdef uint8_t LONG = LONG_GAP


ctypedef float value_of(const uint8_t *values, size_t index) noexcept nogil


cdef inline float single(const uint8_t *values, size_t index) noexcept nogil:
    """A float32; wherever it lies."""
    cdef float value
    memcpy(&value, values + 4 * index, 4)
    return value


cdef inline float half(const uint8_t *values, size_t index) noexcept nogil:
    """A float16 as float32, of which each is one, NaN with its bits."""
    cdef uint16_t bits
    cdef uint32_t wide
    cdef float value
    memcpy(&bits, values + 2 * index, 2)
    if bits & 0x7C00 == 0:  # zero or subnormal: a multiple of 2^-24
        value = <float>(bits & 0x3FF) * <float>5.9604644775390625e-8
        return -value if bits & 0x8000 else value
    wide = (<uint32_t>(bits & 0x7FFF) << 13) + (<uint32_t>112 << 23)
    if bits & 0x7C00 == 0x7C00:  # infinity or NaN
        wide += <uint32_t>112 << 23
    wide |= <uint32_t>(bits & 0x8000) << 16
    memcpy(&value, &wide, 4)
    return value


cdef inline uint64_t bits_of(const uint8_t *mask, size_t size, size_t at) noexcept nogil:
    """Eight bytes of a mask, or those that it has left, the first the lowest."""
    cdef uint64_t bits = 0
    cdef size_t i
    for i in range(min(<size_t>8, size - at)):
        bits |= <uint64_t>mask[at + i] << (8 * i)
    return bits


cdef inline void place_by_bits(const uint8_t *mask, size_t size, const uint8_t *values, float *out,
                               value_of value) noexcept nogil:
    cdef size_t at, index = 0
    cdef uint64_t bits
    for at in range(0, size, 8):
        bits = bits_of(mask, size, at)
        while bits:
            out[8 * at + ec_lowest(bits)] = value(values, index)
            index += 1
            bits &= bits - 1


cdef inline void place_by_gaps(const uint8_t *gaps, size_t size, const uint8_t *values, float *out,
                               value_of value) noexcept nogil:
    cdef size_t i, place = 0, index = 0
    for i in range(size):
        place += gaps[i]
        if gaps[i] != LONG:
            out[place] = value(values, index)
            place += 1
            index += 1


def put_by_bitmask(mask, values, out):
    """Put values at the places that a bitmask tells, if there are as many as places.

    Args:
        mask: uint8, a bit for each place, the lowest first; those beyond `out` are zero.
        values: float32 or float16, little-endian, in the order of their places.
        out: zeros, float32.

    Returns:
        How many places there are. If that is not the number of values, nothing was put.
    """
    cdef const uint8_t *bits = <const uint8_t *>values_of(mask)
    cdef const uint8_t *stored = <const uint8_t *>values_of(values)
    cdef float *target = <float *>values_of(out)
    cdef size_t size = len(mask), count = len(values), places = 0, at
    cdef bint halves = values.itemsize == 2
    assert size <= (<size_t>len(out) + 31) // 32 * 4
    with nogil:
        for at in range(0, size, 8):
            places += ec_count(bits_of(bits, size, at))
        if places == count:
            if halves:
                place_by_bits(bits, size, stored, target, half)
            else:
                place_by_bits(bits, size, stored, target, single)
    return places


def put_by_gaps(gaps, values, out):
    """Put values behind as many zeros as the gaps tell, if there are as many as places, and all lie within.

    Args:
        gaps: uint8: zeros before a value, after a `LONG_GAP` for every 255 of them.
        values, out: as above.

    Returns:
        How many places there are, and where the last one ends. If that is not the number of values, or beyond `out`,
        nothing was put.
    """
    cdef const uint8_t *steps = <const uint8_t *>values_of(gaps)
    cdef const uint8_t *stored = <const uint8_t *>values_of(values)
    cdef float *target = <float *>values_of(out)
    cdef size_t size = len(gaps), count = len(values), room = len(out), places = 0, i
    cdef uint64_t end = 0
    cdef bint halves = values.itemsize == 2
    with nogil:
        for i in range(size):
            end += steps[i] + <unsigned>(steps[i] != LONG)
            places += steps[i] != LONG
        if places == count and end <= room:
            if halves:
                place_by_gaps(steps, size, stored, target, half)
            else:
                place_by_gaps(steps, size, stored, target, single)
    return places, end

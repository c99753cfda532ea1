"""Values whose zeros were left out, put back at their places: without the interpreter.

Every byte that tells a place is read once, since others may change a mapped file meanwhile.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from edgecnn.format.arrays cimport values_of
from edgecnn.format.bits cimport ec_count, ec_lowest

LONG_GAP = 255
"""A gap byte that means: 255 zeros, and no value after them."""

cdef uint8_t LONG = LONG_GAP

cdef enum outcome:
    PUT, FEWER_VALUES, BEYOND


ctypedef float value_of(const uint8_t *values, size_t index) noexcept nogil


cdef inline float single(const uint8_t *values, size_t index) noexcept nogil:
    """A float32, wherever it lies."""
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


cdef inline outcome place_by_bits(const uint8_t *mask, size_t size, const uint8_t *values, size_t count, float *out,
                                  size_t room, size_t *put, value_of value) noexcept nogil:
    cdef size_t at, index = 0
    cdef uint64_t bits
    for at in range(0, size, 8):
        bits = bits_of(mask, size, at)
        if count - index < 64 and ec_count(bits) > count - index:
            return FEWER_VALUES
        if bits and room - 8 * at < 64 and bits >> (room - 8 * at):
            return BEYOND
        while bits:
            out[8 * at + ec_lowest(bits)] = value(values, index)
            index += 1
            bits &= bits - 1
    put[0] = index
    return PUT


cdef inline outcome place_by_gaps(const uint8_t *gaps, size_t size, const uint8_t *values, size_t count, float *out,
                                  size_t room, size_t *put, value_of value) noexcept nogil:
    cdef size_t i, index = 0
    cdef uint64_t place = 0
    cdef uint8_t gap
    for i in range(size):
        gap = gaps[i]
        place += gap
        if gap != LONG:
            if place >= room:
                return BEYOND
            if index == count:
                return FEWER_VALUES
            out[place] = value(values, index)
            place += 1
            index += 1
    put[0] = index
    return PUT if place <= room else BEYOND


cdef put(places, values, out, bint by_gaps):
    cdef const uint8_t *told = <const uint8_t *>values_of(places)
    cdef const uint8_t *stored = <const uint8_t *>values_of(values)
    cdef float *target = <float *>values_of(out)
    cdef size_t size = len(places), count = len(values), room = len(out), done = 0
    cdef bint halves = values.itemsize == 2
    cdef outcome found
    with nogil:
        if by_gaps and halves:
            found = place_by_gaps(told, size, stored, count, target, room, &done, half)
        elif by_gaps:
            found = place_by_gaps(told, size, stored, count, target, room, &done, single)
        elif halves:
            found = place_by_bits(told, size, stored, count, target, room, &done, half)
        else:
            found = place_by_bits(told, size, stored, count, target, room, &done, single)
    if found == BEYOND:
        raise ValueError(f"there are places beyond the last of {room}")
    if found == FEWER_VALUES:
        raise ValueError(f"there are {count} values for more places")
    if done != count:
        raise ValueError(f"there are {count} values for {done} places")


def put_by_bitmask(mask, values, out):
    """Put values at the places that a bitmask tells.

    Args:
        mask: uint8, a bit for each place, the lowest first; at most eight bytes for each 64 places begun.
        values: float32 or float16 of this machine, in the order of their places.
        out: zeros, float32.

    Raises:
        ValueError: there are more or fewer places than values, or some beyond `out`. Some values may have been put.
    """
    if (len(mask) + 7) // 8 > (len(out) + 63) // 64:
        raise ValueError(f"a mask of {len(mask)} bytes for {len(out)} places")
    put(mask, values, out, False)


def put_by_gaps(gaps, values, out):
    """Put values behind as many zeros as the gaps tell.

    Args:
        gaps: uint8: zeros before a value, after a `LONG_GAP` for every 255 of them.
        values, out: as above.

    Raises:
        ValueError: as above.
    """
    put(gaps, values, out, True)

"""Checksums of files: CRC-32, without the interpreter."""

import mmap

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t


cdef extern from "crc32.h" nogil:
    ctypedef uint32_t ec_crc32_function(uint32_t crc, const unsigned char *bytes, size_t size) noexcept
    void ec_crc32_make_tables()
    ec_crc32_function *ec_crc32_fastest()
    uint32_t ec_crc32_portable(uint32_t crc, const unsigned char *bytes, size_t size) noexcept
    uint32_t ec_crc32_by_chunks(ec_crc32_function *function, const unsigned char *bytes, size_t size, size_t chunk,
                                size_t page) noexcept


CHUNK = 2**22
"""Bytes of a mapped file that are read before they are let go."""

cdef ec_crc32_function *fastest = ec_crc32_fastest()
ec_crc32_make_tables()


def checksum_of(data, portable=False):
    """CRC-32 of bytes, as zlib has it. Of a mapped file no more than a chunk stays in memory.

    Args:
        data: bytes, or a memoryview of what is contiguous.
        portable: whether to do without the CPU's own instructions for this.
    """
    cdef Py_buffer view
    cdef ec_crc32_function *function = ec_crc32_portable if portable else fastest
    cdef size_t page = mmap.PAGESIZE
    cdef size_t chunk = CHUNK if isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap) else 0
    cdef uint32_t value
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = ec_crc32_by_chunks(function, <const unsigned char *>view.buf, view.len, chunk, page)
    finally:
        PyBuffer_Release(&view)
    return value

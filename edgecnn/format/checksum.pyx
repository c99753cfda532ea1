"""Checksums of files: CRC-32, without the interpreter."""

import mmap
import os

from edgecnn.format.source import MappedFile

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free


cdef extern from "Python.h" nogil:
    ctypedef void *PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    unsigned long PyThread_start_new_thread(void (*)(void *) noexcept nogil, void *)

# PYTHREAD_INVALID_THREAD_ID, which the stable interface lacks.
cdef unsigned long INVALID_THREAD = <unsigned long>-1


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


cdef int forks = 0               # that have led to this process


def _after_fork():
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


ctypedef struct summing:
    ec_crc32_function *function
    const unsigned char *bytes
    size_t size, chunk, page
    uint32_t value
    PyThread_type_lock done      # held until `value` is there


cdef void add_up(void *work) noexcept nogil:
    cdef summing *sum = <summing *>work
    sum.value = ec_crc32_by_chunks(sum.function, sum.bytes, sum.size, sum.chunk, sum.page)


cdef void add_up_beside(void *work) noexcept nogil:
    add_up(work)
    PyThread_release_lock((<summing *>work).done)


cdef class Checksum:
    """CRC-32 of bytes, as zlib has it. Of a mapped file no more than a chunk stays in memory.

    Args:
        data: bytes, or a memoryview of what is contiguous.
        beside: whether a thread of its own adds them up, while the caller goes on. It knows nothing of the interpreter:
            one of Python's would have to wait for the caller to pause, which takes as long as reading a small network.
        portable: whether to do without the CPU's own instructions for this.
    """

    cdef Py_buffer view
    cdef summing *sum
    cdef bint held, started
    cdef int forks               # when its thread was started

    def __cinit__(self, data, bint beside=False, bint portable=False):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.held = True
        self.sum = <summing *>calloc(1, sizeof(summing))
        if self.sum == NULL:
            raise MemoryError("no memory for a checksum")
        self.sum.function = ec_crc32_portable if portable else fastest
        self.sum.bytes, self.sum.size = <const unsigned char *>self.view.buf, <size_t>self.view.len
        self.sum.page = mmap.PAGESIZE
        self.sum.chunk = CHUNK if isinstance(data, memoryview) and isinstance(data.obj, MappedFile) else 0
        self.sum.done = PyThread_allocate_lock() if beside else NULL
        if self.sum.done != NULL:
            PyThread_acquire_lock(self.sum.done, 1)
            self.forks = forks
            self.started = PyThread_start_new_thread(add_up_beside, self.sum) != INVALID_THREAD
        if not self.started:
            with nogil:
                add_up(self.sum)

    def __dealloc__(self):
        if self.sum != NULL:
            self.wait()
            if self.sum.done != NULL:
                PyThread_free_lock(self.sum.done)
            free(self.sum)
        if self.held:
            PyBuffer_Release(&self.view)

    cdef void wait(self) noexcept:
        if self.started and self.forks != forks:
            # A child of the process: the thread was left behind.
            self.started = False
            add_up(self.sum)
        if self.started:
            with nogil:
                PyThread_acquire_lock(self.sum.done, 1)
                PyThread_release_lock(self.sum.done)

    @property
    def finished(self):
        """Whether the sum is known."""
        if not self.started or self.forks != forks:
            return not self.started
        if PyThread_acquire_lock(self.sum.done, 0) == 0:
            return False
        PyThread_release_lock(self.sum.done)
        return True

    @property
    def value(self):
        """The sum, as soon as it is known."""
        self.wait()
        return self.sum.value


def checksum_of(data, portable=False):
    """The value of a `Checksum`."""
    return Checksum(data, portable=portable).value

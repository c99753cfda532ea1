"""Packed weights get their values here: without the interpreter, and by several threads at once.

Preparing a step makes the arrays that it points to, and a `Filling` for each; the plan has all of them filled before
it ends.
"""

import threading

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from edgecnn.runtime.kernels.panels cimport as_panels, packed_panel

from edgecnn.errors import Error

cdef extern from * nogil:
    """
    #include <stdatomic.h>
    #include <stddef.h>
    typedef atomic_size_t ec_counter;
    static inline size_t ec_next(ec_counter *counter) {
        return atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
    }
    static inline void ec_reset(ec_counter *counter) { atomic_init(counter, 0); }
    """
    ctypedef struct ec_counter:
        pass
    size_t ec_next(ec_counter *counter)
    void ec_reset(ec_counter *counter)


cdef class Filling:
    """Fills one packed array. A subclass holds pointers to what it reads and writes, and keeps the arrays too."""

    cdef void fill(self, size_t part) noexcept nogil:
        pass


cdef class PanelFilling(Filling):
    """Copies a matrix (K, filters) and its biases into panels: see `packing.pack_panels`."""

    cdef const float *source
    cdef const float *bias
    cdef packed_panel *panels
    cdef size_t depth, filters, lanes

    def __cinit__(self, weights, bias, packed, panels, size_t lanes):
        if not weights.flags.c_contiguous or not (bias is None or bias.flags.c_contiguous):
            raise Error("weights to pack must be contiguous")
        self.kept = (weights, bias, packed)
        self.source = <const float *><uintptr_t>weights.ctypes.data
        self.bias = NULL if bias is None else <const float *><uintptr_t>bias.ctypes.data
        self.panels, self.parts = as_panels(packed, panels), len(panels)
        self.depth, self.filters = weights.shape
        self.lanes = lanes

    def __dealloc__(self):
        free(self.panels)

    cdef void fill(self, size_t part) noexcept nogil:
        cdef const packed_panel *panel = self.panels + part
        cdef size_t k, width = panel.vectors * self.lanes
        if self.bias != NULL:
            memcpy(<float *>panel.start, self.bias + panel.column, panel.columns * sizeof(float))
        for k in range(self.depth):
            memcpy(<float *>panel.weights + k * width, self.source + k * self.filters + panel.column,
                   panel.columns * sizeof(float))


ctypedef struct portion:
    void *filling
    size_t part


cdef class Team:
    """All parts of fillings, which threads take one by one."""

    cdef list fillings
    cdef portion *portions
    cdef size_t count
    cdef ec_counter next

    def __cinit__(self, fillings):
        cdef Filling filling
        cdef size_t part
        self.fillings = fillings
        for filling in fillings:
            self.count += filling.parts
        self.portions = <portion *>malloc((self.count + 1) * sizeof(portion))
        if self.portions == NULL:
            raise MemoryError("no memory for packing weights")
        self.count = 0
        for filling in fillings:
            for part in range(filling.parts):
                self.portions[self.count].filling, self.portions[self.count].part = <void *>filling, part
                self.count += 1
        ec_reset(&self.next)

    def __dealloc__(self):
        free(self.portions)

    def work(self):
        """Fill until nothing is left."""
        cdef size_t i
        with nogil:
            while True:
                i = ec_next(&self.next)
                if i >= self.count:
                    break
                (<Filling>self.portions[i].filling).fill(self.portions[i].part)


def fill_all(fillings, int threads):
    """Fill packed arrays.

    Args:
        fillings: a list of `Filling`s.
        threads: how many may work, this one included.
    """
    team = Team(fillings)
    started = []
    try:
        for _ in range(threads - 1):
            helper = threading.Thread(target=team.work, daemon=True)
            helper.start()
            started.append(helper)
    except RuntimeError:
        pass  # no more threads are to be had: those that there are do the work
    team.work()
    for helper in started:
        helper.join()

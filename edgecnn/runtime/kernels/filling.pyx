"""Packed weights get their values here: without the interpreter, and by several threads at once.

Preparing a step makes the arrays that it points to, and a `Filling` for each; the plan has all of them filled before
it ends.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.kernels.panels cimport as_panels, packed_panel
from edgecnn.runtime.step cimport ec_look, ec_watch
from edgecnn.runtime.workers cimport give_back, hire, is_interruptible, share_out

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
        self.source = <const float *>values_of(weights)
        self.bias = NULL if bias is None else <const float *>values_of(bias)
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


ctypedef struct queue:
    portion *portions
    size_t count
    ec_counter next
    ec_watch *watch     # NULL: nobody can end the work


cdef void fill_next(void *work, int thread, int threads) noexcept nogil:
    # Threads take portions one by one, until nothing is left: whoever is late finds less.
    cdef queue *waiting = <queue *>work
    cdef size_t i
    while True:
        i = ec_next(&waiting.next)
        if i >= waiting.count or waiting.watch != NULL and ec_look(waiting.watch, thread == 0):
            break
        (<Filling>waiting.portions[i].filling).fill(waiting.portions[i].part)


def fill_all(fillings, int threads):
    """Fill packed arrays. What the handler of a signal raises meanwhile ends it early.

    Args:
        fillings: a list of `Filling`s.
        threads: how many may work, this one included.
    """
    cdef Filling filling
    cdef size_t part, count = 0
    cdef queue waiting
    cdef ec_watch watch
    cdef list hired
    for filling in fillings:
        count += filling.parts
    waiting.watch = &watch if is_interruptible() else NULL
    waiting.portions = <portion *>malloc((count + 1) * sizeof(portion))
    if waiting.portions == NULL:
        raise MemoryError("no memory for packing weights")
    waiting.count = 0
    for filling in fillings:
        for part in range(filling.parts):
            waiting.portions[waiting.count].filling, waiting.portions[waiting.count].part = <void *>filling, part
            waiting.count += 1
    ec_reset(&waiting.next)
    try:
        hired = hire(min(threads - 1, <int>min(count, 256) - 1))
        try:
            share_out(hired, fill_next, &waiting, waiting.watch)
        finally:
            give_back(hired)
    finally:
        free(waiting.portions)

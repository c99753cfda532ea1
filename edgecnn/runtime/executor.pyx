"""Walks a plan's steps: all threads of a call at once, no Python object inside."""

import math

import numpy as np

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from edgecnn.runtime.step cimport (
    EC_APART,
    ec_arrival,
    ec_barrier,
    ec_context,
    ec_meet,
    ec_now,
    ec_step,
    ec_stopped,
    ec_walk,
    ec_watch,
)
from edgecnn.runtime.workers cimport give_back, hire, is_interruptible, share_out


cdef extern from "pages.h" nogil:
    size_t EC_LARGE_PAGE
    void ec_ask_for_large_pages(void *memory, size_t size)


cdef object ARRAY = np.ndarray
cdef object EMPTY = np.empty
cdef object FLOAT32 = np.dtype(np.float32)

cdef size_t ALIGNMENT = 64
# Bytes: the first touches of so many small pages, 256, take ten times as long as that of one large page.
cdef size_t WORTH_A_LARGE_PAGE = 2**20
# Of an arena or of scratch: what is added to it must not exceed the numbers of an address.
cdef size_t MOST_BYTES = (<size_t>-1) // 4
# Of a thread's share of a step: enough to answer within a second on the slowest CPU.
cdef int MOST_PIECES = 4096


cdef class Step:
    pass


cdef ec_view as_view(view) except *:
    """The C form of a `memory.View`."""
    cdef ec_view result
    result.buffer = view.buffer
    result.offset = view.offset
    result.height, result.width, result.channels = view.height, view.width, view.channels
    result.row, result.pixel = view.row, view.pixel
    return result


cdef class Workspace:
    """The memory that one image needs while it is computed: the arena and one thread's scratch. A thread that only
    shares images with others needs no arena."""

    cdef void *block
    cdef bint whole
    cdef float *arena
    cdef unsigned char *scratch

    def __cinit__(self, bint whole, size_t arena_bytes, size_t scratch_bytes):
        if not whole:
            arena_bytes = 0
        if arena_bytes > MOST_BYTES or scratch_bytes > MOST_BYTES:
            raise MemoryError(f"no memory for a workspace of {arena_bytes} and {scratch_bytes} bytes")
        self.whole = whole
        # A quarter page between arena and scratch keeps their first lines out of the same cache set.
        cdef size_t total = arena_bytes + scratch_bytes + 1024 + ALIGNMENT
        cdef size_t alignment = ALIGNMENT
        if total >= WORTH_A_LARGE_PAGE:
            alignment = EC_LARGE_PAGE
            total = (total + EC_LARGE_PAGE - 1) // EC_LARGE_PAGE * EC_LARGE_PAGE
        self.block = malloc(total + alignment)
        if self.block == NULL:
            raise MemoryError(f"no memory for a workspace of {total} bytes")
        self.arena = <float *>((<uintptr_t>self.block + alignment - 1) // alignment * alignment)
        ec_ask_for_large_pages(self.arena, total)
        self.scratch = <unsigned char *>(
            (<uintptr_t>self.arena + arena_bytes + 1024 + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        )
        # NaN, in case a kernel reads what none has written.
        memset(self.arena, 0xFF, total)

    def __dealloc__(self):
        free(self.block)


ctypedef struct call:
    # What the threads of a call share.
    const ec_step *steps
    size_t count
    int buffers
    const ec_context *contexts
    float **base
    const size_t *stride
    size_t images
    size_t alone       # images that each thread computes by itself
    ec_barrier barrier
    double *seconds    # for the time of each step, or NULL


cdef void compute_share(void *work, int thread, int threads) noexcept nogil:
    cdef call *c = <call *>work
    cdef size_t first = thread * c.alone
    cdef ec_context shared = c.contexts[thread]
    cdef double done = 0.0
    if threads > 1 and c.alone > 0:
        compute_images(c, c.contexts + thread, first, first + c.alone, 0, 1, NULL, NULL, &done)
        if threads * c.alone < c.images:
            ec_meet(&c.barrier, thread, threads)  # the shared images use thread 0's arena
    shared.buffers += c.buffers
    compute_images(c, &shared, threads * c.alone, c.images, thread, threads, &c.barrier, c.seconds, &done)


cdef void compute_images(const call *c, const ec_context *context, size_t first, size_t last, int thread, int threads,
                         ec_barrier *barrier, double *seconds, double *done) noexcept nogil:
    cdef size_t image
    cdef int i
    for image in range(first, last):
        for i in range(1, c.buffers):
            context.buffers[i] = c.base[i] + image * c.stride[i]
        ec_walk(c.steps, c.count, context, thread, threads, image + 1 < last, barrier, seconds, done)
        if threads == 1 and ec_stopped(context):
            break


def clock_seconds():
    """What a look at the clock takes: it is part of every time that is taken."""
    cdef double least = 1.0, before, after
    cdef int _look
    for _look in range(1000):
        before = ec_now()
        after = ec_now()
        least = min(least, after - before)
    return least


cdef class Executor:
    """A plan ready to run.

    Workspaces are kept and used again; a call takes as many as it needs, so that calls may run at once.

    Args:
        steps: Step objects in order.
        arena: bytes of arena.
        inputs, outputs: shapes of one image of each input and output.
        widest: floats of zeros that steps may read.
    """

    cdef tuple kept
    cdef list idle, idle_scratch
    cdef ec_step *steps
    cdef size_t count
    cdef readonly size_t arena_bytes, scratch_bytes
    cdef size_t *strides      # floats of one image in each buffer
    cdef int buffers, inputs
    cdef tuple shape, out_shape    # of one image, and of one's output; of the first input and output
    cdef bint shared          # whether any step is worth sharing
    cdef double portions      # of all steps together
    cdef bint backwards       # the next call; calls at once may have the same
    cdef float *zeros

    def __cinit__(self, steps, size_t arena, inputs, outputs, size_t widest):
        cdef Step step
        cdef size_t i
        self.kept = tuple(steps)
        self.count = len(self.kept)
        self.idle, self.idle_scratch = [], []
        sizes = (0, *map(math.prod, inputs), *map(math.prod, outputs))
        self.shape, self.out_shape = tuple(inputs[0]), (1, *outputs[0])
        self.buffers, self.inputs = len(sizes), len(inputs)
        self.strides = <size_t *>malloc(self.buffers * sizeof(size_t))
        self.arena_bytes = arena
        self.scratch_bytes = max([s.scratch for s in self.kept], default=0)
        self.zeros = <float *>malloc((widest + 16) * sizeof(float))
        self.steps = <ec_step *>malloc((self.count + 1) * sizeof(ec_step))
        if self.zeros == NULL or self.steps == NULL or self.strides == NULL:
            raise MemoryError("no memory for a plan")
        for i in range(<size_t>self.buffers):
            self.strides[i] = sizes[i]
        memset(self.zeros, 0, (widest + 16) * sizeof(float))
        for i in range(self.count):
            step = self.kept[i]
            self.steps[i] = step.step
            self.steps[i].barrier = 1
            self.steps[i].portion = step.portion
            self.steps[i].pieces = 1
            if not step.step.asks and step.step.finish == NULL and step.portion > 1.0:
                self.steps[i].pieces = <int>min(step.portion + 1.0, <double>MOST_PIECES)
            self.portions += step.portion
            self.shared |= not step.step.serial
        for i in range(1, self.count):
            # Thread 0 ends the one and does the other: nobody waits for anybody.
            if self.steps[i].serial and (self.steps[i - 1].serial or self.steps[i - 1].finish != NULL):
                self.steps[i - 1].barrier = 0

    def __dealloc__(self):
        free(self.zeros)
        free(self.steps)
        free(self.strides)

    def answer(self, x, int threads):
        """What a network of one input and one output makes of an array; None where that is no contiguous float32 array
        of images of its size. The usual case, worth a way of its own where a whole network takes microseconds.

        Args:
            threads: as for `run`.
        """
        cdef Py_buffer views[2]
        cdef int held = 0, i
        cdef size_t images
        cdef bint fits
        if type(x) is not ARRAY or x.dtype is not FLOAT32 or self.buffers != 3:
            return None
        try:
            PyObject_GetBuffer(x, &views[0], PyBUF_STRIDES)
            held = 1
            fits = views[0].ndim == 1 + len(self.shape) and PyBuffer_IsContiguous(&views[0], b"C")
            if fits:
                for i in range(1, views[0].ndim):
                    fits &= views[0].shape[i] == <Py_ssize_t>self.shape[i - 1]
            if not fits:
                return None
            images = views[0].shape[0]
            out = EMPTY(self.out_shape if images == 1 else (images, *self.out_shape[1:]), FLOAT32)
            PyObject_GetBuffer(out, &views[1], PyBUF_WRITABLE)
            held = 2
            self._run(views, images, threads, NULL)
            return out
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])

    def run(self, tuple arrays, size_t images, int threads):
        """Compute images. What the handler of a signal raises meanwhile ends it early.

        Args:
            arrays: each input, then each output: C-contiguous float32 of `images` images, outputs writable.
            images: how many.
            threads: how many may work at once, this one included.
        """
        self._run_arrays(arrays, images, threads, NULL)

    def time_steps(self, tuple arrays, int threads, seconds):
        """Compute one image, and write to an array of float64 the seconds that each step took, its barrier included."""
        cdef Py_buffer view
        PyObject_GetBuffer(seconds, &view, PyBUF_WRITABLE)
        try:
            if <size_t>view.len != self.count * sizeof(double):
                raise ValueError(f"the array for the times holds {view.len} bytes; wanted {self.count} of float64")
            self._run_arrays(arrays, 1, threads, <double *>view.buf)
        finally:
            PyBuffer_Release(&view)

    cdef _run_arrays(self, tuple arrays, size_t images, int threads, double *seconds):
        cdef int held = 0, i
        cdef Py_buffer *views = <Py_buffer *>malloc(self.buffers * sizeof(Py_buffer))
        if views == NULL:
            raise MemoryError("no memory for a call")
        try:
            for i in range(self.buffers - 1):
                PyObject_GetBuffer(arrays[i], &views[i], PyBUF_SIMPLE if i < self.inputs else PyBUF_WRITABLE)
                held = i + 1
                if <size_t>views[i].len < images * self.strides[i + 1] * sizeof(float):
                    raise ValueError(f"array {i} holds {views[i].len} bytes; wanted {images * self.strides[i + 1] * 4}")
            self._run(views, images, threads, seconds)
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
            free(views)

    cdef _run(self, const Py_buffer *views, size_t images, int threads, double *seconds):
        cdef list taken = [], hired = []
        cdef Workspace workspace
        cdef size_t alone
        cdef float **base
        cdef ec_context *contexts
        cdef void *arrivals
        cdef int i, n = self.buffers
        cdef call work
        cdef ec_watch watch
        cdef bint watched
        if images == 0:
            return
        if threads < 1 or (images < <size_t>threads and not self.shared):
            threads = 1
        if threads > 1:
            hired = hire(threads - 1)
            threads = 1 + len(hired)
        contexts = <ec_context *>malloc(threads * sizeof(ec_context))
        base = <float **>malloc(n * (2 * threads + 1) * sizeof(float *))
        arrivals = calloc(threads + 1, sizeof(ec_arrival))
        try:
            if contexts == NULL or base == NULL or arrivals == NULL:
                raise MemoryError("no memory for a call")
            # Whole images for each thread first: they never wait for each other. The rest is shared image by image.
            alone = images // threads if threads > 1 else 0
            watched = images * self.portions >= 1.0 and is_interruptible()
            for i in range(threads):
                taken.append(self._take(i == 0 or alone > 0))
            base[0] = NULL
            for i in range(1, n):
                base[i] = <float *>views[i - 1].buf
            for i in range(threads):
                workspace = taken[i]
                contexts[i].scratch = workspace.scratch
                contexts[i].zeros = self.zeros
                contexts[i].team = contexts
                contexts[i].backwards = self.backwards
                contexts[i].watch = &watch if watched else NULL
                contexts[i].asks = i == 0
                # Two sets of buffers a thread: its own images', and (set 0 of all) the shared images'.
                contexts[i].buffers = base + n * (1 + 2 * i)
                contexts[i].buffers[0] = workspace.arena
                base[n * (2 + 2 * i)] = (<Workspace>taken[0]).arena
            memset(&work, 0, sizeof(work))
            work.steps, work.count, work.buffers = self.steps, self.count, n
            work.contexts, work.base, work.stride, work.images = contexts, base, self.strides, images
            work.alone = alone
            work.seconds = seconds
            work.barrier.arrivals = <ec_arrival *>((<uintptr_t>arrivals + EC_APART - 1) // EC_APART * EC_APART)
            self.backwards = not self.backwards
            share_out(hired, compute_share, &work, &watch if watched else NULL)
        finally:
            free(contexts)
            free(base)
            free(arrivals)
            for workspace in taken:
                (self.idle if workspace.whole else self.idle_scratch).append(workspace)
            give_back(hired)

    cdef Workspace _take(self, bint whole):
        try:  # not a look first: without the interpreter's lock another thread may be faster
            return (self.idle if whole else self.idle_scratch).pop()
        except IndexError:
            return Workspace(whole, self.arena_bytes, self.scratch_bytes)

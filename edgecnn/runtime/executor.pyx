"""Walks a plan's steps: one parallel region a call, no Python object inside."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport parallel
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from edgecnn.runtime.step cimport ec_barrier, ec_context, ec_has_openmp, ec_meet, ec_step, ec_team, ec_thread, ec_walk

HAS_OPENMP = bool(ec_has_openmp())

parallel_regions = 0
"""How many regions this process has opened: after the first, a forked child must not open any (libgomp would hang)."""

cdef size_t ALIGNMENT = 64


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
    """The memory that one image needs while it is computed: the arena and one thread's scratch."""

    cdef void *block
    cdef float *arena
    cdef unsigned char *scratch

    def __cinit__(self, size_t arena_bytes, size_t scratch_bytes):
        # A quarter page between arena and scratch keeps their first lines out of the same cache set.
        cdef size_t total = arena_bytes + scratch_bytes + 1024 + 2 * ALIGNMENT
        self.block = malloc(total)
        if self.block == NULL:
            raise MemoryError(f"no memory for a workspace of {total} bytes")
        self.arena = <float *>((<uintptr_t>self.block + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)
        self.scratch = <unsigned char *>(
            (<uintptr_t>self.arena + arena_bytes + 1024 + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        )
        # NaN, in case a kernel reads what none has written.
        memset(self.block, 0xFF, total)

    def __dealloc__(self):
        free(self.block)


cdef class Executor:
    """A plan ready to run.

    Workspaces are kept and used again; a call takes as many as it needs, so that calls may run at once.

    Args:
        steps: Step objects in order.
        arena: bytes of arena.
        inputs, outputs: floats of one image of each input and output.
        widest: floats of zeros that steps may read.
    """

    cdef tuple kept
    cdef list idle
    cdef ec_step *steps
    cdef size_t count
    cdef readonly size_t arena_bytes, scratch_bytes
    cdef tuple strides
    cdef int buffers, inputs
    cdef bint shared          # whether any step is worth sharing
    cdef float *zeros

    def __cinit__(self, steps, size_t arena, inputs, outputs, size_t widest):
        cdef Step step
        cdef size_t i
        self.kept = tuple(steps)
        self.count = len(self.kept)
        self.idle = []
        self.strides = (0, *inputs, *outputs)
        self.buffers, self.inputs = len(self.strides), len(inputs)
        self.arena_bytes = arena
        self.scratch_bytes = max([s.scratch for s in self.kept], default=0)
        self.zeros = <float *>malloc((widest + 16) * sizeof(float))
        self.steps = <ec_step *>malloc((self.count + 1) * sizeof(ec_step))
        if self.zeros == NULL or self.steps == NULL:
            raise MemoryError("no memory for a plan")
        memset(self.zeros, 0, (widest + 16) * sizeof(float))
        for i in range(self.count):
            step = self.kept[i]
            self.steps[i] = step.step
            self.steps[i].barrier = 1
            self.shared |= not step.step.serial
        for i in range(1, self.count):
            # Thread 0 does both: nobody waits for anybody.
            if self.steps[i].serial and self.steps[i - 1].serial:
                self.steps[i - 1].barrier = 0

    def __dealloc__(self):
        free(self.zeros)
        free(self.steps)

    def run(self, tuple arrays, size_t images, int threads):
        """Compute images.

        Args:
            arrays: each input, then each output: C-contiguous float32 of `images` images, outputs writable.
            images: how many.
            threads: how many may work at once, this one included.
        """
        self._run(arrays, images, threads, NULL)

    def time_steps(self, tuple arrays, int threads):
        """Compute one image and give the seconds that each step took, its barrier included."""
        cdef double *seconds = <double *>malloc((self.count + 1) * sizeof(double))
        if seconds == NULL:
            raise MemoryError("no memory for the times")
        try:
            self._run(arrays, 1, threads, seconds)
            return [seconds[i] for i in range(self.count)]
        finally:
            free(seconds)

    cdef _run(self, tuple arrays, size_t images, int threads, double *seconds):
        global parallel_regions
        cdef Py_buffer *views
        cdef int held = 0
        cdef list taken = []
        cdef Workspace workspace
        cdef float **base
        cdef size_t *stride
        cdef ec_context *contexts
        cdef int i, n = self.buffers
        cdef size_t alone
        cdef ec_barrier barrier
        if images == 0:
            return
        if not HAS_OPENMP or threads < 1 or (images < <size_t>threads and not self.shared):
            threads = 1
        # Whole images for each thread first: they never wait for each other. The rest is shared image by image.
        alone = images // threads if threads > 1 else 0
        for _ in range(threads):
            taken.append(self._take())
        views = <Py_buffer *>malloc(n * sizeof(Py_buffer))
        contexts = <ec_context *>malloc(threads * sizeof(ec_context))
        base = <float **>malloc(n * (2 * threads + 1) * sizeof(float *))
        stride = <size_t *>malloc(n * sizeof(size_t))
        try:
            if contexts == NULL or base == NULL or stride == NULL or views == NULL:
                raise MemoryError("no memory for a call")
            base[0] = NULL
            stride[0] = 0
            for i in range(1, n):
                stride[i] = self.strides[i]
                PyObject_GetBuffer(arrays[i - 1], &views[i], PyBUF_SIMPLE if i <= self.inputs else PyBUF_WRITABLE)
                held = i
                base[i] = <float *>views[i].buf
                if <size_t>views[i].len < images * stride[i] * sizeof(float):
                    raise ValueError(f"array {i - 1} holds {views[i].len} bytes; wanted {images * stride[i] * 4}")
            for i in range(threads):
                workspace = taken[i]
                contexts[i].scratch = workspace.scratch
                contexts[i].zeros = self.zeros
                # Two sets of buffers a thread: its own images', and (set 0 of all) the shared images'.
                contexts[i].buffers = base + n * (1 + 2 * i)
                contexts[i].buffers[0] = workspace.arena
                base[n * (2 + 2 * i)] = (<Workspace>taken[0]).arena
            memset(&barrier, 0, sizeof(barrier))
            if threads == 1:
                with nogil:
                    self._images(contexts, base, stride, 0, images, 0, 1, NULL, seconds)
            else:
                parallel_regions += 1
                with nogil, parallel(num_threads=threads):
                    self._team(contexts, base, stride, images, alone, &barrier, seconds)
        finally:
            for i in range(1, held + 1):
                PyBuffer_Release(&views[i])
            free(views)
            free(contexts)
            free(base)
            free(stride)
            self.idle.extend(taken)

    cdef void _team(self, const ec_context *contexts, float **base, const size_t *stride, size_t images,
                    size_t alone, ec_barrier *barrier, double *seconds) noexcept nogil:
        # Called by every thread of the region. The team may be smaller than asked for, so shares follow its real size.
        cdef int thread = ec_thread(), threads = ec_team()
        cdef size_t first = thread * alone
        cdef ec_context shared
        if threads > 1:
            self._images(contexts + thread, base, stride, first, first + alone, 0, 1, NULL, NULL)
            ec_meet(barrier, threads)  # the shared images use thread 0's arena
        else:
            alone = 0
        shared = contexts[thread]
        shared.buffers = contexts[thread].buffers + self.buffers
        self._images(&shared, base, stride, threads * alone, images, thread, threads, barrier, seconds)

    cdef void _images(self, const ec_context *context, float **base, const size_t *stride, size_t first, size_t last,
                      int thread, int threads, ec_barrier *barrier, double *seconds) noexcept nogil:
        cdef size_t image
        cdef int i
        for image in range(first, last):
            for i in range(1, self.buffers):
                context.buffers[i] = base[i] + image * stride[i]
            ec_walk(self.steps, self.count, context, thread, threads, barrier, seconds)

    def _take(self):
        try:
            return self.idle.pop()
        except IndexError:
            return Workspace(self.arena_bytes, self.scratch_bytes)

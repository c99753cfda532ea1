from edgecnn.runtime.step cimport ec_watch

ctypedef void (*ec_job)(void *, int thread, int threads) noexcept nogil

cdef list hire(int count)
cdef bint is_interruptible() except -1
cdef int share_out(list hired, ec_job job, void *work, ec_watch *watch) except -1
cdef void give_back(list hired) except *

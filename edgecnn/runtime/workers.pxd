ctypedef void (*ec_job)(void *, int thread, int threads) noexcept nogil

cdef list hire(int count)
cdef int share_out(list hired, ec_job job, void *work) except -1
cdef void give_back(list hired) except *

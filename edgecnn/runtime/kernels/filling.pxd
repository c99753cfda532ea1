cdef class Filling:
    cdef object kept            # the arrays behind the pointers
    cdef size_t parts           # that can be filled at the same time
    cdef void fill(self, size_t part) noexcept nogil

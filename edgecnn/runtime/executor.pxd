from edgecnn.runtime.step cimport ec_step, ec_view


cdef class Step:
    """A prepared node: the C step, and whatever must live as long as it."""

    cdef ec_step step
    cdef public str name         # of the node
    cdef public double portion   # its work, as a part of what may be done between two looks at signals
    cdef readonly str kernel     # what runs, for people: "gemm 6x64 avx512"
    cdef readonly Py_ssize_t scratch   # bytes of scratch that each thread needs
    cdef object keep
    cdef readonly tuple span     # of the window along the rows: (rows, stride, pad), where `step.rows` is there


cdef ec_view as_view(view) except *

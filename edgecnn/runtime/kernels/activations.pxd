from libc.math cimport INFINITY
from libc.stddef cimport size_t

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.microkernels cimport ec_activation, ec_table


cdef ec_activation as_activation(attributes, InstructionSet instruction_set) except *


cdef inline void apply_activation(const ec_activation *a, const ec_table *table, float *x, size_t n) noexcept nogil:
    """What an epilogue does, on values that a kernel without one has written."""
    if a.low > -INFINITY or a.high < INFINITY:
        table.clamp(x, n, a.low, a.high)
    if a.function != NULL:
        a.function(&x, 1, 0, n, a.parameters)

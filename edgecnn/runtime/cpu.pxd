from edgecnn.runtime.microkernels cimport ec_table


cdef class InstructionSet:
    cdef const ec_table *table
    cdef readonly str name
    cdef readonly str needs
    cdef readonly bint supported
    cdef readonly int lanes

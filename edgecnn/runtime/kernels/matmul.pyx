"""Products of two tensors, image by image. (Products with weights are convolution.pyx.)"""

import math

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


ctypedef struct matmul_arguments:
    ec_view x
    ec_view y
    ec_view out
    size_t matrices, rows, depth, columns
    const ec_table *table


cdef class MatmulStep(Step):
    cdef matmul_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) belong to this thread alone: each is a weighted sum of y's rows.
    cdef const matmul_arguments *a = <const matmul_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef const float *y = ec_at(context, &a.y)
    cdef float *out = ec_at(context, &a.out)
    cdef const float **sources = <const float **>context.scratch
    cdef size_t first, last, row, k
    ec_share(a.matrices * a.rows, thread, threads, &first, &last)
    for row in range(first, last):
        for k in range(a.depth):
            sources[k] = y + (row // a.rows * a.depth + k) * a.columns
        a.table.weigh(sources, x + row * a.depth, a.depth, out + row * a.columns, a.columns)


def prepare_matmul(placed):
    """Prepare a `matmul` node; its tensors are contiguous (see memory.py)."""
    cdef MatmulStep step = MatmulStep.__new__(MatmulStep)
    cdef matmul_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    a.x, a.y, a.out = as_view(placed.view("x")), as_view(placed.view("y")), as_view(placed.out)
    *outer, a.rows, a.columns = placed.out_shape
    a.matrices, a.depth = math.prod(outer), placed.shapes[0][-1]
    a.table = instruction_set.table
    step.scratch = 8 * a.depth
    step.step.run = run
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"product of tensors {instruction_set.name}"
    return step

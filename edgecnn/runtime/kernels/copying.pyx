"""What moves values and computes nothing: copies, concatenation, transposition, slices, padding."""

import math

import numpy as np

from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.operators import slice_range

# The lowest number that ptrdiff_t holds, of 32 bits or of 64.
cdef ptrdiff_t NOWHERE = -<ptrdiff_t>(<size_t>-1 >> 1) - 1

ctypedef struct copy_pair:
    ec_view x
    ec_view out              # the same height, width and channels


ctypedef struct copy_arguments:
    size_t count
    const copy_pair *pairs


ctypedef struct copy_run:
    size_t start, length     # in the output's last axis
    ptrdiff_t source, step   # floats from the line's first value, and from one value to the next
    bint fill                # the constant in place of values


ctypedef struct remap_arguments:
    ec_view x
    ec_view out
    size_t rank              # axes of the output before its last
    size_t sizes[8]
    const ptrdiff_t *offsets[8]   # for each index of an axis the floats to its values, or NOWHERE
    size_t lines
    size_t count
    const copy_run *runs
    float value


# Of a part that is copied: bytes, and units of work (see budget.py).
PART_BYTES, PART_WORK = 1024, 30
# Of an index of an axis but the last: its offset, and what that is computed from.
OFFSET_BYTES = 16


cdef class CopyStep(Step):
    cdef copy_arguments arguments
    cdef copy_pair *pairs

    def __dealloc__(self):
        free(self.pairs)


cdef class RemapStep(Step):
    cdef remap_arguments arguments
    cdef copy_run *runs

    def __dealloc__(self):
        free(self.runs)


cdef void run_copy(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) of every pair belong to this thread alone.
    cdef const copy_arguments *a = <const copy_arguments *>step.arguments
    cdef const copy_pair *p
    cdef const float *x
    cdef float *out
    cdef size_t i, first, last, pixel, row, column
    for i in range(a.count):
        p = a.pairs + i
        x = ec_at(context, &p.x)
        out = ec_at(context, &p.out)
        ec_share(p.x.height * p.x.width, thread, threads, &first, &last)
        for pixel in range(first, last):
            row = pixel // p.x.width
            column = pixel - row * p.x.width
            memcpy(out + row * p.out.row + column * p.out.pixel, x + row * p.x.row + column * p.x.pixel,
                   p.x.channels * sizeof(float))


cdef void run_remap(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Lines [first, last) of the output's last axis belong to this thread alone.
    cdef const remap_arguments *a = <const remap_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef const float *source
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef const copy_run *r
    cdef size_t first, last, line, rest, i, axis, row
    cdef ptrdiff_t offset, at
    cdef bint nowhere
    ec_share(a.lines, thread, threads, &first, &last)
    for line in range(first, last):
        rest = line
        offset = 0
        nowhere = False
        axis = a.rank
        while axis > 0:
            axis -= 1
            i = rest // a.sizes[axis]
            at = a.offsets[axis][rest - i * a.sizes[axis]]
            if at == NOWHERE:
                nowhere = True
            else:
                offset += at
            rest = i
        row = line // a.out.width
        to = out + row * a.out.row + (line - row * a.out.width) * a.out.pixel
        for i in range(a.count):
            r = a.runs + i
            if r.fill or nowhere:
                for axis in range(r.start, r.start + r.length):
                    to[axis] = a.value
            elif r.step == 1:
                memcpy(to + r.start, x + offset + r.source, r.length * sizeof(float))
            else:
                source = x + offset + r.source
                for axis in range(r.length):
                    to[r.start + axis] = source[<ptrdiff_t>axis * r.step]


cdef CopyStep copy_step(list pairs, placed):
    cdef CopyStep step = CopyStep.__new__(CopyStep)
    cdef size_t i
    step.pairs = <copy_pair *>malloc(len(pairs) * sizeof(copy_pair))
    if step.pairs == NULL:
        raise MemoryError("no memory for a copy")
    for i in range(<size_t>len(pairs)):
        x, out = pairs[i]
        step.pairs[i].x, step.pairs[i].out = as_view(x), as_view(out)
    step.arguments.count, step.arguments.pairs = len(pairs), step.pairs
    step.step.run = run_copy
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = "copy"
    return step


def prepare_copy(placed):
    """Prepare an `identity` node, or a `reshape` that could not share its input's storage."""
    x, out = placed.views[0], placed.out
    if placed.node.operator == "reshape":
        # Both are contiguous: the output in the input's shape.
        out = out._replace(height=x.height, width=x.width, channels=x.channels, row=x.row, pixel=x.pixel)
    return copy_step([(x, out)], placed)


def prepare_concatenate(placed):
    """Prepare a `concatenate` node: copies the inputs that were not written in their place. None if all were."""
    out, axis = placed.out, placed.node.attributes["axis"] - 1
    rank = len(placed.out_shape)
    pairs, start = [], 0
    for view, shape in zip(placed.views, placed.shapes):
        if axis == rank - 1:
            pairs.append((view, out._replace(offset=out.offset + start, channels=view.channels)))
        elif axis == rank - 2:
            pairs.append((view, out._replace(offset=out.offset + start * out.pixel, width=view.width)))
        else:
            # Leading sizes are rows: an outer index, then this axis and those between it and the width.
            inner = math.prod(placed.out_shape[axis + 1 : -2])
            rows, out_rows = shape[axis] * inner, placed.out_shape[axis] * inner
            parts = math.prod(placed.out_shape[:axis])
            placed.work(PART_WORK * parts, "the parts of")
            placed.hold(PART_BYTES * parts, "the parts of")
            for outer in range(math.prod(placed.out_shape[:axis])):
                offset = out.offset + (outer * out_rows + start * inner) * out.row
                pairs.append(
                    (view._replace(offset=view.offset + outer * rows * view.row, height=rows),
                     out._replace(offset=offset, height=rows))
                )
        start += shape[axis]
    pairs = [(x, to) for x, to in pairs if x != to]
    return copy_step(pairs, placed) if pairs else None


def strides_of(view, shape):
    """Floats from one index to the next along each axis of a tensor (its shape without the batch)."""
    strides = [1, view.pixel, view.row][: len(shape)]
    while len(strides) < len(shape):
        strides.append(strides[-1] * shape[-len(strides)])
    return strides[::-1]


def table_of(placed, segments, stride):
    """For each index of an axis the floats to its values, or NOWHERE; see `remap_step`. Nodes of a plan share it."""
    tables = placed.packing.tables
    if (segments, stride) not in tables:
        placed.hold(OFFSET_BYTES * sum(count for _, count, _ in segments), "the table of indices of")
        tables[segments, stride] = np.concatenate([
            np.full(count, NOWHERE, np.intp) if first < 0
            else (first + np.arange(count, dtype=np.intp) * jump) * stride
            for first, count, jump in segments
        ])
    return tables[segments, stride]


cdef RemapStep remap_step(placed, axes, value, kernel):
    """Output index (i, j, ...) takes the input value at index i of axes[0], j of axes[1], ...

    Args:
        axes: for each axis of the output its segments, and the floats between two indices of the input. A segment:
            the first input index, -1 for `value`; how many; from one to the next.
    """
    cdef RemapStep step = RemapStep.__new__(RemapStep)
    cdef remap_arguments *a = &step.arguments
    cdef size_t i
    a.x, a.out = as_view(placed.views[0]), as_view(placed.out)
    a.rank = len(axes) - 1
    a.lines, a.value = math.prod(placed.out_shape[:-1]), value
    offsets, base = [], 0
    for segments, stride in axes[:-1]:
        if len(segments) == 1:  # where it begins is the view's: slices of one tensor then share their table
            (first, count, jump), = segments
            base += first * stride
            segments = [(0, count, jump)]
        offsets.append(table_of(placed, tuple(segments), stride))
    a.x.offset += base
    step.keep = offsets
    for i in range(a.rank):
        a.sizes[i] = len(offsets[i])
        a.offsets[i] = <const ptrdiff_t *>values_of(offsets[i])
    segments, stride = axes[-1]
    runs, start = [], 0
    for first, count, jump in segments:
        runs.append((start, count, 0, 1, True) if first < 0 else (start, count, first * stride, jump * stride, False))
        start += count
    step.runs = <copy_run *>malloc(len(runs) * sizeof(copy_run))
    if step.runs == NULL:
        raise MemoryError("no memory for a copy")
    for i in range(<size_t>len(runs)):
        step.runs[i].start, step.runs[i].length, step.runs[i].source, step.runs[i].step, step.runs[i].fill = runs[i]
    a.count, a.runs = len(runs), step.runs
    step.step.run = run_remap
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = kernel
    return step


def prepare_transpose(placed):
    """Prepare a `transpose` node."""
    strides, shape = strides_of(placed.views[0], placed.shapes[0]), placed.shapes[0]
    permutation = [axis - 1 for axis in placed.node.attributes["permutation"]]
    return remap_step(placed, [([(0, shape[axis], 1)], strides[axis]) for axis in permutation], 0.0, "transpose")


def prepare_slice(placed):
    """Prepare a `slice` node."""
    strides, shape, attributes = strides_of(placed.views[0], placed.shapes[0]), placed.shapes[0], placed.node.attributes
    taken = [slice_range(attributes, axis + 1, size) for axis, size in enumerate(shape)]
    axes = [([(r.start, len(r), r.step)], stride) for r, stride in zip(taken, strides)]
    return remap_step(placed, axes, 0.0, "copy of a part")


def padded(size, before, after, mode):
    """The segments of an axis in a frame; see `remap_step`."""
    left, right = {
        "constant": ((-1, before, 0), (-1, after, 0)),
        "edge": ((0, before, 0), (size - 1, after, 0)),
        "reflect": ((before, before, -1), (size - 2, after, -1)),
        "symmetric": ((before - 1, before, -1), (size - 1, after, -1)),
    }[mode]
    return [segment for segment in (left, (0, size, 1), right) if segment[1]]


def prepare_pad(placed):
    """Prepare a `pad` node that no window took in."""
    strides, shape, attributes = strides_of(placed.views[0], placed.shapes[0]), placed.shapes[0], placed.node.attributes
    pads, mode = attributes["pads"], attributes["mode"]
    axes = [
        (padded(size, *pads[2 * axis : 2 * axis + 2], mode), stride)
        for axis, (size, stride) in enumerate(zip(shape, strides))
    ]
    return remap_step(placed, axes, attributes["value"], f"copy into a frame ({mode})")

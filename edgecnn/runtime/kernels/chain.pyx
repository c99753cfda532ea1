"""Several steps over one band of rows after the other, so that what passes between them stays in the second-level
cache.

Each link but the last writes to a buffer that holds as many rows as the next one's window and band ask for. From band
to band the rows that are needed again move to the buffer's start, and only new ones are computed.

Source: Alwani et al. 2016, "Fused-layer CNN accelerators" (MICRO), section III; rows are kept, not computed again.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.panels cimport divide_up
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_stopped, ec_view


cdef enum:
    MOST = 8  # links


ctypedef struct link:
    const ec_step *step
    size_t height             # rows of its output
    size_t span, stride       # of its window along the rows
    ptrdiff_t pad
    size_t row                # of its output: floats from one row to the next
    size_t buffer             # floats of scratch before its output's buffer; not for the last link
    # What a thread knows while it works: rows [first, last) are computed in this band, the buffer begins with row
    # `base`.
    size_t first, last, base


ctypedef struct chain_arguments:
    ec_view x
    ec_view out
    size_t count
    const link *links
    size_t band               # rows of the last link's output
    size_t buffers            # bytes of all buffers


cdef class ChainStep(Step):
    cdef chain_arguments arguments
    cdef link *links

    def __dealloc__(self):
        free(self.links)


cdef inline void needs(const link *l, const link *before, size_t first, size_t last, size_t *low,
                       size_t *high) noexcept nogil:
    """Rows [low, high) of the link before that rows [first, last) of this one are computed from."""
    cdef ptrdiff_t top = <ptrdiff_t>(first * l.stride) - l.pad
    cdef ptrdiff_t bottom = <ptrdiff_t>((last - 1) * l.stride + l.span) - l.pad
    low[0] = min(<size_t>max(top, <ptrdiff_t>0), before.height)
    high[0] = max(min(<size_t>max(bottom, <ptrdiff_t>0), before.height), low[0])


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Rows [first, last) of the last output belong to this thread alone; buffers are its own, so that threads compute a
    # few rows between their shares twice and never wait for each other.
    cdef const chain_arguments *a = <const chain_arguments *>step.arguments
    cdef link links[MOST]
    cdef ec_context inner = context[0]
    cdef float *buffers = <float *>context.scratch
    cdef const float *x
    cdef float *out
    cdef size_t first, last, end, low, high, i, n = a.count
    cdef bint fresh = True
    inner.scratch = context.scratch + a.buffers
    for i in range(n):
        links[i] = a.links[i]
    ec_share(links[n - 1].height, thread, threads, &first, &last)
    while first < last and not ec_stopped(context):
        end = min(first + a.band, last)
        links[n - 1].first, links[n - 1].last = first, end
        i = n - 1
        while i > 0:
            i -= 1
            if links[i + 1].first == links[i + 1].last:
                links[i].first = links[i].last
                continue
            # What the next link computes anew asks for these rows; of those computed before, it finds the last ones
            # kept.
            needs(&links[i + 1], &links[i], links[i + 1].first, links[i + 1].last, &low, &high)
            if fresh:
                links[i].base = links[i].last = low
            elif links[i].last > low > links[i].base:
                memmove(buffers + links[i].buffer, buffers + links[i].buffer + (low - links[i].base) * links[i].row,
                        (links[i].last - low) * links[i].row * sizeof(float))
            links[i].base = max(low, links[i].base)
            links[i].first = max(low, links[i].last)
            links[i].last = max(high, links[i].first)
        fresh = False
        x = ec_at(context, &a.x)
        for i in range(n):
            if i == n - 1:
                out = ec_at(context, &a.out)
            else:
                out = buffers + links[i].buffer - links[i].base * links[i].row
            if links[i].first < links[i].last:
                links[i].step.rows(links[i].step, &inner, x, out, links[i].first, links[i].last)
            x = out
        first = end


def band_of(spans, heights, widths, budget):
    """Rows of the last output in a band, and rows of each buffer, so that the buffers fit.

    Args:
        spans: (rows, stride, pad) of each link's window.
        heights: of each link's output.
        widths: floats in a row of each link's output.
        budget: floats for all buffers.

    Returns:
        (band, rows of each buffer), or None where not even one row fits.
    """
    cdef size_t[MOST] span, stride, height, width, capacity, best
    cdef size_t n = len(heights), i, rows, floats, last = heights[-1], band = 0, room = budget
    # Buffers grow with the band: the fewest bands whose buffers fit lie in [low, high), if any do.
    cdef size_t low = 1, high = last + 1, bands
    if n > MOST:
        raise ValueError(f"a chain of {n} links; wanted at most {MOST}")
    for i in range(n):
        span[i], stride[i], _ = spans[i]
        height[i], width[i] = heights[i], widths[i]
    while low < high:
        bands = low + (high - low) // 2
        rows = divide_up(last, bands)
        floats = 0
        for i in range(n - 1, 0, -1):
            rows = min((rows - 1) * stride[i] + span[i], height[i - 1])
            capacity[i - 1] = rows
            floats += rows * width[i - 1]
        if floats > room:
            low = bands + 1
            continue
        band = divide_up(last, bands)
        memcpy(best, capacity, sizeof(best))
        high = bands
    return (band, [best[i] for i in range(n - 1)]) if band else None


def prepare_chain(placed, steps, spans, budget):
    """The step for a chain of steps that can compute rows.

    Args:
        placed: the last node's; its view "x" is ignored.
        steps: (Step, view of its input, view of its output) in order; what passes between them has a view without gaps.
        spans: see `band_of`.
        budget: bytes for all buffers.
    """
    cdef ChainStep step = ChainStep.__new__(ChainStep)
    cdef chain_arguments *a = &step.arguments
    cdef Step one
    cdef link *entry
    cdef size_t offset = 0, i
    outs = [out for _, _, out in steps]
    band, capacity = band_of(spans, [out.height for out in outs], [out.row for out in outs], budget // 4)
    step.links = <link *>malloc(len(steps) * sizeof(link))
    if step.links == NULL:
        raise MemoryError("no memory for a chain")
    for i in range(<size_t>len(steps)):
        one, _, out = steps[i]
        entry = step.links + i
        entry.step = &one.step
        entry.height, entry.row = out.height, out.row
        entry.span, entry.stride, entry.pad = spans[i]
        entry.first = entry.last = entry.base = 0
        entry.buffer = offset
        if i + 1 < <size_t>len(steps):
            # A line more than a multiple of a page keeps buffers out of each other's cache sets.
            offset += (capacity[i] * out.row + 15) // 16 * 16 + 16
    a.links, a.count, a.band, a.buffers = step.links, len(steps), band, offset * sizeof(float)
    a.x, a.out = as_view(steps[0][1]), as_view(outs[-1])
    step.keep = [one for one, _, _ in steps]
    step.scratch = a.buffers + max([one.scratch for one, _, _ in steps])
    step.step.run, step.step.asks = run, 1
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"bands of {band}: " + " > ".join(one.kernel.rsplit(" ", 1)[0] for one, _, _ in steps)
    step.kernel += f" {placed.instruction_set.name}"
    return step

"""Which algorithm computes a convolution or a dense layer: the one whose estimated cost is least.

Costs count multiply-adds that the register tiles would do in the same time. What an algorithm reads once (weights, which come
from memory or the last cache) and what it does beside the tiles (Winograd's transformations) is expressed in these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecnn.format.mapping import mapping_of
from edgecnn.graph.operators import effective_kernel, ints, number, resolve_pads
from edgecnn.runtime.kernels.convolution import prepare_direct_conv
from edgecnn.runtime.kernels.dense import masks_fit, prepare_masked_vector, prepare_vector
from edgecnn.runtime.kernels.sparse import prepare_blocks, prepare_single, slice_of
from edgecnn.runtime.kernels.strassen import prepare_strassen
from edgecnn.runtime.kernels.winograd import forms, prepare_winograd
from edgecnn.runtime.kernels.zeros import PART, block_counts

if TYPE_CHECKING:
    from edgecnn.runtime.cpu import InstructionSet
    from edgecnn.runtime.executor import Step
    from edgecnn.runtime.kernels.packing import WinogradForm
    from edgecnn.runtime.planner import Placed

TILE_SHARE = 0.92
"""Of the peak, what the tiles reach on long sums."""
TRANSFORMATION = {1: 0.0, 4: 4.0, 6: 8.5, 8: 11.0}
"""For each value at a point: the cost of transforming one axis, by its number of points. Measured on Zen 5 with AVX-512: 56 x
56 x 64 to 64 filters takes 0.12 ms beside the products for 9e5 values at 6 x 6 points, 0.10 ms for 1.6e6 at 4 x 4."""
TILE_ENDS = 5.0
"""Terms of a sum that could be added while a tile starts and ends."""
SUM = 6.0
"""The cost of adding two values from the second-level cache, or the third, and storing the sum. Measured on Zen 5 with AVX-512:
Strassen's algorithm loses 5 % at 56 x 56 x 128 to 128 filters, and gains 4 % at 28 x 28 x 256 to 256 and 7 % at 19 x 19 x 728 to 728."""
STRASSEN_CHANNELS, STRASSEN_PIXELS, STRASSEN_RESIDUAL_PIXELS = 256, 128, 256
"""From these on Strassen's algorithm is considered at all. The bound is a fixed one because convolutions below it may be computed
in bands, which depend on the size of the cache: the bits of an answer may not. With a residual it asks for more pixels: of 14 x 14 x
256 to 1024 filters it gains 4 % by itself, but its larger weights push others out of the caches, and ResNet50 loses 2 %; of 19 x 19 x 728
to 728 it gains 7 %, and Xception 1.5 %."""
LEAST_CHANNELS = 8
"""A transformed tile's sums over fewer channels are too short for the tiles."""

LARGE_TILE, LARGE_TILE_CHANNELS = 16, 48
"""Outputs of a tile, and channels that it asks for. Layers of few channels are the first ones of a network: what they lose in
rounding grows through all others. InceptionV3's second layer, of 32 channels, by 4 x 4 tiles makes the difference of the
whole network to Keras 1.7e-5 in place of 7e-6."""


ROWS = "rows"
"""In place of an algorithm's name: the cheapest of those that compute rows."""

LEAST_ZEROS = 0.2
"""Share of the weights from which on leaving them out is considered."""
SAMPLE_PIECES, SAMPLE_PIECE = 16, 256
"""Weights that tell whether it is worth counting: so many places, so many neighbours at each."""
CAUTION = 1.1
"""What zeros must save beyond the estimate: nobody shall pay for having pruned. Estimates are within 9 % in the root mean square of
600 measurements, on layers of ResNet50 and MobileNet of 5 to 70 % of their weights."""
CHANNELS_OF_A_LINE = 16
BLOCK_COSTS = {
    16: ((1.09, 12.3, 1.27, 2.6), (1.0, 7.5, 0.5, 1.7)),
    8: ((1.15, 12.5, 0.83, 2.9), (0.99, 6.9, 0.27, 2.6)),
    4: ((1.15, 9.7, 0.25, 2.8), (1.03, 6.2, 0.04, 2.2)),
}
"""By lanes and by vectors of a panel. For each pixel: of a row that is there, of a panel's start and end, and of a line of input
that is touched; and of reading a row once. Fitted to those measurements, on Zen 5, like the next."""
SINGLE_COSTS = {16: (1.49, 8.3, 7.0, 7.8, 3.1), 8: (1.28, 5.4, 5.6, 4.3, 1.8), 4: (1.0, 3.1, 2.9, 2.6, 1.5)}
"""By lanes. For each pixel: of a weight, of turning a value over, of turning a sum back, and of a filter's start and end in a
slice; and of reading a weight once."""

CACHED_WEIGHTS, CACHED_READS = 2**18, {16: 0.5, 8: 1.0, 4: 1.0}
"""Dense weights of fewer may stay in the second-level cache from call to call. Reading them from there costs less than estimated by
this share, by lanes, while a single weight's place costs the same wherever it comes from. On Zen 5, 864 x 192 over 3 x 3 pixels:
with AVX-512 13.8 us dense, and 20.5 with 75 % of the weights zero, 13.2 with 85 %; with AVX2 27.7, and 30.1 with 70 %, 20.9 with 80."""

MASKED_COSTS = {16: 13.5, 8: 3.0, 4: 3.0}
"""By lanes: of a weight's place in the masks of a matrix that one vector is multiplied by, where reading a weight costs as many
multiply-adds as a vector has lanes. On Zen 5 a matrix of 4096 x 4096 takes 2.0 ms dense; masked with 60, 80 and 90 % zero 3.3, 2.6 and
2.0 with AVX-512, 1.3, 0.9 and 0.9 with AVX2. Zen 4 gains more, by either set: so that nobody pays, the former count."""
VECTOR_CAUTION = 1.2
LEAST_BLOCKED, LEAST_MASKED = 2**17, 2**22
"""Weights of a matrix: smaller ones stay in a cache, from which they are read as fast as they can be left out (512 x 512, 80 % zero:
27 us dense, 40 us masked; 1024 x 1000 from the last cache of Zen 5 46 dense, 59 to 102 masked)."""


class Algorithm(NamedTuple):
    """One way to compute a convolution or a dense layer.

    Attributes:
        name: for people and the tuning cache.
        cost: estimated, in multiply-adds.
        prepare: makes the step.
        rows: whether the step can compute rows alone, as a link of a chain does.
    """

    name: str
    cost: float
    prepare: Callable[[Placed], Step]
    rows: bool = False


def algorithms(placed: Placed) -> tuple[Algorithm, ...]:
    """Every way to compute a `conv` or `dense` node, the cheapest first."""
    weights = placed.constant("weights")
    assert weights is not None  # the operator table allows no other
    problem = problem_of(placed, weights)
    if problem.pixels == problem.taps == problem.groups == 1:
        return _by_cost(vector_algorithms(weights.reshape(weights.shape[-2:]), placed))
    dense = product_algorithms(problem)
    sparse = sparse_algorithms(weights, placed)
    return _by_cost([*dense, *sparse]) if sparse else dense


def _by_cost(found: Sequence[Algorithm]) -> tuple[Algorithm, ...]:
    return tuple(sorted(found, key=lambda algorithm: algorithm.cost))


class Problem(NamedTuple):
    """What the cost of a product over several pixels or taps depends on.

    Attributes:
        kernel: (rows, columns), or what sizes there are: the taps.
        depth: channels of a group.
        filters: of all groups together.
        groups: how many.
        out_size: of the output's spatial axes.
        convolution: whether it is one, not a `dense` node.
        unit_strides, undilated: whether all are 1.
        padded: whether zeros stand around the input, or some of its pixels are left out.
        residual: whether one is added.
        compared: see `Placed.compared`.
        instruction_set: whose kernels compute it.
    """

    kernel: tuple[int, ...]
    depth: int
    filters: int
    groups: int
    out_size: tuple[int, ...]
    convolution: bool
    unit_strides: bool
    undilated: bool
    padded: bool
    residual: bool
    compared: bool
    instruction_set: InstructionSet

    @property
    def taps(self) -> int:
        """Of the window."""
        return math.prod(self.kernel)

    @property
    def pixels(self) -> int:
        """Of the output."""
        return math.prod(self.out_size)

    @property
    def lanes(self) -> int:
        """Floats of a vector."""
        return int(self.instruction_set.lanes)

    @property
    def wide(self) -> int:
        """Filters with those that fill the last vector of each group."""
        return _wide(self.filters, self.groups, self.lanes)


def problem_of(placed: Placed, weights: np.ndarray) -> Problem:
    """The problem that a `conv` or `dense` node is. weights: as the node has them."""
    *kernel, depth, filters = weights.shape
    attributes, convolution = placed.node.attributes, placed.node.operator == "conv"
    return Problem(
        tuple(kernel),
        depth,
        filters,
        number(attributes, "groups") if convolution else 1,
        placed.out_shape[:-1],
        convolution,
        not convolution or max(ints(attributes, "strides")) == 1,
        not convolution or max(ints(attributes, "dilations")) == 1,
        convolution and any(_pads(placed, kernel)),
        placed.view("residual") is not None,
        placed.compared,
        placed.instruction_set,
    )


def _pads(placed: Placed, kernel: Sequence[int]) -> tuple[int, ...]:
    attributes, size = placed.node.attributes, placed.shapes[0]
    assert size is not None  # the first input is a tensor
    return resolve_pads(attributes, size[:-1], effective_kernel(kernel, ints(attributes, "dilations")))


def vector_algorithms(weights: np.ndarray, placed: Placed) -> list[Algorithm]:
    """Of one vector times a matrix: what counts is what must be read. weights: (K, columns)."""
    lanes = int(placed.instruction_set.lanes)
    found = [Algorithm("direct", float(weights.size * lanes), partial(prepare_vector, weights=weights))]
    counts = _counts(weights, placed)
    if counts is None:
        return found
    if masks_fit(placed.instruction_set):
        cost = MASKED_COSTS[lanes] * weights.size + VECTOR_CAUTION * lanes * float(_entries(counts))
        cost = cost if weights.size >= LEAST_MASKED else math.inf
        found.append(Algorithm("single weights", cost, partial(prepare_masked_vector, weights=weights)))
    for vectors in (1, 2):
        rows = int(np.count_nonzero(_held(counts, 1, vectors)))
        cost = VECTOR_CAUTION * vectors * lanes * lanes * rows if weights.size >= LEAST_BLOCKED else math.inf
        found.append(Algorithm(f"blocks {vectors}", cost, partial(prepare_blocks, vectors=vectors)))
    return found


@lru_cache(maxsize=256)
def product_algorithms(problem: Problem) -> tuple[Algorithm, ...]:
    """Of a product over several pixels or taps: those that take zeros for any other weight, the cheapest first. Networks repeat
    themselves, so that what was found is remembered."""
    found = [Algorithm("direct", direct_cost(problem), prepare_direct_conv, rows=True)]
    if strassen_fits(problem):
        # Its halves of the filters are computed in different ways: classes of equal weights would not tie.
        pays = strassen_pays(problem.depth, problem.filters, problem.pixels, problem.residual)
        pays = pays and not problem.compared
        found.append(Algorithm("strassen", strassen_cost(problem) if pays else math.inf, prepare_strassen))
    if winograd_fits(problem):
        taps = ((1, *problem.kernel))[-2:]
        found += [
            Algorithm(f"winograd {form}", winograd_cost(form, problem), partial(prepare_winograd, form=form))
            for form in forms(problem.instruction_set)
            if form.taps == taps and (form.outputs < LARGE_TILE or problem.depth >= LARGE_TILE_CHANNELS)
        ]
    return _by_cost(found)


def prepare_conv(placed: Placed) -> Step:
    """Prepare a `conv` or `dense` node by the algorithm that the plan names, if it is one of the possible ones, or by the cheapest."""
    possible = algorithms(placed)
    if placed.algorithm == ROWS:
        return next(algorithm for algorithm in possible if algorithm.rows).prepare(placed)
    named = [algorithm for algorithm in possible if algorithm.name == placed.algorithm]
    return (named or possible)[0].prepare(placed)


def sparse_algorithms(weights: np.ndarray, placed: Placed) -> list[Algorithm]:
    """Those that leave zeros out, where there are enough of them to be worth a look."""
    counts = _counts(weights, placed)
    if counts is None:
        return []
    found = [
        Algorithm(f"blocks {v}", blocks_cost(counts, v, placed), partial(prepare_blocks, vectors=v), rows=True)
        for v in (1, 2)
    ]
    if _groups(placed) == 1:
        found.append(
            Algorithm("single weights", single_cost(counts, weights.shape[-1], placed), prepare_single, rows=True)
        )
    return found


def _counts(weights: np.ndarray, placed: Placed) -> np.ndarray | None:
    """How many weights are not zero of each k and vector of filters; None if too few are zero to be worth it."""
    # What lies in a mapped file is dense: the converter stores nothing else so. It shall not be read for nothing.
    if mapping_of(weights) is not None:
        return None
    each = max(weights.size // SAMPLE_PIECES, 1)
    pieces = weights.reshape(-1)[: weights.size // each * each].reshape(-1, each)[:, :SAMPLE_PIECE]
    if np.count_nonzero(pieces) > (1 - LEAST_ZEROS / 2) * pieces.size:
        return None
    matrix = np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]), np.float32)
    counts = block_counts(matrix, _groups(placed), int(placed.instruction_set.lanes))
    return counts if _entries(counts) <= (1 - LEAST_ZEROS) * weights.size else None


def _entries(counts: np.ndarray) -> int:
    return int(counts.sum(dtype=np.int64))


def _held(counts: np.ndarray, groups: int, vectors: int) -> np.ndarray:
    """bool (K, panels): whether any weight of a panel of one or two vectors is there."""
    held = (counts != 0).reshape(len(counts), groups, -1)
    if vectors == 2:
        first, second = held[..., ::2].copy(), held[..., 1::2]
        first[..., : second.shape[-1]] |= second
        held = first
    return np.asarray(held.reshape(len(counts), -1))


def blocks_cost(counts: np.ndarray, vectors: int, placed: Placed) -> float:
    """Of leaving out rows of panels. counts: of each k and vector of filters, the weights that are not zero."""
    lanes, groups = placed.instruction_set.lanes, _groups(placed)
    depth, width, pixels = len(counts), vectors * int(lanes), math.prod(placed.out_shape[:-1])
    held = _held(counts, groups, vectors)
    panels = held.shape[1]
    rows = int(np.count_nonzero(held))
    share = rows / held.size
    lines = panels * depth / CHANNELS_OF_A_LINE * (1 - (1 - share) ** CHANNELS_OF_A_LINE)
    each, panel, line, read = BLOCK_COSTS[lanes][vectors - 1]
    return float(CAUTION * width * (pixels * (each * rows + panel * panels + line * lines) + read * rows * lanes))


def single_cost(counts: np.ndarray, filters: int, placed: Placed) -> float:
    """Of leaving out weights one by one. counts: as for `blocks_cost`."""
    lanes = placed.instruction_set.lanes
    depth, entries = len(counts), _entries(counts)
    pixels = -(-math.prod(placed.out_shape[:-1]) // lanes) * lanes
    slices = -(-depth // slice_of(placed.instruction_set))
    each, turn, back, row, read = SINGLE_COSTS[lanes]
    turned = depth * -(-filters // PART)
    work = each * entries + turn * turned + back * filters + row * filters * slices
    # Of what the estimate of dense kernels has for reading weights: it must pay without that, too.
    reads = CACHED_READS[lanes] if depth * filters < CACHED_WEIGHTS else 0
    cached = reads * depth * _wide(filters, 1, lanes) * lanes
    return float(CAUTION * (pixels * work + read * entries * lanes) + cached)


def winograd_fits(problem: Problem) -> bool:
    """Whether it is a convolution of one or two axes, of stride 1 and undilated."""
    fits = problem.convolution and problem.unit_strides and problem.undilated
    return fits and len(problem.out_size) in (1, 2) and problem.depth >= LEAST_CHANNELS


def _wide(filters: int, groups: int, lanes: int) -> int:
    """Filters with those that fill the last vector of each group."""
    return groups * -(-(filters // groups) // lanes) * lanes


def direct_cost(problem: Problem) -> float:
    """Of a matrix product over all taps."""
    return problem.taps * problem.depth * problem.wide * (problem.pixels / TILE_SHARE + problem.lanes)


def winograd_cost(form: WinogradForm, problem: Problem) -> float:
    """Of Winograd's algorithm: products at every point, twice a transformation, and the larger weights."""
    height, width = (1, *problem.out_size)[-2:]
    tiles = -(-height // form.height_outputs) * -(-width // form.width_outputs)
    products = form.positions * problem.depth * problem.wide
    values = tiles * form.positions * (problem.depth * problem.groups + problem.filters)
    each = TRANSFORMATION[form.height_points] + TRANSFORMATION[form.width_points]
    return products * (max(tiles, 4) / TILE_SHARE + problem.lanes) + values * each


def strassen_fits(problem: Problem) -> bool:
    """Whether it is a convolution of single pixels, each to one of the same place, whose channels and filters can be halved."""
    unit = problem.convolution and problem.unit_strides and problem.taps == problem.groups == 1
    return unit and not problem.padded and problem.depth % 2 == problem.filters % 2 == 0


def strassen_pays(channels: int, filters: int, pixels: int, residual: bool) -> bool:
    """Whether a convolution of single pixels is large enough for Strassen's algorithm to be considered."""
    least = STRASSEN_RESIDUAL_PIXELS if residual else STRASSEN_PIXELS
    return min(channels, filters) >= STRASSEN_CHANNELS and pixels >= least


def strassen_cost(problem: Problem) -> float:
    """Of Strassen's algorithm: seven eighths of the products, more weights, and sums of halves."""
    depth, filters, lanes = problem.depth, problem.filters, problem.lanes
    values = depth * 2 * _wide(filters // 2, 1, lanes)
    # Against the direct sums, which are twice as long.
    ends = (1 + 2 * TILE_ENDS / depth) / (1 + TILE_ENDS / depth)
    pixels = problem.pixels
    return values * (7 / 8 * ends * pixels / TILE_SHARE + 7 / 4 * lanes) + pixels * (2 * depth + filters) * SUM


def _groups(placed: Placed) -> int:
    return number(placed.node.attributes, "groups") if placed.node.operator == "conv" else 1

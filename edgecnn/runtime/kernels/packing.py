"""Weights in the order in which the matrix-product tiles read them."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecnn.budget import Budget
from edgecnn.format.mapping import address_of
from edgecnn.runtime.kernels.filling import PanelFilling
from edgecnn.runtime.kernels.zeros import PART, BlockFilling, MaskedFilling, SingleFilling, block_counts, lay_blocks

if TYPE_CHECKING:
    from edgecnn.runtime.kernels.filling import Filling


class Panel(NamedTuple):
    """A few vectors of neighbouring filters.

    Attributes:
        vectors: its width.
        column: its first filter within the group.
        columns: filters in use; the rest of the last vector is zero.
        weights: offset of its weights [K][vectors * lanes] in the packed array, in floats.
        start: offset of its biases.
    """

    vectors: int
    column: int
    columns: int
    weights: int
    start: int


LARGE_PAGE = 2**21
"""Bytes of a large page, on x86 and ARM with small ones of 4 KiB."""
_IN_PAGE = LARGE_PAGE // 4
BLOCK = 4 * LARGE_PAGE
"""Least bytes that a `Shelf` asks the system for at once; more of a large network's: a block's last page is not full."""


PANEL_BYTES, PANEL_WORK = 256, 10
"""A panel's entries in lists and arrays, and the units of work of making them (see budget.py)."""


class Shelf:
    """Where packed arrays lie, and what gives them their values.

    Memory comes in blocks of large pages where the system has them: the first touch of a page takes a microsecond, and a
    network's weights are thousands of small ones.

    Args:
        expected: bytes of weights, about. Of fewer than a block each array gets memory of its own.
        budget: what arrays are charged to; None: to nothing.

    Attributes:
        node: whose weights are packed at the moment, for the budget's errors.
    """

    def __init__(self, expected: int = 0, budget: Budget | None = None) -> None:
        self.budget = budget or Budget(max_bytes=2**64)
        self.node = ""
        self.fillings: list[Filling] = []
        self.block = max(BLOCK, expected // 4) if expected >= BLOCK and hasattr(mmap, "MADV_HUGEPAGE") else 0
        self.memory = np.zeros(0, np.float32)
        self.used = 0

    def aligned(self, size: int) -> np.ndarray:
        """Zeros for `size` floats that start at a multiple of 64 bytes."""
        self.budget.hold(4 * size, ("the packed weights of node", self.node))
        if not self.block:
            return _from(np.zeros(size + 16, np.float32), 64)[:size]
        if size > self.memory.size - self.used:
            self.memory, self.used = _large_pages(max(4 * size, self.block)), 0
        first, last = self.used, self.used + size
        self.used += -(-size // 16) * 16
        # Threads that touch a large page at once would all clear one, and give all but one back.
        self.memory[-(-first // _IN_PAGE) * _IN_PAGE : last : _IN_PAGE] = 0
        return self.memory[first:last]

    def expect_panels(self, panels: int) -> None:
        """Charge the list of so many panels before it is made."""
        what = ("the panels of node", self.node)
        self.budget.hold(PANEL_BYTES * panels, what)
        self.budget.work(PANEL_WORK * panels, what)


def _from(array: np.ndarray, alignment: int) -> np.ndarray:
    """An array of floats, from where it lies at a multiple of some bytes."""
    return array[-address_of(array) % alignment // 4 :]


def _large_pages(size: int) -> np.ndarray:
    """Zeros in large pages, as many bytes or a few more."""
    size = -(-size // LARGE_PAGE) * LARGE_PAGE
    try:
        memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:  # the latter where addresses have 32 bits
        raise MemoryError(f"no memory for {size} bytes of weights") from error
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return _from(np.frombuffer(memory, np.float32), LARGE_PAGE)[: size // 4]


def split_filters(filters: int, lanes: int, rows: Sequence[int]) -> list[int]:
    """Widths in vectors of the panels for `filters`: as few panels as the widest allows, shared out evenly, so that no
    narrow one is left over.

    Args:
        rows: tallest tile by width, 0 where there is no such width.
    """
    vectors, count = -(-filters // lanes), count_panels(filters, lanes, rows)
    return [vectors * (i + 1) // count - vectors * i // count for i in range(count)]


def count_panels(filters: int, lanes: int, rows: Sequence[int]) -> int:
    """How many panels `split_filters` makes."""
    widest, vectors = max(index + 1 for index, tallest in enumerate(rows) if tallest), -(-filters // lanes)
    return -(-vectors // widest)


def pack_panels(
    weights: np.ndarray, bias: np.ndarray | None, groups: int, lanes: int, rows: Sequence[int], shelf: Shelf
) -> tuple[np.ndarray, np.ndarray]:
    """Pack a matrix for `groups` products side by side.

    Args:
        weights: float32 (K, filters); the filters of a group are neighbours.
        bias: float32 (filters,) or None.
        lanes: floats in a vector.
        rows: see `split_filters`.
        shelf: where the array lies, without its values at first.

    Returns:
        All panels in one aligned array, and where each lies: group by group, equally many for each. int64 (panels, 5), the
        columns as `Panel` has them.
    """
    depth, filters = weights.shape
    shelf.expect_panels(groups * count_panels(filters // groups, lanes, tuple(rows)))
    panels, size = _lay_panels(depth, filters // groups, groups, lanes, tuple(rows))
    packed = shelf.aligned(size)
    bias = None if bias is None else _contiguous(bias)
    shelf.fillings.append(PanelFilling(_contiguous(weights), bias, packed, panels, lanes))
    return packed, panels


def unpack_panels(packed: np.ndarray, panels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The matrix that `pack_panels` has packed, bit by bit, read-only.

    Args:
        shape: of the result; filters last.
    """
    filters = int((panels[:, 1] + panels[:, 2]).max())
    weights = np.empty((math.prod(shape) // filters, filters), np.float32)
    depth = len(weights)
    for _, column, columns, start, biases in panels.tolist():
        width = start - biases  # a panel's biases are as wide as its rows, and lie before them
        weights[:, column : column + columns] = packed[start : start + depth * width].reshape(depth, width)[:, :columns]
    weights = weights.reshape(shape)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=256)
def _lay_panels(depth: int, filters: int, groups: int, lanes: int, rows: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Where panels lie, and the floats of all; filters: of a group. Networks repeat themselves, and so it is remembered."""
    widths = split_filters(filters, lanes, rows)
    panels: list[Panel] = []
    offset = 0
    for group in range(groups):
        column = 0
        for vectors in widths:
            width = vectors * lanes
            columns = min(width, filters - column)
            panels.append(Panel(vectors, group * filters + column, columns, offset + width, offset))
            offset += width * (depth + 1)
            column += columns
    found = np.array(panels, np.int64)
    found.flags.writeable = False  # it is shared
    return found, offset


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


BLOCK_SLICE = 256
"""Rows of a panel that are summed alone, as in convolution.pyx."""


def pack_blocks(
    weights: np.ndarray, bias: np.ndarray | None, groups: int, taps: int, width: int, shelf: Shelf
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pack the rows of panels of `width` filters that are not all zero.

    Args:
        weights: float32 (K, filters), K over taps and the channels of a group; the filters of a group are neighbours.
        bias: float32 (filters,) or None.

    Returns:
        Biases and rows of all panels, aligned; the channel of each row (uint32); (tap, rows) of each run (uint32); (first weight,
        first row, first run, runs) of each slice; (bias, column, columns, first slice, slices) of each panel.
    """
    shelf.expect_panels(groups * -(-(weights.shape[1] // groups) // width))
    shelf.budget.hold(2 * weights.size, ("the places of the weights of node", shelf.node))
    weights, bias = _contiguous(weights), None if bias is None else _contiguous(bias)
    depth, filters = weights.shape
    counts = block_counts(weights, groups, width)
    # All panels are cut at the same k: filters of equal weights give equal sums, whatever stands beside them.
    tallest = int(np.count_nonzero(counts, axis=0).max())
    cut = max(-(-tallest // BLOCK_SLICE), 1)
    size, channels, runs, slices, panels = lay_blocks(counts, groups, filters, depth // taps, width, cut)
    packed = shelf.aligned(size)
    shelf.fillings.append(BlockFilling(weights, bias, counts, packed, panels, width))
    return packed, channels, runs, slices, panels


def pack_single(
    weights: np.ndarray, bias: np.ndarray | None, size: int, lanes: int, shelf: Shelf
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pack the weights that are not zero, by slices of K and within these by filters.

    Filters of a slice are sorted by the number of their weights, so that the loop over them ends where the last one did: its
    end is then foreseen.

    Args:
        weights: float32 (K, filters).
        bias: float32 (filters,) or None.
        size: K of a slice, at most 256.
        lanes: floats in a vector.

    Returns:
        Weights; their places within the slice (uint8); (filter within the part, weights) of each row (uint16); biases, those
        of each part aligned; (first row, first weight, weights) of each slice of each part; (column, columns, bias) of each part.
    """
    shelf.budget.hold(2 * weights.size, ("the places of the weights of node", shelf.node))
    weights = _contiguous(weights)
    depth, filters = weights.shape
    counts = block_counts(weights, 1, lanes)
    # Parts begin where blocks do.
    cut = -(-filters // PART)
    edges = [counts.shape[1] * i // cut for i in range(cut + 1)]
    columns = np.minimum(np.array(edges, np.int64) * lanes, filters)
    parts = np.stack((columns[:-1], np.diff(columns), columns[:-1]), axis=1)
    pieces = -(-depth // size)
    entries = np.add.reduceat(np.add.reduceat(counts, edges[:-1], axis=1, dtype=np.int64), range(0, depth, size)).T
    slices = np.empty((cut, pieces, 3), np.int64)
    slices[..., 0] = columns[:-1, None] * pieces + np.arange(pieces) * parts[:, 1:2]
    slices[..., 1] = (np.cumsum(entries) - entries.reshape(-1)).reshape(entries.shape)
    slices[..., 2] = entries
    total = int(entries.sum())
    biases = shelf.aligned(counts.shape[1] * lanes)
    if bias is not None:
        biases[:filters] = bias
    values, places = shelf.aligned(total), np.empty(total, np.uint8)
    rows = np.empty((filters * pieces, 2), np.uint16)
    slices = slices.reshape(-1, 3)
    shelf.fillings.append(SingleFilling(weights, values, places, rows, slices, parts, size))
    return values, places, rows, biases, slices, parts


def pack_masked(
    weights: np.ndarray, lanes: int, vectors: int, shelf: Shelf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pack the weights that are not zero, and masks that tell which those are.

    Args:
        weights: float32 (K, columns).
        lanes: floats in a vector.
        vectors: of a panel of columns.

    Returns:
        The weights, panel by panel, row by row, and `lanes` zeros; masks (uint8, panels, K, bytes of a row's masks: for each vector
        ceil(lanes / 8), bit 0 the first lane); each panel's first weight (int64).
    """
    shelf.budget.hold(2 * weights.size, ("the places of the weights of node", shelf.node))
    weights = _contiguous(weights)
    counts = block_counts(weights, 1, lanes * vectors)
    depth, panels = counts.shape
    masks = np.empty((panels, depth, vectors * -(-lanes // 8)), np.uint8)
    entries = counts.sum(axis=0, dtype=np.int64)
    first = np.cumsum(entries) - entries
    values = shelf.aligned(int(entries.sum()) + lanes)
    shelf.fillings.append(MaskedFilling(weights, values, masks, first, lanes, vectors))
    return values, masks, first


def pack_depthwise(weights: np.ndarray, bias: np.ndarray | None, lanes: int, shelf: Shelf) -> np.ndarray:
    """Pack depthwise weights: for each vector of channels its biases, then its taps, row by row.

    Args:
        weights: float32 (rows, columns, C).
        bias: float32 (C,) or None.

    Returns:
        (ceil(C / lanes), 1 + rows * columns, lanes), aligned, zero where there is no channel; without its values at first.
    """
    rows, columns, channels = weights.shape
    # As a matrix's panels of one vector.
    packed, _ = pack_panels(weights.reshape(rows * columns, channels), bias, 1, lanes, (1,), shelf)
    return packed.reshape(-1, 1 + rows * columns, lanes)


def unpack_depthwise(packed: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The weights that `pack_depthwise` has packed, bit by bit, read-only.

    Args:
        shape: of the result, (..., C, 1).
    """
    weights = packed[:, 1:].transpose(1, 0, 2).reshape(packed.shape[1] - 1, -1)[:, : shape[-2]].reshape(shape)
    weights = np.ascontiguousarray(weights)
    weights.flags.writeable = False
    return weights


POINTS = {1: (), 4: (0.0, 1.0, -1.0), 6: (0.0, 0.625, -0.625, 1.5, -1.5), 8: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)}
"""The points at which Winograd's algorithm evaluates, by their number, infinity last: those of winograd_f32.h."""


class WinogradForm(NamedTuple):
    """How many points and outputs a tile has along the height and the width; 1 and 1 leave an axis alone."""

    height_points: int
    height_outputs: int
    width_points: int
    width_outputs: int

    @property
    def taps(self) -> tuple[int, int]:
        """The filters' rows and columns."""
        return self.height_points - self.height_outputs + 1, self.width_points - self.width_outputs + 1

    @property
    def positions(self) -> int:
        """Points of a tile."""
        return self.height_points * self.width_points

    @property
    def outputs(self) -> int:
        """Output pixels of a tile."""
        return self.height_outputs * self.width_outputs

    def __str__(self) -> str:
        return f"{self.height_outputs}x{self.width_outputs} of {self.taps[0]}x{self.taps[1]}"


@lru_cache
def filter_transformation(points: int, taps: int) -> np.ndarray:
    """(points, taps), float64: a filter's values at the points, divided by what interpolation divides by there.

    Source: Lavin & Gray 2015 (arXiv 1509.09308), section 4.1; the divisors are those of Lagrange's interpolation.
    """
    finite = POINTS[points]
    rows = [
        [p**k / math.prod(p - q for q in finite if q != p) for k in range(taps)]  # 0^0 is 1
        for p in finite
    ]
    found = np.array([*rows, [0.0] * (taps - 1) + [1.0]])
    found.flags.writeable = False  # it is shared
    return found

"""Weights in the order in which the matrix-product tiles read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecnn.runtime.kernels.filling import PanelFilling

if TYPE_CHECKING:
    from edgecnn.runtime.kernels.filling import Later


@dataclass(frozen=True)
class Panel:
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


def aligned(size: int) -> np.ndarray:
    """Zeros for `size` floats that start at a multiple of 64 bytes."""
    block = np.zeros(size + 16, np.float32)
    skip = -block.ctypes.data % 64 // 4
    return block[skip : skip + size]


def split_filters(filters: int, lanes: int, rows: Sequence[int]) -> list[int]:
    """Widths in vectors of the panels for `filters`: as few panels as the widest allows, shared out evenly, so that no
    narrow one is left over.

    Args:
        rows: tallest tile by width, 0 where there is no such width.
    """
    widest = max(index + 1 for index, tallest in enumerate(rows) if tallest)
    vectors = -(-filters // lanes)
    count = -(-vectors // widest)
    return [vectors * (i + 1) // count - vectors * i // count for i in range(count)]


def pack_panels(
    weights: np.ndarray, bias: np.ndarray | None, groups: int, lanes: int, rows: Sequence[int], later: Later
) -> tuple[np.ndarray, tuple[Panel, ...]]:
    """Pack a matrix for `groups` products side by side.

    Args:
        weights: float32 (K, filters); the filters of a group are neighbours.
        bias: float32 (filters,) or None.
        lanes: floats in a vector.
        rows: see `split_filters`.
        later: takes the `Filling` that gives the array its values.

    Returns:
        All panels in one aligned array, and where each lies: group by group, equally many for each.
    """
    depth, filters = weights.shape
    each = filters // groups
    widths = split_filters(each, lanes, rows)
    packed = aligned(groups * sum(widths) * lanes * (depth + 1))
    panels: list[Panel] = []
    offset = 0
    for group in range(groups):
        column = 0
        for vectors in widths:
            width = vectors * lanes
            columns = min(width, each - column)
            first = group * each + column
            panels.append(Panel(vectors, first, columns, offset + width, offset))
            offset += width * (depth + 1)
            column += columns
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    later(PanelFilling(np.ascontiguousarray(weights, np.float32), bias, packed, panels, lanes))
    return packed, tuple(panels)


def pack_depthwise(weights: np.ndarray, bias: np.ndarray | None, lanes: int) -> np.ndarray:
    """Pack depthwise weights: for each vector of channels its biases, then its taps, row by row.

    Args:
        weights: float32 (rows, columns, C).
        bias: float32 (C,) or None.

    Returns:
        (ceil(C / lanes), 1 + rows * columns, lanes), aligned, zero where there is no channel.
    """
    channels = weights.shape[2]
    blocks = -(-channels // lanes)
    taps = weights.shape[0] * weights.shape[1]
    padded = np.zeros((1 + taps, blocks * lanes), np.float32)
    if bias is not None:
        padded[0, :channels] = bias
    padded[1:, :channels] = weights.reshape(taps, channels)
    packed = aligned(padded.size)
    packed[:] = padded.reshape(1 + taps, blocks, lanes).transpose(1, 0, 2).ravel()
    return packed.reshape(blocks, 1 + taps, lanes)


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


def filter_transformation(points: int, taps: int) -> np.ndarray:
    """(points, taps), float64: a filter's values at the points, divided by what interpolation divides by there.

    Source: Lavin & Gray 2015 (arXiv 1509.09308), section 4.1; the divisors are those of Lagrange's interpolation.
    """
    finite = POINTS[points]
    rows = [
        [p**k / math.prod(p - q for q in finite if q != p) for k in range(taps)]  # 0^0 is 1
        for p in finite
    ]
    return np.array([*rows, [0.0] * (taps - 1) + [1.0]])

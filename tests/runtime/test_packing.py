"""Packed weights hold every weight once, where the tiles look for it, and zeros elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.errors import Error
from edgecnn.runtime import cpu
from edgecnn.runtime.kernels.filling import fill_all
from edgecnn.runtime.kernels.packing import (
    BLOCK,
    LARGE_PAGE,
    POINTS,
    Panel,
    Shelf,
    WinogradForm,
    filter_transformation,
    pack_blocks,
    pack_depthwise,
    pack_masked,
    pack_panels,
    pack_single,
    split_filters,
)
from edgecnn.runtime.kernels.winograd import pack_winograd
from edgecnn.runtime.kernels.zeros import block_counts
from examples import examples

THREADS = st.sampled_from([1, 2, 7])
ROWS = {4: (8, 6, 0, 0), 8: (10, 6, 4, 0), 16: (12, 14, 8, 6)}


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 4), st.sampled_from([4, 8, 16]), st.booleans(), THREADS)
@settings(max_examples=examples(100), deadline=None)
def test_panels_give_back_the_matrix(
    depth: int, each: int, groups: int, lanes: int, biased: bool, threads: int
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((depth, each * groups), np.float32)
    bias = rng.standard_normal(each * groups, np.float32) if biased else None
    shelf = Shelf()
    packed, panels = pack_panels(weights, bias, groups, lanes, ROWS[lanes], shelf)
    fill_all(shelf.fillings, threads)
    again, biases = np.zeros_like(weights), np.zeros(each * groups, np.float32)
    covered = np.zeros(each * groups, int)
    for panel in map(Panel._make, panels.tolist()):
        width = panel.vectors * lanes
        matrix = packed[panel.weights : panel.weights + depth * width].reshape(depth, width)
        columns = slice(panel.column, panel.column + panel.columns)
        again[:, columns] = matrix[:, : panel.columns]
        biases[columns] = packed[panel.start : panel.start + panel.columns]
        covered[columns] += 1
        assert not matrix[:, panel.columns :].any()
        assert panel.start + width == panel.weights
    np.testing.assert_array_equal(again, weights)
    np.testing.assert_array_equal(biases, 0 if bias is None else bias)
    assert (covered == 1).all()
    assert packed.ctypes.data % 64 == 0


@given(st.integers(1, 4000), st.sampled_from([4, 8, 16]))
def test_panels_differ_by_one_vector_at_most(filters: int, lanes: int) -> None:
    widths = split_filters(filters, lanes, ROWS[lanes])
    assert sum(widths) == -(-filters // lanes)
    assert max(widths) - min(widths) <= 1
    assert all(ROWS[lanes][width - 1] for width in widths)


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_depthwise_weights_come_block_by_block(channels: int, lanes: int) -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((3, 2, channels), np.float32), rng.standard_normal(channels, np.float32)
    shelf = Shelf()
    packed = pack_depthwise(weights, bias, lanes, shelf)
    fill_all(shelf.fillings, 1)
    flat = packed.transpose(1, 0, 2).reshape(7, -1)
    np.testing.assert_array_equal(flat[0, :channels], bias)
    np.testing.assert_array_equal(flat[1:, :channels], weights.reshape(6, channels))
    assert not flat[:, channels:].any()


@pytest.mark.parametrize("expected", [0, 10 * BLOCK])
def test_arrays_start_at_cache_lines_are_zero_and_lie_apart(expected: int) -> None:
    shelf = Shelf(expected)
    sizes = (1, 15, 64, 1000, LARGE_PAGE // 4, 3, BLOCK, 17, BLOCK // 4)
    arrays = [shelf.aligned(size) for size in sizes]
    for number, (array, size) in enumerate(zip(arrays, sizes, strict=True), 1):
        assert array.ctypes.data % 64 == 0
        assert array.shape == (size,)
        assert not array.any()
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays, 1))


def test_memory_that_is_not_there_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        Shelf(BLOCK).aligned(2**60)


@given(st.sampled_from([(4, 2), (6, 4), (6, 2), (8, 2), (8, 6)]), st.integers(0, 2**32 - 1))
@settings(max_examples=examples(50), deadline=None)
def test_transformed_filters_are_values_of_a_polynomial_over_the_lagrange_divisors(
    form: tuple[int, int], seed: int
) -> None:
    points, outputs = form
    taps = points - outputs + 1
    filters = np.random.default_rng(seed).uniform(-1, 1, taps)
    values = filter_transformation(points, taps) @ filters
    finite = POINTS[points]
    for p, value in zip(finite, values, strict=False):
        divisor = np.prod([p - q for q in finite if q != p])
        np.testing.assert_allclose(
            value, np.polynomial.polynomial.polyval(p, filters) / divisor, rtol=1e-12, atol=1e-12
        )
    assert values[-1] == filters[-1]  # at infinity


@given(
    st.integers(1, 12), st.integers(1, 70), st.integers(1, 3), st.sampled_from(cpu.supported()), st.booleans(), THREADS
)
@settings(max_examples=examples(50), deadline=None)
def test_winograd_panels_hold_every_transformed_filter(
    depth: int, each: int, groups: int, isa: cpu.InstructionSet, biased: bool, threads: int
) -> None:
    rng = np.random.default_rng(0)
    form = WinogradForm(6, 4, 4, 2)
    weights = rng.standard_normal((3, 3, depth, each * groups), np.float32)
    bias = rng.standard_normal(each * groups, np.float32) if biased else None
    shelf = Shelf()
    packed, panels, biases = pack_winograd(weights, bias, groups, form, isa, shelf)
    fill_all(shelf.fillings, threads)
    high, wide = filter_transformation(6, 3), filter_transformation(4, 3)
    expected = np.einsum("ai,bj,ijcn->abcn", high, wide, weights).reshape(24, depth, -1)
    covered = np.zeros(each * groups, int)
    for index, panel in enumerate(map(Panel._make, panels.tolist())):
        size = panel.vectors * isa.lanes
        block = packed[panel.weights : panel.weights + 24 * depth * size].reshape(24, depth, size)
        columns = slice(panel.column, panel.column + panel.columns)
        np.testing.assert_allclose(block[..., : panel.columns], expected[..., columns], rtol=1e-6, atol=1e-6)
        assert not block[..., panel.columns :].any()
        np.testing.assert_array_equal(biases[index, : panel.columns], bias[columns] if biased else 0)
        covered[columns] += 1
    assert (covered == 1).all()
    assert not biases[-1].any()
    assert packed.ctypes.data % 64 == 0


def sparse_matrix(depth: int, filters: int, share: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((depth, filters), np.float32)
    weights[rng.random((depth, filters)) < share] = 0
    return weights


SHARES = st.sampled_from([0.0, 0.5, 0.95, 1.0])


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 70), st.sampled_from([4, 8, 16, 32, 64]), SHARES)
@settings(max_examples=examples(100), deadline=None)
def test_blocks_are_counted(depth: int, groups: int, each: int, width: int, share: float) -> None:
    weights = sparse_matrix(depth, groups * each, share)
    # Neither are the smallest numbers zeros, nor is NaN; -0 is one.
    weights[:1] = np.where(weights[:1] == 0, -0.0, np.nan)
    weights[1:2] = np.where(weights[1:2] == 0, 0, 1e-45)
    padded = np.zeros((depth, groups, -(-each // width) * width), bool)
    # NumPy itself takes the smallest numbers for zeros where NEON does.
    padded[..., :each] = (weights.view(np.uint32) << 1 != 0).reshape(depth, groups, each)
    expected = padded.reshape(depth, -1, width).sum(axis=2)
    np.testing.assert_array_equal(block_counts(weights, groups, width), expected)


@given(
    st.integers(1, 9), st.integers(1, 90), st.integers(1, 3), st.integers(1, 70), st.sampled_from([4, 16, 32]), SHARES
)
@settings(max_examples=examples(100), deadline=None)
def test_blocks_hold_every_weight_once(
    taps: int, channels: int, groups: int, each: int, width: int, share: float
) -> None:
    weights = sparse_matrix(taps * channels, groups * each, share)
    bias = np.arange(groups * each, dtype=np.float32)
    shelf = Shelf()
    packed, places, runs, slices, panels = pack_blocks(weights, bias, groups, taps, width, shelf)
    fill_all(shelf.fillings, 2)
    again, covered = np.zeros_like(weights), np.zeros(groups * each, int)
    for start, column, columns, first, count in panels.tolist():
        np.testing.assert_array_equal(packed[start : start + columns], bias[column : column + columns])
        covered[column : column + columns] += 1
        for weight, row, run, many in slices[first : first + count].tolist():
            for tap, rows in runs[run : run + many].tolist():
                for _ in range(rows):
                    k = tap * channels + int(places[row]) - column // each * channels
                    again[k, column : column + columns] = packed[weight : weight + columns]
                    assert again[k, column : column + columns].any()
                    weight, row = weight + width, row + 1
    np.testing.assert_array_equal(again, weights)
    assert (covered == 1).all()


@given(
    depth=st.integers(1, 40),
    columns=st.integers(1, 200),
    form=st.sampled_from([(4, 2), (8, 4), (16, 4)]),
    share=st.floats(0, 1),
)
def test_masks_and_values_give_back_the_matrix(depth: int, columns: int, form: tuple[int, int], share: float) -> None:
    lanes, vectors = form
    rng = np.random.default_rng(depth)
    weights = np.where(rng.random((depth, columns)) < share, 0, rng.standard_normal((depth, columns))).astype(
        np.float32
    )
    shelf = Shelf()
    values, masks, first = pack_masked(weights, lanes, vectors, shelf)
    fill_all(shelf.fillings, 2)
    assert not values[len(values) - lanes :].any()
    width = lanes * vectors
    found = np.zeros((depth, -(-columns // width) * width), np.float32)
    for panel, start in enumerate(first):
        place = int(start)
        for k in range(depth):
            for vector, mask in enumerate(masks[panel, k].reshape(vectors, -1)):
                bits = int.from_bytes(mask.tobytes(), "little")
                for lane in range(lanes):
                    if bits >> lane & 1:
                        found[k, panel * width + vector * lanes + lane] = values[place]
                        place += 1
    np.testing.assert_array_equal(found[:, :columns], weights)
    assert not found[:, columns:].any()


SLICES = st.sampled_from([(80, 16), (120, 8), (256, 4), (256, 16)])


@given(st.integers(1, 700), st.sampled_from([1, 5, 16, 511, 513, 1100]), SLICES, SHARES, st.booleans())
@settings(max_examples=examples(40), deadline=None)
def test_single_weights_are_all_there_once(
    depth: int, filters: int, size: tuple[int, int], share: float, biased: bool
) -> None:
    weights = sparse_matrix(depth, filters, share)
    bias = np.arange(filters, dtype=np.float32) if biased else None
    shelf = Shelf()
    values, places, rows, biases, slices, parts = pack_single(weights, bias, *size, shelf)
    fill_all(shelf.fillings, 2)
    assert parts.dtype == slices.dtype == np.int64
    cut, again = -(-depth // size[0]), np.zeros_like(weights)
    assert len(values) == len(places) == np.count_nonzero(weights)
    for part, (column, columns, start) in enumerate(parts.tolist()):
        expected = 0 if bias is None else bias[column : column + columns]
        np.testing.assert_array_equal(biases[start : start + columns], expected)
        for piece, (row, weight, count) in enumerate(slices[part * cut : (part + 1) * cut].tolist()):
            end = weight + count
            own = rows[row : row + columns]
            assert sorted(own[:, 1].tolist(), reverse=True) == own[:, 1].tolist()
            for filter_, many in own.tolist():
                for _ in range(many):
                    again[piece * size[0] + int(places[weight]), column + filter_] = values[weight]
                    weight += 1
            assert weight == end
    np.testing.assert_array_equal(again, weights)


@pytest.mark.parametrize("width", [0, 256])
def test_blocks_that_a_byte_cannot_count_are_refused(width: int) -> None:
    with pytest.raises(Error, match="counted in bytes"):
        block_counts(np.ones((2, 300), np.float32), 1, width)

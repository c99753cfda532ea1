"""The operator table: shape rules against Keras and against arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgecnn.errors import GraphError
from edgecnn.graph import ACTIVATIONS, OPERATORS, reference
from edgecnn.graph.operators import Shape, broadcast, effective_kernel, resolve_pads
from graph_strategies import GraphBuilder

quick = settings(max_examples=60, deadline=None)


def shape_of(operator: str, x: Shape, *others: Any, **attributes: Any) -> Shape:
    """Shape of one node's output, by the builder that fills in plain attributes."""
    b = GraphBuilder()
    b.input("x", *x[1:])
    return b.shape(b.add(operator, "x", *others, **attributes))


def pads_of(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding "same" of one dimension, before and after."""
    attributes = {"padding": "same", "strides": (stride, 1), "pads": (0, 0, 0, 0)}
    return resolve_pads(attributes, (size, 1), (kernel, 1))[:2]


def test_same_padding_of_an_odd_kernel_is_even() -> None:
    assert pads_of(8, 3, 1) == (1, 1)
    assert pads_of(8, 5, 1) == (2, 2)


def test_same_padding_of_an_even_kernel_pads_more_at_the_end() -> None:
    assert pads_of(8, 2, 1) == (0, 1)
    assert pads_of(8, 4, 1) == (1, 2)


def test_same_padding_with_a_stride_depends_on_the_size() -> None:
    assert pads_of(8, 3, 2) == (0, 1)
    assert pads_of(9, 3, 2) == (1, 1)
    assert pads_of(7, 1, 2) == (0, 0)
    assert pads_of(10, 2, 3) == (0, 1)  # 4 windows from 0, 3, 6, 9


def test_explicit_padding_is_what_it_says() -> None:
    attributes = {"padding": "explicit", "strides": (2, 2), "pads": (1, 2, 3, 4)}
    assert resolve_pads(attributes, (9, 9), (3, 3)) == (1, 2, 3, 4)


def test_a_dilated_kernel_spans_more() -> None:
    assert effective_kernel((3, 1), (2, 5)) == (5, 1)
    assert effective_kernel((2, 4), (3, 2)) == (4, 7)


@quick
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
)
def test_windows_give_the_shape_that_keras_gives(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int, padding: str
) -> None:
    keras = pytest.importorskip("keras")
    assume(stride == 1 or dilation == 1)
    span = effective_kernel(kernel, (dilation, dilation))
    assume(padding == "same" or (span[0] <= size[0] and span[1] <= size[1]))
    x = (None, *size, 2)
    layer = keras.layers.Conv2D(5, kernel, stride, padding, dilation_rate=dilation)
    ours: dict[str, Any] = {"strides": (stride, stride), "padding": "same" if padding == "same" else "explicit"}
    dilations = (dilation, dilation)
    weights = np.ones((*kernel, 2, 5))
    assert shape_of("conv", x, weights, dilations=dilations, **ours) == layer.compute_output_shape(x)
    multiplied = np.ones((*kernel, 2, 3))
    assert (
        shape_of("depthwise_conv", x, multiplied, dilations=dilations, **ours)[1:3]
        == layer.compute_output_shape(x)[1:3]
    )
    if dilation == 1:
        pool = keras.layers.MaxPooling2D(kernel, stride, padding)
        assert shape_of("max_pool", x, pool_size=kernel, **ours) == pool.compute_output_shape(x)


@quick
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    stride=st.integers(1, 3),
)
def test_explicit_padding_counts_as_size(size: tuple[int, int], pads: tuple[int, ...], stride: int) -> None:
    height, width = size[0] + sum(pads[:2]), size[1] + sum(pads[2:])
    assume(height >= 3 and width >= 2)
    got = shape_of("conv", (None, *size, 1), np.ones((3, 2, 1, 1)), strides=(stride, stride), pads=pads)
    assert got == (None, len(range(0, height - 2, stride)), len(range(0, width - 1, stride)), 1)


def test_unknown_sizes_pass_through_every_rule() -> None:
    x = (None, None, None, 4)
    for padding in ("same", "explicit"):
        assert shape_of("conv", x, np.ones((3, 3, 4, 2)), padding=padding) == (None, None, None, 2)
        assert shape_of("max_pool", x, pool_size=(2, 2), padding=padding) == x
    assert shape_of("depthwise_conv", x, np.ones((3, 3, 4, 2))) == (None, None, None, 8)
    assert shape_of("pad", x, pads=(1, 1, 1, 1)) == x
    assert shape_of("reduce_mean", x) == (None, 4)
    assert shape_of("reduce_max", x, keepdims=1) == (None, 1, 1, 4)
    assert shape_of("reshape", x, shape=(-1, 4)) == (None, None, 4)
    assert shape_of("batch_normalization", x, *[np.ones(4)] * 4) == x
    assert shape_of("concatenate", x, "x", axis=1) == x
    assert shape_of("concatenate", x, "x", axis=3) == (None, None, None, 8)
    assert shape_of("add", x, np.ones(4)) == x
    assert shape_of("softmax", x, axis=2) == x


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_broadcasting_is_that_of_numpy(sizes: list[tuple[int, bool, bool]], cut: int) -> None:
    x = tuple(1 if one else size for size, one, _ in sizes)
    y = tuple(1 if one else size for size, _, one in sizes)[min(cut, len(sizes) - 1) :]
    assert broadcast(x, y) == np.broadcast_shapes(x, y)


def test_an_unknown_size_is_broadcast_with_itself_and_with_one() -> None:
    assert broadcast((None, None, 4), (None, 1, 4)) == (None, None, 4)
    assert broadcast((None, 1, 4), (None, None, 4)) == (None, None, 4)
    with pytest.raises(GraphError, match="cannot be broadcast"):
        broadcast((None, None, 4), (None, 3, 4))


@pytest.mark.parametrize(
    ("target", "shape"),
    [((24,), (None, 24)), ((-1,), (None, 24)), ((6, -1), (None, 6, 4)), ((4, 3, 2), (None, 4, 3, 2))],
)
def test_reshape_fills_in_one_size(target: tuple[int, ...], shape: Shape) -> None:
    assert shape_of("reshape", (None, 2, 3, 4), shape=target) == shape


REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "a window larger than the image": (
        "conv",
        (np.ones((9, 1, 4, 1)),),
        {},
        "a window of 9 does not fit an input of 8",
    ),
    "same padding with pads": (
        "conv",
        (np.ones((1, 1, 4, 1)),),
        {"padding": "same", "pads": (1, 0, 0, 0)},
        "padding 'same' with pads",
    ),
    "pads that hide a pooling window": (
        "max_pool",
        (),
        {"pool_size": (2, 2), "pads": (2, 0, 0, 0)},
        "leave windows of .* without a pixel",
    ),
    "filters that groups do not divide": (
        "conv",
        (np.ones((1, 1, 2, 3)),),
        {"groups": 2},
        "in 2 groups do not fit",
    ),
    "depthwise weights of other channels": ("depthwise_conv", (np.ones((1, 1, 3, 1)),), {}, "do not fit"),
    "a dense layer of another depth": ("dense", (np.ones((3, 2)),), {}, "do not fit"),
    "statistics of another size": ("batch_normalization", [np.ones(3)] * 4, {}, "its gamma has shape"),
    "a concatenation of the batch": ("concatenate", (), {"axis": 4}, "axis 4 of shape"),
    "a softmax beyond the rank": ("softmax", (), {"axis": 4}, "axis 4 of shape"),
    "a reshape to another count": ("reshape", (), {"shape": (5,)}, "cannot take the shape"),
    "a reshape with two open sizes": ("reshape", (), {"shape": (-1, -1)}, "several sizes open"),
    "a reshape to nothing": ("reshape", (), {"shape": (0, -1)}, "a size of 0"),
    "a reshape that leaves a rest": ("reshape", (), {"shape": (7, -1)}, "cannot take the shape"),
    "constants that outgrow the batch": ("add", (np.ones((2, 1, 8, 6, 4)),), {}, "the batch first"),
    "an empty kernel": ("conv", (np.ones((0, 1, 4, 1)),), {}, "every size must be at least 1"),
}


@pytest.mark.parametrize("flaw", sorted(REFUSED))
def test_shape_rules_refuse(flaw: str) -> None:
    operator, others, attributes, message = REFUSED[flaw]
    with pytest.raises(GraphError, match=message):
        shape_of(operator, (None, 8, 6, 4), *others, **attributes)


def test_residuals_have_the_shape_of_the_output() -> None:
    b = GraphBuilder()
    x, r = b.input("x", 4, 4, 2), b.input("r", 1, 1, 2)
    with pytest.raises(GraphError, match=r"its residual has shape \(None, 1, 1, 2\); wanted that of the output"):
        b.add("conv", x, np.ones((1, 1, 2, 2)), None, r)


def test_tensors_of_different_ranks_are_not_added() -> None:
    b = GraphBuilder()
    x, y = b.input("x", 4, 4, 2), b.input("y", 2)
    with pytest.raises(GraphError, match="different ranks, and their batches would not meet"):
        b.add("add", x, y)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_every_row_says_what_it_means(operator: str) -> None:
    row = OPERATORS[operator]
    assert row.summary
    assert row.roles
    assert row.activated == ("activation" in row.attributes) == ("activation_parameters" in row.attributes)


@pytest.mark.parametrize("function", sorted(ACTIVATIONS))
def test_defaults_are_as_many_as_parameters(function: str) -> None:
    row = ACTIVATIONS[function]
    assert len(row.defaults) == len(row.parameters)
    assert reference.activate(function, row.defaults, np.zeros(3)).shape == (3,)

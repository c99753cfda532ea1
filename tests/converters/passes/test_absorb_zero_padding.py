"""Zeros around an image become the padding of the windows that read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes.absorb_zero_padding import absorb_zero_padding
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, depthwise, operators

W = Weights(17)
PADS = (1, 2, 0, 3)


def absorbed(graph: Graph) -> Graph:
    after, _ = run_pass(graph, absorb_zero_padding)
    assert_same_answers(graph, after)
    return after


def stays(graph: Graph) -> bool:
    return run_pass(graph, absorb_zero_padding)[0] is graph


def padded(b: GraphBuilder, *sizes: int | None, pads: tuple[int, ...] = PADS) -> str:
    """An input with zeros around it; 6 x 5 pixels of 2 channels unless told otherwise."""
    return b.add("pad", b.input("x", *(sizes or (6, 5, 2))), pads=pads, name="pad")


def test_into_a_convolution() -> None:
    b = GraphBuilder()
    (node,) = absorbed(b.graph(conv(b, W, padded(b), 3, 3, strides=(2, 2), name="conv"))).nodes
    assert (node.attributes["padding"], node.attributes["pads"]) == ("explicit", PADS)
    assert (node.name, node.layers) == ("conv", ("pad", "conv"))


def test_into_a_depthwise_convolution() -> None:
    b = GraphBuilder()
    (node,) = absorbed(b.graph(depthwise(b, W, padded(b), strides=(2, 2)))).nodes
    assert node.attributes["pads"] == PADS


def test_pads_are_added_to_pads() -> None:
    b = GraphBuilder()
    (node,) = absorbed(b.graph(conv(b, W, padded(b), 3, 3, pads=(1, 0, 1, 0)))).nodes
    assert node.attributes["pads"] == (2, 2, 1, 3)


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_same_padding_is_that_of_the_padded_image(
    size: tuple[int, int], pads: tuple[int, ...], kernel: int, stride: int, dilation: int
) -> None:
    b = GraphBuilder()
    attributes = {"padding": "same", "strides": (stride, stride), "dilations": (dilation, dilation)}
    graph = b.graph(conv(b, W, padded(b, *size, 2, pads=pads), 2, kernel, **attributes))
    assert operators(absorbed(graph)) == ["conv"]


def test_same_padding_of_an_unknown_size_stays() -> None:
    b = GraphBuilder()
    assert stays(b.graph(conv(b, W, padded(b, None, 5, 2), 3, 3, padding="same")))


def test_explicit_padding_of_an_unknown_size_goes() -> None:
    b = GraphBuilder()
    assert operators(absorbed(b.graph(conv(b, W, padded(b, None, None, 2), 3, 3)))) == ["conv"]


def test_paddings_in_a_row_go_together() -> None:
    b = GraphBuilder()
    x = padded(b)
    for _ in range(6):
        x = b.add("pad", x, pads=(0, 1, 1, 0))
    (alone,) = absorbed(b.graph(x)).nodes
    assert (alone.operator, alone.attributes["pads"]) == ("pad", (1, 8, 6, 3, 0, 0))
    (node,) = absorbed(b.graph(conv(b, W, x, 3, 3))).nodes
    assert (node.operator, node.attributes["pads"]) == ("conv", (1, 8, 6, 3))


def test_several_readers_take_it_if_all_can() -> None:
    b = GraphBuilder()
    x = padded(b)
    ends = [conv(b, W, x, 3, 3), depthwise(b, W, x, padding="same"), conv(b, W, x, 2)]
    assert operators(absorbed(b.graph(*ends))) == ["conv", "depthwise_conv", "conv"]


def test_a_reader_that_cannot_keeps_it_for_all() -> None:
    b = GraphBuilder()
    x = padded(b)
    assert stays(b.graph(conv(b, W, x, 3, 3), b.add("activation", x, activation="tanh")))


def test_a_public_output_keeps_it() -> None:
    b = GraphBuilder()
    x = padded(b)
    assert stays(b.graph(conv(b, W, x, 3, 3), x))


def test_a_convolution_that_adds_it_as_a_residual_keeps_it() -> None:
    b = GraphBuilder()
    x = padded(b)
    assert stays(b.graph(b.add("conv", x, W.normal(1, 1, 2, 2), None, x)))


@pytest.mark.parametrize("operator", ["average_pool", "max_pool"])
def test_a_pooling_of_any_values_keeps_it(operator: str) -> None:
    b = GraphBuilder()
    assert stays(b.graph(b.add(operator, padded(b, pads=(1, 1, 1, 1)), pool_size=(3, 3))))


ABOVE_ZERO: list[dict[str, Any]] = [
    {"activation": "relu"},
    {"activation": "relu", "activation_parameters": (0.0, 6.0, 0.0)},
    {"activation": "relu", "activation_parameters": (0.0, 6.0, 0.5)},
    {"activation": "sigmoid"},
    {"activation": "hard_sigmoid"},
    {"activation": "softplus"},
    {"activation": "exponential"},
]
BELOW_ZERO: list[dict[str, Any]] = [
    {"activation": "relu", "activation_parameters": (0.1, float("inf"), 0.0)},
    {"activation": "relu", "activation_parameters": (0.0, float("inf"), -1.0)},
    {"activation": "relu", "activation_parameters": (0.0, -1.0, 0.0)},
    {"activation": "tanh"},
    {"activation": "swish"},
    {"activation": "elu"},
    {"activation": "gelu"},
    {"activation": "linear"},
]


def pooled(b: GraphBuilder, x: str, operator: str = "max_pool", **attributes: Any) -> Graph:
    x = b.add("pad", x, pads=attributes.pop("zeros", (1, 1, 1, 1)), name="zeros")
    return b.graph(b.add(operator, x, **{"pool_size": (3, 3), "strides": (2, 2), **attributes}, name="pool"))


@pytest.mark.parametrize("function", ABOVE_ZERO)
@pytest.mark.parametrize("padding", [{}, {"padding": "same"}])
def test_into_a_max_pooling_where_no_value_is_negative(function: dict[str, Any], padding: dict[str, Any]) -> None:
    b = GraphBuilder()
    graph = pooled(b, conv(b, W, b.input("x", 7, 8, 2), 3, **function), **padding)
    if padding:
        # "same" of 9 x 10 pixels adds a column at the end: pads of 1 and 2 for a window of 3.
        assert operators(absorbed(graph)) == ["conv", "max_pool"]
        assert absorbed(graph).nodes[1].attributes["pads"] == (1 + 1, 1 + 1, 1, 1 + 1)
    else:
        assert absorbed(graph).nodes[1].attributes["pads"] == (1, 1, 1, 1)


@pytest.mark.parametrize("function", BELOW_ZERO)
def test_a_max_pooling_where_a_value_may_be_negative_keeps_it(function: dict[str, Any]) -> None:
    b = GraphBuilder()
    assert stays(pooled(b, conv(b, W, b.input("x", 7, 8, 2), 3, **function)))


def test_an_average_pooling_counts_the_zeros_and_keeps_them() -> None:
    b = GraphBuilder()
    assert stays(pooled(b, conv(b, W, b.input("x", 7, 8, 2), 3, activation="relu"), "average_pool"))


@pytest.mark.parametrize("zeros", [(3, 0, 0, 0), (0, 0, 0, 4)])
def test_a_frame_as_wide_as_the_window_stays(zeros: tuple[int, ...]) -> None:
    b = GraphBuilder()
    assert stays(pooled(b, conv(b, W, b.input("x", 7, 8, 2), 3, activation="relu"), zeros=zeros))


def test_values_stay_above_zero_through_what_only_moves_them() -> None:
    b = GraphBuilder()
    x = conv(b, W, b.input("x", 8, 8, 2), 3, activation="relu")
    y = b.add("concatenate", b.add("max_pool", x, pool_size=(2, 2)), b.add("average_pool", x, pool_size=(2, 2)), axis=3)
    y = b.add("reshape", b.add("identity", y), shape=(7, 7, 6))
    assert "pad" not in operators(absorbed(pooled(b, y)))


def test_one_branch_that_may_be_negative_is_enough_to_keep_it() -> None:
    b = GraphBuilder()
    x = b.input("x", 8, 8, 2)
    y = b.add("concatenate", conv(b, W, x, 2, activation="relu"), conv(b, W, x, 2), axis=3)
    assert stays(pooled(b, y))


def test_a_deep_network_of_branches_is_looked_through_once() -> None:
    b = GraphBuilder()
    x = conv(b, W, b.input("x", 4, 4, 1), 1, activation="relu")
    # Followed branch by branch this would be 2 ** 30 paths, and deep recursion.
    for _ in range(30):
        x = b.add("concatenate", b.add("identity", x), b.add("max_pool", x, pool_size=(1, 1)), axis=1)
        x = b.add("max_pool", x, pool_size=(2, 1), strides=(2, 1))
    assert "pad" not in operators(absorbed(pooled(b, x)))

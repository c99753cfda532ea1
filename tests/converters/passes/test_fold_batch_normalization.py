"""Batch normalisations go into the convolution or dense layer before them, or else into the one after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes.fold_batch_normalization import fold_batch_normalization
from edgecnn.graph import Graph, Quantization
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, batch_norm, conv, depthwise, operators

W = Weights(5)


def folded(graph: Graph) -> Graph:
    """The graph after the pass, having held it against the one before."""
    after, _ = run_pass(graph, fold_batch_normalization)
    assert_same_answers(graph, after)
    return after


def stays(graph: Graph) -> bool:
    return run_pass(graph, fold_batch_normalization)[0] is graph


def test_weights_and_bias_are_those_of_the_paper() -> None:
    b = GraphBuilder()
    x = b.input("x", 1, 1, 2)
    y = b.add("conv", x, np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2), [1.0, -1.0], name="conv")
    statistics = [[2.0, -3.0], [0.5, 0.25], [0.125, -1.0], [3.0, 8.0]]
    graph = b.graph(b.add("batch_normalization", y, *statistics, epsilon=1.0, name="bn"))
    (node,) = folded(graph).nodes
    after = folded(graph).constants
    # gamma / sqrt(variance + epsilon) is 2 / 2 = 1 and -3 / 3 = -1.
    np.testing.assert_array_equal(after[node.input("weights")].array.reshape(2, 2), [[1.0, -2.0], [3.0, -4.0]])
    np.testing.assert_array_equal(after[node.input("bias")].array, [(1 - 0.125) + 0.5, -(-1.0 + 1.0) + 0.25])
    assert after[node.input("weights")].array.dtype == np.float32
    assert (node.name, node.layers) == ("conv", ("conv", "bn"))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_after_a_convolution(bias: bool, activation: str) -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 6, 6, 3), 4, 3, bias, padding="same", strides=(2, 2))
    graph = b.graph(batch_norm(b, W, y, activation=activation))
    (node,) = folded(graph).nodes
    assert node.operator == "conv"
    assert node.attributes["activation"] == activation


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_before_and_after_a_convolution_in_groups(groups: int, depth: int, each: int, before: bool) -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, groups * depth)
    x = batch_norm(b, W, x) if before else x
    y = conv(b, W, x, groups * each, 2, groups=groups)
    graph = b.graph(y if before else batch_norm(b, W, y))
    assert operators(folded(graph)) == ["conv"]


@given(st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_before_and_after_a_depthwise_convolution(channels: int, multiplier: int, before: bool) -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, channels)
    x = batch_norm(b, W, x) if before else x
    y = depthwise(b, W, x, 3, multiplier)
    graph = b.graph(y if before else batch_norm(b, W, y))
    assert operators(folded(graph)) == ["depthwise_conv"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("sizes", [(3,), (4, 3), (2, 4, 3)])
def test_before_and_after_a_dense_layer(before: bool, sizes: tuple[int, ...]) -> None:
    b = GraphBuilder()
    x = b.input("x", *sizes)
    x = batch_norm(b, W, x) if before else x
    y = b.add("dense", x, W.normal(3, 5), W.normal(5))
    graph = b.graph(y if before else batch_norm(b, W, y))
    assert operators(folded(graph)) == ["dense"]


def test_several_in_a_row_go_one_after_another() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3)
    for _ in range(3):
        y = batch_norm(b, W, y)
    assert operators(folded(b.graph(y))) == ["conv"]


def test_between_two_convolutions_it_goes_back() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3, name="first")
    y = batch_norm(b, W, y, name="bn")
    after = folded(b.graph(conv(b, W, y, 2, name="second")))
    assert [node.layers for node in after.nodes] == [("first", "bn"), ("second",)]


def test_a_convolution_after_it_may_end_in_an_activation() -> None:
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", 4, 4, 2), name="bn")
    (node,) = folded(b.graph(conv(b, W, y, 3, activation="tanh", name="conv"))).nodes
    assert (node.layers, node.attributes["activation"]) == (("bn", "conv"), "tanh")


NO_PADDING: list[dict[str, Any]] = [
    {},
    {"padding": "same", "kernel": 1, "strides": (2, 2)},
    {"padding": "same", "kernel": 2, "strides": (2, 2)},  # 4 is a multiple of 2: "same" adds nothing
]
PADDING: list[dict[str, Any]] = [{"padding": "same"}, {"pads": (0, 0, 0, 1)}]


@pytest.mark.parametrize("attributes", NO_PADDING)
def test_into_a_convolution_that_does_not_pad(attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", 4, 4, 2))
    assert operators(folded(b.graph(conv(b, W, y, 3, **{"kernel": 3, **attributes})))) == ["conv"]


@pytest.mark.parametrize("attributes", PADDING)
def test_its_shift_does_not_pass_into_a_convolution_that_pads(attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", 4, 4, 2))
    assert stays(b.graph(conv(b, W, y, 3, 3, **attributes)))


def test_same_padding_of_an_unknown_size_counts_as_padding() -> None:
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", None, None, 2))
    assert stays(b.graph(conv(b, W, y, 3, 3, padding="same")))
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", None, None, 2))
    assert operators(folded(b.graph(conv(b, W, y, 3, 3)))) == ["conv"]


def test_an_activation_before_it_keeps_it() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3, activation="relu")
    assert stays(b.graph(batch_norm(b, W, y)))


def test_an_activation_after_it_keeps_it_from_the_next_convolution() -> None:
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", 4, 4, 2), activation="relu")
    assert stays(b.graph(conv(b, W, y, 3)))


def test_a_second_reader_or_a_public_output_in_between_keeps_it() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3)
    z = batch_norm(b, W, y)
    assert stays(b.graph(z, y))
    assert stays(b.graph(b.add("add", z, y)))
    b = GraphBuilder()
    y = batch_norm(b, W, b.input("x", 4, 4, 2))
    z = conv(b, W, y, 2)
    assert stays(b.graph(z, y))
    assert stays(b.graph(b.add("add", z, y)))


def test_a_residual_before_it_keeps_it() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    y = b.add("conv", x, W.normal(1, 1, 2, 2), None, x)
    assert stays(b.graph(batch_norm(b, W, y)))


def test_a_concatenation_or_pooling_before_it_keeps_it() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    y = b.add("concatenate", conv(b, W, x, 2), conv(b, W, x, 3), axis=3)
    y = b.add("max_pool", batch_norm(b, W, y), pool_size=(2, 2))
    assert stays(b.graph(batch_norm(b, W, y)))


def test_a_normalisation_that_is_only_added_to_a_convolution_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    y = batch_norm(b, W, x)
    assert stays(b.graph(b.add("conv", x, W.normal(1, 1, 2, 2), None, y)))


def test_shared_weights_are_copied_never_changed() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    weights = b.constant("weights", W.normal(1, 1, 2, 2))
    first, second = b.add("conv", x, weights), b.add("conv", x, weights)
    graph = b.graph(batch_norm(b, W, first), second)
    original = graph.constants["weights"].array.copy()
    after = folded(graph)
    assert operators(after) == ["conv", "conv"]
    np.testing.assert_array_equal(after.constants["weights"].array, original)
    assert after.producers[second].input("weights") == "weights"


def test_new_constants_get_names_of_their_own() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("bn/folded weights", 4, 4, 2), 3)
    b.constant("bn/folded bias", W.normal(3))
    y = batch_norm(b, W, y, name="bn")
    after = folded(b.graph(b.add("add", y, "bn/folded bias")))
    assert after.nodes[0].inputs[1:3] == ("bn/folded weights 2", "bn/folded bias 2")


def test_new_constants_keep_the_encoding() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3, name="conv")
    graph = b.graph(batch_norm(b, W, y))
    half = replace(graph.constants["conv/weights"], encoding="sparse_float16")
    (node,) = (after := folded(replace(graph, constants={**graph.constants, "conv/weights": half}))).nodes
    assert after.constants[node.input("weights")].encoding == "sparse_float16"
    assert after.constants[node.input("bias")].encoding == "float32"


def test_quantised_weights_stay() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 3, name="conv")
    graph = b.graph(batch_norm(b, W, y))
    quantised = replace(
        graph.constants["conv/weights"],
        array=np.ones((1, 1, 2, 3), np.int8),
        encoding="int8",
        quantization=Quantization(np.ones(1, np.float32), np.zeros(1, np.int32)),
    )
    assert stays(replace(graph, constants={**graph.constants, "conv/weights": quantised}))


@pytest.mark.parametrize(
    ("role", "value"),
    [("gamma", np.inf), ("mean", np.nan), ("variance", -1.0), ("variance", -1e-3), ("gamma", 3e38)],
)
def test_statistics_that_would_not_give_finite_weights_stay(role: str, value: float) -> None:
    b = GraphBuilder()
    y = b.add("conv", b.input("x", 4, 4, 2), np.full((1, 1, 2, 3), 100.0))
    statistics = dict(zip(("gamma", "beta", "mean", "variance"), W.statistics(3), strict=True))
    statistics[role] = np.full(3, value)
    graph = b.graph(b.add("batch_normalization", y, *statistics.values()))
    assert stays(graph)

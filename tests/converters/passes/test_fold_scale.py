"""Products with a constant for each channel go into a neighbouring convolution or dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn.converters.passes.fold_scale import fold_scale
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, depthwise

W = Weights(7)
CONSTANTS: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2), (1, 1, 2), (1, 1, 1, 2)]


def folded(graph: Graph) -> Graph:
    after, _ = run_pass(graph, fold_scale)
    assert_same_answers(graph, after)
    return after


def stays(graph: Graph) -> bool:
    return run_pass(graph, fold_scale)[0] is graph


@pytest.mark.parametrize("shape", CONSTANTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_before_a_convolution_whatever_its_padding(shape: tuple[int, ...], swapped: bool) -> None:
    b = GraphBuilder()
    x, c = b.input("x", 5, 5, 2), b.constant("c", W.rng.uniform(0.5, 2, shape))
    y = b.add("multiply", *((c, x) if swapped else (x, c)), name="scale")
    (node,) = folded(b.graph(conv(b, W, y, 3, 3, padding="same", name="conv"))).nodes
    assert node.layers == ("scale", "conv")
    assert node.input("bias") == "conv/bias"


@pytest.mark.parametrize("shape", CONSTANTS)
def test_after_a_convolution(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 3), 2, 3, padding="same")
    graph = b.graph(b.add("multiply", y, W.rng.uniform(0.5, 2, shape), activation="relu"))
    (node,) = folded(graph).nodes
    assert node.attributes["activation"] == "relu"


def test_into_a_convolution_without_a_bias_brings_none() -> None:
    b = GraphBuilder()
    y = depthwise(b, W, b.input("x", 5, 5, 3))
    (node,) = folded(b.graph(b.add("multiply", y, W.normal(3)))).nodes
    assert node.input("bias") == ""


def test_weights_are_exact_for_a_power_of_two() -> None:
    b = GraphBuilder()
    y = b.add("multiply", b.input("x", 2), np.float32(0.25))
    weights = W.normal(2, 3)
    graph = b.graph(b.add("dense", y, weights))
    after = folded(graph)
    np.testing.assert_array_equal(after.constants[after.nodes[0].input("weights")].array, weights / 4)


NOT_PER_CHANNEL: list[tuple[int, ...]] = [(5, 1), (5, 5, 1), (5, 2), (1, 5, 5, 2)]


@pytest.mark.parametrize("shape", NOT_PER_CHANNEL)
def test_a_constant_that_changes_from_pixel_to_pixel_stays(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    y = b.add("multiply", b.input("x", 5, 5, 2), W.normal(*shape))
    assert stays(b.graph(conv(b, W, y, 3)))


def test_a_constant_along_columns_as_many_as_channels_stays() -> None:
    b = GraphBuilder()
    y = b.add("multiply", b.input("x", 4, 4, 4), W.normal(4, 1))
    assert stays(b.graph(conv(b, W, y, 3)))


def test_a_constant_that_makes_one_channel_many_stays() -> None:
    b = GraphBuilder()
    y = b.add("multiply", conv(b, W, b.input("x", 5, 5, 2), 1), W.normal(4))
    assert stays(b.graph(y))


def test_a_product_of_two_tensors_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 5, 2)
    assert stays(b.graph(b.add("multiply", conv(b, W, x, 2), x)))


KEPT: list[dict[str, Any]] = [{"activation": "relu"}, {"activation": "sigmoid"}]


@pytest.mark.parametrize("attributes", KEPT)
def test_an_activation_in_between_keeps_it(attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 2), 2, **attributes)
    assert stays(b.graph(b.add("multiply", y, W.normal(2))))
    b = GraphBuilder()
    y = b.add("multiply", b.input("x", 5, 5, 2), W.normal(2), **attributes)
    assert stays(b.graph(conv(b, W, y, 2)))


def test_a_scale_that_overflows_float32_stays() -> None:
    b = GraphBuilder()
    y = b.add("dense", b.input("x", 2), np.full((2, 2), 1e30))
    assert stays(b.graph(b.add("multiply", y, np.full(2, 1e30))))

"""Constants added for each channel go into a neighbouring convolution's or dense layer's bias."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.converters.passes.fuse_bias import fuse_bias
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, depthwise

W = Weights(11)
CONSTANTS: list[tuple[int, ...]] = [(), (1,), (4,), (1, 4), (1, 1, 4), (1, 1, 1, 4)]


def fused(graph: Graph) -> Graph:
    after, _ = run_pass(graph, fuse_bias)
    assert_same_answers(graph, after)
    return after


def stays(graph: Graph) -> bool:
    return run_pass(graph, fuse_bias)[0] is graph


@pytest.mark.parametrize("shape", CONSTANTS)
@pytest.mark.parametrize("bias", [False, True])
def test_after_a_convolution(shape: tuple[int, ...], bias: bool) -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 3), 4, 3, bias, padding="same", name="conv")
    graph = b.graph(b.add("add", y, W.normal(*shape), activation="relu", name="sum"))
    (node,) = fused(graph).nodes
    assert node.input("weights") == "conv/weights"
    assert (node.attributes["activation"], node.layers) == ("relu", ("conv", "sum"))


def test_the_constant_may_stand_first() -> None:
    b = GraphBuilder()
    c = b.constant("c", [1.0, 2.0])
    y = b.add("dense", b.input("x", 3), W.normal(3, 2))
    after = fused(b.graph(b.add("add", c, y)))
    (node,) = after.nodes
    np.testing.assert_array_equal(after.constants[node.input("bias")].array, [1.0, 2.0])


def test_after_a_depthwise_convolution() -> None:
    b = GraphBuilder()
    y = depthwise(b, W, b.input("x", 5, 5, 3), 3, 2, padding="same")
    assert len(fused(b.graph(b.add("add", y, W.normal(6)))).nodes) == 1


def test_two_in_a_row() -> None:
    b = GraphBuilder()
    y = b.add("add", b.add("dense", b.input("x", 3), W.normal(3, 2), W.normal(2)), W.normal(2))
    assert len(fused(b.graph(b.add("add", y, W.normal(2)))).nodes) == 1


def test_before_a_convolution_that_does_not_pad() -> None:
    b = GraphBuilder()
    y = b.add("add", b.input("x", 5, 5, 4), W.normal(4))
    (node,) = fused(b.graph(conv(b, W, y, 4, 3, groups=2, name="conv"))).nodes
    assert node.input("weights") == "conv/weights"


def test_before_a_convolution_that_pads_it_stays() -> None:
    b = GraphBuilder()
    y = b.add("add", b.input("x", 5, 5, 4), W.normal(4))
    assert stays(b.graph(conv(b, W, y, 4, 3, padding="same")))
    b = GraphBuilder()
    y = b.add("add", b.input("x", 5, 5, 4), W.normal(4))
    assert stays(b.graph(depthwise(b, W, y, pads=(1, 0, 0, 0))))


@pytest.mark.parametrize("shape", [(5, 1), (5, 4), (5, 5, 1), (1, 5, 5, 4)])
def test_a_constant_that_changes_from_pixel_to_pixel_stays(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 3), 4)
    assert stays(b.graph(b.add("add", y, W.normal(*shape))))


def test_a_constant_along_columns_as_many_as_channels_stays() -> None:
    b = GraphBuilder()
    y = b.add("add", b.input("x", 4, 4, 4), W.normal(4, 1))
    assert stays(b.graph(conv(b, W, y, 3)))


def test_a_constant_that_makes_one_channel_many_stays() -> None:
    b = GraphBuilder()
    assert stays(b.graph(b.add("add", conv(b, W, b.input("x", 5, 5, 2), 1), W.normal(4))))


def test_an_activation_a_second_reader_or_a_public_output_keeps_it() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 3), 4, activation="relu")
    assert stays(b.graph(b.add("add", y, W.normal(4))))
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 5, 5, 3), 4)
    z = b.add("add", y, W.normal(4))
    assert stays(b.graph(z, y))
    assert stays(b.graph(b.add("multiply", z, y)))


def test_a_sum_of_two_tensors_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 5, 3)
    assert stays(b.graph(b.add("add", conv(b, W, x, 3), x)))

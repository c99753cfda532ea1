"""A sum of a convolution's output and another tensor becomes part of the convolution."""

from __future__ import annotations

import pytest

from edgecnn.converters.passes.fuse_residual import fuse_residual
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, depthwise, operators

W = Weights(3)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_block_becomes_one_convolution(swapped: bool) -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 5, 3)
    y = conv(b, W, x, 3, 3, padding="same", name="conv")
    graph = b.graph(b.add("add", *((x, y) if swapped else (y, x)), activation="relu", name="sum"))
    after, trace = run_pass(graph, fuse_residual)
    (node,) = after.nodes
    assert node.input("residual") == "x"
    assert node.attributes["activation"] == "relu"
    assert (node.name, node.layers) == ("conv", ("conv", "sum"))
    assert len(trace) == 1
    assert_same_answers(graph, after)


def test_a_dense_layer_takes_a_residual_too() -> None:
    b = GraphBuilder()
    x = b.input("x", 4)
    graph = b.graph(b.add("add", x, b.add("dense", x, W.normal(4, 4))))
    after, _ = run_pass(graph, fuse_residual)
    assert operators(after) == ["dense"]
    assert_same_answers(graph, after)


def test_of_two_convolutions_the_one_that_runs_last_takes_the_other() -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 5, 3)
    first, last = conv(b, W, x, 4, name="first"), conv(b, W, x, 4, name="last")
    graph = b.graph(b.add("add", last, first))
    after, _ = run_pass(graph, fuse_residual)
    assert [node.name for node in after.nodes] == ["first", "last"]
    assert after.nodes[1].input("residual") == first
    assert_same_answers(graph, after)


def test_the_convolution_waits_for_a_residual_that_is_made_later() -> None:
    b = GraphBuilder()
    x = b.input("x", 5, 5, 3)
    early = conv(b, W, x, 3, name="early")
    late = b.add("activation", x, activation="tanh", name="late")
    graph = b.graph(b.add("add", early, late))
    after, _ = run_pass(graph, fuse_residual)
    assert [node.name for node in after.nodes] == ["late", "early"]
    assert_same_answers(graph, after)


def test_a_long_row_of_blocks_is_fused_in_one_round() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    for _ in range(12):
        x = b.add("add", x, conv(b, W, x, 2, 3, padding="same"), activation="tanh")
    graph = b.graph(x)
    after, _ = run_pass(graph, fuse_residual)
    assert operators(after) == ["conv"] * 12
    assert_same_answers(graph, after)


def test_a_sum_of_three_gives_a_convolution_one_of_them() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    other = b.add("activation", x, activation="tanh")
    graph = b.graph(b.add("add", b.add("add", conv(b, W, x, 2), x), other))
    after, _ = run_pass(graph, fuse_residual)
    assert sorted(operators(after)) == ["activation", "add", "conv"]
    assert_same_answers(graph, after)


def test_a_tensor_added_to_itself_stays() -> None:
    b = GraphBuilder()
    y = conv(b, W, b.input("x", 4, 4, 2), 2)
    graph = b.graph(b.add("add", y, y))
    assert run_pass(graph, fuse_residual)[0] is graph


@pytest.mark.parametrize("swapped", [False, True])
def test_a_sum_that_broadcasts_the_convolution_stays(swapped: bool) -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    small = conv(b, W, b.add("reduce_mean", x, keepdims=1), 2)
    graph = b.graph(b.add("add", *((x, small) if swapped else (small, x))))
    assert run_pass(graph, fuse_residual)[0] is graph


def test_a_sum_that_broadcasts_the_residual_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    graph = b.graph(b.add("add", conv(b, W, x, 2), b.add("reduce_mean", x, keepdims=1)))
    assert run_pass(graph, fuse_residual)[0] is graph


def test_a_sum_with_a_constant_stays() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("add", conv(b, W, b.input("x", 4, 4, 2), 2), W.normal(1, 4, 4, 2)))
    assert run_pass(graph, fuse_residual)[0] is graph


def test_a_convolution_that_ends_in_an_activation_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    graph = b.graph(b.add("add", x, conv(b, W, x, 2, activation="relu")))
    assert run_pass(graph, fuse_residual)[0] is graph


def test_a_convolution_that_others_read_or_see_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    y = conv(b, W, x, 2)
    total = b.add("add", x, y)
    seen = b.graph(total, y)
    assert run_pass(seen, fuse_residual)[0] is seen
    read = b.graph(b.add("multiply", total, y))
    assert run_pass(read, fuse_residual)[0] is read


def test_a_depthwise_convolution_has_no_residual() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    graph = b.graph(b.add("add", x, depthwise(b, W, x, padding="same")))
    assert run_pass(graph, fuse_residual)[0] is graph


def test_a_product_is_no_sum() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    graph = b.graph(b.add("multiply", x, conv(b, W, x, 2)))
    assert run_pass(graph, fuse_residual)[0] is graph

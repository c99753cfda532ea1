"""Reshapes that follow each other become one, and those after a global pooling become part of it."""

from __future__ import annotations

import pytest

from edgecnn.converters.passes.merge_reshapes import merge_reshapes
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, assert_same_answers, operators


def test_reshapes_in_a_row_become_the_last() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 3, 2)
    for shape in ((-1,), (2, 12), (6, -1)):
        x = b.add("reshape", x, shape=shape, name=f"to {shape}")
    graph = b.graph(x)
    after, _ = run_pass(graph, merge_reshapes)
    (node,) = after.nodes
    assert node.attributes["shape"] == (6, -1)
    assert node.layers == ("to (-1,)", "to (2, 12)", "to (6, -1)")
    assert_same_answers(graph, after)


@pytest.mark.parametrize("pool", ["reduce_mean", "reduce_max"])
@pytest.mark.parametrize(("keepdims", "shape"), [(0, (1, 1, 2)), (0, (1, 1, -1)), (1, (2,)), (1, (-1,))])
def test_a_global_pooling_takes_the_shape(pool: str, keepdims: int, shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    pooled = b.add(pool, b.input("x", 4, 3, 2), keepdims=keepdims, name="pool")
    graph = b.graph(b.add("reshape", pooled, shape=shape, name="shape"))
    after, _ = run_pass(graph, merge_reshapes)
    (node,) = after.nodes
    assert (node.operator, node.attributes) == (pool, {"axes": (1, 2), "keepdims": 1 - keepdims})
    assert node.layers == ("pool", "shape")
    assert_same_answers(graph, after)


def test_a_global_pooling_takes_no_other_shape() -> None:
    b = GraphBuilder()
    pooled = b.add("reduce_mean", b.input("x", 4, 3, 6))
    graph = b.graph(b.add("reshape", pooled, shape=(2, 3)))
    assert run_pass(graph, merge_reshapes)[0] is graph


def test_a_reshape_that_others_read_stays() -> None:
    b = GraphBuilder()
    flat = b.add("reshape", b.input("x", 4, 3), shape=(12,))
    again = b.add("reshape", flat, shape=(3, 4))
    assert operators(run_pass(b.graph(again, flat), merge_reshapes)[0]) == ["reshape", "reshape"]
    other = b.add("activation", flat, activation="tanh")
    assert operators(run_pass(b.graph(again, other), merge_reshapes)[0]) == ["reshape", "reshape", "activation"]


def test_reshapes_of_an_unknown_size_merge() -> None:
    b = GraphBuilder()
    halves = b.add("reshape", b.input("x", None, 3), shape=(2, -1))
    graph = b.graph(b.add("reshape", halves, shape=(-1, 1)))
    after, _ = run_pass(graph, merge_reshapes)
    assert operators(after) == ["reshape"]
    assert_same_answers(graph, after)


def test_a_reshape_that_tells_an_unknown_size_stays() -> None:
    b = GraphBuilder()
    # From (2, 9) the second knows that it makes 3 rows; from x it would not.
    known = b.add("reshape", b.input("x", None, 3), shape=(2, 9))
    graph = b.graph(b.add("reshape", known, shape=(-1, 6)))
    assert run_pass(graph, merge_reshapes)[0] is graph

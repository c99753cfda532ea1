"""Nodes that compute the same from the same become one."""

from __future__ import annotations

import math

from hypothesis import given, settings

from edgecnn.converters.passes.share_nodes import share_nodes
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, assert_same_answers, cnn_graphs

RELU = {"activation": "relu", "activation_parameters": (0.0, math.inf, 0.0)}


def names(graph: Graph) -> list[str]:
    after, _ = run_pass(graph, share_nodes)
    assert_same_answers(graph, after)
    return [node.name for node in after.nodes]


def test_branches_that_begin_alike_share_their_beginning() -> None:
    b = GraphBuilder()
    x = b.input("x", 6, 6, 4)
    ends = []
    for index in range(3):
        relu = b.add("activation", x, name=f"relu{index}", **RELU)
        ends.append(b.add("max_pool", relu, name=f"pool{index}", pool_size=(2 + index % 2, 2), strides=(2, 2)))
    total = b.add("add", ends[0], ends[2], name="sum")
    assert names(b.graph(b.add("add", total, total, name="twice"), ends[1])) == [
        "relu0",
        "pool0",
        "pool1",
        "sum",
        "twice",
    ]


def test_another_attribute_input_or_order_keeps_them_apart() -> None:
    b = GraphBuilder()
    x, y = b.input("x", 4), b.input("y", 4)
    made = [
        b.add("activation", x, **RELU),
        b.add("activation", y, **RELU),
        b.add("activation", x, activation="relu", activation_parameters=(0.0, 6.0, 0.0)),
        b.add("subtract", x, y),
        b.add("subtract", y, x),
    ]
    total = made[0]
    for other in made[1:]:
        total = b.add("add", total, other)
    graph = b.graph(total)
    assert len(names(graph)) == len(graph.nodes)


def test_public_outputs_stay_what_they_are() -> None:
    b = GraphBuilder()
    x = b.input("x", 4)
    one, two = (b.add("activation", x, name=name, **RELU) for name in ("one", "two"))
    assert names(b.graph(one, two)) == ["one", "two"]


def test_zeros_of_different_sign_keep_them_apart() -> None:
    b = GraphBuilder()
    x = b.input("x", 4)
    made = [b.add("activation", x, activation="threshold", activation_parameters=(0.5, zero)) for zero in (0.0, -0.0)]
    assert len(names(b.graph(b.add("add", *made)))) == 3


@given(cnn_graphs())
@settings(max_examples=60, deadline=None)
def test_random_networks_answer_as_before_and_nothing_is_left_to_do(graph: Graph) -> None:
    after, _ = run_pass(graph, share_nodes)
    assert_same_answers(graph, after)
    assert list(share_nodes(after)) == []

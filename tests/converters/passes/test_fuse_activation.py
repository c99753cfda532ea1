"""An activation becomes the end of the node before it."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.converters.passes.fuse_activation import fuse_activation
from edgecnn.graph import OPERATORS
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, operators

ACTIVATED = sorted(name for name, row in OPERATORS.items() if row.activated)


def before_activation(b: GraphBuilder, operator: str, **attributes: str) -> str:
    """A node of an operator over an input of (4, 4, 3)."""
    x, w = b.input("x", 4, 4, 3), Weights(1)
    others = {
        "conv": lambda: [w.normal(3, 3, 3, 5)],
        "depthwise_conv": lambda: [w.normal(3, 3, 3, 2)],
        "dense": lambda: [w.normal(3, 2)],
        "batch_normalization": lambda: w.statistics(3),
        "activation": list,
        "add": lambda: [w.normal(3)],
        "multiply": lambda: [w.normal(4, 3)],
        "conv_transpose": lambda: [w.normal(3, 3, 5, 3)],
        "layer_normalization": lambda: [w.normal(3), w.normal(3)],
        "group_normalization": lambda: [w.normal(3), w.normal(3)],
        "power": lambda: [np.full(3, 2.0)],
        **dict.fromkeys(
            ("subtract", "divide", "maximum", "minimum", "prelu", "equal", "less", "keep"), lambda: [w.normal(3)]
        ),
    }[operator]()
    return b.add(operator, x, *others, name="node", **attributes)


@pytest.mark.parametrize("operator", ACTIVATED)
def test_every_operator_that_can_takes_it(operator: str) -> None:
    b = GraphBuilder()
    y = before_activation(b, operator)
    graph = b.graph(b.add("activation", y, activation="relu", activation_parameters=(0.1, 2.0, 0.0), name="relu"))
    after, trace = run_pass(graph, fuse_activation)
    (node,) = after.nodes
    assert (node.operator, node.name, node.layers) == (operator, "node", ("node", "relu"))
    assert (node.attributes["activation"], node.attributes["activation_parameters"]) == ("relu", (0.1, 2.0, 0.0))
    assert len(trace) == 1
    assert_same_answers(graph, after)


@pytest.mark.parametrize("operator", ACTIVATED)
def test_a_node_that_ends_in_one_already_takes_no_other(operator: str) -> None:
    b = GraphBuilder()
    y = before_activation(b, operator, activation="tanh")
    graph = b.graph(b.add("activation", y, activation="relu"))
    assert run_pass(graph, fuse_activation)[0] is graph


def test_two_activations_in_a_row_fuse_the_first_only() -> None:
    b = GraphBuilder()
    y = before_activation(b, "conv")
    y = b.add("activation", y, activation="tanh")
    graph = b.graph(b.add("activation", y, activation="elu"))
    after, _ = run_pass(graph, fuse_activation)
    assert operators(after) == ["conv", "activation"]
    assert after.nodes[0].attributes["activation"] == "tanh"
    assert_same_answers(graph, after)


def test_a_second_reader_keeps_it() -> None:
    b = GraphBuilder()
    y = before_activation(b, "conv")
    graph = b.graph(b.add("add", b.add("activation", y, activation="relu"), y))
    assert run_pass(graph, fuse_activation)[0] is graph


def test_a_public_output_before_it_keeps_it() -> None:
    b = GraphBuilder()
    y = before_activation(b, "conv")
    graph = b.graph(b.add("activation", y, activation="relu"), y)
    assert run_pass(graph, fuse_activation)[0] is graph


def test_a_pooling_cannot_take_it_and_an_input_neither() -> None:
    b = GraphBuilder()
    y = b.add("activation", b.input("x", 4, 4, 1), activation="relu")
    y = b.add("max_pool", y, pool_size=(2, 2))
    graph = b.graph(b.add("activation", y, activation="tanh"))
    assert run_pass(graph, fuse_activation)[0] is graph


def test_a_softmax_is_no_activation() -> None:
    b = GraphBuilder()
    y = b.add("dense", b.input("x", 3), np.ones((3, 2)))
    graph = b.graph(b.add("softmax", y, axis=1))
    assert run_pass(graph, fuse_activation)[0] is graph

"""Nodes that no public output needs disappear."""

from __future__ import annotations

import numpy as np

from edgecnn.converters.passes.remove_dead_nodes import remove_dead_nodes
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, assert_same_answers


def test_a_whole_dead_branch_goes_with_its_weights() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    b.add("conv", x, np.ones((1, 1, 2, 3)), name="dead")
    b.add("activation", "dead", activation="tanh", name="dead too")
    graph = b.graph(b.add("activation", x, activation="relu", name="y"))
    after, trace = run_pass(graph, remove_dead_nodes)
    assert [node.name for node in after.nodes] == ["y"]
    assert not after.constants
    assert {row.removed for row in trace} == {("dead",), ("dead too",)}
    assert_same_answers(graph, after)


def test_a_public_input_stays_even_unread() -> None:
    b = GraphBuilder()
    x, unread = b.input("x", 3), b.input("unread", 3)
    b.add("identity", unread)
    after, _ = run_pass(b.graph(b.add("identity", x, name="y")), remove_dead_nodes)
    assert [port.name for port in after.inputs] == ["x", "unread"]
    assert [node.name for node in after.nodes] == ["y"]


def test_nothing_that_any_output_needs_is_dead() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    a = b.add("identity", x)
    graph = b.graph(b.add("activation", a, activation="tanh"), a)
    after, trace = run_pass(graph, remove_dead_nodes)
    assert after is graph
    assert not trace

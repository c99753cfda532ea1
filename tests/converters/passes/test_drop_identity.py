"""Nodes that give back their input disappear."""

from __future__ import annotations

from typing import Any

import pytest

from edgecnn.converters.passes.drop_identity import drop_identity
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, assert_same_answers, operators

NOTHING: list[tuple[str, dict[str, Any]]] = [
    ("identity", {}),
    ("activation", {"activation": "linear"}),
    ("reshape", {"shape": (4, 6, 2)}),
    ("reshape", {"shape": (4, -1, 2)}),
    ("pad", {"pads": (0, 0, 0, 0)}),
]
SOMETHING: list[tuple[str, dict[str, Any]]] = [
    ("activation", {"activation": "relu"}),
    ("reshape", {"shape": (6, 4, 2)}),
    ("pad", {"pads": (0, 0, 0, 1)}),
    ("reduce_max", {"keepdims": 1}),
]


@pytest.mark.parametrize(("operator", "attributes"), NOTHING)
def test_drops(operator: str, attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    x = b.add("activation", b.input("x", 4, 6, 2), activation="tanh")
    middle = b.add(operator, x, **attributes)
    graph = b.graph(b.add("softmax", middle, axis=3))
    after, trace = run_pass(graph, drop_identity)
    assert operators(after) == ["activation", "softmax"]
    assert [row.layers for row in trace] == [(middle,)]
    assert_same_answers(graph, after)


@pytest.mark.parametrize(("operator", "attributes"), SOMETHING)
def test_keeps(operator: str, attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 6, 2)
    graph = b.graph(b.add(operator, x, **attributes))
    assert run_pass(graph, drop_identity)[0] is graph


def test_a_chain_goes_and_its_reader_turns_to_the_start() -> None:
    b = GraphBuilder()
    x = b.add("activation", b.input("x", 3), activation="tanh", name="tanh")
    for _ in range(5):
        x = b.add("identity", x)
    graph = b.graph(b.add("add", x, x, name="y"))
    after, _ = run_pass(graph, drop_identity)
    assert operators(after) == ["activation", "add"]
    assert after.nodes[1].inputs == ("tanh", "tanh")


def test_a_public_output_then_shows_what_the_identity_read() -> None:
    b = GraphBuilder()
    x = b.add("activation", b.input("x", 3), activation="tanh", name="tanh")
    graph = b.graph(b.add("identity", x, name="y"), x)
    after, _ = run_pass(graph, drop_identity)
    assert [(port.name, port.tensor) for port in after.outputs] == [("y", "tanh"), ("tanh", "tanh")]
    assert_same_answers(graph, after)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_one_stays_between_a_public_input_and_a_public_output(length: int) -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    for _ in range(length):
        x = b.add("identity", x)
    graph = b.graph(x)
    after, _ = run_pass(graph, drop_identity)
    assert operators(after) == ["identity"]
    assert after.outputs[0].tensor != "x"
    assert_same_answers(graph, after)


def test_a_second_output_behind_the_one_that_stays_shows_the_same_tensor() -> None:
    b = GraphBuilder()
    one = b.add("identity", b.input("x", 3), name="one")
    graph = b.graph(one, b.add("identity", one, name="two"))
    after, _ = run_pass(graph, drop_identity)
    assert [(port.name, port.tensor) for port in after.outputs] == [("one", "one"), ("two", "one")]
    assert_same_answers(graph, after)


def test_a_reshape_with_an_unknown_size_that_stays_where_it_was_goes() -> None:
    b = GraphBuilder()
    x = b.add("activation", b.input("x", None, 3), activation="tanh")
    graph = b.graph(b.add("softmax", b.add("reshape", x, shape=(-1, 3)), axis=2))
    after, _ = run_pass(graph, drop_identity)
    assert operators(after) == ["activation", "softmax"]
    assert_same_answers(graph, after)

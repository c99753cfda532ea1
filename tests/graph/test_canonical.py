"""The form of graphs that compute the same: order and names, by hand and on random networks."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.format.writer import encode
from edgecnn.graph import Graph
from edgecnn.graph.canonical import in_order, named_after_nodes
from graph_strategies import GraphBuilder, cnn_graphs
from examples import examples


def shuffled(graph: Graph, seed: int) -> Graph:
    """The graph with its nodes, tensors and constants in another order that can be computed."""
    chance = random.Random(seed)
    left, known = list(graph.nodes), {port.tensor for port in graph.inputs} | set(graph.constants) | {""}
    nodes = []
    while left:
        node = chance.choice([n for n in left if known.issuperset(n.inputs)])
        left.remove(node)
        nodes.append(node)
        known.update(node.outputs)
    tensors, constants = list(graph.tensors.items()), list(graph.constants.items())
    chance.shuffle(tensors)
    chance.shuffle(constants)
    return replace(graph, nodes=tuple(nodes), tensors=dict(tensors), constants=dict(constants))


@given(cnn_graphs(), st.integers(0, 1000))
@settings(max_examples=examples(60), deadline=None)
def test_the_bytes_do_not_depend_on_the_order(graph: Graph, seed: int) -> None:
    other = shuffled(graph, seed)
    other.check()
    wanted, found = (named_after_nodes(in_order(g)) for g in (graph, other))
    found.check()
    assert encode(found) == encode(wanted)
    assert encode(named_after_nodes(in_order(found))) == encode(found)


def test_a_branch_is_computed_whole_before_the_next() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 4, 2)
    a = b.add("activation", x, activation="relu")
    c = b.add("activation", x, activation="tanh")
    d = b.add("activation", a, activation="sigmoid")
    e = b.add("activation", c, activation="abs")
    graph = in_order(b.graph(b.add("concatenate", e, d, axis=3)))
    assert [node.output for node in graph.nodes][:4] == [c, e, a, d]


def test_names_follow_from_nodes_and_roles() -> None:
    b = GraphBuilder()
    x = b.input("image", 4, 4, 2)
    y = b.add("multiply", x, b.constant("scale", [2.0, 3.0]))
    z = b.add("multiply", y, "scale")
    graph = named_after_nodes(b.graph(z))
    first, second = graph.nodes
    assert first.inputs == ("image", f"{first.name}/y")
    assert second.inputs == (first.name, f"{first.name}/y")
    assert graph.outputs[0].tensor == second.name

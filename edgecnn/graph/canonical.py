"""One form for graphs that compute the same: the order of their nodes, and the names of what flows between them.

What a file holds then follows from what is computed and from the names of the layers, not from the order in which a model lists
its layers or from the passes that made a weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgecnn.graph.graph import Graph, Node, Port
from edgecnn.graph.operators import OPERATORS


def in_order(graph: Graph) -> Graph:
    """The graph with its nodes as a walk meets them that goes from each output to what it reads, first inputs first.

    A branch is computed whole before the next one begins. What no output needs comes last. Tensors and constants stand in the order
    of their first use.
    """
    nodes = _walk(graph)
    tensors = [port.tensor for port in graph.inputs]
    tensors += [name for node in nodes for name in node.outputs]
    constants = dict.fromkeys(name for node in nodes for name in node.inputs if name in graph.constants)
    return replace(
        graph,
        nodes=tuple(nodes),
        tensors={name: graph.tensors[name] for name in tensors},
        constants={name: graph.constants[name] for name in constants},
    )


def _walk(graph: Graph) -> list[Node]:
    done: set[str] = set()
    found: list[Node] = []
    targets = [graph.producers.get(port.tensor) for port in graph.outputs]
    for target in (*targets, *graph.nodes):
        # A stack of its own: networks are deeper than Python's.
        stack = [target] if target is not None else []
        while stack:
            node = stack[-1]
            before = [graph.producers[name] for name in node.inputs if name in graph.producers]
            waiting = [other for other in before if other.name not in done]
            if waiting and node.name not in done:
                stack.append(waiting[0])
                continue
            stack.pop()
            if node.name not in done:
                done.add(node.name)
                found.append(node)
    return found


def named_after_nodes(graph: Graph) -> Graph:
    """The graph with tensors called after the node that gives them (inputs: as the public knows them), and constants after the
    node that reads them first and their role there."""
    names: dict[str, str] = {}
    taken: set[str] = set()

    def give(old: str, wanted: str) -> None:
        if old in names:
            return
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted} {number}", number + 1
        taken.add(name)
        names[old] = name

    for port in graph.inputs:
        give(port.tensor, port.name)
    for node in graph.nodes:
        give(node.output, node.name)
    for node in graph.nodes:
        roles = OPERATORS[node.operator].roles
        for index, name in enumerate(node.inputs):
            if name in graph.constants:
                give(name, f"{node.name}/{roles[min(index, len(roles) - 1)].name}")

    def ports(given: Iterable[Port]) -> tuple[Port, ...]:
        return tuple(Port(port.name, names[port.tensor]) for port in given)

    return replace(
        graph,
        inputs=ports(graph.inputs),
        outputs=ports(graph.outputs),
        nodes=tuple(
            replace(
                node,
                inputs=tuple(names.get(name, name) for name in node.inputs),
                outputs=(names[node.output],),
            )
            for node in graph.nodes
        ),
        tensors={names[name]: replace(tensor, name=names[name]) for name, tensor in graph.tensors.items()},
        constants={names[name]: replace(constant, name=names[name]) for name, constant in graph.constants.items()},
    )

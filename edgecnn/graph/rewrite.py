"""Rewriting graphs: a pass yields patches, the driver applies them, checks each result, and goes on to the fixed point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgecnn.errors import GraphError
from edgecnn.graph.graph import Constant, Graph, Node, Port, Tensor

SPARE_ROUNDS = 8
"""Rounds that a pass may take beyond one a node: each patch that removes more than it adds leaves a node less, so that a
pass that goes on longer undoes its own work."""


@dataclass(frozen=True)
class Patch:
    """One change, complete in itself: every tensor that is there after it has the value that it had before.

    Attributes:
        remove: names of nodes that go, at least one.
        add: nodes that come, in order, in the place of the last removed one.
        tensors, constants: new ones, under names that are not taken (see `fresh_name`).
        redirect: tensors that are no longer read, and what is read instead, by nodes and public outputs alike. Public
            inputs stay as they are.
    """

    remove: tuple[str, ...]
    add: tuple[Node, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    constants: tuple[Constant, ...] = ()
    redirect: Mapping[str, str] = field(default_factory=dict)


Pass = Callable[[Graph], Iterator[Patch]]
"""Patches for a graph; those that touch the same nodes are left for the next round."""


@dataclass(frozen=True)
class TraceRow:
    """What one patch did: the pass, the nodes that went and came, the source layers concerned."""

    pass_name: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    layers: tuple[str, ...]


def apply(graph: Graph, patches: Sequence[Patch]) -> Graph:
    """The graph after patches that touch different nodes; tensors and constants that nobody uses are left out.

    Takes time in proportion to the graph, however many patches there are.

    Raises:
        GraphError: a patch does not fit the graph, or the result breaks a rule.
    """
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    gone: set[str] = set()
    coming: dict[int, list[Node]] = {}
    redirect: dict[str, str] = {}
    tensors: dict[str, Tensor] = dict(graph.tensors)
    constants: dict[str, Constant] = dict(graph.constants)
    for patch in patches:
        unknown = [name for name in patch.remove if name not in position or name in gone]
        if unknown or not patch.remove:
            raise GraphError(f"a patch removes {patch.remove}, of which {unknown} are not there")
        gone.update(patch.remove)
        coming.setdefault(max(position[name] for name in patch.remove), []).extend(patch.add)
        redirect.update(patch.redirect)
        for name in (*(tensor.name for tensor in patch.tensors), *(constant.name for constant in patch.constants)):
            if name in tensors or name in constants:
                raise GraphError(f"a patch brings {name!r}, a name that is taken")
        tensors.update({tensor.name: tensor for tensor in patch.tensors})
        constants.update({constant.name: constant for constant in patch.constants})

    final: dict[str, str] = {}

    def follow(name: str) -> str:
        if name not in redirect:
            return name
        passed: dict[str, None] = {}
        while name in redirect and name not in final:
            if name in passed:
                raise GraphError(f"patches redirect {', '.join(map(repr, passed))} in a circle")
            passed[name] = None
            name = redirect[name]
        name = final.get(name, name)
        final.update(dict.fromkeys(passed, name))
        return name

    nodes: list[Node] = []
    for index, node in enumerate(graph.nodes):
        for kept in (*(() if node.name in gone else (node,)), *coming.get(index, ())):
            inputs = tuple(follow(name) for name in kept.inputs)
            nodes.append(kept if inputs == kept.inputs else replace(kept, inputs=inputs))
    outputs = tuple(Port(port.name, follow(port.tensor)) for port in graph.outputs)
    made = {port.tensor for port in graph.inputs} | {name for node in nodes for name in node.outputs}
    read = {name for node in nodes for name in node.inputs}
    result = replace(
        graph,
        nodes=tuple(nodes),
        outputs=outputs,
        tensors={name: tensor for name, tensor in tensors.items() if name in made},
        constants={name: constant for name, constant in constants.items() if name in read},
    )
    for old, new in zip(graph.outputs, result.outputs, strict=True):
        if new.tensor in result.tensors and result.shape(new.tensor) != graph.shape(old.tensor):
            shapes = f"{graph.shape(old.tensor)} to {result.shape(new.tensor)}"
            raise GraphError(f"output {old.name!r} changes its shape from {shapes}")
    result.check()
    return result


def run_pass(graph: Graph, rewrite: Pass) -> tuple[Graph, list[TraceRow]]:
    """Apply a pass until it finds nothing more.

    Raises:
        GraphError: it breaks a rule, or never ends; the message names the pass.
    """
    name = rewrite.__name__
    trace: list[TraceRow] = []
    rounds = len(graph.nodes) + SPARE_ROUNDS
    for _ in range(rounds):
        touched: set[str] = set()
        patches: list[Patch] = []
        for patch in rewrite(graph):
            if touched.isdisjoint(patch.remove):
                touched.update(patch.remove)
                patches.append(patch)
        if not patches:
            return graph, trace
        layers = {node.name: node.layers for node in graph.nodes}
        for patch in patches:
            concerned = tuple(dict.fromkeys(layer for n in patch.remove for layer in layers[n]))
            trace.append(TraceRow(name, patch.remove, tuple(node.name for node in patch.add), concerned))
        try:
            graph = apply(graph, patches)
        except GraphError as error:
            raise GraphError(f"pass {name}: {error}") from error
    raise GraphError(f"pass {name}: finds no end after {rounds} rounds")


def only_reader(graph: Graph, tensor: str) -> Node | None:
    """The node that alone reads a tensor; None if there are others, none, or a public output shows it."""
    readers = graph.readers[tensor]
    return readers[0] if len(readers) == 1 and tensor not in graph.output_tensors else None


def fresh_name(graph: Graph, wanted: str) -> str:
    """A name for a new tensor or constant: the wanted one, with a number where it is taken."""
    name, number = wanted, 2
    while name in graph.tensors or name in graph.constants:
        name, number = f"{wanted} {number}", number + 1
    return name


def merged_layers(*nodes: Node) -> tuple[str, ...]:
    """Source layers of nodes that become one."""
    return tuple(dict.fromkeys(layer for node in nodes for layer in node.layers))

"""A transposition moves behind the node that reads it, until it meets the one that undoes it.

    transpose(x) -> activation                =>  activation(x) -> transpose
    add(transpose(x), transpose(y))           =>  add(x, y) -> transpose       (concatenate and other sums likewise)
    add(transpose(x), constant)               =>  add(x, transposed constant) -> transpose
    transpose(x) -> reduce, slice, softmax    =>  the same over the axes where they were before -> transpose

So channels_first models, whose layers each come as transpose -> operator -> transpose, keep at most the transpositions of
their inputs and outputs. Each move brings a transposition nearer to the outputs, so that it ends. An operand that is not
transposed is so beforehand if most of the others are; or if it has but one axis that is longer than 1, which costs nothing.
Padding is left alone: it comes between transpositions of its own, and belongs to the window behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgecnn.converters.passes.merge_transposes import as_reshape
from edgecnn.errors import GraphError
from edgecnn.graph import OPERATORS, Constant, Graph, Node, Tensor
from edgecnn.graph.operators import ints, number
from edgecnn.graph.rewrite import Patch, fresh_name

BINARY = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "prelu"),
    *("equal", "less", "keep"),
)
_ANY_ORDER = ("activation", "identity")
_LAST_AXIS_STAYS = (
    "batch_normalization",
    "layer_normalization",
    "group_normalization",
    "local_response_normalization",
    "sparsemax",
    "dense",
)
_PER_AXIS = ("starts", "stops", "steps")


def sink_transposes(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        if node.operator == "transpose" or not node.outputs:
            continue
        order = _common_order(graph, node)
        if order is None:
            continue
        try:
            patch = _moved(graph, node, order)
        except GraphError:
            continue
        if patch is not None:
            yield patch


def _order(graph: Graph, name: str) -> tuple[int, ...] | None:
    """The whole permutation, batch included, by which a tensor is transposed; None if it is not."""
    node = graph.producers.get(name)
    return (0, *ints(node.attributes, "permutation")) if node is not None and node.operator == "transpose" else None


def _common_order(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """The permutation that may move behind a node: that of its input, or of most of its operands."""
    if node.operator not in (*BINARY, "concatenate"):
        first = _order(graph, node.inputs[0])
        return first if first is not None and not any(n in graph.tensors for n in node.inputs[1:]) else None
    tensors = [name for name in node.inputs if name in graph.tensors]
    orders = [_order(graph, name) for name in tensors]
    order = next((order for order in orders if order is not None), None)
    if order is None:
        return None
    others = [name for name, found in zip(tensors, orders, strict=True) if found != order]
    inverse = _inverse(order)
    costly = [name for name in others if as_reshape(graph.shape(name), inverse[1:]) is None]
    return order if len(costly) < orders.count(order) and len(others) < len(tensors) else None


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.argsort(order))


def _moved(graph: Graph, node: Node, order: tuple[int, ...]) -> Patch | None:
    """The node before the transposition, and the transposition behind it."""
    after = order
    attributes: dict[str, Any] = dict(node.attributes)
    rank = len(order)
    if node.operator in _ANY_ORDER or node.operator in BINARY:
        pass
    elif node.operator in _LAST_AXIS_STAYS:
        if order[-1] != rank - 1:
            return None
    elif node.operator in ("concatenate", "softmax"):
        attributes["axis"] = order[number(attributes, "axis")]
    elif node.operator == "slice":
        for name in _PER_AXIS:
            attributes[name] = _reordered(ints(attributes, name), order)
    elif node.operator.startswith("reduce_"):
        axes = ints(attributes, "axes")
        attributes["axes"] = tuple(sorted(order[axis] for axis in axes))
        if not attributes["keepdims"]:
            kept = [order[axis] for axis in range(rank) if axis not in axes]
            after = tuple(sorted(kept).index(axis) for axis in kept)
    elif node.operator == "reshape":
        found = _reshaped(graph, node, order)
        if found is None:
            return None
        attributes["shape"], after, inner = found
        if inner != tuple(range(rank)):
            return None if inner == order else _around_reshape(graph, node, inner, attributes["shape"], after)
    else:
        return None
    inputs, added, tensors, constants = _operands(graph, node, order)
    known: dict[str, Any] = {tensor.name: tensor.shape for tensor in tensors}
    known |= {constant.name: constant.shape for constant in constants}
    shapes = [known.get(name) or graph.shape(name) if name else None for name in inputs]
    (shape,) = OPERATORS[node.operator].shapes(attributes, shapes)
    if after == tuple(range(len(after))):
        moved = replace(node, inputs=tuple(inputs), attributes=attributes)
        return Patch((node.name,), (*added, moved), tensors=tuple(tensors), constants=tuple(constants))
    name = fresh_name(graph, f"{node.name}/transposed")
    moved = replace(node, inputs=tuple(inputs), outputs=(name,), attributes=attributes)
    behind = Node("transpose", name, (name,), node.outputs, {"permutation": after[1:]}, node.layers)
    tensors.append(Tensor(name, shape))
    return Patch((node.name,), (*added, moved, behind), tensors=tuple(tensors), constants=tuple(constants))


def _reordered(values: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """A number for each axis but the batch, in the order before the transposition."""
    result = [0] * len(values)
    for value, source in zip(values, order[1:], strict=True):
        result[source - 1] = value
    return tuple(result)


def _operands(
    graph: Graph, node: Node, order: tuple[int, ...]
) -> tuple[list[str], list[Node], list[Tensor], list[Constant]]:
    """The inputs as they are before the transposition, and what must be added for that."""
    inverse = _inverse(order)
    inputs: list[str] = []
    added: list[Node] = []
    tensors: list[Tensor] = []
    constants: list[Constant] = []
    for index, name in enumerate(node.inputs):
        if name in graph.constants and node.operator in BINARY:
            constant = graph.constants[name]
            values = constant.array
            if values.size > 1:
                full = values.reshape((1,) * (len(order) - values.ndim) + values.shape)
                values = np.ascontiguousarray(full.transpose(inverse))
                new = replace(constant, name=fresh_name(graph, f"{node.name}/{index} transposed"), array=values)
                constants.append(new)
                name = new.name
        elif name in graph.tensors:
            if _order(graph, name) == order:
                name = graph.producers[name].inputs[0]
            else:
                shape = tuple(graph.shape(name)[axis] for axis in inverse)
                target = as_reshape(graph.shape(name), inverse[1:])
                new_name = fresh_name(graph, f"{node.name}/{index} transposed")
                attributes: Mapping[str, Any] = {"permutation": inverse[1:]} if target is None else {"shape": target}
                operator = "transpose" if target is None else "reshape"
                if all(tensor.name != new_name for tensor in tensors):
                    tensors.append(Tensor(new_name, shape))
                    added.append(Node(operator, new_name, (name,), (new_name,), attributes, node.layers))
                name = new_name
        inputs.append(name)
    return inputs, added, tensors, constants


def _reshaped(
    graph: Graph, node: Node, order: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """A reshape's target before the transposition, the transposition behind it, and the one that must stay before it.

    Each part of the reshape (axes that become others of the same number of values) takes axes as the transposition has put
    them. Where these were neighbours in that order anyhow, nothing stays before it. Else what brings them together stays: the
    shuffling of channels in groups, of which the moving of channels to the front is no part.
    """
    sizes, target = graph.shape(node.inputs[0])[1:], graph.shape(node.output)[1:]
    if None in sizes or None in target:
        return None
    parts = _parts(list(sizes), list(target))  # type: ignore[arg-type]
    sources = [[order[axis] for axis in axes] for axes, _ in parts]
    if not all(sources):
        return None
    before = sorted(range(len(parts)), key=lambda part: min(sources[part]))
    places: dict[int, list[int]] = {}
    new: list[int] = []
    for part in before:
        places[part] = list(range(len(new) + 1, len(new) + 1 + len(parts[part][1])))
        new += parts[part][1]
    after = (0, *(place for part in range(len(parts)) for place in places[part]))
    return tuple(new), after, (0, *(axis for part in before for axis in sources[part]))


def _around_reshape(
    graph: Graph, node: Node, inner: tuple[int, ...], target: tuple[int, ...], after: tuple[int, ...]
) -> Patch:
    """transpose -> reshape as inner transpose -> reshape -> transpose."""
    source = graph.producers[node.inputs[0]].inputs[0]
    first, second = fresh_name(graph, f"{node.name}/shuffled"), fresh_name(graph, f"{node.name}/transposed")
    shape = tuple(graph.shape(source)[axis] for axis in inner)
    return Patch(
        (node.name,),
        (
            Node("transpose", first, (source,), (first,), {"permutation": inner[1:]}, node.layers),
            replace(node, inputs=(first,), outputs=(second,), attributes={"shape": target}),
            Node("transpose", f"{second} back", (second,), node.outputs, {"permutation": after[1:]}, node.layers),
        ),
        tensors=(Tensor(first, shape), Tensor(second, (None, *target))),
    )


def _parts(sizes: list[int], target: list[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes (numbers from 1) whose sizes multiply to those of neighbouring targets."""
    parts: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(sizes) and j < len(target):
        axes, made = [i + 1], [target[j]]
        have, want = sizes[i], target[j]
        i, j = i + 1, j + 1
        while have != want:
            if have < want:
                have *= sizes[i]
                axes.append(i + 1)
                i += 1
            else:
                want *= target[j]
                made.append(target[j])
                j += 1
        parts.append((axes, made))
    if parts:  # what is left is of size 1
        parts[-1][0].extend(range(i + 1, len(sizes) + 1))
        parts[-1][1].extend(target[j:])
    return parts

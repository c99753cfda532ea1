"""Slices become one, and take place before the padding of what they leave.

    pooling by windows of one pixel =>  slice
    slice -> slice                  =>  slice
    pad -> slice                    =>  slice -> pad: less is padded, and a convolution may take the padding

The first of two goes only where nobody else reads it. Sizes that are not known yet may keep them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import OPERATORS, Graph, Node, Tensor
from edgecnn.graph.operators import LIMIT, ints
from edgecnn.graph.rewrite import Patch, fresh_name, merged_layers, only_reader

_POOLS = ("average_pool", "max_pool")
_WHOLE = (0, LIMIT, 1)


def merge_slices(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        if node.operator in _POOLS and set(ints(node.attributes, "pool_size")) == {1}:
            steps = (*ints(node.attributes, "strides"), 1)
            taken = tuple((0, LIMIT, step) for step in steps)
            yield Patch((node.name,), (_slice(node, node.inputs[0], taken),))
        before = graph.producers.get(node.inputs[0]) if node.operator == "slice" else None
        if before is None or only_reader(graph, before.output) is None:
            continue
        if before.operator == "slice":
            sizes = graph.shape(before.inputs[0])[1:]
            merged = [_merged(*both) for both in zip(sizes, _axes(before), _axes(node), strict=True)]
            if None not in merged:
                layers = merged_layers(before, node)
                first = _slice(node, before.inputs[0], tuple(axis for axis in merged if axis is not None), layers)
                yield Patch((before.name, node.name), (first,))
        elif before.operator == "pad" and before.attributes["mode"] == "constant":
            yield from _before_padding(graph, before, node)


def _before_padding(graph: Graph, pad: Node, node: Node) -> Iterator[Patch]:
    pads = ints(pad.attributes, "pads")
    sizes = graph.shape(pad.inputs[0])[1:]
    split = [
        _split(size, pads[2 * axis : 2 * axis + 2], taken)
        for axis, (size, taken) in enumerate(zip(sizes, _axes(node), strict=True))
    ]
    if None in split:
        return
    known = [each for each in split if each is not None]
    name = fresh_name(graph, f"{node.output}/sliced")
    first = replace(_slice(node, pad.inputs[0], tuple(taken for taken, _ in known)), outputs=(name,))
    left = tuple(count for _, counts in known for count in counts)
    second = replace(
        pad, inputs=(name,), outputs=node.outputs, attributes={**pad.attributes, "pads": left}, layers=pad.layers
    )
    (shape,) = OPERATORS["slice"].shapes(first.attributes, [graph.shape(pad.inputs[0])])
    yield Patch((pad.name, node.name), (first, second), (Tensor(name, shape),))


def _slice(node: Node, x: str, axes: tuple[tuple[int, int, int], ...], layers: tuple[str, ...] = ()) -> Node:
    """A slice in a node's place: start, stop and step for each axis."""
    names = ("starts", "stops", "steps")
    attributes = {name: tuple(axis[part] for axis in axes) for part, name in enumerate(names)}
    return replace(node, operator="slice", inputs=(x,), attributes=attributes, layers=layers or node.layers)


def _axes(node: Node) -> list[tuple[int, int, int]]:
    """Start, stop and step for each axis."""
    starts, stops, steps = (ints(node.attributes, name) for name in ("starts", "stops", "steps"))
    return list(zip(starts, stops, steps, strict=True))


def _merged(size: int | None, first: tuple[int, int, int], second: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """One slice for two along an axis; None if there is none, or if it depends on a size that is not known."""
    if _WHOLE in (first, second):
        return second if first == _WHOLE else first
    if min(first[2], second[2]) < 1:
        return None
    if size is not None:
        return _of_range(range(size)[slice(*first)][slice(*second)], size)
    start, step = first[0] + second[0] * first[2], first[2] * second[2]
    if first[1] == second[1] == LIMIT and min(first[0], second[0]) >= 0 and max(start, step) <= LIMIT:
        return start, LIMIT, step
    return None


def _split(
    size: int | None, pads: tuple[int, ...], taken: tuple[int, int, int]
) -> tuple[tuple[int, int, int], tuple[int, int]] | None:
    """What a slice of a padded axis takes of the axis itself, and of the padding before and after; None if that is
    nothing, or depends on a size that is not known."""
    if taken == _WHOLE:
        return _WHOLE, (pads[0], pads[1])
    if pads == (0, 0):
        return taken, (0, 0)
    if size is None or taken[2] < 1:
        return None
    places = range(size + sum(pads))[slice(*taken)]
    before = len(range(places.start, min(places.stop, pads[0]), places.step))
    end = len(range(places.start, min(places.stop, pads[0] + size), places.step))
    if before == end:
        return None
    own = range(places[before] - pads[0], places[end - 1] - pads[0] + 1, places.step)
    return _of_range(own, size), (before, len(places) - end)


def _of_range(places: range, size: int) -> tuple[int, int, int]:
    """Start, stop and step that take some places, at least one, of an axis; to its end if nothing lies between."""
    step = places.step if len(places) > 1 else 1
    last = places[-1]
    return places[0], LIMIT if last + step >= size else last + 1, step

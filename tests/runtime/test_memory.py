"""Tensors alive at the same time never overlap, and what can share storage does."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.graph import Graph, Node, Port, Tensor
from edgecnn.runtime.arena import place
from edgecnn.runtime.memory import ALIGNMENT, ARENA, Layout, View, as_image, layout
from examples import examples

RELU = {"activation": "relu", "activation_parameters": (0.0, math.inf, 0.0)}
PLAIN = {"activation": "linear", "activation_parameters": ()}


def graph_of(nodes: list[Node], shapes: dict[str, tuple[int, ...]], inputs: list[str], outputs: list[str]) -> Graph:
    graph = Graph(
        "memory",
        tuple(Port(name, name) for name in inputs),
        tuple(Port(f"{name} {i}", name) for i, name in enumerate(outputs)),
        tuple(nodes),
        {name: Tensor(name, (None, *shape)) for name, shape in shapes.items()},
        {},
        "list",
        "list",
    )
    graph.check()
    return graph


def addresses(view: View) -> np.ndarray:
    """Every position in the buffer that a view covers."""
    rows = np.arange(view.height)[:, None, None] * view.row
    pixels = np.arange(view.width)[None, :, None] * view.pixel
    return (view.offset + rows + pixels + np.arange(view.channels)).ravel()


def simulate(graph: Graph, places: Layout) -> None:
    """Walk the graph; every value read must still be the one written: a tag for each value, in real positions."""
    buffers: dict[int, dict[int, tuple[str, int]]] = {}

    def tags(name: str) -> list[tuple[str, int]]:
        # A reshape passes its input's values on under their own tags.
        producer = graph.producers.get(name)
        if producer is not None and producer.operator == "reshape":
            return tags(producer.inputs[0])
        if producer is not None and producer.operator == "concatenate":
            axis = producer.attributes["axis"]
            parts = [np.array(tags(n), dtype=object).reshape(*graph.shape(n)[1:], 2) for n in producer.inputs]
            return [tuple(t) for t in np.concatenate(parts, axis=axis - 1).reshape(-1, 2)]
        size = math.prod(s for s in graph.shape(name)[1:] if s is not None)
        return [(name, i) for i in range(size)]

    def write(name: str) -> None:
        view = places.views[name]
        buffer = buffers.setdefault(view.buffer, {})
        buffer.update(zip(addresses(view).tolist(), tags(name), strict=True))

    def read(name: str) -> None:
        view = places.views[name]
        found = [buffers[view.buffer][a] for a in addresses(view).tolist()]
        assert found == tags(name), f"{name} was overwritten"

    for port in graph.inputs:
        write(port.tensor)
    for node in graph.nodes:
        for name in node.inputs:
            if node.name not in places.skipped:
                read(name)
        if node.name not in places.skipped:
            write(node.output)
    for port in graph.outputs:
        read(port.tensor)
    for name, view in places.views.items():
        if view.buffer == ARENA:
            assert addresses(view).max() < places.arena // 4, f"{name} lies outside the arena"


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Element-wise nodes, reshapes, concatenations and convolution-like readers over a few shapes, in any order."""
    shapes: dict[str, tuple[int, ...]] = {"in": (2, 3, 4)}
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 14))):
        name, out = f"n{i}", f"t{i}"
        kind = draw(st.sampled_from(["activation", "identity", "add", "reshape", "concatenate", "softmax"]))
        x = draw(st.sampled_from(sorted(shapes)))
        if kind == "activation":
            nodes.append(Node(kind, name, (x,), (out,), RELU))
            shapes[out] = shapes[x]
        elif kind == "identity":
            nodes.append(Node(kind, name, (x,), (out,)))
            shapes[out] = shapes[x]
        elif kind == "softmax":
            nodes.append(Node(kind, name, (x,), (out,), {"axis": draw(st.integers(1, len(shapes[x]))), "log": 0}))
            shapes[out] = shapes[x]
        elif kind == "add":
            y = draw(st.sampled_from([n for n, s in sorted(shapes.items()) if s == shapes[x]]))
            nodes.append(Node(kind, name, (x, y), (out,), PLAIN))
            shapes[out] = shapes[x]
        elif kind == "reshape":
            size = math.prod(shapes[x])
            target = draw(st.sampled_from([(size,), (1, size // 2, 2), (size // 4, 4), (2, size // 2)]))
            nodes.append(Node(kind, name, (x,), (out,), {"shape": target}))
            shapes[out] = target
        else:
            axis = draw(st.integers(1, len(shapes[x])))
            mates = [
                n
                for n, s in sorted(shapes.items())
                if len(s) == len(shapes[x])
                and all(a == b for d, (a, b) in enumerate(zip(s, shapes[x], strict=True), 1) if d != axis)
            ]
            parts = (x, *draw(st.lists(st.sampled_from(mates), max_size=2)))
            if sum(shapes[p][axis - 1] for p in parts) > 64:
                continue
            nodes.append(Node(kind, name, parts, (out,), {"axis": axis}))
            shapes[out] = (*shapes[x][: axis - 1], sum(shapes[p][axis - 1] for p in parts), *shapes[x][axis:])
    outputs = draw(st.lists(st.sampled_from(sorted(shapes)), min_size=1, max_size=3))
    return graph_of(nodes, shapes, ["in"], outputs)


@given(graphs())
@settings(max_examples=examples(300), deadline=None)
def test_no_value_is_overwritten_before_its_last_reader(graph: Graph) -> None:
    shapes = {name: tuple(s for s in t.shape[1:] if s is not None) for name, t in graph.tensors.items()}
    simulate(graph, layout(graph, shapes))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-1, 12), st.integers(0, 6)), max_size=30))
@settings(max_examples=examples(300), deadline=None)
def test_each_block_lies_at_the_lowest_offset_that_is_free(drawn: list[tuple[int, int, int]]) -> None:
    blocks = [(size, first, first + length) for size, first, length in drawn]
    offsets, end = place(blocks)
    taken: set[tuple[int, int]] = set()  # (unit of memory, time)
    for (size, first, last), offset in zip(blocks, offsets, strict=True):
        times = range(first, last + 1)
        free = (at for at in itertools.count() if not any((at + i, t) in taken for i in range(size) for t in times))
        assert offset == next(free)
        taken |= {(offset + i, time) for i in range(size) for time in times}
    assert end == max((unit + 1 for unit, _ in taken), default=0)


def shapes_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {name: tuple(s for s in t.shape[1:] if s is not None) for name, t in graph.tensors.items()}


def test_a_chain_of_activations_needs_one_block() -> None:
    names = ["in", "a", "b", "c", "out"]
    nodes = [Node("activation", f"to {y}", (x,), (y,), RELU) for x, y in itertools.pairwise(names)]
    graph = graph_of(nodes, dict.fromkeys(names, (8, 8, 16)), ["in"], ["out"])
    places = layout(graph, shapes_of(graph))
    assert places.arena == 0
    assert {places.views[name].buffer for name in ("a", "b", "c", "out")} == {2}


def test_a_reshape_costs_nothing() -> None:
    nodes = [
        Node("activation", "first", ("in",), ("a",), RELU),
        Node("reshape", "flat", ("a",), ("b",), {"shape": (24,)}),
        Node("activation", "last", ("b",), ("c",), RELU),
    ]
    graph = graph_of(nodes, {"in": (2, 3, 4), "a": (2, 3, 4), "b": (24,), "c": (24,)}, ["in"], ["c"])
    places = layout(graph, shapes_of(graph))
    assert "flat" in places.skipped


def test_inputs_of_a_concatenation_are_written_in_their_place() -> None:
    nodes = [
        Node("activation", "left", ("in",), ("a",), RELU),
        Node("activation", "right", ("in",), ("b",), RELU),
        Node("concatenate", "join", ("a", "b"), ("c",), {"axis": 3}),
        Node("identity", "more", ("c",), ("d",)),
    ]
    shapes = {"in": (2, 3, 4), "a": (2, 3, 4), "b": (2, 3, 4), "c": (2, 3, 8), "d": (2, 3, 8)}
    places = layout(graph := graph_of(nodes, shapes, ["in"], ["d"]), shapes_of(graph))
    a, b, c = (places.views[name] for name in "abc")
    assert (a.pixel, b.pixel, c.pixel) == (8, 8, 8)
    assert (a.offset, b.offset) == (c.offset, c.offset + 4)


def test_an_output_that_is_an_input_is_copied() -> None:
    nodes = [Node("activation", "other", ("in",), ("a",), RELU)]
    graph = graph_of(nodes, {"in": (2, 3, 4), "a": (2, 3, 4)}, ["in"], ["a", "in", "a"])
    places = layout(graph, shapes_of(graph))
    assert [name for name, _ in places.copies] == ["in", "a"]
    assert [view.buffer for _, view in places.copies] == [3, 4]


def test_blocks_start_at_multiples_of_64_bytes() -> None:
    nodes = [
        Node("softmax", "first", ("in",), ("a",), {"axis": 1, "log": 0}),
        Node("identity", "second", ("a",), ("b",)),
        Node("add", "third", ("a", "b"), ("c",), PLAIN),
    ]
    graph = graph_of(nodes, dict.fromkeys(["in", "a", "b", "c"], (5, 7, 3)), ["in"], ["c"])
    places = layout(graph, shapes_of(graph))
    assert all(view.offset % ALIGNMENT == 0 for view in places.views.values())


@pytest.mark.parametrize(
    ("shape", "image"),
    [((7,), (1, 1, 7)), ((5, 7), (1, 5, 7)), ((3, 5, 7), (3, 5, 7)), ((2, 3, 5, 7), (6, 5, 7)), ((), (1, 1, 1))],
)
def test_leading_sizes_make_up_the_height(shape: tuple[int, ...], image: tuple[int, int, int]) -> None:
    assert as_image(shape) == image

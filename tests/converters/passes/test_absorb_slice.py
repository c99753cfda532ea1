"""Convolutions of single pixels step over the pixels that a slice would leave out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes.absorb_slice import absorb_slice
from edgecnn.converters.passes.remove_dead_nodes import remove_dead_nodes
from edgecnn.graph import Graph
from edgecnn.graph.operators import LIMIT
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, operators

W = Weights(31)


def absorbed(graph: Graph) -> Graph:
    after, _ = run_pass(graph, absorb_slice)
    assert_same_answers(graph, after)
    return run_pass(after, remove_dead_nodes)[0]


def stepped(b: GraphBuilder, x: str, **changed: Any) -> str:
    """Every other pixel."""
    attributes = {"starts": (0, 0, 0), "stops": (LIMIT,) * 3, "steps": (2, 2, 1), **changed}
    return b.add("slice", x, name="slice", **attributes)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["same", "explicit"]),
    st.sampled_from([1, 2]),
)
@settings(deadline=None)
def test_steps_become_strides(
    sizes: tuple[int, int], steps: tuple[int, int], strides: tuple[int, int], padding: str, groups: int
) -> None:
    b = GraphBuilder()
    x = stepped(b, b.input("x", *sizes, 4), steps=(*steps, 1))
    (node,) = absorbed(b.graph(conv(b, W, x, 4, strides=strides, padding=padding, groups=groups, name="conv"))).nodes
    assert node.attributes["strides"] == (steps[0] * strides[0], steps[1] * strides[1])
    assert (node.name, node.layers) == ("conv", ("slice", "conv"))


def test_a_residual_is_still_added() -> None:
    b = GraphBuilder()
    x = stepped(b, b.input("x", 6, 6, 3))
    y = b.input("y", 3, 3, 3)
    (node,) = absorbed(b.graph(b.add("conv", x, W.normal(1, 1, 3, 3), None, y))).nodes
    assert node.attributes["strides"] == (2, 2)


def test_others_go_on_reading_the_slice() -> None:
    b = GraphBuilder()
    x = stepped(b, b.input("x", 6, 6, 3))
    after = absorbed(b.graph(conv(b, W, x, 2), b.add("activation", x, activation="tanh")))
    assert sorted(operators(after)) == ["activation", "conv", "slice"]


@pytest.mark.parametrize(
    "changed", [{"starts": (1, 0, 0)}, {"stops": (5, LIMIT, LIMIT)}, {"steps": (2, 2, 2)}, {"steps": (-1, 1, 1)}]
)
def test_a_slice_of_another_kind_stays(changed: dict[str, Any]) -> None:
    b = GraphBuilder()
    graph = b.graph(conv(b, W, stepped(b, b.input("x", 6, 6, 4), **changed), 2))
    assert run_pass(graph, absorb_slice)[0] is graph


def test_a_step_beyond_what_a_stride_can_be_stays() -> None:
    b = GraphBuilder()
    graph = b.graph(conv(b, W, stepped(b, b.input("x", 6, 6, 4), steps=(LIMIT, 1, 1)), 2, strides=(2, 2)))
    assert run_pass(graph, absorb_slice)[0] is graph


@pytest.mark.parametrize("attributes", [{"kernel": 2}, {"pads": (0, 1, 0, 0)}])
def test_a_wider_window_or_padding_keeps_the_slice(attributes: dict[str, Any]) -> None:
    b = GraphBuilder()
    graph = b.graph(conv(b, W, stepped(b, b.input("x", 6, 6, 4)), 2, **attributes))
    assert run_pass(graph, absorb_slice)[0] is graph

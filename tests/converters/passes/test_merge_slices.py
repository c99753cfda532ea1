"""Slices become one, and take place before the padding of what they leave."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes import pipeline
from edgecnn.converters.passes.merge_slices import merge_slices
from edgecnn.graph import Graph
from edgecnn.graph.operators import LIMIT
from edgecnn.graph.rewrite import run_pass
from examples import examples
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, operators

W = Weights(29)
WHOLE = (0, LIMIT, 1)


def merged(graph: Graph) -> Graph:
    after, _ = run_pass(graph, merge_slices)
    assert_same_answers(graph, after)
    return after


def sliced(b: GraphBuilder, x: str, *axes: tuple[int, int, int], **more: Any) -> str:
    """A slice of the first axes: start, stop and step of each."""
    rest = len(b.shape(x)) - 1 - len(axes)
    starts, stops, steps = zip(*axes, *[WHOLE] * rest, strict=True)
    return b.add("slice", x, starts=starts, stops=stops, steps=steps, **more)


@pytest.mark.parametrize("pool", ["average_pool", "max_pool"])
@pytest.mark.parametrize("padding", ["same", "explicit"])
def test_a_pooling_of_single_pixels_is_a_slice(pool: str, padding: str) -> None:
    b = GraphBuilder()
    x = b.add(pool, b.input("x", 7, None, 3), pool_size=(1, 1), strides=(3, 2), padding=padding, name="pool")
    (node,) = run_pass(b.graph(x), merge_slices)[0].nodes
    assert (node.operator, node.name, node.layers) == ("slice", "pool", ("pool",))
    assert node.attributes == {"starts": (0, 0, 0), "stops": (LIMIT, LIMIT, LIMIT), "steps": (3, 2, 1)}
    again = GraphBuilder()
    merged(again.graph(again.add(pool, again.input("x", 7, 6, 3), pool_size=(1, 1), strides=(3, 2), padding=padding)))


AXIS = st.tuples(st.integers(-6, 6), st.one_of(st.just(LIMIT), st.integers(-6, 8)), st.sampled_from([1, 2, 3, -1, -2]))


@given(st.integers(1, 9), AXIS, AXIS)
@settings(max_examples=examples(300), deadline=None)
def test_two_slices_are_one(size: int, first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
    left = range(size)[slice(first[0], first[1], first[2])]
    if not left or not left[slice(*second)]:
        return
    b = GraphBuilder()
    x = sliced(b, b.input("x", 2, size, 3), WHOLE, first, name="first")
    graph = b.graph(sliced(b, x, (1, 2, 1), second, name="second"))
    after = merged(graph)
    # What runs backwards is left as it is, but for where one of the two takes all.
    forwards = min(first[2], second[2]) > 0 or WHOLE in (first, second)
    assert len(after.nodes) == (1 if forwards else 2)
    assert after.nodes[-1].layers == (("first", "second") if forwards else ("second",))


def test_a_slice_that_others_read_stays() -> None:
    b = GraphBuilder()
    first = sliced(b, b.input("x", 8, 8, 2), (1, LIMIT, 1))
    second = sliced(b, first, WHOLE, (1, LIMIT, 1))
    graph = b.graph(second, first)
    assert run_pass(graph, merge_slices)[0] is graph


def test_of_an_unknown_size_what_does_not_depend_on_it() -> None:
    b = GraphBuilder()
    first = sliced(b, b.input("x", None, 8, 2), (1, LIMIT, 2))
    (node,) = run_pass(b.graph(sliced(b, first, (2, LIMIT, 3))), merge_slices)[0].nodes
    assert node.attributes["starts"] == (5, 0, 0)
    assert node.attributes["steps"] == (6, 1, 1)
    b = GraphBuilder()
    first = sliced(b, b.input("x", None, 8, 2), (-3, LIMIT, 1))
    graph = b.graph(sliced(b, first, (1, LIMIT, 1)))
    assert run_pass(graph, merge_slices)[0] is graph


@given(
    st.integers(1, 7),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(-4, 4), st.one_of(st.just(LIMIT), st.integers(-4, 9)), st.integers(1, 3)),
    st.sampled_from([0.0, 2.5]),
)
@settings(max_examples=examples(300), deadline=None)
def test_a_slice_comes_before_the_padding(
    size: int, pads: tuple[int, int], taken: tuple[int, int, int], value: float
) -> None:
    places = range(size + sum(pads))[slice(*taken)]
    if not places:
        return
    b = GraphBuilder()
    x = b.add("pad", b.input("x", 2, size, 3), pads=(1, 0, *pads, 0, 0), value=value, name="pad")
    after = merged(b.graph(sliced(b, x, WHOLE, taken, name="slice")))
    own = any(pads[0] <= place < pads[0] + size for place in places)
    first = "slice" if taken == WHOLE or own else "pad"
    assert operators(after) == [first, "pad" if first == "slice" else "slice"]
    if first == "slice":
        assert [node.layers for node in after.nodes] == [("slice",), ("pad",)]


@pytest.mark.parametrize("size", [8, None])
def test_steps_that_lead_beyond_everything(size: int | None) -> None:
    b = GraphBuilder()
    first = sliced(b, b.input("x", size, 3), (0, LIMIT, LIMIT))
    graph = b.graph(sliced(b, first, (0, LIMIT, 2)))
    after, _ = run_pass(graph, merge_slices)
    assert len(after.nodes) == (2 if size is None else 1)
    if size is not None:
        assert_same_answers(graph, after)
        assert after.nodes[0].attributes["stops"] == (1, LIMIT)


def test_tensors_without_axes() -> None:
    b = GraphBuilder()
    nothing: dict[str, Any] = {"starts": (), "stops": (), "steps": ()}
    graph = b.graph(b.add("slice", b.add("slice", b.input("x"), **nothing), **nothing))
    assert len(merged(graph).nodes) == 1


def test_of_a_long_axis_only_the_ends_are_looked_at() -> None:
    b = GraphBuilder()
    padded = b.add("pad", b.input("x", 2**28, 1, 1), pads=(2**28, 2**27, 0, 0))
    first, second = run_pass(b.graph(sliced(b, padded, (0, LIMIT, 4))), merge_slices)[0].nodes
    assert (first.attributes["steps"], second.attributes["pads"]) == ((4, 1, 1), (2**26, 2**25, 0, 0, 0, 0))


def test_mirrored_pixels_are_not_a_paddings() -> None:
    b = GraphBuilder()
    x = b.add("pad", b.input("x", 5, 5, 1), pads=(1, 1, 0, 0, 0, 0), mode="reflect")
    graph = b.graph(sliced(b, x, (1, LIMIT, 2)))
    assert run_pass(graph, merge_slices)[0] is graph


@pytest.mark.parametrize("size", [8, 9])
def test_a_factorised_reduction_becomes_two_convolutions(size: int) -> None:
    """NASNet's (Zoph et al. 2018, arXiv 1707.07012, appendix): every other pixel, and every other one from the second on."""
    b = GraphBuilder()
    x = b.input("x", size, size, 4)
    one = b.add("average_pool", x, pool_size=(1, 1), strides=(2, 2), name="pool 1")
    two = b.add("pad", x, pads=(0, 1, 0, 1))
    two = sliced(b, two, (1, LIMIT, 1))
    two = sliced(b, two, WHOLE, (1, LIMIT, 1))
    two = b.add("average_pool", two, pool_size=(1, 1), strides=(2, 2), name="pool 2")
    joined = b.add("concatenate", conv(b, W, one, 3), conv(b, W, two, 3), axis=3)
    graph = b.graph(joined)
    after, _ = pipeline.run(graph)
    assert_same_answers(graph, after)
    assert operators(after).count("conv") == 2
    assert sorted(operators(after)) == ["concatenate", "conv", "conv", "slice"]
    (taken,) = [node for node in after.nodes if node.operator == "slice"]
    assert taken.attributes["starts"] == (1, 1, 0)
    assert taken.attributes["steps"] == (2, 2, 1)
    pads = [node.attributes["pads"] for node in after.nodes if node.operator == "conv" and node.inputs[0] != "x"]
    assert pads == [(0, size % 2, 0, size % 2)]

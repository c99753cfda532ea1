"""Transpositions merge, sink, and become an order of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.converters.passes import pipeline
from edgecnn.converters.passes.absorb_transpose import absorb_transpose
from edgecnn.converters.passes.merge_transposes import as_reshape, merge_transposes
from edgecnn.converters.passes.sink_transposes import sink_transposes
from edgecnn.format.writer import encode
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, conv, operators

TO_LAST, TO_FIRST = (2, 3, 1), (3, 1, 2)


def first(b: GraphBuilder, x: str) -> str:
    return b.add("transpose", x, permutation=TO_FIRST)


def last(b: GraphBuilder, x: str) -> str:
    return b.add("transpose", x, permutation=TO_LAST)


def merged(graph: Graph) -> list[str]:
    after, _ = run_pass(graph, merge_transposes)
    assert_same_answers(graph, after)
    return operators(after)


def test_two_in_a_row_become_one() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 5, 3)
    graph = b.graph(b.add("transpose", first(b, x), permutation=(2, 1, 3)))
    after, _ = run_pass(graph, merge_transposes)
    assert after.nodes[-1].inputs == ("x",)
    assert after.nodes[-1].attributes == {"permutation": (1, 3, 2)}
    assert_same_answers(graph, after)


def test_axes_of_size_1_are_a_reshape() -> None:
    b = GraphBuilder()
    graph = b.graph(first(b, b.input("x", 1, 1, 6)))
    assert merged(graph) == ["reshape"]
    assert as_reshape((None, None, None, 1), (3, 1, 2)) is None  # two sizes would stay open
    assert as_reshape((None, None, 4, 1), (3, 1, 2)) == (1, -1, 4)
    assert as_reshape((None, 4, 5, 2), (3, 1, 2)) is None


def test_equal_ones_are_one() -> None:
    b = GraphBuilder()
    x = b.input("x", 4, 5, 3)
    one, two = last(b, x), last(b, x)
    graph = b.graph(b.add("add", b.add("activation", one, activation="tanh"), two))
    after, _ = run_pass(graph, merge_transposes)
    assert operators(after).count("transpose") == 1
    assert_same_answers(graph, after)


CASES: dict[str, Any] = {
    "activation": lambda b, x, y: b.add("activation", x, activation="tanh"),
    "sum of two": lambda b, x, y: b.add("add", x, y),
    "a constant for each channel": lambda b, x, y: b.add("multiply", x, np.arange(6.0).reshape(6, 1, 1)),
    "a constant on the left": lambda b, x, y: b.add("subtract", np.arange(6.0).reshape(1, 6, 1, 1), x),
    "one number": lambda b, x, y: b.add("add", x, np.ones(1)),
    "concatenation": lambda b, x, y: b.add("concatenate", x, y, axis=1),
    "a slice": lambda b, x, y: b.add("slice", x, starts=(1, 0, 1), stops=(5, 4, 3), steps=(2, 1, 1)),
    "mean of images": lambda b, x, y: b.add("reduce_mean", x, axes=(2, 3), keepdims=0),
    "mean kept": lambda b, x, y: b.add("reduce_mean", x, axes=(2, 3), keepdims=1),
    "softmax": lambda b, x, y: b.add("softmax", x, axis=1),
    "a gate of one pixel": lambda b, x, y: b.add("multiply", x, b.add("reshape", b.input("gate", 6), shape=(6, 1, 1))),
    "groups of channels": lambda b, x, y: b.add("reshape", x, shape=(2, 3, 4, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_sinks(case: str) -> None:
    b = GraphBuilder()
    x, y = first(b, b.input("x", 4, 5, 6)), first(b, b.input("y", 4, 5, 6))
    graph = b.graph(CASES[case](b, x, y), y)
    after, trace = run_pass(graph, sink_transposes)
    assert trace
    assert_same_answers(graph, after)
    node = next(
        n
        for n in after.nodes
        if n.operator not in ("transpose", "reshape") or (case == "groups of channels" and n.operator == "reshape")
    )
    assert all(
        after.producers.get(name) is None or after.producers[name].operator != "transpose" for name in node.inputs
    )


def test_padding_is_left_between_its_own() -> None:
    b = GraphBuilder()
    x = first(b, b.input("x", 4, 5, 6))
    graph = b.graph(b.add("pad", x, pads=(0, 0, 1, 1, 1, 1)))
    assert run_pass(graph, sink_transposes)[0] is graph


def test_one_operand_of_two_that_differ_is_left() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("add", first(b, b.input("x", 4, 5, 6)), b.input("y", 6, 4, 5)))
    assert run_pass(graph, sink_transposes)[0] is graph


def test_a_channel_shuffle_keeps_its_own_transposition_only() -> None:
    b, w = GraphBuilder(), Weights(0)
    x = conv(b, w, b.input("x", 4, 5, 3), 6)
    y = b.add("reshape", first(b, x), shape=(2, 3, 4, 5))
    y = b.add("reshape", b.add("transpose", y, permutation=(2, 1, 3, 4)), shape=(6, 4, 5))
    graph = b.graph(conv(b, w, last(b, y), 4))
    after, _ = pipeline.run(graph)
    assert operators(after) == ["conv", "reshape", "transpose", "reshape", "conv"]
    (shuffle,) = [n for n in after.nodes if n.operator == "transpose"]
    assert shuffle.attributes["permutation"] == (1, 2, 4, 3)
    assert_same_answers(graph, after)


def test_a_flattening_before_a_dense_layer_takes_it_in() -> None:
    b, w = GraphBuilder(), Weights(0)
    flat = b.add("reshape", first(b, b.input("x", 4, 5, 3)), shape=(-1,))
    graph = b.graph(b.add("dense", flat, w.normal(60, 7), w.normal(7)))
    after, _ = run_pass(graph, absorb_transpose)
    assert operators(after) == ["reshape", "dense"]
    assert_same_answers(graph, after)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_random_chains_answer_as_before(data: st.DataObject) -> None:
    b, w = GraphBuilder(), Weights(data.draw(st.integers(0, 99)))
    x = b.input("x", 4, 6, 4)
    is_first = False
    shortcut = None
    for _ in range(data.draw(st.integers(2, 7))):
        kind = data.draw(st.sampled_from(["flip", "conv", "relu", "scale", "keep", "sum", "join", "shuffle"]))
        channels, axis = (b.shape(x)[1], 1) if is_first else (b.shape(x)[3], 3)
        if kind == "flip":
            x, is_first = (last(b, x), False) if is_first else (first(b, x), True)
        elif kind == "conv":
            y = last(b, x) if is_first else x
            y = conv(b, w, y, 4)
            x = first(b, y) if is_first else y
        elif kind == "relu":
            x = b.add("activation", x, activation="tanh")
        elif kind == "scale":
            x = b.add("multiply", x, w.normal(channels).reshape((channels, 1, 1) if is_first else (channels,)))
        elif kind == "keep":
            shortcut = x
        elif kind == "sum" and shortcut is not None and b.shape(shortcut) == b.shape(x):
            x = b.add("add", x, shortcut)
        elif kind == "join" and channels < 9:
            x = b.add("concatenate", x, b.add("activation", x, activation="sigmoid"), axis=axis)
        elif kind == "shuffle" and is_first and channels % 2 == 0:
            y = b.add("reshape", x, shape=(2, channels // 2, *b.shape(x)[2:]))
            x = b.add("reshape", b.add("transpose", y, permutation=(2, 1, 3, 4)), shape=b.shape(x)[1:])
    graph = b.graph(b.add("identity", x))
    after, _ = pipeline.run(graph)
    assert_same_answers(graph, after)
    again, trace = pipeline.run(after)
    assert encode(again) == encode(after)
    assert not trace

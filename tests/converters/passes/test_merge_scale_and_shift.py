"""Scales and shifts in a row become one."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.converters.passes.merge_scale_and_shift import merge_scale_and_shift
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, Weights, assert_same_answers, batch_norm, operators

W = Weights(13)


def merged(graph: Graph) -> Graph:
    after, _ = run_pass(graph, merge_scale_and_shift)
    assert_same_answers(graph, after)
    return after


def stays(graph: Graph) -> bool:
    return run_pass(graph, merge_scale_and_shift)[0] is graph


def affine(b: GraphBuilder, kind: str, x: str, **attributes: str) -> str:
    if kind == "batch_normalization":
        return batch_norm(b, W, x, **attributes)
    return b.add(kind, x, W.rng.uniform(0.5, 1.5, 3), **attributes)


KINDS = ["batch_normalization", "multiply", "add"]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_any_two(first: str, second: str) -> None:
    b = GraphBuilder()
    x = affine(b, first, b.input("x", 4, 3))
    graph = b.graph(affine(b, second, x, activation="relu"))
    (node,) = merged(graph).nodes
    assert (node.operator, node.attributes["activation"]) == ("batch_normalization", "relu")
    assert node.layers == (x, graph.nodes[1].name)


def test_a_rescaling_is_one_scale_and_one_shift() -> None:
    b = GraphBuilder()
    y = b.add("multiply", b.input("x", 2, 2, 3), np.float32(0.5))
    after = merged(b.graph(b.add("add", y, np.float32(-1))))
    (node,) = after.nodes
    values = [after.constants[name].array.tolist() for name in node.inputs[1:]]
    assert values == [[0.5] * 3, [-1.0] * 3, [0.0] * 3, [1.0] * 3]
    assert node.attributes["epsilon"] == 0.0


def test_a_row_of_many_takes_few_rounds() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    for index in range(9):
        x = affine(b, KINDS[index % 3], x)
    assert operators(merged(b.graph(x))) == ["batch_normalization"]


def test_an_activation_in_between_keeps_them_apart() -> None:
    b = GraphBuilder()
    x = affine(b, "batch_normalization", b.input("x", 3), activation="relu")
    assert stays(b.graph(affine(b, "multiply", x)))


def test_a_second_reader_or_a_public_output_keeps_them_apart() -> None:
    b = GraphBuilder()
    x = affine(b, "multiply", b.input("x", 3))
    y = affine(b, "add", x)
    assert stays(b.graph(y, x))
    assert stays(b.graph(b.add("multiply", y, x)))


def test_a_constant_that_changes_along_another_axis_stays() -> None:
    b = GraphBuilder()
    x = affine(b, "multiply", b.input("x", 4, 3))
    assert stays(b.graph(b.add("add", x, W.normal(4, 3))))


def test_a_product_that_overflows_float32_stays() -> None:
    b = GraphBuilder()
    x = b.add("multiply", b.input("x", 3), np.float32(1e30))
    assert stays(b.graph(b.add("multiply", x, np.float32(1e30))))

"""Constants of the same bytes, shape and encoding become one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecnn.converters.passes.share_constants import share_constants
from edgecnn.graph import Constant, Graph, Quantization
from edgecnn.graph.rewrite import run_pass
from graph_strategies import GraphBuilder, assert_same_answers


def two_dense(one: np.ndarray, other: np.ndarray, size: int = 6) -> Graph:
    b = GraphBuilder()
    x = b.input("x", size)
    b.constant("one", one)
    b.constant("other", other)
    return b.graph(b.add("dense", x, "one"), b.add("dense", x, "other"))


def shared(graph: Graph) -> list[str]:
    return sorted(run_pass(graph, share_constants)[0].constants)


def test_equal_ones_become_the_first() -> None:
    values = np.arange(36.0).reshape(6, 6)
    graph = two_dense(values, values.copy())
    after, trace = run_pass(graph, share_constants)
    assert [node.input("weights") for node in after.nodes] == ["one", "one"]
    assert list(after.constants) == ["one"]
    assert len(trace) == 1
    assert_same_answers(graph, after)


def test_one_last_value_that_differs_keeps_them_apart() -> None:
    values = np.arange(400.0).reshape(20, 20)
    other = values.copy()
    other[-1, -1] = -1.0
    assert shared(two_dense(values, other, 20)) == ["one", "other"]


def test_zero_and_minus_zero_are_different_bytes() -> None:
    assert shared(two_dense(np.zeros((6, 6)), -np.zeros((6, 6)))) == ["one", "other"]


def test_equal_nans_are_equal_bytes() -> None:
    nans = np.full((6, 6), np.nan)
    assert shared(two_dense(nans, nans)) == ["one"]


def test_another_shape_of_the_same_bytes_keeps_them_apart() -> None:
    b = GraphBuilder()
    x = b.input("x", 4)
    graph = b.graph(b.add("multiply", x, np.ones(4)), b.add("multiply", x, np.ones((1, 4))))
    assert len(shared(graph)) == 2


def with_other(graph: Graph, **changes: Any) -> Graph:
    return replace(graph, constants={**graph.constants, "other": replace(graph.constants["other"], **changes)})


def test_another_encoding_keeps_them_apart() -> None:
    graph = two_dense(np.ones((6, 6)), np.ones((6, 6)))
    assert shared(with_other(graph, encoding="float16")) == ["one", "other"]


@pytest.mark.parametrize(
    ("scales", "zero_points", "axis", "same"),
    [
        ([1.0], [0], None, True),
        ([2.0], [0], None, False),
        ([1.0], [3], None, False),
        ([1.0] * 6, [0] * 6, 0, False),
    ],
)
def test_quantised_ones_are_equal_with_all_that_gives_them_meaning(
    scales: list[float], zero_points: list[int], axis: int | None, same: bool
) -> None:
    def quantised(name: str, scales: list[float], zero_points: list[int], axis: int | None) -> Constant:
        quantization = Quantization(np.array(scales, np.float32), np.array(zero_points, np.int32), axis)
        return Constant(name, np.ones((6, 6), np.int8), "int8", quantization)

    graph = two_dense(np.ones((6, 6)), np.ones((6, 6)))
    constants = {"one": quantised("one", [1.0], [0], None), "other": quantised("other", scales, zero_points, axis)}
    assert shared(replace(graph, constants=constants)) == (["one"] if same else ["one", "other"])


def test_which_one_stays_depends_on_order_alone() -> None:
    b = GraphBuilder()
    x = b.input("x", 3)
    for name in ("c", "a", "b"):
        b.constant(name, np.ones((3, 3)))
    graph = b.graph(*(b.add("dense", x, name) for name in ("a", "b", "c")))
    assert shared(graph) == ["c"]

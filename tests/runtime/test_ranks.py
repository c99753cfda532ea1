"""Tensors of any rank, 1 to 8 with the batch: what NumPy says, on every instruction set and any number of threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.errors import GraphError
from edgecnn.graph.graph import MOST_RANK
from edgecnn.graph.operators import LIMIT
from edgecnn.runtime import cpu
from edgecnn.runtime.model import Model
from examples import examples
from graph_strategies import GraphBuilder

ISAS = [entry.name for entry in cpu.supported()]
FUNCTIONS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum}


@st.composite
def operands(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes without the batch that broadcast together."""
    rank = draw(st.integers(0, MOST_RANK - 1))
    sizes = [draw(st.integers(1, 3)) for _ in range(rank)]
    if sizes and draw(st.booleans()):
        sizes[draw(st.integers(0, rank - 1))] = draw(st.sampled_from([16, 17, 33, 200]))
    which = [draw(st.sampled_from("xyb")) for _ in sizes]
    x = tuple(1 if who == "y" else size for who, size in zip(which, sizes, strict=True))
    y = tuple(1 if who == "x" else size for who, size in zip(which, sizes, strict=True))
    return x, y


def answers(
    builder: GraphBuilder, outputs: Iterable[str], inputs: dict[str, np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """What every instruction set gives, with 1, 2 and 7 threads the same."""
    graph = builder.graph(*outputs)
    for isa in ISAS:
        first, *others = [Model(graph, threads=threads, isa=isa).run(inputs) for threads in (1, 2, 7)]
        for other, name in itertools.product(others, first):
            np.testing.assert_array_equal(first[name], other[name])
        yield first


def check(shapes: tuple[tuple[int, ...], tuple[int, ...]], function: str, constant: bool, images: int = 2) -> None:
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    x = rng.standard_normal((images, *shapes[0]), np.float32)
    inputs = {"x": x}
    builder.input("x", *shapes[0])
    if constant:
        y = rng.standard_normal(shapes[1], np.float32)
        result = builder.add(function, "x", y)
    else:
        y = inputs["y"] = rng.standard_normal((images, *shapes[1]), np.float32)
        result = builder.add(function, "x", builder.input("y", *shapes[1]))
    for answer in answers(builder, [result], inputs):
        np.testing.assert_array_equal(answer[result], FUNCTIONS[function](x, y))


@given(operands(), st.sampled_from(sorted(FUNCTIONS)), st.booleans(), st.integers(1, 3))
@settings(max_examples=examples(300), deadline=None)
def test_two_operands_broadcast_as_in_numpy(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], function: str, constant: bool, images: int
) -> None:
    check(shapes, function, constant, images)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 2, 2, 2, 2), (1, 2, 1, 1, 1)),
        ((2, 2, 2, 2, 2), (2, 1, 2, 1, 2)),
        ((2, 1, 2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2, 1)),
        ((3, 4, 5, 6), (3, 1, 1, 6)),
        ((1,), (7, 5001)),
        ((5, 7, 11, 13), (5, 7, 11, 13)),
    ],
    ids=str,
)
def test_operands_that_take_turns_broadcast(shapes: tuple[tuple[int, ...], tuple[int, ...]], constant: bool) -> None:
    rank = max(map(len, shapes))
    if not constant or len(shapes[0]) == rank:
        check(tuple((1,) * (rank - len(shape)) + shape for shape in shapes), "multiply", constant)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=MOST_RANK - 1), st.data())
@settings(max_examples=examples(150), deadline=None)
def test_values_are_moved_and_summed_at_any_rank(sizes: list[int], data: st.DataObject) -> None:
    rank = len(sizes)
    x = np.arange(2 * np.prod(sizes), dtype=np.float32).reshape(2, *sizes)
    order = (0, *data.draw(st.permutations(range(1, rank + 1))))
    starts = [data.draw(st.integers(0, size - 1)) for size in sizes]
    steps = [data.draw(st.sampled_from([1, 1, 2, -1])) for _ in sizes]
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    axis = data.draw(st.integers(1, rank))
    last = data.draw(st.integers(axis, rank))
    builder = GraphBuilder()
    builder.input("x", *sizes)
    builder.add("transpose", "x", name="turned", permutation=order[1:])
    builder.add("slice", "x", name="cut", starts=tuple(starts), stops=(LIMIT,) * rank, steps=tuple(steps))
    builder.add("pad", "x", name="framed", pads=tuple(pads), mode="edge")
    builder.add("concatenate", "x", "x", name="joined", axis=axis)
    builder.add("reduce_sum", "x", name="summed", axes=tuple(range(axis, last + 1)), keepdims=1)
    cut = x[(slice(None), *(slice(a, None, step) for a, step in zip(starts, steps, strict=True)))]
    wanted = {
        "turned": x.transpose(order),
        "cut": cut,
        "framed": np.pad(x, [(0, 0), *zip(pads[::2], pads[1::2], strict=True)], mode="edge"),
        "joined": np.concatenate([x, x], axis=axis),
        "summed": x.sum(axis=tuple(range(axis, last + 1)), keepdims=True),
    }
    for answer in answers(builder, wanted, {"x": x}):
        for name, values in wanted.items():
            np.testing.assert_array_equal(answer[name], values)


def test_a_rank_beyond_the_highest_is_refused() -> None:
    builder = GraphBuilder()
    builder.input("x", *(2,) * MOST_RANK)
    with pytest.raises(GraphError, match=f"of rank {MOST_RANK + 1}; wanted at most {MOST_RANK}"):
        builder.graph(builder.add("multiply", "x", np.ones(1)))

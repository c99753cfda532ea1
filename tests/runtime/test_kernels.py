"""Every operator on every instruction set of this CPU, on 1, 2 and 7 threads, against the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from edgecnn.graph import OPERATORS, Constant, Graph, Node, Port, Tensor, reference
from edgecnn.runtime import cpu
from edgecnn.runtime.kernels import FAMILIES
from edgecnn.runtime.kernels.algorithms import LARGE_TILE, LARGE_TILE_CHANNELS, algorithms, prepare_conv
from edgecnn.runtime.kernels.packing import WinogradForm
from edgecnn.runtime.kernels.winograd import forms
from edgecnn.runtime.model import Model
from edgecnn.runtime.planner import Placed
from operator_strategies import Case, cases

ISAS = [entry.name for entry in cpu.supported()]
CANARY = np.float32(12345.678)


def test_every_operator_has_a_kernel_family() -> None:
    assert FAMILIES.keys() == OPERATORS.keys()


def framed(shape: tuple[int, ...], margin: int) -> tuple[np.ndarray, np.ndarray]:
    """An array of a shape inside a longer one full of canaries."""
    whole = np.full(int(np.prod(shape)) + 2 * margin, CANARY, np.float32)
    return whole, whole[margin : whole.size - margin].reshape(shape)


def compute(case: Case, isa: str, threads: int, algorithm: str) -> dict[str, np.ndarray]:
    """The model's outputs, having checked that nothing beside them is written."""
    model = Model(case.graph, threads=threads, isa=isa, algorithms={case.node.name: algorithm})
    images = len(next(iter(case.inputs.values())))
    frames = {spec.name: framed((images, *(s for s in spec.shape[1:] if s is not None)), 37) for spec in model.outputs}
    before = {name: array.copy() for name, array in case.inputs.items()}
    given = model.run(case.inputs, out={name: inner for name, (_, inner) in frames.items()})
    for whole, _ in frames.values():
        assert (whole[:37] == CANARY).all()
        assert (whole[-37:] == CANARY).all()
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, before[name])
    return given


def algorithms_of(case: Case) -> list[str]:
    """Names of all algorithms that can compute the node under test."""
    if case.node.operator != "conv":
        return ["direct"]
    found: list[str] = []

    def note(placed: Placed) -> None:
        if placed.node.name == case.node.name:
            found.extend(algorithm.name for algorithm in algorithms(placed))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "conv", lambda placed: note(placed) or prepare_conv(placed))
        Model(case.graph)
    return found


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_operator_agrees_with_its_meaning(operator: str, data: st.DataObject) -> None:
    check(data.draw(cases(operator)))


def check(case: Case) -> None:
    """Every instruction set and every algorithm, on several numbers of threads."""
    values = reference.run_all(case.graph, case.inputs)
    expected = values["result"]
    for isa, algorithm in itertools.product(ISAS, algorithms_of(case)):
        allowed = tolerances.bound(case.graph, case.node, values, algorithm)
        got = compute(case, isa, 1, algorithm)
        error = np.abs(got["result"] - expected)
        worst = np.unravel_index(np.argmax(error - allowed), error.shape)
        assert (error <= allowed).all(), (
            f"{isa} {algorithm}: {got['result'][worst]} at {worst}; wanted {expected[worst]} +- {allowed[worst]}"
        )
        for threads in (2, 7):
            again = compute(case, isa, threads, algorithm)
            for name, array in got.items():
                assert array.tobytes() == again[name].tobytes(), (
                    f"{isa} {algorithm}: other bits with {threads} threads in {name}"
                )


@pytest.mark.parametrize("form", forms(cpu.choose()), ids=str)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_winograd_agrees_with_a_convolution(form: WinogradForm, data: st.DataObject) -> None:
    case = data.draw(cases("conv", form.taps))
    large = form.outputs >= LARGE_TILE and case.graph.shape(case.node.inputs[1])[-2] < LARGE_TILE_CHANNELS
    assert (f"winograd {form}" in algorithms_of(case)) != large
    check(case)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_strassen_agrees_with_a_convolution(data: st.DataObject) -> None:
    case = data.draw(cases("conv", (1, 1)))
    weights = case.graph.shape(case.node.inputs[1])
    residual = len(case.node.inputs) > 3 and case.node.inputs[3]
    possible = weights[-1] % 2 == weights[-2] % 2 == 0 and case.node.attributes["groups"] == 1 and not residual
    if np.prod(case.graph.shape(case.node.output)[1:3]) > 1:  # one pixel is a vector's product
        assert ("strassen" in algorithms_of(case)) == possible
    check(case)


def test_classes_of_equal_weights_tie() -> None:
    """A last layer like SqueezeNet's, with so large values that any rounding would decide."""
    rng = np.random.default_rng(0)
    weights = np.repeat(rng.uniform(1e4, 2e4, (1, 1, 512, 1)), 512, axis=3).astype(np.float32)
    window = {"padding": "same", "pads": (0,) * 4, "dilations": (1, 1), "strides": (1, 1), "groups": 1}
    window |= {"activation": "linear", "activation_parameters": ()}
    graph = Graph(
        "classes",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (
            Node("conv", "c", ("x", "w", "", ""), ("c",), window, ("c",)),
            Node("reduce_mean", "m", ("c",), ("m",), {"axes": (1, 2), "keepdims": 0}, ("m",)),
            Node("softmax", "y", ("m",), ("y",), {"axis": 1, "log": 0}, ("y",)),
        ),
        {
            "x": Tensor("x", (None, 14, 14, 512)),
            "c": Tensor("c", (None, 14, 14, 512)),
            "m": Tensor("m", (None, 512)),
            "y": Tensor("y", (None, 512)),
        },
        {"w": Constant("w", weights)},
    )
    x = rng.uniform(1e4, 2e4, (1, 14, 14, 512)).astype(np.float32)
    np.testing.assert_allclose(Model(graph)(x), 1 / 512, rtol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=1500, deadline=None)
def test_operator_agrees_with_its_meaning_in_the_long_run(operator: str, data: st.DataObject) -> None:
    test_operator_agrees_with_its_meaning.hypothesis.inner_test(operator, data)


@pytest.mark.parametrize("isa", ISAS)
def test_the_mean_of_a_large_image_is_not_lost_in_rounding(isa: str) -> None:
    size = 400
    x = np.random.default_rng(0).uniform(1, 2, (1, size, size, 3)).astype(np.float32)
    window = {"pool_size": (size, size), "strides": (1, 1), "padding": "explicit", "pads": (0,) * 4, "count_padding": 0}
    graph = Graph(
        "mean",
        (Port("x", "x"),),
        (Port("y", "y"),),
        (Node("average_pool", "y", ("x",), ("y",), window, ("y",)),),
        {"x": Tensor("x", (None, size, size, 3)), "y": Tensor("y", (None, 1, 1, 3))},
    )
    exact = x.astype(np.float64).mean((1, 2), keepdims=True)
    # Added up one by one, 160,000 values lose 1e-5 of their sum here.
    np.testing.assert_allclose(Model(graph, threads=1, isa=isa)(x), exact, rtol=2e-6)

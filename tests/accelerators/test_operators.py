"""Every operator in TensorFlow against the reference: random shapes and attributes, operator by operator and compiled by XLA."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from edgecnn.accelerators.tensorflow import TensorFlowModel
from edgecnn.accelerators.tensorflow_operators import ACTIVATIONS, FUNCTIONS
from edgecnn.graph import ACTIVATIONS as KNOWN_ACTIVATIONS
from edgecnn.graph import OPERATORS, reference
from examples import examples
from graph_strategies import GraphBuilder
from operator_strategies import Case, cases

# Importing TensorFlow warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")
CPU = ("/device:CPU:0",)


@pytest.fixture(scope="module", autouse=True)
def _tensorflow() -> None:
    pytest.importorskip("tensorflow")


def test_every_operator_has_a_function() -> None:
    assert FUNCTIONS.keys() == OPERATORS.keys()
    assert ACTIVATIONS.keys() == KNOWN_ACTIVATIONS.keys()


def check(case: Case, compiled: bool) -> None:
    values = reference.run_all(case.graph, case.inputs)
    found = TensorFlowModel(case.graph, devices=CPU, compiled=compiled).run(case.inputs)["result"]
    error = np.abs(found - values["result"])
    allowed = tolerances.bound(case.graph, case.node, values)
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    assert (error <= allowed).all(), f"{found[worst]} at {worst}; wanted {values['result'][worst]} +- {allowed[worst]}"


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=examples(15), deadline=None)
def test_operator_agrees_with_its_meaning(operator: str, data: st.DataObject) -> None:
    check(data.draw(cases(operator)), compiled=False)


@pytest.mark.sweep
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("operator", sorted(OPERATORS))
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_operator_agrees_with_its_meaning_in_a_sweep(operator: str, compiled: bool, data: st.DataObject) -> None:
    check(data.draw(cases(operator)), compiled)


SPECIAL = np.array([[math.nan, -math.inf, math.inf, -3.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 7.0]], np.float32)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_nan_and_infinity_go_through_functions_as_numbers_do(name: str) -> None:
    builder = GraphBuilder()
    graph = builder.graph(builder.add("activation", builder.input("x", SPECIAL.shape[1]), activation=name, name="y"))
    (found,) = TensorFlowModel(graph, devices=CPU)(SPECIAL)
    wanted = reference.activate(name, KNOWN_ACTIVATIONS[name].defaults, SPECIAL.astype(np.float64))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operator", ["maximum", "minimum", "prelu", "equal", "less", "keep"])
def test_nan_goes_through_operators_as_numbers_do(operator: str) -> None:
    builder = GraphBuilder()
    x, y = builder.input("x", SPECIAL.shape[1]), builder.input("y", SPECIAL.shape[1])
    graph = builder.graph(builder.add(operator, x, y, name="z"))
    other = np.roll(SPECIAL, 1, axis=1)
    (found,) = TensorFlowModel(graph, devices=CPU).run({"x": SPECIAL, "y": other}).values()
    node = graph.nodes[0]
    (wanted,) = reference.evaluate(node, [SPECIAL.astype(np.float64), other.astype(np.float64)])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def jumps(case: Case) -> bool:
    """Whether the node ends in a ReLU with a threshold: a rounded argument may lie on the other side."""
    return case.node.attributes.get("activation") == "relu" and case.node.attributes["activation_parameters"][2] != 0


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "operator", sorted(OPERATORS.keys() - {"equal", "less", "keep", "activation", "power", "divide", "sparsemax"})
)
@given(data=st.data())
@settings(max_examples=examples(4), deadline=None)
def test_half_precision_is_near(operator: str, precision: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator).filter(lambda case: not jumps(case)))
    values = reference.run_all(case.graph, case.inputs)
    found = TensorFlowModel(case.graph, precision=precision, devices=CPU).run(case.inputs)["result"]
    assert found.dtype == np.float32
    # The bound for float32, in units of the shorter number; rounded inputs are an error of theirs, thus the factor.
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[precision] / tolerances.EPSILON
    allowed = 4 * unit * tolerances.bound(case.graph, case.node, values) + 4 * unit * tolerances.EPSILON
    assert (np.abs(found - values["result"]) <= allowed).all()

"""Every element-wise function on every instruction set, over all exponents, against float64, and against Keras beyond them."""

from __future__ import annotations

import math
import platform
import sys

import functions
import numpy as np
import pytest

from edgecnn.graph import ACTIVATIONS, Graph, reference
from edgecnn.runtime import cpu
from edgecnn.runtime.model import Model
from graph_strategies import GraphBuilder

ISAS = [entry.name for entry in cpu.supported()]
INF, NAN = math.inf, math.nan
NO_SUBNORMALS = platform.machine().startswith("arm") and sys.maxsize < 2**32
"""Whether the instruction set may take subnormal numbers for zero: NEON of 32-bit ARM."""
POINTS = functions.points()


def of_one(name: str, parameters: tuple[float, ...], size: int) -> Graph:
    """A graph that applies a function."""
    builder = GraphBuilder()
    x = builder.input("x", size)
    return builder.graph(builder.add("activation", x, activation=name, activation_parameters=parameters))


def apply(name: str, parameters: tuple[float, ...], x: np.ndarray, isa: str, threads: int = 1) -> np.ndarray:
    """What a function gives on an instruction set."""
    (answer,) = Model(of_one(name, parameters, x.size), isa=isa, threads=threads)(x[None])
    return answer[0]


def test_every_function_is_defined_and_tried_where_there_is_no_number() -> None:
    assert functions.DEFINITIONS.keys() == functions.WITHOUT_NUMBER.keys() == ACTIVATIONS.keys()
    assert functions.PARAMETERS.keys() == {name for name, row in ACTIVATIONS.items() if row.parameters}


@pytest.mark.parametrize(("name", "parameters"), functions.VARIANTS)
def test_values_over_all_exponents(name: str, parameters: tuple[float, ...]) -> None:
    wanted = functions.exact(name, parameters, POINTS)
    for isa in ISAS:
        got = apply(name, parameters, POINTS, isa)
        share = functions.excess(got, wanted)
        worst = int(np.argmax(share))
        assert share[worst] <= functions.SHARES.get(name, 1), (
            f"{isa}: {name}({POINTS[worst]!r}) is {got[worst]!r}; wanted {wanted[worst]!r}"
        )
        again = apply(name, parameters, POINTS, isa, threads=3)
        assert got.tobytes() == again.tobytes(), f"{isa}: other bits on three threads"
        np.testing.assert_array_equal(apply(name, parameters, POINTS[:7], isa), got[:7], err_msg=f"{isa}: a few")


@pytest.mark.parametrize("name", ["elu", "selu", "sigmoid", "tanh", "erf", "softsign", "hard_swish", "sparse_sigmoid"])
def test_functions_with_limits_stay_within_them(name: str) -> None:
    """What goes on with a logarithm or a root relies on it."""
    low = {"elu": -1.0, "selu": -1.7581, "sigmoid": 0.0, "hard_swish": -0.375001, "sparse_sigmoid": 0.0}.get(name, -1.0)
    high = INF if name in ("elu", "selu", "hard_swish") else 1.0
    for isa in ISAS:
        got = apply(name, functions.PARAMETERS.get(name, ((),))[0], POINTS, isa)
        assert got.min() >= low, isa
        assert got.max() <= high, isa


@pytest.mark.parametrize(("name", "parameters"), functions.VARIANTS)
def test_the_meaning_agrees_with_the_definition(name: str, parameters: tuple[float, ...]) -> None:
    wanted = functions.exact(name, parameters, POINTS)
    got = reference.activate(name, parameters, POINTS.astype(np.float64))
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-13)


def without_number() -> list[tuple[str, tuple[float, ...], tuple[float, float, float]]]:
    """Function, parameters, and what Keras gives for infinity, -infinity and NaN."""
    return [
        *((name, ACTIVATIONS[name].defaults, values) for name, values in functions.WITHOUT_NUMBER.items()),
        *((name, parameters, values) for (name, parameters), values in functions.WITHOUT_NUMBER_AT.items()),
    ]


@pytest.mark.parametrize(("name", "parameters", "values"), without_number())
def test_infinities_and_nan(name: str, parameters: tuple[float, ...], values: tuple[float, float, float]) -> None:
    x = np.tile(np.float32([INF, -INF, NAN, -NAN]), 9)[:33]
    wanted = np.tile([*values, values[2]], 9)[:33]
    np.testing.assert_allclose(reference.activate(name, parameters, x.astype(np.float64)), wanted, rtol=1e-12)
    for isa in ISAS:
        np.testing.assert_allclose(apply(name, parameters, x, isa), wanted, rtol=1e-6, err_msg=isa)


@pytest.mark.parametrize(("name", "parameters", "values"), without_number())
def test_keras_gives_these_for_infinities_and_nan(
    name: str, parameters: tuple[float, ...], values: tuple[float, float, float]
) -> None:
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    named = {
        "relu": lambda x: keras.activations.relu(
            x, parameters[0], None if parameters[1] == INF else parameters[1], parameters[2]
        ),
        "clip": keras.activations.hard_tanh,
        "swish": keras.activations.silu,
        "hard_swish": keras.activations.hard_silu,
        "gelu": lambda x: keras.activations.gelu(x, approximate=False),
        "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
        "threshold": lambda x: keras.activations.threshold(x, *parameters),
    }
    function = named.get(name) or getattr(keras.activations, name, None) or getattr(keras.ops, name)
    # One kind of value at a time, and enough of them for TensorFlow's vector kernels.
    got = [np.asarray(function(keras.ops.full((64,), value, "float32"))) for value in (INF, -INF, NAN)]
    np.testing.assert_allclose(got, np.repeat(np.float32(values)[:, None], 64, axis=1), rtol=1e-6)


BINARIES = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "prelu": lambda x, y: np.where(x > 0, x, x * y),
    "equal": lambda x, y: np.where(x == y, 1.0, 0.0),
    "less": lambda x, y: np.where(x < y, 1.0, 0.0),
    "keep": lambda x, y: np.where(y != 0, x, 0.0),
}
"""Functions of two values in NumPy's float64, which propagates NaN as TensorFlow does and has IEEE 754's powers."""


@pytest.mark.parametrize("name", BINARIES)
@pytest.mark.parametrize("isa", ISAS)
def test_functions_of_two_values_over_all_exponents(isa: str, name: str) -> None:
    rng = np.random.default_rng(0)
    some = [INF, -INF, NAN, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 1e38, -1e38, 1e-38, 1e-40, -1e-40]
    x, y = (values.ravel().astype(np.float32) for values in np.meshgrid(some, some))
    many = [rng.permutation(POINTS) for _ in range(2)]
    near = [rng.uniform(-20, 20, 20_000).astype(np.float32) for _ in range(2)]
    x, y = np.concatenate([x, many[0], near[0]]), np.concatenate([y, many[1], near[1]])
    if name in ("multiply", "prelu") and NO_SUBNORMALS:
        tiny = float(np.finfo(np.float32).tiny)
        x, y = (np.where(np.abs(values) < tiny, np.float32(0), values) for values in (x, y))
    builder = GraphBuilder()
    operands = builder.input("x", x.size), builder.input("y", x.size)
    (got,) = Model(builder.graph(builder.add(name, *operands)), isa=isa)({"x": x[None], "y": y[None]})
    with np.errstate(all="ignore"):
        wanted = BINARIES[name](x.astype(np.float64), y.astype(np.float64))
    share = functions.excess(got[0], wanted)
    # An infinity that is exact is not what a float cannot hold.
    share = np.where(np.isinf(wanted) & (got[0] == wanted), 0.0, share)
    worst = int(np.argmax(share))
    assert share[worst] <= 1, f"{name}({x[worst]!r}, {y[worst]!r}) is {got[0, worst]!r}; wanted {wanted[worst]!r}"

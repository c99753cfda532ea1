"""Rows with infinities, NaN and very large values: softmax, sparsemax, normalisations and poolings, held against Keras' values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgecnn.graph import Graph, reference
from edgecnn.runtime import cpu
from edgecnn.runtime.model import Model
from graph_strategies import GraphBuilder

ISAS = [entry.name for entry in cpu.supported()]
INF, NAN = math.inf, math.nan
ROWS = {
    "nan": [1, NAN, 2, 3, 0],
    "inf": [1, INF, 2, 3, 0],
    "-inf": [1, -INF, 2, 3, 0],
    "infs": [INF, INF, 0, -INF, 1],
    "all inf": [INF] * 5,
    "all -inf": [-INF] * 5,
    "1e38": [1e38, -1e38, 0, 1, 2],
    "1e30": [1e30, 2e30, 3e30, 4e30, 5e30],
    "1e10": [1e10, 1, 2, 3, 4],
}
KERAS: dict[str, dict[str, list[float]]] = {
    "softmax": {
        "nan": [NAN] * 5,
        "inf": [NAN] * 5,
        "-inf": [0.08714432, 0, 0.23688284, 0.6439143, 0.0320586],
        "infs": [NAN] * 5,
        "all inf": [NAN] * 5,
        "all -inf": [NAN] * 5,
        "1e38": [1, 0, 0, 0, 0],
        "1e30": [0, 0, 0, 0, 1],
    },
    "log_softmax": {
        "nan": [NAN] * 5,
        "inf": [NAN] * 5,
        "-inf": [-2.4401896, -INF, -1.4401897, -0.4401897, -3.4401896],
        "all -inf": [NAN] * 5,
        "1e38": [0, -2e38, -1e38, -1e38, -1e38],
        "1e30": [-4e30, -3e30, -2e30, -1e30, 0],
    },
    "sparsemax": {
        "nan": [0, NAN, 0, 1, 0],
        "inf": [INF] * 5,
        "-inf": [0, 0, 0, 1, 0],
        "infs": [INF, INF, INF, NAN, INF],
        "all inf": [INF] * 5,
        "all -inf": [NAN] * 5,
    },
    "layer_normalization": {
        "nan": [NAN] * 5,
        "inf": [NAN] * 5,
        "-inf": [NAN] * 5,
        "all inf": [NAN] * 5,
        "1e38": [0] * 5,
        "1e30": [0] * 5,
        "1e10": [2, -0.5, -0.5, -0.5, -0.5],
    },
}
"""What Keras 3.15 on TensorFlow 2.21 gives, without oneDNN; see docs/decisions/functions.md for what is not here."""


def graph_of(name: str, channels: int = 5, **attributes: Any) -> Graph:
    """One operator over the last axis."""
    builder = GraphBuilder()
    x = builder.input("x", 1, 1, channels)
    if name.endswith("softmax"):
        y = builder.add("softmax", x, axis=3, log=int(name.startswith("log")))
    elif name in ("layer_normalization", "group_normalization"):
        y = builder.add(name, x, np.ones(channels), np.zeros(channels), **attributes)
    else:
        y = builder.add(name, x, **attributes)
    return builder.graph(y)


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in KERAS.items() for row in rows])
@pytest.mark.parametrize("isa", ISAS)
def test_rows_give_what_keras_gives(isa: str, name: str, row: str) -> None:
    (got,) = Model(graph_of(name), isa=isa)(np.float32(ROWS[row]).reshape(1, 1, 1, 5))
    np.testing.assert_allclose(got.ravel(), np.float32(KERAS[name][row]), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", KERAS)
def test_keras_gives_these(name: str) -> None:
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    layer = keras.layers.LayerNormalization(epsilon=1e-3)
    function = layer if name == "layer_normalization" else getattr(keras.activations, name)
    for row, wanted in KERAS[name].items():
        got = np.asarray(function(keras.ops.convert_to_tensor(np.float32([ROWS[row]]))))[0]
        np.testing.assert_allclose(got, np.float32(wanted), rtol=2e-6, atol=1e-7, err_msg=row)


@pytest.mark.parametrize("isa", ISAS)
def test_sparsemax_beside_large_values(isa: str) -> None:
    """Exact arithmetic: one value that leads by more than 1 takes all, however large it is; Keras' float32 loses the 1."""
    model = Model(graph_of("sparsemax"), isa=isa)
    for row in ("1e10", "1e30", "1e38"):
        x = np.float32(ROWS[row]).reshape(1, 1, 1, 5)
        np.testing.assert_array_equal(model(x)[0].ravel(), x.ravel() == x.max())
        (meaning,) = reference.run(graph_of("sparsemax"), {"x": x}).values()
        np.testing.assert_array_equal(meaning.ravel(), x.ravel() == x.max())


@pytest.mark.parametrize("isa", ISAS)
def test_local_response_normalization_of_large_values(isa: str) -> None:
    """In float64 by the formula: squares leave the range of floats from 1.8e19 on, the quotient does not."""
    attributes = {"size": 3, "bias": 1.0, "alpha": 1.0, "beta": 0.5}
    model = Model(graph_of("local_response_normalization", **attributes), isa=isa)
    for values in ([1e30, 2e30, 3e30, 4e30, 5e30], [1e19, 2e19, 3e19, -1e19, 0], [3e4, -2e4, 5, 0, 1e4], [3e38] * 5):
        x = np.float32(values)
        squares = np.pad(x.astype(np.float64) ** 2, 1)
        wanted = x / np.sqrt(1 + squares[:-2] + squares[1:-1] + squares[2:])
        np.testing.assert_allclose(model(x.reshape(1, 1, 1, 5))[0].ravel(), wanted, rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_no_number_stays_within_its_window_of_channels(isa: str) -> None:
    """x / (1 + infinity): zero for the neighbours, NaN for itself. TensorFlow multiplies by a matrix of zeros and ones, so that
    which other channels become NaN depends on how it cuts that matrix."""
    attributes = {"size": 3, "bias": 1.0, "alpha": 1.0, "beta": 0.75}
    model = Model(graph_of("local_response_normalization", 9, **attributes), isa=isa)
    x = np.arange(1, 10, dtype=np.float32)
    plain = model(x.reshape(1, 1, 1, 9))[0].ravel()
    for value, beside in ((INF, 0.0), (-INF, 0.0), (NAN, NAN)):
        x[4] = value
        got = model(x.reshape(1, 1, 1, 9))[0].ravel()
        assert np.isnan(got[4])
        np.testing.assert_array_equal(got[[3, 5]], np.float32([beside, beside]))
        np.testing.assert_allclose(got[[0, 1, 2, 6, 7, 8]], plain[[0, 1, 2, 6, 7, 8]], rtol=3e-6)


@pytest.mark.parametrize("name", ["layer_normalization", "group_normalization"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mean", [0.0, 1e4, 1e6, -3e7])
def test_normalisation_of_values_with_a_large_mean(mean: float, isa: str, name: str) -> None:
    """In float64 by the formula: a mean in one float would move all values by its rounding error."""
    rng = np.random.default_rng(0)
    x = (mean + 4 * rng.standard_normal((2, 1, 1, 333))).astype(np.float32)
    exact = x.astype(np.float64)
    wanted = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-3)
    attributes = {"groups": 1} if name == "group_normalization" else {}
    model = Model(graph_of(name, 333, epsilon=1e-3, **attributes), isa=isa)
    np.testing.assert_allclose(model(x)[0], wanted, rtol=1e-5, atol=2e-6)
    # Values that are all alike have no deviation, however large they are.
    same = np.full((1, 1, 1, 333), mean * 1e7 + 1 / 3, np.float32)
    assert np.abs(model(same)[0]).max() < 0.1 if abs(mean) < 1e5 else np.isfinite(model(same)[0]).all()


@pytest.mark.parametrize("isa", ISAS)
def test_pooling_passes_nan_and_infinities_on(isa: str) -> None:
    """NaN reaches every window that it is in, as in `keras.ops.max`; TensorFlow's maximum pooling on CPUs drops it."""
    x = np.zeros((1, 4, 6, 5), np.float32)
    x[0, 1, 1] = NAN
    x[0, 2, 4] = INF
    x[0, 0, 3] = -INF
    for operator in ("max_pool", "average_pool"):
        builder = GraphBuilder()
        y = builder.add(operator, builder.input("x", 4, 6, 5), pool_size=(2, 2), strides=(2, 2))
        got = Model(builder.graph(y), isa=isa)(x)[0][0, :, :, 0]
        wanted = [[NAN, 0, 0], [0, 0, INF]] if operator == "max_pool" else [[NAN, -INF, 0], [0, 0, INF]]
        np.testing.assert_array_equal(got, np.float32(wanted))

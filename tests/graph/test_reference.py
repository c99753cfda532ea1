"""The meaning of every operator against TensorFlow and Keras, computed in float64 on both sides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.graph import ACTIVATIONS, OPERATORS, Constant, Graph, Quantization, reference
from graph_strategies import DEFAULTS, GraphBuilder

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

# TensorFlow and Keras warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

# Sums of a few hundred products of numbers below 4, in float64: n * eps * sum |a| |b|, with room for another order of adding.
SUMS = {"rtol": 1e-11, "atol": 1e-12}
quick = settings(max_examples=40, deadline=None)


def random(draw: st.DrawFn | Any, *shape: int) -> np.ndarray:
    """Standard normal float64 values that float32 holds exactly, so that a constant loses nothing."""
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def meaning(operator: str, *inputs: np.ndarray | None, **attributes: Any) -> np.ndarray:
    """What reference.run gives for one node; the first input is the tensor, the others are constants."""
    b = GraphBuilder()
    x = b.input("x", *inputs[0].shape[1:])  # type: ignore[union-attr]
    graph = b.graph(b.add(operator, x, *inputs[1:], **attributes))
    (result,) = reference.run(graph, {"x": inputs[0]}).values()  # type: ignore[dict-item]
    assert result.dtype == np.float64
    return result


@st.composite
def windows(draw: st.DrawFn, kernel: tuple[int, int], most: int = 4) -> tuple[dict[str, Any], Any]:
    """Stride and padding as our attributes and as TensorFlow's."""
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if draw(st.booleans()):
        return {"strides": strides, "padding": "same"}, (strides, "SAME")
    pads = draw(st.tuples(*[st.integers(0, most)] * 2, *[st.integers(0, most)] * 2))
    pads = tuple(min(p, k - 1) for p, k in zip(pads, (kernel[0],) * 2 + (kernel[1],) * 2, strict=True))
    explicit = [[0, 0], list(pads[:2]), list(pads[2:]), [0, 0]]
    return {"strides": strides, "padding": "explicit", "pads": pads}, (strides, explicit)


kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))


def test_every_operator_and_activation_of_the_tables_has_a_meaning() -> None:
    assert reference._OPERATORS.keys() == OPERATORS.keys()
    assert reference._FUNCTIONS.keys() == ACTIVATIONS.keys()


@quick
@given(st.data())
def test_conv2d(data: st.DataObject) -> None:
    kernel = data.draw(kernels)
    groups, depth, each = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    ours, (strides, padding) = data.draw(windows(kernel))
    dilations = data.draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    x = random(data.draw, 2, *(data.draw(st.integers(s, s + 5)) for s in span), groups * depth)
    weights, bias = random(data.draw, *kernel, depth, groups * each), random(data.draw, groups * each)
    got = meaning("conv", x, weights, bias, groups=groups, dilations=dilations, **ours)
    parts = [
        tf.nn.conv2d(a, w, strides, padding, dilations=dilations)
        for a, w in zip(np.split(x, groups, 3), np.split(weights, groups, 3), strict=True)
    ]
    np.testing.assert_allclose(got, np.concatenate(parts, 3) + bias, **SUMS)


@quick
@given(st.data())
def test_depthwise_conv2d(data: st.DataObject) -> None:
    kernel, channels, multiplier = data.draw(kernels), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    ours, (strides, padding) = data.draw(windows(kernel))
    # TensorFlow's depthwise convolution wants the same stride in both directions.
    ours["strides"] = strides = (strides[0], strides[0])
    dilation = data.draw(st.sampled_from([1, 1, 2])) if strides == (1, 1) and padding == "SAME" else 1
    span = [(k - 1) * dilation + 1 for k in kernel]
    x = random(data.draw, 2, *(data.draw(st.integers(s, s + 5)) for s in span), channels)
    weights, bias = random(data.draw, *kernel, channels, multiplier), random(data.draw, channels * multiplier)
    got = meaning("depthwise_conv", x, weights, bias, dilations=(dilation, dilation), **ours)
    expected = tf.nn.depthwise_conv2d(x, weights, (1, *strides, 1), padding, dilations=(dilation, dilation))
    np.testing.assert_allclose(got, expected.numpy() + bias, **SUMS)


@quick
@given(st.data())
def test_max_pool2d(data: st.DataObject) -> None:
    kernel = data.draw(kernels)
    ours, (strides, padding) = data.draw(windows(kernel))
    x = random(data.draw, 2, *(data.draw(st.integers(k, k + 6)) for k in kernel), 3)
    got = meaning("max_pool", x, pool_size=kernel, **ours)
    np.testing.assert_array_equal(got, tf.nn.max_pool2d(x, kernel, strides, padding).numpy())


@quick
@given(st.data())
def test_average_pool2d_counts_real_pixels_only(data: st.DataObject) -> None:
    kernel = data.draw(kernels)
    ours, (strides, padding) = data.draw(windows(kernel))
    x = random(data.draw, 2, *(data.draw(st.integers(k, k + 6)) for k in kernel), 3)
    got = meaning("average_pool", x, pool_size=kernel, **ours)
    if padding == "SAME":
        expected = tf.nn.avg_pool2d(x, kernel, strides, padding).numpy()
    else:
        # TensorFlow averages over the padding too; the sum over it, divided by what ones sum up to, does not.
        frame = [padding[0], padding[1], padding[2], padding[3]]
        total, count = (
            tf.nn.avg_pool2d(np.pad(values, frame), kernel, strides, "VALID").numpy() for values in (x, np.ones_like(x))
        )
        expected = total / count
    np.testing.assert_allclose(got, expected, **SUMS)


@quick
@given(st.data(), st.booleans())
def test_global_pools(data: st.DataObject, keepdims: bool) -> None:
    x = random(data.draw, 2, data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)), 3)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=keepdims, dtype="float64")(x).numpy()
    most = keras.layers.GlobalMaxPooling2D(keepdims=keepdims, dtype="float64")(x).numpy()
    np.testing.assert_allclose(meaning("reduce_mean", x, keepdims=int(keepdims)), mean, **SUMS)
    np.testing.assert_array_equal(meaning("reduce_max", x, keepdims=int(keepdims)), most)


@quick
@given(st.data())
def test_dense(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    x, weights = random(data.draw, 2, *shape), random(data.draw, shape[-1], 4)
    bias = random(data.draw, 4)
    expected = tf.tensordot(x, weights, 1).numpy() + bias
    np.testing.assert_allclose(meaning("dense", x, weights, bias), expected, **SUMS)


@quick
@given(st.data())
def test_batch_normalization(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    x = random(data.draw, 2, *shape)
    gamma, beta, mean, spread = (random(data.draw, shape[-1]) for _ in range(4))
    variance = np.float64(np.float32(spread**2))
    layer = keras.layers.BatchNormalization(epsilon=1e-3, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([gamma, beta, mean, variance])
    expected = layer(x, training=False).numpy()
    np.testing.assert_allclose(meaning("batch_normalization", x, gamma, beta, mean, variance), expected, **SUMS)


@quick
@given(st.data())
def test_softmax(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(1, len(shape)))
    x = 20 * random(data.draw, 2, *shape)
    np.testing.assert_allclose(meaning("softmax", x, axis=axis), tf.nn.softmax(x, axis).numpy(), **SUMS)


@quick
@given(st.data(), st.sampled_from(["add", "multiply"]))
def test_sums_and_products_broadcast(data: st.DataObject, operator: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    shapes = [[size if data.draw(st.booleans()) else 1 for size in shape] for _ in range(2)]
    x, y = (random(data.draw, 2, *one) for one in shapes)
    b = GraphBuilder()
    graph = b.graph(b.add(operator, b.input("x", *shapes[0]), b.input("y", *shapes[1])))
    # TensorFlow's sum, not Keras' layer: Keras 3 takes a small second operand for a bias where its batch, by chance, has the
    # size of the first one's channels, and then adds it along the wrong axis.
    expected = tf.add(x, y) if operator == "add" else tf.multiply(x, y)
    (got,) = reference.run(graph, {"x": x, "y": y}).values()
    np.testing.assert_array_equal(got, expected.numpy())


@quick
@given(st.data())
def test_shapes_change_and_values_do_not(data: st.DataObject) -> None:
    x = random(data.draw, 2, 3, 4, 2)
    np.testing.assert_array_equal(meaning("identity", x), x)
    for target in ((-1,), (4, 3, 2), (6, -1), (24,)):
        np.testing.assert_array_equal(meaning("reshape", x, shape=target), keras.layers.Reshape(target)(x).numpy())
    top, bottom, left, right = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    padded = keras.layers.ZeroPadding2D(((top, bottom), (left, right)), dtype="float64")(x).numpy()
    np.testing.assert_array_equal(meaning("pad", x, pads=(top, bottom, left, right)), padded)
    axis = data.draw(st.integers(1, 3))
    y = random(data.draw, 2, *(data.draw(st.integers(1, 4)) if i == axis else x.shape[i] for i in (1, 2, 3)))
    b = GraphBuilder()
    b.input("x", *x.shape[1:])
    b.input("y", *y.shape[1:])
    graph = b.graph(b.add("concatenate", "x", "y", "x", axis=axis))
    (got,) = reference.run(graph, {"x": x, "y": y}).values()
    np.testing.assert_array_equal(got, keras.layers.Concatenate(axis, dtype="float64")([x, y, x]).numpy())


KERAS_FUNCTIONS: dict[str, tuple[tuple[float, ...], Any]] = {
    "linear": ((), lambda x: x),
    "elu": ((0.75,), lambda x: keras.activations.elu(x, alpha=0.75)),
    "selu": ((), keras.activations.selu),
    "sigmoid": ((), keras.activations.sigmoid),
    "hard_sigmoid": ((1 / 6, 0.5), keras.activations.hard_sigmoid),
    "tanh": ((), keras.activations.tanh),
    "softplus": ((), keras.activations.softplus),
    "softsign": ((), keras.activations.softsign),
    "swish": ((), keras.activations.silu),
    "hard_swish": ((), keras.activations.hard_silu),
    "gelu": ((), lambda x: keras.activations.gelu(x, approximate=False)),
    "gelu_tanh": ((), lambda x: keras.activations.gelu(x, approximate=True)),
    "exponential": ((), keras.activations.exponential),
}
RELUS = [
    (0.0, math.inf, 0.0),
    (0.0, 6.0, 0.0),
    (0.25, math.inf, 0.0),
    (0.25, 2.0, 0.5),
    (0.0, 1.5, 1.0),
    (0.5, 1.0, 2.0),
]
VALUES = np.concatenate([np.linspace(-9, 9, 181) + 1e-3, [-80.0, -30.0, -1e-9, 0.0, 1e-9, 30.0, 80.0]])


@pytest.mark.parametrize("function", sorted(KERAS_FUNCTIONS))
def test_activation_functions_are_those_of_keras(function: str) -> None:
    parameters, theirs = KERAS_FUNCTIONS[function]
    expected = np.asarray(theirs(tf.constant(VALUES, tf.float64)))
    # tf.nn.gelu rounds its constants, 1 / sqrt(2) among them, to float32; the others compute in float64 throughout.
    rtol, atol = (1e-6, 1e-8) if function.startswith("gelu") else (1e-11, 1e-13)
    np.testing.assert_allclose(reference.activate(function, parameters, VALUES), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("parameters", RELUS)
def test_relu_with_slope_limit_and_threshold_is_that_of_keras(parameters: tuple[float, float, float]) -> None:
    slope, limit, threshold = parameters
    layer = keras.layers.ReLU(None if limit == math.inf else limit, slope, threshold, dtype="float64")
    np.testing.assert_allclose(
        reference.activate("relu", parameters, VALUES), layer(VALUES).numpy(), rtol=1e-12, atol=1e-15
    )


def test_the_old_hard_sigmoid_is_that_of_keras_2() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    expected = tf_keras.activations.hard_sigmoid(tf.constant(VALUES, tf.float64)).numpy()
    np.testing.assert_allclose(reference.activate("hard_sigmoid", (0.2, 0.5), VALUES), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", sorted({*KERAS_FUNCTIONS} | {"relu"}))
def test_nan_and_infinities_go_through_activations_as_in_keras(function: str) -> None:
    x = np.array([math.nan, math.inf, -math.inf])
    parameters, theirs = KERAS_FUNCTIONS.get(function, ((0.0, math.inf, 0.0), keras.activations.relu))
    expected = np.asarray(theirs(tf.constant(x, tf.float32)))
    np.testing.assert_allclose(reference.activate(function, parameters, x), expected, rtol=1e-6)


def test_nan_wins_a_maximum_wherever_it_stands() -> None:
    for position in range(4):
        x = np.array([3.0, -1.0, math.inf, 2.0])
        x[position] = math.nan
        x = x.reshape(1, 2, 2, 1)
        assert np.isnan(meaning("reduce_max", x)).all()
        assert np.isnan(keras.layers.GlobalMaxPooling2D()(x).numpy()).all()
        assert np.isnan(meaning("max_pool", x, pool_size=(2, 2))).all()


def test_padding_never_wins_a_maximum() -> None:
    x = np.full((1, 2, 2, 1), -5.0)
    got = meaning("max_pool", x, pool_size=(2, 2), pads=(1, 1, 1, 1))
    np.testing.assert_array_equal(got, np.full((1, 3, 3, 1), -5.0))


def test_residual_is_added_before_the_activation() -> None:
    b = GraphBuilder()
    x, r = b.input("x", 1, 1, 2), b.input("r", 1, 1, 2)
    y = b.add("conv", x, np.eye(2).reshape(1, 1, 2, 2), [1.0, 1.0], r, activation="relu")
    (got,) = reference.run(b.graph(y), {"x": np.full((1, 1, 1, 2), 2.0), "r": np.full((1, 1, 1, 2), -5.0)}).values()
    np.testing.assert_array_equal(got, np.zeros((1, 1, 1, 2)))  # relu(2 + 1 - 5), not relu(2 + 1) - 5


def test_quantised_constants_have_their_real_values() -> None:
    stored = np.array([[-128, 0, 127], [1, 2, 3]], np.int8)
    along = Quantization(np.array([0.5, 2.0], np.float32), np.array([0, 1], np.int32), 0)
    np.testing.assert_array_equal(
        reference.values_of(Constant("w", stored, "int8", along)), [[-64.0, 0.0, 63.5], [0.0, 2.0, 4.0]]
    )
    whole = Quantization(np.array([0.25], np.float32), np.array([-4], np.int32))
    np.testing.assert_array_equal(
        reference.values_of(Constant("w", stored, "int8", whole)), [[-31.0, 1.0, 32.75], [1.25, 1.5, 1.75]]
    )


def small_network() -> Graph:
    b = GraphBuilder()
    x = b.input("image", 4, 4, 2)
    y = b.add("conv", x, np.full((3, 3, 2, 3), 0.5), padding="same", name="conv")
    return b.graph(b.add("reduce_mean", y, name="mean"))


def test_run_all_gives_every_tensor_and_run_the_outputs_by_public_name() -> None:
    x = {"image": np.ones((2, 4, 4, 2))}
    values = reference.run_all(small_network(), x)
    assert {name: value.shape for name, value in values.items()} == {
        "image": (2, 4, 4, 2),
        "conv": (2, 4, 4, 3),
        "mean": (2, 3),
    }
    # 16 windows meet 9 * 16 - (4 * 3 * 4 - 4) ones of 2 channels: 36 corner and edge taps are missing, 44 in all.
    np.testing.assert_allclose(values["mean"], 0.5 * 2 * (9 * 16 - 44) / 16)
    (mean,) = reference.run(small_network(), x).values()
    np.testing.assert_array_equal(mean, values["mean"])


def test_computes_in_the_dtype_asked_for() -> None:
    (mean,) = reference.run(small_network(), {"image": np.ones((1, 4, 4, 2))}, dtype=np.float32).values()
    assert mean.dtype == np.float32


def test_every_plain_attribute_of_the_builder_is_one_of_the_table() -> None:
    assert {name for row in OPERATORS.values() for name in row.attributes} >= DEFAULTS.keys()

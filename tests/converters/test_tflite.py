"""LiteRT models: what TensorFlow's own converter writes against Keras, TensorFlow and LiteRT; and what is refused."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS

flatbuffers = pytest.importorskip("flatbuffers")
tflite = pytest.importorskip("tflite")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore")

L = keras.layers

# float32 sums of some hundred products of values up to 2, on both sides.
TOLERANCE = 2e-5


def random_weights(model: Any, seed: int = 0) -> Any:
    """The model with random weights, its statistics positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        fan_in = max(1, int(np.prod(shape[:-1])))
        if "variance" in variable.path or "gamma" in variable.path:
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.2, shape)
        variable.assign(value.astype(np.float32))
    return model


def of_keras(model: Any, **options: Any) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in options.items():
        if name == "types":
            converter.target_spec.supported_types = value
        else:
            setattr(converter, name, value)
    return bytes(converter.convert())


def of_function(function: Callable[..., Any], *shapes: Sequence[int | None]) -> bytes:
    specs = [tf.TensorSpec(shape, tf.float32, name=f"x{i}") for i, shape in enumerate(shapes)]
    concrete = tf.function(function).get_concrete_function(*specs)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete).convert())


def operators(data: bytes) -> list[str]:
    """Names of a file's operators."""
    names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    return [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]


def answers(data: bytes, xs: Sequence[np.ndarray[Any, Any]], folder: Path) -> list[np.ndarray[Any, Any]]:
    path = folder / "model.tflite"
    path.write_bytes(data)
    got = edgecnn.load(to_graph(path))(*xs)
    return list(got) if isinstance(got, list) else [got]


def of_litert(data: bytes, xs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    interpreter = tf.lite.Interpreter(
        model_content=data, experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF
    )
    for detail, x in zip(interpreter.get_input_details(), xs, strict=True):
        interpreter.resize_tensor_input(detail["index"], x.shape)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), xs, strict=True):
        interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def assert_close(got: Sequence[np.ndarray[Any, Any]], wanted: Sequence[Any], tolerance: float = TOLERANCE) -> None:
    assert len(got) == len(wanted)
    for mine, theirs in zip(got, map(np.asarray, wanted), strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() <= tolerance * max(1.0, float(np.abs(theirs).max()))


def inputs(*shapes: Sequence[int], seed: int = 1, low: float = -2.0, high: float = 2.0) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(low, high, shape).astype(np.float32) for shape in shapes]


# Layers of Keras -------------------------------------------------------------------------------------------------------

KERAS: dict[str, tuple[tuple[int | None, ...], Callable[[Any], Any]]] = {
    "conv same stride": ((11, 9, 3), lambda x: L.Conv2D(5, 3, strides=2, padding="same", activation="relu")(x)),
    "conv valid": ((11, 9, 3), lambda x: L.Conv2D(5, (3, 2), activation="relu6")(x)),
    "conv dilated": ((13, 12, 3), lambda x: L.Conv2D(5, 3, dilation_rate=(2, 3), padding="same")(x)),
    "conv dilated valid": ((13, 12, 3), lambda x: L.Conv2D(5, 3, dilation_rate=2, activation="relu")(x)),
    "conv grouped": ((9, 8, 6), lambda x: L.Conv2D(9, 3, groups=3)(x)),
    "conv of single channels": ((9, 8, 4), lambda x: L.Conv2D(8, 3, groups=4)(x)),
    "depthwise": ((9, 8, 4), lambda x: L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=3)(x)),
    "depthwise dilated": ((13, 12, 4), lambda x: L.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x)),
    "separable": ((9, 8, 4), lambda x: L.SeparableConv2D(6, 3, padding="same")(x)),
    "conv 1d": ((20, 4), lambda x: L.Conv1D(5, 3, strides=2, padding="same", activation="relu")(x)),
    "conv 1d causal": ((20, 4), lambda x: L.Conv1D(5, 3, padding="causal")(x)),
    "conv 1d dilated": ((20, 4), lambda x: L.Conv1D(5, 3, dilation_rate=2, padding="same", activation="relu")(x)),
    "conv 1d causal dilated": ((21, 4), lambda x: L.Conv1D(5, 3, dilation_rate=4, padding="causal")(x)),
    "conv 3d": ((5, 6, 7, 3), lambda x: L.Conv3D(4, 3, strides=2, padding="same", activation="relu")(x)),
    "conv 3d transposed": ((3, 4, 5, 3), lambda x: L.Conv3DTranspose(4, 3, strides=2, padding="same")(x)),
    "transposed same": ((5, 6, 3), lambda x: L.Conv2DTranspose(4, 3, strides=2, padding="same")(x)),
    "transposed valid": ((5, 6, 3), lambda x: L.Conv2DTranspose(4, 3, strides=(2, 3), activation="relu")(x)),
    "transposed small kernel": ((5, 6, 3), lambda x: L.Conv2DTranspose(4, 2, strides=3, use_bias=False)(x)),
    "transposed 1d": ((5, 3), lambda x: L.Conv1DTranspose(4, 4, strides=2, padding="same")(x)),
    "normalised": ((7, 8, 4), lambda x: L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(5, 3, use_bias=False)(x)))),
    "batch normalisation alone": ((7, 8, 4), lambda x: L.BatchNormalization()(x)),
    "layer normalisation": ((7, 8, 4), lambda x: L.LayerNormalization()(x)),
    "group normalisation": ((7, 8, 4), lambda x: L.GroupNormalization(2)(x)),
    "unit normalisation": ((7, 4), lambda x: L.UnitNormalization()(x)),
    "average pool": ((9, 8, 3), lambda x: L.AveragePooling2D(3, strides=2, padding="same")(x)),
    "max pool": ((9, 8, 3), lambda x: L.MaxPooling2D(2)(x)),
    "max pool same": ((9, 8, 3), lambda x: L.MaxPooling2D(3, strides=2, padding="same")(x)),
    "max pool 1d": ((9, 3), lambda x: L.MaxPooling1D(2)(x)),
    "global average": ((9, 8, 3), lambda x: L.GlobalAveragePooling2D()(x)),
    "global max kept": ((9, 8, 3), lambda x: L.GlobalMaxPooling2D(keepdims=True)(x)),
    "dense": ((6,), lambda x: L.Dense(4, activation="softmax")(x)),
    "dense of steps": ((7, 6), lambda x: L.Dense(4, activation="relu")(x)),
    "dense of pixels": ((5, 7, 6), lambda x: L.Dense(3)(L.Dense(4, activation="gelu")(x))),
    "flatten": ((5, 4, 3), lambda x: L.Dense(4, activation="tanh")(L.Flatten()(x))),
    "squeeze and excite": ((8, 7, 6), lambda x: L.Multiply()([x, excited(x)])),
    "residual": ((8, 7, 6), lambda x: L.ReLU()(L.Add()([x, L.Conv2D(6, 3, padding="same")(x)]))),
    "concatenate": ((8, 7, 6), lambda x: L.Concatenate()([x, L.Conv2D(2, 1)(x), L.ReLU()(x)])),
    "upsampling nearest": ((5, 4, 3), lambda x: L.UpSampling2D((2, 3))(x)),
    "upsampling bilinear": ((5, 4, 3), lambda x: L.UpSampling2D(2, interpolation="bilinear")(x)),
    "upsampling 1d": ((5, 3), lambda x: L.UpSampling1D(2)(x)),
    "resizing": ((5, 4, 3), lambda x: L.Resizing(7, 9)(x)),
    "resizing nearest": ((5, 4, 3), lambda x: L.Resizing(7, 9, interpolation="nearest")(x)),
    "zero padding": ((5, 4, 3), lambda x: L.Conv2D(4, 3, strides=2)(L.ZeroPadding2D(((0, 1), (1, 0)))(x))),
    "cropping": ((7, 8, 3), lambda x: L.Cropping2D(((1, 2), (0, 3)))(x)),
    "permute": ((7, 8, 3), lambda x: L.Permute((3, 1, 2))(x)),
    "reshape": ((6, 8, 3), lambda x: L.Reshape((4, -1, 2))(x)),
    "repeat": ((6,), lambda x: L.RepeatVector(3)(x)),
    "dot": ((6, 5), lambda x: L.Dot(axes=(2, 2))([x, L.ReLU()(x)])),
    "leaky relu": ((6, 5), lambda x: L.LeakyReLU(0.2)(x)),
    "prelu": ((6, 5, 3), lambda x: L.PReLU(shared_axes=[1, 2])(x)),
    "prelu of each value": ((6, 5, 3), lambda x: L.PReLU()(x)),
    "elu": ((6, 5), lambda x: L.ELU()(x)),
    "softmax of an axis": ((6, 5), lambda x: L.Softmax(axis=1)(x)),
    "rescaling": ((6, 5, 3), lambda x: L.Rescaling(1 / 127.5, -1)(x)),
    **{
        f"activation {name}": ((6, 5), lambda x, name=name: L.Activation(name)(x))
        for name in (
            "relu", "relu6", "sigmoid", "tanh", "swish", "hard_sigmoid", "hard_silu", "gelu", "softplus",
            "softsign", "exponential", "mish", "log_softmax",
        )
    },
    "elu of alpha 0.5": ((6, 6, 3), lambda x: L.ELU(0.5)(x)),
    "selu": ((6, 6, 3), lambda x: L.Activation("selu")(x)),
    "threshold": ((6, 6, 3), lambda x: L.ReLU(threshold=0.5)(x)),
    "slope and ceiling": ((6, 6, 3), lambda x: L.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2)(x)),
}  # fmt: skip


def excited(x: Any) -> Any:
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    return L.Conv2D(6, 1, activation="hard_sigmoid")(L.Conv2D(3, 1, activation="relu")(gate))


@pytest.mark.parametrize("name", KERAS)
def test_what_keras_layers_become(name: str, tmp_path: Path) -> None:
    shape, function = KERAS[name]
    given = L.Input(shape)
    model = random_weights(keras.Model(given, function(given)))
    (x,) = inputs((3, *shape))
    assert_close(answers(of_keras(model), [x], tmp_path), [model(x, training=False)])


# Functions of TensorFlow -----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
VECTOR = RNG.uniform(0.5, 2, 3).astype(np.float32)
MATRIX = RNG.normal(0, 1, (3, 4)).astype(np.float32)
COLUMN = RNG.uniform(-1, 1, (4, 1)).astype(np.float32)
FRAMES = np.full((2, 5, 1, 3), 0.5, np.float32), np.zeros((2, 5, 2, 3), np.float32)
KERNEL = RNG.normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32)

FUNCTIONS: dict[str, list[tuple[tuple[int | None, ...], Callable[..., Any]]]] = {
    # The operator that must be in the file: shapes of inputs, function.
    "ABS": [((2, 5, 3), lambda x: tf.abs(x))],
    "ADD": [((2, 5, 4, 3), lambda x: x + VECTOR), ((2, 5, 4, 3), lambda x: tf.nn.relu(x + tf.reverse(x, [1])))],
    "ADD_N": [((2, 5, 3), lambda x: tf.add_n([x, tf.sin(x), tf.cos(x)]))],
    "AVERAGE_POOL_2D": [((2, 9, 8, 3), lambda x: tf.nn.relu(tf.nn.avg_pool2d(x, 3, 2, "SAME")))],
    "BATCH_MATMUL": [
        ((2, 5, 3), lambda x: tf.matmul(x, x, transpose_b=True)),
        ((2, 5, 3), lambda x: tf.matmul(x, x, transpose_a=True)),
        ((2, 4, 5, 3), lambda x: tf.matmul(x, tf.transpose(x, [0, 1, 3, 2]))),
    ],
    "BROADCAST_TO": [((2, 1, 4, 3), lambda x: tf.broadcast_to(x, (2, 5, 4, 3)))],
    "CEIL": [((2, 5, 3), lambda x: tf.math.ceil(x))],
    "CONCATENATION": [
        ((2, 5, 4, 3), lambda x: tf.concat([x, x * 2, tf.sin(x)], 2)),
        ((2, 5, 4, 3), lambda x: tf.concat([FRAMES[0], FRAMES[1], x, FRAMES[1], tf.sin(x), FRAMES[0]], 2)),
    ],
    "CONV_2D": [((2, 9, 8, 3), lambda x: tf.nn.conv2d(x, KERNEL, 2, [[0, 0], [1, 2], [0, 1], [0, 0]]))],
    "COS": [((2, 5, 3), lambda x: tf.cos(x))],
    "DEPTH_TO_SPACE": [((2, 3, 4, 12), lambda x: tf.nn.depth_to_space(x, 2))],
    "DEPTHWISE_CONV_2D": [
        ((2, 9, 8, 3), lambda x: tf.nn.depthwise_conv2d(x, KERNEL, [1, 2, 2, 1], "VALID")),
    ],
    "DIV": [((2, 5, 3), lambda x: x / (tf.abs(x) + 1.0)), ((2, 5, 3), lambda x: VECTOR / (tf.abs(x) + 1.0))],
    "ELU": [((2, 5, 3), lambda x: tf.nn.elu(x))],
    "EXP": [((2, 5, 3), lambda x: tf.exp(x))],
    "FLOOR": [((2, 5, 3), lambda x: tf.floor(x))],
    "FLOOR_DIV": [((2, 5, 3), lambda x: tf.math.floordiv(x, np.float32(0.5)))],
    "FLOOR_MOD": [((2, 5, 3), lambda x: tf.math.floormod(x, np.float32(0.5)))],
    "FULLY_CONNECTED": [((2, 3), lambda x: tf.nn.relu(x @ MATRIX)), ((2, 5, 3), lambda x: x @ MATRIX)],
    "GATHER": [
        ((2, 5, 3), lambda x: tf.gather(x, [2, 0, 1], axis=2)),
        ((2, 5, 3), lambda x: tf.gather(x, 3, axis=1)),
    ],
    "GELU": [((2, 5, 3), lambda x: tf.nn.gelu(x)), ((2, 5, 3), lambda x: tf.nn.gelu(x, approximate=True))],
    "HARD_SWISH": [((2, 5, 3), lambda x: x * tf.nn.relu6(x + 3) * np.float32(1 / 6))],
    "L2_NORMALIZATION": [((2, 5), lambda x: tf.nn.l2_normalize(x, 1))],
    "LEAKY_RELU": [((2, 5, 3), lambda x: tf.nn.leaky_relu(x, 0.3))],
    "LOCAL_RESPONSE_NORMALIZATION": [((2, 5, 4, 9), lambda x: tf.nn.local_response_normalization(x, 2, 1.5, 0.3, 0.6))],
    "LOG": [((2, 5, 3), lambda x: tf.math.log(tf.abs(x) + 1.0))],
    "LOG_SOFTMAX": [((2, 5, 3), lambda x: tf.nn.log_softmax(x))],
    "LOGISTIC": [((2, 5, 3), lambda x: tf.sigmoid(x))],
    "MAXIMUM": [((2, 5, 3), lambda x: tf.maximum(x, VECTOR))],
    "MAX_POOL_2D": [((2, 9, 8, 3), lambda x: tf.nn.max_pool2d(x, (3, 2), (2, 1), "VALID"))],
    "MEAN": [
        ((2, 5, 4, 3), lambda x: tf.reduce_mean(x, [1, 2])),
        ((2, 5, 4, 3), lambda x: tf.reduce_mean(x, [1, 3], keepdims=True)),
    ],
    "MINIMUM": [((2, 5, 3), lambda x: tf.minimum(x, tf.reverse(x, [1])))],
    "MIRROR_PAD": [
        ((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [1, 3], [0, 0]], "REFLECT")),
        ((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [1, 3], [0, 0]], "SYMMETRIC")),
    ],
    "MUL": [((2, 5, 4, 3), lambda x: x * COLUMN)],
    "NEG": [((2, 5, 3), lambda x: -x)],
    "PACK": [((2, 5, 3), lambda x: tf.stack([x, tf.sin(x)], 2))],
    "PAD": [((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [1, 0]]))],
    "PADV2": [((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [0, 0]], constant_values=-1.5))],
    "POW": [((2, 5, 3), lambda x: tf.pow(tf.abs(x), np.float32(1.7)))],
    "REDUCE_MAX": [((2, 5, 4, 3), lambda x: tf.reduce_max(x, [1, 2]))],
    "REDUCE_MIN": [((2, 5, 4, 3), lambda x: tf.reduce_min(x, 3, keepdims=True))],
    "RELU": [((2, 5, 3), lambda x: tf.nn.relu(x))],
    "RELU6": [((2, 5, 3), lambda x: tf.nn.relu6(tf.sin(x)))],
    "RELU_N1_TO_1": [((2, 5, 3), lambda x: tf.maximum(tf.minimum(x, 1.0), -1.0))],
    "RESHAPE": [((2, 6, 4, 3), lambda x: tf.reshape(x, (2, 8, 9)))],
    "RESIZE_BILINEAR": [
        ((2, 5, 4, 3), lambda x: tf.image.resize(x, (8, 11))),
        ((2, 5, 4, 3), lambda x: tf.compat.v1.image.resize_bilinear(x, (9, 7), align_corners=True)),
        ((2, 5, 4, 3), lambda x: tf.compat.v1.image.resize_bilinear(x, (10, 3))),
    ],
    "RESIZE_NEAREST_NEIGHBOR": [
        ((2, 5, 4, 3), lambda x: tf.image.resize(x, (8, 11), "nearest")),
        ((2, 5, 4, 3), lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, (9, 7), align_corners=True)),
        ((2, 5, 4, 3), lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, (10, 3))),
    ],
    "REVERSE_V2": [((2, 5, 3), lambda x: tf.reverse(x, [1]))],
    "ROUND": [((2, 5, 3), lambda x: tf.round(x))],
    "RSQRT": [((2, 5, 3), lambda x: tf.math.rsqrt(tf.abs(x) + 1.0))],
    "SIGN": [((2, 5, 3), lambda x: tf.sign(x))],
    "SIN": [((2, 5, 3), lambda x: tf.sin(x))],
    "SLICE": [((2, 5, 4, 3), lambda x: tf.slice(x, [0, 1, 0, 1], [2, 3, -1, 2]))],
    "SOFTMAX": [((2, 5, 3), lambda x: tf.nn.softmax(x))],
    "SPACE_TO_DEPTH": [((2, 6, 4, 3), lambda x: tf.nn.space_to_depth(x, 2))],
    "SPLIT": [((2, 5, 6), lambda x: tf.split(x, 3, 2))],
    "SPLIT_V": [((2, 5, 6), lambda x: tf.split(x, [1, 2, 3], 2))],
    "SQRT": [((2, 5, 3), lambda x: tf.sqrt(tf.abs(x)))],
    "SQUARE": [((2, 5, 3), lambda x: tf.square(x))],
    "SQUARED_DIFFERENCE": [((2, 5, 3), lambda x: tf.math.squared_difference(x, VECTOR))],
    "STRIDED_SLICE": [
        ((2, 7, 6, 3), lambda x: x[:, 1:6:2, ::-1, :2]),
        ((2, 7, 6, 3), lambda x: x[:, -3:, 2, tf.newaxis]),
        ((2, 7, 6, 3), lambda x: x[..., 1]),
    ],
    "SUB": [((2, 5, 3), lambda x: VECTOR - x)],
    "SUM": [((2, 5, 4, 3), lambda x: tf.reduce_sum(x, [2]))],
    "TANH": [((2, 5, 3), lambda x: tf.tanh(x))],
    "TILE": [((2, 5, 4, 3), lambda x: tf.tile(x, [1, 2, 1, 3]))],
    "TRANSPOSE": [((2, 5, 4, 3), lambda x: tf.transpose(x, [0, 3, 1, 2]))],
    "TRANSPOSE_CONV": [
        ((2, 5, 6, 4), lambda x: tf.nn.conv2d_transpose(x, KERNEL, (2, 10, 11, 3), 2, "SAME")),
        ((2, 5, 6, 4), lambda x: tf.nn.conv2d_transpose(x, KERNEL, (2, 11, 14, 3), 2, "VALID")),
    ],
    "UNPACK": [((2, 5, 3), lambda x: tf.unstack(x, axis=2))],
    "EXPAND_DIMS": [((2, None, 3), lambda x: tf.expand_dims(x, 2))],
    "EQUAL": [((2, 5, 3), lambda x: tf.cast(tf.equal(tf.round(x), 1.0), tf.float32))],
    "GREATER": [((2, 5, 3), lambda x: tf.cast(x > VECTOR, tf.float32))],
    "GREATER_EQUAL": [((2, 5, 3), lambda x: tf.cast(tf.round(x) >= tf.reverse(tf.round(x), [1]), tf.float32))],
    "LESS": [((2, 5, 3), lambda x: x * tf.cast(x < 0.5, tf.float32))],
    "LESS_EQUAL": [((2, 5, 3), lambda x: tf.cast(tf.round(x) <= 1.0, tf.float32))],
    "LOGICAL_AND": [((2, 5, 3), lambda x: tf.cast(tf.logical_and(x > 0, x < 1), tf.float32))],
    "LOGICAL_NOT": [((2, 5, 3), lambda x: tf.cast(tf.logical_not(tf.logical_or(x > 1, x < 0)), tf.float32))],
    "LOGICAL_OR": [((2, 5, 3), lambda x: tf.cast(tf.logical_or(x > 1, x < 0), tf.float32))],
    "NOT_EQUAL": [((2, 5, 3), lambda x: tf.cast(tf.not_equal(tf.round(x), 1.0), tf.float32))],
    "SELECT": [((2, 5, 3), lambda x: tf.where(x > 0.5, x, -x))],
    "SELECT_V2": [
        ((2, 5, 3), lambda x: tf.where(x > 0.5, 0.25, x)),
        ((2, 5, 3), lambda x: tf.where(x > 0, tf.math.log(x), 0.0)),
    ],
    "ZEROS_LIKE": [((2, 5, 3), lambda x: tf.raw_ops.ZerosLike(x=x) + x)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, cases in FUNCTIONS.items() for number in range(len(cases))]
)
def test_what_functions_of_tensorflow_become(name: str, number: int, tmp_path: Path) -> None:
    shape, function = FUNCTIONS[name][number]
    data = of_function(function, shape)
    assert name in operators(data)
    (x,) = inputs([size or 4 for size in shape])
    wanted = function(tf.constant(x))
    assert_close(answers(data, [x], tmp_path), wanted if isinstance(wanted, list) else [wanted])


def test_every_operator_has_a_case() -> None:
    by_hand = {
        "CAST", "Convolution2DTransposeBias", "DENSIFY", "DEQUANTIZE", "L2_POOL_2D", "RANK", "RELU_0_TO_1", "SHAPE", "SQUEEZE",
    }  # fmt: skip
    by_keras = {"CONV_3D", "CONV_3D_TRANSPOSE", "PRELU"}
    constant_only = {
        "BROADCAST_ARGS", "FILL", "RANGE", "REDUCE_PROD",
    }  # fmt: skip
    known = {name.removeprefix("tflite.") for name in LAYERS if name.startswith("tflite.")}
    assert known == FUNCTIONS.keys() | by_hand | by_keras | constant_only


# Files made by hand ----------------------------------------------------------------------------------------------------


class Maker:
    """Writes a file, field by field, as no converter would."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.buffers: list[Any] = [b""]
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[tuple[str, str]] = []

    def table(self, kind: str, **fields: Any) -> int:
        """A table; its fields are numbers, or places of what was written before."""
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            if value is not None:
                getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return int(getattr(tflite, f"{kind}End")(self.builder))

    def offsets(self, kind: str, name: str, places: Sequence[int]) -> int:
        getattr(tflite, f"{kind}Start{name}Vector")(self.builder, len(places))
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return int(self.builder.EndVector())

    def ints(self, values: Sequence[int]) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, np.int32)))

    def tensor(
        self,
        shape: Sequence[int],
        value: np.ndarray[Any, Any] | bytes | None = None,
        kind: str = "FLOAT32",
        **fields: Any,
    ) -> int:
        """A tensor's number. With a value, a constant."""
        name = self.builder.CreateString(fields.pop("Name", f"t{len(self.tensors)}"))
        place = self.ints(shape)
        buffer = 0
        if value is not None:
            buffer = len(self.buffers)
            self.buffers.append(value if isinstance(value, bytes) else value.tobytes())
        kind_number = getattr(tflite.TensorType, kind)
        self.tensors.append(self.table("Tensor", Shape=place, Type=kind_number, Buffer=buffer, Name=name, **fields))
        return len(self.tensors) - 1

    def floats(self, value: np.ndarray[Any, Any]) -> int:
        return self.tensor(value.shape, value.astype(np.float32))

    def whole(self, *values: int) -> int:
        return self.tensor([len(values)], np.asarray(values, np.int32), "INT32")

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, dict[str, Any]] | None = None,
        custom: bytes = b"",
    ) -> None:
        known = hasattr(tflite.BuiltinOperator, name)
        code = (name, "") if known else ("CUSTOM", name)
        if code not in self.codes:
            self.codes.append(code)
        fields: dict[str, Any] = {}
        if options:
            fields["BuiltinOptions"] = self.table(options[0], **options[1])
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, options[0])
        if custom:
            fields["CustomOptions"] = self.builder.CreateByteVector(custom)
        places = self.ints(inputs), self.ints(outputs)
        self.operators.append(
            self.table("Operator", OpcodeIndex=self.codes.index(code), Inputs=places[0], Outputs=places[1], **fields)
        )

    def file(self, inputs: Sequence[int], outputs: Sequence[int], outside: bool = False) -> bytes:
        """The file. outside: buffers lie behind the tables, as in files of more than two gigabytes."""
        build = self.builder
        lists = self.ints(inputs), self.ints(outputs)
        tensors, operators = (
            self.offsets("SubGraph", "Tensors", self.tensors),
            self.offsets("SubGraph", "Operators", self.operators),
        )
        graph = self.table("SubGraph", Tensors=tensors, Inputs=lists[0], Outputs=lists[1], Operators=operators)
        graphs = self.offsets("Model", "Subgraphs", [graph])
        codes = []
        for name, custom in self.codes:
            number = getattr(tflite.BuiltinOperator, name)
            text = build.CreateString(custom) if custom else None
            codes.append(
                self.table(
                    "OperatorCode",
                    BuiltinCode=number,
                    DeprecatedBuiltinCode=min(number, 127),
                    CustomCode=text,
                    Version=1,
                )
            )
        buffers = []
        for index, data in enumerate(self.buffers):
            if outside and data:
                buffers.append(self.table("Buffer", Offset=10_000_000 + index, Size=len(data)))
            else:
                buffers.append(self.table("Buffer", Data=build.CreateByteVector(data) if data else None))
        places = self.offsets("Model", "OperatorCodes", codes), self.offsets("Model", "Buffers", buffers)
        build.Finish(
            self.table("Model", Version=3, OperatorCodes=places[0], Subgraphs=graphs, Buffers=places[1]), b"TFL3"
        )
        written = bytes(build.Output())
        for index, data in enumerate(self.buffers):
            if outside and data:
                written += bytes(-len(written) % 16)
                written = written.replace(struct.pack("<Q", 10_000_000 + index), struct.pack("<Q", len(written)))
                written += data
        return written


def by_hand(
    name: str, shape: Sequence[int], others: Sequence[np.ndarray[Any, Any]], output: Sequence[int], **given: Any
) -> bytes:
    """One operator on an input and on constants."""
    make = Maker()
    x = make.tensor(shape)
    constants = [
        make.tensor(value.shape, value, "INT32") if value.dtype == np.int32 else make.floats(value) for value in others
    ]
    y = make.tensor(output)
    make.operator(name, [x, *constants], [y], **given)
    return make.file([x], [y])


def test_l2_pooling(tmp_path: Path) -> None:
    options = {"Padding": 1, "StrideW": 2, "StrideH": 1, "FilterWidth": 3, "FilterHeight": 2}
    data = by_hand("L2_POOL_2D", (1, 6, 7, 3), [], (1, 5, 3, 3), options=("Pool2DOptions", options))
    xs = inputs((1, 6, 7, 3))
    assert_close(answers(data, xs, tmp_path), of_litert(data, xs))


def test_relu_0_to_1(tmp_path: Path) -> None:
    data = by_hand("RELU_0_TO_1", (1, 6, 3), [], (1, 6, 3))
    (x,) = inputs((2, 6, 3))
    assert_close(answers(data, [x], tmp_path), [np.clip(x, 0, 1)])


@pytest.mark.parametrize("code", range(4))
@pytest.mark.parametrize("name", ["ADD", "MUL", "SUB", "DIV"])
def test_fused_activations(name: str, code: int, tmp_path: Path) -> None:
    other = np.array([4.0, -3.0, 0.5], np.float32)
    options = (f"{name.capitalize()}Options", {"FusedActivationFunction": code})
    data = by_hand(name, (1, 6, 3), [other], (1, 6, 3), options=options)
    xs = inputs((1, 6, 3))
    assert_close(answers(data, xs, tmp_path), of_litert(data, xs))


@pytest.mark.parametrize("code", [4, 5, 77])
def test_fused_activations_that_litert_passes_over_are_refused(code: int, tmp_path: Path) -> None:
    other = np.ones(3, np.float32)
    data = by_hand("ADD", (1, 6, 3), [other], (1, 6, 3), options=("AddOptions", {"FusedActivationFunction": code}))
    refused(data, tmp_path, f"activation is number {code}")


@pytest.mark.parametrize("function", [tf.math.floordiv, tf.math.floormod])
def test_divisors_that_are_no_powers_of_two_are_refused(function: Callable[..., Any], tmp_path: Path) -> None:
    """LiteRT divides in float64, and takes remainders exactly: 0.3 by 0.1 is 2 and something."""
    refused(of_function(lambda x: function(x, np.float32(0.1)), (2, 5, 3)), tmp_path, "power")
    (x,) = inputs((2, 5, 3), low=-3e38, high=3e38)
    x[0, 0] = -1e-8, np.inf, np.nan
    for divisor in (0.25, -2.0):
        data = of_function(lambda x, divisor=divisor: function(x, np.float32(divisor)), (2, 5, 3))
        np.testing.assert_allclose(answers(data, [x], tmp_path)[0], of_litert(data, [x])[0], rtol=1e-6)


@pytest.mark.parametrize("axes", [[2], [-2], []])
def test_squeeze(axes: list[int], tmp_path: Path) -> None:
    make = Maker()
    x, y = make.tensor((1, 5, 1, 3)), make.tensor((1, 5, 3))
    make.operator("SQUEEZE", [x], [y], ("SqueezeOptions", {"SqueezeDims": make.ints(axes) if axes else None}))
    (given,) = inputs((2, 5, 1, 3))
    assert_close(answers(make.file([x], [y]), [given], tmp_path), [given[:, :, 0]])


@pytest.mark.parametrize(("padding", "word", "size"), [(1, "SAME", (6, 12)), (2, "VALID", (7, 12))])
def test_mediapipes_transposed_convolution(padding: int, word: str, size: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(0, 1, (4, 3, 2, 5)).astype(np.float32), rng.normal(0, 1, 4).astype(np.float32)
    custom = struct.pack("<3i", padding, 3, 2)
    data = by_hand("Convolution2DTransposeBias", (1, 3, 4, 5), [weights, bias], (1, *size, 4), custom=custom)
    (x,) = inputs((2, 3, 4, 5))
    wanted = tf.nn.conv2d_transpose(x, weights.transpose(1, 2, 0, 3), (2, *size, 4), (2, 3), word) + bias
    assert_close(answers(data, [x], tmp_path), [wanted])


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    ("blocks", "pads", "crops"),
    [((2, 2), (2, 2, 2, 3), (0, 0, 0, 1)), ((2, 3), (1, 1, 0, 0), (1, 0, 0, 2)), ((1, 2), (0, 0, 1, 2), (0, 0, 0, 0))],
)
def test_a_convolution_between_batches_is_a_dilated_one(
    name: str, padding: int, blocks: tuple[int, int], pads: tuple[int, ...], crops: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    height, width = ((n + pads[2 * i] + pads[2 * i + 1]) // blocks[i] for i, n in enumerate((12, 9)))
    assert (12 + sum(pads[:2])) % blocks[0] == (9 + sum(pads[2:])) % blocks[1] == 0
    make = Maker()
    x, many = make.tensor((1, 12, 9, 3)), blocks[0] * blocks[1]
    inner = make.tensor((many, height, width, 3))
    less = 0 if padding == 0 else 2
    outer = make.tensor((many, height - less, width - less, 3))
    size = ((height - less) * blocks[0] - sum(crops[:2]), (width - less) * blocks[1] - sum(crops[2:]))
    y = make.tensor((1, *size, 3))
    shape = (3, 3, 3, 3) if name == "CONV_2D" else (1, 3, 3, 3)
    weights, bias = make.floats(rng.normal(0, 0.3, shape)), make.floats(rng.normal(0, 1, 3))
    block = make.whole(*blocks)
    frame, cut = (make.tensor((2, 2), np.asarray(v, np.int32), "INT32") for v in (pads, crops))
    options: dict[str, Any] = {"Padding": padding, "StrideW": 1, "StrideH": 1, "FusedActivationFunction": 1}
    if name == "DEPTHWISE_CONV_2D":
        options["DepthMultiplier"] = 1
    make.operator("SPACE_TO_BATCH_ND", [x, block, frame], [inner])
    kind = "Conv2DOptions" if name == "CONV_2D" else "DepthwiseConv2DOptions"
    make.operator(name, [inner, weights, bias], [outer], (kind, options))
    make.operator("BATCH_TO_SPACE_ND", [outer, block, cut], [y])
    data = make.file([x], [y])
    xs = inputs((1, 12, 9, 3))
    assert_close(answers(data, xs, tmp_path), of_litert(data, xs))


def test_space_to_batch_alone_is_refused(tmp_path: Path) -> None:
    block, frame = np.array([2, 2], np.int32), np.zeros((2, 2), np.int32)
    data = by_hand("SPACE_TO_BATCH_ND", (1, 6, 4, 3), [block, frame], (4, 3, 2, 3))
    refused(data, tmp_path, "mixes the images")


def sparse_file(blocks: bool) -> tuple[bytes, np.ndarray[Any, Any]]:
    """x + a sparse matrix of 4 x 8, stored by rows, or by rows of blocks of 2 x 4."""
    dense = np.zeros((4, 8), np.float32)
    dense[0:2, 4:8] = np.arange(1, 9).reshape(2, 4)
    dense[2:4, 0:4] = -np.arange(1, 9).reshape(2, 4)
    make = Maker()

    def places(values: Sequence[int]) -> int:
        return make.table("Uint8Vector", Values=make.builder.CreateNumpyVector(np.asarray(values, np.uint8)))

    def level(size: int | None, ends: Sequence[int] = (), found: Sequence[int] = ()) -> int:
        if size is not None:
            return make.table("DimensionMetadata", Format=0, DenseSize=size)
        kind = tflite.SparseIndexVector.Uint8Vector
        first, second = places(ends), places(found)
        return make.table(
            "DimensionMetadata",
            Format=1,
            ArraySegmentsType=kind,
            ArraySegments=first,
            ArrayIndicesType=kind,
            ArrayIndices=second,
        )

    if blocks:
        order, cut = [0, 1, 2, 3], [0, 1]
        levels = [level(2), level(None, [0, 1, 2], [1, 0]), level(2), level(4)]
        values = np.concatenate([dense[0:2, 4:8].reshape(-1), dense[2:4, 0:4].reshape(-1)])
    else:
        order, cut = [0, 1], []
        levels = [level(4), level(None, [0, 4, 8, 12, 16], [4, 5, 6, 7] * 2 + [0, 1, 2, 3] * 2)]
        values = dense[dense != 0]
    lists = make.ints(order), make.ints(cut)
    metadata = make.offsets("SparsityParameters", "DimMetadata", levels)
    sparsity = make.table("SparsityParameters", TraversalOrder=lists[0], BlockMap=lists[1], DimMetadata=metadata)
    x = make.tensor((1, 4, 8))
    packed = make.tensor((4, 8), values, Sparsity=sparsity)
    unpacked, y = make.tensor((4, 8)), make.tensor((1, 4, 8))
    make.operator("DENSIFY", [packed], [unpacked])
    make.operator("ADD", [x, unpacked], [y], ("AddOptions", {}))
    return make.file([x], [y]), dense


@pytest.mark.parametrize("blocks", [False, True])
def test_sparse_constants(blocks: bool, tmp_path: Path) -> None:
    data, dense = sparse_file(blocks)
    (x,) = inputs((2, 4, 8))
    assert_close(answers(data, [x], tmp_path), [x + dense])


def test_buffers_behind_the_tables(tmp_path: Path) -> None:
    make = Maker()
    x, weights, y = make.tensor((1, 3)), make.floats(MATRIX.T), make.tensor((1, 4))
    make.operator("FULLY_CONNECTED", [x, weights, -1], [y], ("FullyConnectedOptions", {}))
    data = make.file([x], [y], outside=True)
    (rows,) = inputs((5, 3))
    assert_close(answers(data, [rows], tmp_path), [rows @ MATRIX])
    refused(data[:-4], tmp_path, "cut short")


def test_what_is_appended_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    data = of_function(lambda x: tf.nn.relu(x), (1, 4, 3))
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert path.stat().st_size > len(data)
    assert [node.operator for node in to_graph(path).nodes] == ["activation"]


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    data = of_function(lambda x: tf.nn.relu(x), (1, 4, 3))
    (tmp_path / "model.bin").write_bytes(data)
    assert len(to_graph(tmp_path / "model.bin").nodes) == 1


# Names, order, sizes ---------------------------------------------------------------------------------------------------


def two_by_three() -> Any:
    z, a = L.Input((4, 4, 3), name="zeta"), L.Input((4, 4, 2), name="alpha")
    both = L.Concatenate()([z, a])
    return random_weights(keras.Model([z, a], [L.Conv2D(2, 1, name=f"c{i}")(both) for i in range(11, 0, -1)]))


def test_inputs_and_outputs_have_keras_names_and_order(tmp_path: Path) -> None:
    model = two_by_three()
    (tmp_path / "model.tflite").write_bytes(of_keras(model))
    loaded = edgecnn.load(to_graph(tmp_path / "model.tflite"))
    assert [spec.name for spec in loaded.inputs] == ["zeta", "alpha"]
    assert [spec.name for spec in loaded.outputs] == [f"output_{i}" for i in range(11)]
    xs = inputs((2, 4, 4, 3), (2, 4, 4, 2))
    assert_close(loaded(*xs), model(xs))


def test_comparing_finds_outputs_by_their_names(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from edgecnn.tools.compare import compare

    (tmp_path / "m.tflite").write_bytes(of_keras(two_by_three()))
    edgecnn.convert(tmp_path / "m.tflite", tmp_path / "m.ecnn")
    rows = compare(tmp_path / "m.tflite", tmp_path / "m.ecnn").outputs
    assert [row.name for row in rows] == [f"output_{i}" for i in range(11)]
    assert max(row.error for row in rows) < TOLERANCE


def test_without_a_signature_tensors_give_the_names(tmp_path: Path) -> None:
    make = Maker()
    x, y = make.tensor((1, 3), Name="serving_default_image:0"), make.tensor((1, 3), Name="a/Relu;b/Conv2D;c")
    make.operator("RELU", [x], [y])
    (tmp_path / "m.tflite").write_bytes(make.file([x], [y]))
    loaded = edgecnn.load(to_graph(tmp_path / "m.tflite"))
    assert [spec.name for spec in (*loaded.inputs, *loaded.outputs)] == ["image", "a/Relu"]


def test_unknown_height_and_width(tmp_path: Path) -> None:
    given = L.Input((None, None, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(given)
    x = L.MaxPooling2D(2, padding="same")(x)
    model = random_weights(keras.Model(given, L.Dense(3)(L.GlobalAveragePooling2D()(x))))
    data = of_keras(model)
    for shape in ((2, 9, 12, 3), (1, 30, 7, 3)):
        xs = inputs(shape)
        assert_close(answers(data, xs, tmp_path), [model(xs[0])])


def test_sizes_that_are_computed_from_unknown_ones(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        size = tf.shape(x)
        up = tf.nn.conv2d_transpose(x, KERNEL, [size[0], size[1] * 2, size[2] * 3, 3], [2, 3], "SAME")
        longer = tf.nn.conv2d_transpose(x, KERNEL, [size[0], size[1] * 2 + 1, size[2] * 2 + 1, 3], 2, "VALID")
        wide = tf.compat.v1.image.resize_bilinear(up, [size[1] * 2 * 2, size[2] * 3 * 2], half_pixel_centers=True)
        return tf.nn.relu(wide), longer[:, 1:, :-1]

    data = of_function(function, (None, None, None, 4))
    (x,) = inputs((2, 5, 6, 4))
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(edgecnn.UnsupportedLayerError, match="known at the call only"):
        to_graph(path)  # the resize's sizes are those of another tensor
    graph = to_graph(path, input_shapes={"": (5, 6, 4)})
    assert_close(edgecnn.load(graph)(x), function(x))

    def alone(x: Any) -> Any:
        size = tf.shape(x)
        up = tf.nn.conv2d_transpose(x, KERNEL, [size[0], size[1] * 2, size[2] * 3, 3], [2, 3], "SAME")
        longer = tf.nn.conv2d_transpose(x, KERNEL, [size[0], size[1] * 2 + 1, size[2] * 2 + 1, 3], 2, "VALID")
        half = tf.shape(up)
        wide = tf.compat.v1.image.resize_bilinear(up, [half[1] * 2, half[2] * 2], half_pixel_centers=True)
        return tf.nn.relu(wide), longer[:, 1:, :-1]

    data = of_function(alone, (None, None, None, 4))
    for shape in ((2, 5, 6, 4), (1, 3, 9, 4)):
        xs = inputs(shape)
        assert_close(answers(data, xs, tmp_path), alone(xs[0]))


def test_a_fixed_batch_is_the_batch(tmp_path: Path) -> None:
    model = random_weights(keras.Sequential([L.Input((4, 4, 3)), L.Conv2D(2, 3), L.Flatten(), L.Dense(3)]))
    data = of_keras(model)
    xs = inputs((7, 4, 4, 3))
    assert_close(answers(data, xs, tmp_path), [model(xs[0])])
    fixed = of_function(lambda x: tf.reshape(tf.nn.relu(x), (1, -1)), (1, 4, 4, 3))
    assert_close(answers(fixed, xs, tmp_path), [np.maximum(xs[0], 0).reshape(7, -1)])


# Weights in other types ------------------------------------------------------------------------------------------------


def small_network() -> Any:
    given = L.Input((16, 16, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False)(given)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.DepthwiseConv2D(3, strides=2)(x)
    x = L.Conv2D(16, 1, activation="swish")(x)
    return random_weights(keras.Model(given, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))))


def test_float16_weights(tmp_path: Path) -> None:
    model = small_network()
    data = of_keras(model, optimizations=[tf.lite.Optimize.DEFAULT], types=[tf.float16])
    assert "DEQUANTIZE" in operators(data)
    xs = inputs((1, 16, 16, 3))
    assert_close(answers(data, xs, tmp_path), of_litert(data, xs))
    assert_close(answers(data, xs, tmp_path), [model(xs[0])], 5e-3)


@pytest.mark.parametrize("whole", [False, True])
def test_quantised_files_are_refused(whole: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    given = L.Input((16, 16, 8))
    model = random_weights(keras.Model(given, L.Flatten()(L.Conv2D(32, 3)(L.Conv2D(32, 3)(given)))))
    if whole:
        options["representative_dataset"] = lambda: [inputs((1, 16, 16, 8))]
    error = refused(of_keras(model, **options), tmp_path, "quantised")
    assert isinstance(error, edgecnn.UnsupportedLayerError)
    assert "float16" in str(error)
    assert len(error.items) == 1


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("length", "size"), [(2, 41), (4, 75), (6, 74), (7, 29), (8, 47), (10, 67), (12, 74), (14, 18), (25, 61)]
)
def test_the_nearest_pixel_is_litert_s(length: int, size: int, half: bool, align: bool, tmp_path: Path) -> None:
    if half and align:
        return
    data = of_function(
        lambda x: tf.raw_ops.ResizeNearestNeighbor(
            images=x, size=[size, length], align_corners=align, half_pixel_centers=half
        ),
        (1, length, size, 1),
    )
    x = np.arange(length * size, dtype=np.float32).reshape(1, length, size, 1)
    np.testing.assert_array_equal(answers(data, [x], tmp_path)[0], of_litert(data, [x])[0])


# Whole networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_whole_networks(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    alpha = {"alpha": 0.35} if name == "MobileNetV2" else {}
    model = getattr(keras.applications, name)(input_shape=(96, 96, 3), weights=None, classes=10, **alpha)
    random_statistics(model)
    (x,) = inputs((2, 96, 96, 3), low=-1.0, high=1.0)
    (got,) = answers(of_keras(model), [x], tmp_path)
    wanted = np.asarray(model(x, training=False))
    assert wanted.std() > 1e-3
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def random_statistics(model: Any) -> None:
    """Gives batch normalisations statistics and scales of their own, near those that keep values of a size."""
    rng = np.random.default_rng(5)
    for variable in model.weights:
        if "moving" in variable.path or "gamma" in variable.path or "beta" in variable.path:
            low, high = (0.8, 1.2) if "variance" in variable.path or "gamma" in variable.path else (-0.2, 0.2)
            variable.assign(rng.uniform(low, high, variable.shape).astype(np.float32))


# What is refused -------------------------------------------------------------------------------------------------------


def refused(data: bytes, folder: Path, *words: str) -> edgecnn.ConversionError:
    path = folder / "refused.tflite"
    path.write_bytes(data)
    with pytest.raises(edgecnn.ConversionError) as caught:
        to_graph(path)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    data = of_function(lambda x: tf.cumsum(tf.nn.relu(x), 1) + tf.cast(tf.argmax(x, 1), tf.float32)[:, None], (1, 4, 3))
    error = refused(data, tmp_path, "CUMSUM", "ARG_MAX")
    assert isinstance(error, edgecnn.UnsupportedLayerError)
    assert [item.class_name for item in error.items] == ["tflite.ARG_MAX", "tflite.CUMSUM"]


def test_custom_operators_are_named(tmp_path: Path) -> None:
    data = by_hand("MaxUnpooling2D", (1, 6, 4, 3), [], (1, 12, 8, 3), custom=bytes(12))
    refused(data, tmp_path, "tflite.MaxUnpooling2D", "maxima")


def test_an_option_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    data = by_hand("EXP", (1, 6, 3), [], (1, 6, 3), options=("LeakyReluOptions", {"Alpha": 0.5}))
    refused(data, tmp_path, "EXP", "its option alpha is 0.5, which is not converted")


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x: tf.reduce_mean(x, [0, 1]), "batch"),
        (lambda x: tf.reshape(x, (-1, 3)), "mixes the images"),
        (lambda x: tf.transpose(x, [1, 0, 2]), "moves the batch"),
        (lambda x: tf.concat([x, x], 0), "batch"),
        (lambda x: tf.concat([x, np.arange(12).reshape(1, 4, 3).astype(np.float32)], 1), "joins constants"),
        (lambda x: x[1:], "batch"),
        (lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32), "INT32"),
        (lambda x: tf.nn.relu(tf.reshape(x, (-1, 3)) @ MATRIX), "mixes images"),
    ],
)
def test_what_mixes_images_is_refused(function: Callable[..., Any], word: str, tmp_path: Path) -> None:
    refused(of_function(function, (None, 4, 3)), tmp_path, word)


def test_a_huge_constant_is_not_made(tmp_path: Path) -> None:
    make = Maker()
    x, size, number = make.tensor((1, 3)), make.whole(2**30, 2**30), make.tensor((), np.float32(1).reshape(()))
    big, y = make.tensor((2**30, 2**30)), make.tensor((1, 3))
    make.operator("FILL", [size, number], [big])
    make.operator("ADD", [x, big], [y], ("AddOptions", {}))
    refused(make.file([x], [y]), tmp_path, "so often")
    make = Maker()
    x, size, number = make.tensor((1, 3)), make.whole(2**30, 2**30), make.tensor((), np.float32(1).reshape(()))
    big, y = make.tensor((2, 3)), make.tensor((1, 3))
    make.operator("FILL", [size, number], [big])
    make.operator("ADD", [x, big], [y], ("AddOptions", {}))
    refused(make.file([x], [y]), tmp_path, "a constant of", "the file says")


def test_one_constant_is_not_copied_any_number_of_times(tmp_path: Path) -> None:
    make = Maker()
    x, weights = make.tensor((1, 1000)), make.floats(np.ones((1000, 1000)))
    for _ in range(300):
        y = make.tensor((1, 1000))
        make.operator("FULLY_CONNECTED", [x, weights, -1], [y], ("FullyConnectedOptions", {}))
        x = y
    refused(make.file([0], [x]), tmp_path, "so often")


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    make = Maker()
    numbers = [make.tensor((1, 3), Name="same") for _ in range(4001)]
    for a, b in itertools.pairwise(numbers):
        make.operator("NEG", [a], [b])
    (tmp_path / "m.tflite").write_bytes(make.file([numbers[0]], [numbers[-1]]))
    graph = to_graph(tmp_path / "m.tflite", passes=False)
    assert [port.name for port in (*graph.inputs, *graph.outputs)] == ["same", "same"]
    assert len({node.name for node in graph.nodes}) == 4000


def test_a_constant_of_another_size_than_its_shape_is_refused(tmp_path: Path) -> None:
    make = Maker()
    x, other, y = make.tensor((1, 3)), make.tensor((1000, 1000), bytes(12)), make.tensor((1, 3))
    make.operator("ADD", [x, other], [y], ("AddOptions", {}))
    refused(make.file([x], [y]), tmp_path, "3 values")


def test_operators_out_of_order_are_refused(tmp_path: Path) -> None:
    make = Maker()
    x, y, z = (make.tensor((1, 3)) for _ in range(3))
    make.operator("RELU", [y], [z])
    make.operator("RELU", [x], [y])
    refused(make.file([x], [z]), tmp_path, "before it is computed")


def test_corners_and_areas_at_once_are_refused(tmp_path: Path) -> None:
    both = ("ResizeBilinearOptions", {"AlignCorners": True, "HalfPixelCenters": True})
    data = by_hand("RESIZE_BILINEAR", (1, 4, 4, 3), [np.array([8, 8], np.int32)], (1, 8, 8, 3), options=both)
    refused(data, tmp_path, "aligns corners")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    data = of_function(lambda x: tf.nn.relu(tf.nn.conv2d(x, KERNEL, 2, "SAME")), (1, 9, 8, 3))
    for length in range(8, len(data) - 64, 29):
        refused(data[:length], tmp_path)


def some_files() -> list[bytes]:
    def function(x: Any) -> Any:
        y = tf.nn.relu(tf.nn.conv2d(x, KERNEL, 2, "SAME"))
        y = tf.nn.max_pool2d(y, 2, 1, "SAME")[:, 1:] * VECTOR[0]
        y = tf.image.resize(tf.pad(y, [[0, 0], [1, 0], [1, 1], [0, 0]]), (4, 4))
        return tf.nn.softmax(tf.reshape(tf.transpose(y, [0, 3, 1, 2]), (1, 64)) @ np.ones((64, 3), np.float32))

    return [of_function(function, (1, 9, 8, 3)), sparse_file(True)[0]]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "m.tflite"
    for data in some_files():
        for _ in range(250):
            changed = bytearray(data[: rng.integers(8, len(data))] if rng.random() < 0.2 else data)
            for at in rng.integers(8, len(changed), rng.integers(0, 6)) if len(changed) > 8 else ():
                changed[at] = rng.choice([0, 1, 2, 4, 127, 128, 255, rng.integers(256)])
            path.write_bytes(changed)
            try:
                graph = to_graph(path)
            except edgecnn.ConversionError:
                continue
            graph.check()


@pytest.mark.parametrize("word", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x40000000])
def test_every_word_of_a_file_may_lie(word: int, tmp_path: Path) -> None:
    data = by_hand(
        "CONV_2D",
        (1, 6, 6, 1),
        [np.ones((1, 2, 2, 1), np.float32), np.ones(1, np.float32)],
        (1, 5, 5, 1),
        options=("Conv2DOptions", {"StrideW": 1, "StrideH": 1, "Padding": 1}),
    )
    path = tmp_path / "m.tflite"
    for at in range(8, len(data) - 3, 4):
        path.write_bytes(data[:at] + struct.pack("<I", word) + data[at + 4 :])
        try:
            graph = to_graph(path)
        except edgecnn.ConversionError:
            continue
        graph.check()


def test_conversion_needs_neither_tensorflow_nor_keras(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(of_keras(small_network()))
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras', 'onnx'): sys.modules[name] = None\n"
        "import edgecnn\n"
        "print(edgecnn.convert(sys.argv[1], sys.argv[1] + '.ecnn').size)"
    )
    arguments = [sys.executable, "-P", "-c", code, str(tmp_path / "m.tflite")]
    assert int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout) > 1000


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.tflite").write_bytes(of_function(lambda x: tf.nn.relu(x), (1, 4, 3)))
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(edgecnn.errors.MissingPackageError, match=r"pip install edgecnn\[tflite\]"):
        to_graph(tmp_path / "m.tflite")


def test_the_command_converts_it(tmp_path: Path) -> None:
    from edgecnn.cli import main

    (tmp_path / "m.tflite").write_bytes(of_keras(small_network()))
    assert main(["convert", str(tmp_path / "m.tflite"), "--verify"]) == 0
    assert edgecnn.load(tmp_path / "m.ecnn").outputs[0].shape == (None, 5)

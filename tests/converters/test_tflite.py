"""LiteRT models: what TensorFlow's own converter writes against Keras, TensorFlow and LiteRT; and what is refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
            "relu", "relu6", "sigmoid", "tanh", "swish", "hard_sigmoid", "hard_silu", "gelu", "selu", "softplus",
            "softsign", "exponential", "mish", "log_softmax",
        )
    },
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
        ((2, 5, 4, 3), lambda x: tf.concat([x, x * 2], 2)),
        ((2, 5, 4, 3), lambda x: tf.concat([np.full((2, 5, 1, 3), 0.5, np.float32), x, np.zeros((2, 5, 2, 3), np.float32)], 2)),
    ],
    "CONV_2D": [((2, 9, 8, 3), lambda x: tf.nn.conv2d(x, KERNEL, 2, [[0, 0], [1, 2], [0, 1], [0, 0]]))],
    "COS": [((2, 5, 3), lambda x: tf.cos(x))],
    "DEPTH_TO_SPACE": [((2, 3, 4, 12), lambda x: tf.nn.depth_to_space(x, 2))],
    "DEPTHWISE_CONV_2D": [
        ((2, 9, 8, 3), lambda x: tf.nn.depthwise_conv2d(x, KERNEL, [1, 2, 2, 1], "VALID")),
    ],
    "DIV": [((2, 5, 3), lambda x: x / VECTOR), ((2, 5, 3), lambda x: VECTOR / (tf.abs(x) + 1.0))],
    "ELU": [((2, 5, 3), lambda x: tf.nn.elu(x))],
    "EXP": [((2, 5, 3), lambda x: tf.exp(x))],
    "FLOOR": [((2, 5, 3), lambda x: tf.floor(x))],
    "FLOOR_DIV": [((2, 5, 3), lambda x: tf.math.floordiv(x, np.float32(0.75)))],
    "FLOOR_MOD": [((2, 5, 3), lambda x: tf.math.floormod(x, np.float32(0.75)))],
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
    "MUL": [((2, 5, 4, 3), lambda x: x * RNG.uniform(-1, 1, (4, 1)).astype(np.float32))],
    "NEG": [((2, 5, 3), lambda x: -x)],
    "PACK": [((2, 5, 3), lambda x: tf.stack([x, tf.sin(x)], 2))],
    "PAD": [((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [1, 0]]))],
    "PADV2": [((2, 5, 4, 3), lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [0, 0]], constant_values=-1.5))],
    "POW": [((2, 5, 3), lambda x: tf.pow(tf.abs(x), np.float32(1.7)))],
    "PRELU": [((2, 5, 4, 3), lambda x: tf.nn.relu(x) - VECTOR * tf.nn.relu(-x))],
    "REDUCE_MAX": [((2, 5, 4, 3), lambda x: tf.reduce_max(x, [1, 2]))],
    "REDUCE_MIN": [((2, 5, 4, 3), lambda x: tf.reduce_min(x, 3, keepdims=True))],
    "RELU": [((2, 5, 3), lambda x: tf.nn.relu(x))],
    "RELU6": [((2, 5, 3), lambda x: tf.nn.relu6(x * 4))],
    "RELU_0_TO_1": [((2, 5, 3), lambda x: tf.minimum(tf.maximum(x, 0.0), 1.0))],
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
    "SQUEEZE": [((2, None, 1, 3), lambda x: tf.squeeze(x, [2]))],
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
    by_hand = {"L2_POOL_2D", "Convolution2DTransposeBias", "DEQUANTIZE", "CAST", "SHAPE", "RANK"}
    by_keras = {"CONV_3D", "CONV_3D_TRANSPOSE"}
    constant_only = {
        "BROADCAST_ARGS", "EQUAL", "FILL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_NOT",
        "LOGICAL_OR", "NOT_EQUAL", "RANGE", "REDUCE_PROD", "SELECT", "SELECT_V2", "ZEROS_LIKE",
    }  # fmt: skip
    known = {name.removeprefix("tflite.") for name in LAYERS if name.startswith("tflite.")}
    assert known == FUNCTIONS.keys() | by_hand | by_keras | constant_only

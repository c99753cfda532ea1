"""Every registered function of keras.ops (Keras 3) and of TensorFlow (Keras 2), against Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecnn
from edgecnn.converters import to_graph
from edgecnn.converters.layers import LAYERS

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE = (8, 6, 4)
RNG = np.random.default_rng(5)
KERNEL = RNG.uniform(-1, 1, (3, 3, 4, 5)).astype(np.float32)
DEPTHWISE = RNG.uniform(-1, 1, (3, 3, 4, 2)).astype(np.float32)
POINTWISE = RNG.uniform(-1, 1, (1, 1, 8, 5)).astype(np.float32)
MATRIX = RNG.uniform(-1, 1, (4, 3)).astype(np.float32)

Make = Callable[[Any, Any], Any]


def _named(*names: str) -> dict[str, list[Make]]:
    """Functions of one argument: keras.ops.relu6 for Relu6."""
    return {name: [lambda o, x, name=name: getattr(o, snake(name))(x)] for name in names}  # type: ignore[misc]


def _comparisons(*names: str) -> dict[str, list[Make]]:
    """Comparisons, as numbers; some values are equal."""

    def make(name: str) -> list[Make]:
        return [
            lambda o, x: o.cast(getattr(o, snake(name))(o.round(x), o.round(o.flip(x, 1))), "float32"),
            lambda o, x: o.cast(getattr(o, snake(name))(o.round(x), 1.0), "float32"),
        ]

    return {name: make(name) for name in names}


def snake(name: str) -> str:
    """LogSigmoid -> log_sigmoid."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


KERAS: dict[str, list[Make]] = {
    **_named("Abs", "Absolute", "Ceil", "Cos", "Exp", "Expm1", "Floor", "Sign", "Sin", "Square", "Tanh", "Erf", "Negative"),
    **_named("Relu", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SparsePlus", "Silu", "LogSigmoid"),
    **_named("HardSigmoid", "HardSilu", "Selu", "TanhShrink", "HardTanh", "Elu", "Celu", "SoftShrink", "HardShrink"),
    **_named("Squareplus", "LeakyRelu", "Round", "StopGradient", "Copy"),
    **{name: [lambda o, x, name=name: getattr(o, snake(name))(o.abs(x) + 0.5)] for name in ("Log", "Log1p", "Sqrt", "Rsqrt", "Reciprocal")},
    "Fabs": [lambda o, x: o.fabs(x)],
    "ConvertToTensor": [lambda o, x: o.convert_to_tensor(x) * 2],
    "Cast": [lambda o, x: o.cast(x, "float16")],
    "Elu": [lambda o, x: o.elu(x, alpha=0.5)],
    "Celu": [lambda o, x: o.celu(x, alpha=0.5)],
    "SoftShrink": [lambda o, x: o.soft_shrink(x, threshold=0.25)],
    "Threshold": [lambda o, x: o.threshold(x, 0.25, -1.0)],
    "Clip": [lambda o, x: o.clip(x, -0.5, 0.25)],
    "Gelu": [lambda o, x: o.gelu(x), lambda o, x: o.gelu(x, approximate=False)],
    "Softmax": [lambda o, x: o.softmax(x), lambda o, x: o.softmax(x, axis=1)],
    "LogSoftmax": [lambda o, x: o.log_softmax(x), lambda o, x: o.log_softmax(x, axis=2)],
    "Sparsemax": [lambda o, x: o.sparsemax(x), lambda o, x: o.sparsemax(x, axis=1)],
    "Glu": [lambda o, x: o.glu(x), lambda o, x: o.glu(x, axis=1)],
    "Add": [lambda o, x: x + 1.5, lambda o, x: 2 + x, lambda o, x: x + x, lambda o, x: o.add(x, np.arange(4.0, dtype="f"))],
    "Subtract": [lambda o, x: x - 1.5, lambda o, x: 1.5 - x, lambda o, x: x - o.relu(x)],
    "Multiply": [lambda o, x: x * 1.5, lambda o, x: 3 * x, lambda o, x: x * o.mean(x, axis=[1, 2], keepdims=True)],
    "Divide": [lambda o, x: o.divide(x, 4.0), lambda o, x: o.divide(x, 1 + o.abs(x))],
    "TrueDivide": [lambda o, x: x / 3.0, lambda o, x: 2.0 / (1.5 + o.abs(x))],
    "Maximum": [lambda o, x: o.maximum(x, 0.25), lambda o, x: o.maximum(x, o.flip(x, 1))],
    "Fmax": [lambda o, x: o.fmax(x, 0.25)],
    "Minimum": [lambda o, x: o.minimum(x, 0.25)],
    "Fmin": [lambda o, x: o.fmin(x, 0.25)],
    "Power": [lambda o, x: o.power(o.abs(x) + 0.5, 2.5), lambda o, x: o.abs(x) ** 0.5],
    "Mean": [lambda o, x: o.mean(x, axis=[1, 2]), lambda o, x: o.mean(x, axis=-1, keepdims=True)],
    "Sum": [lambda o, x: o.sum(x, axis=2), lambda o, x: o.sum(x, axis=[1, 3])],
    "Max": [lambda o, x: o.max(x, axis=[2, 3]), lambda o, x: o.max(x, axis=(1, 2, 3), keepdims=True)],
    "Min": [lambda o, x: o.min(x, axis=1)],
    "Amax": [lambda o, x: o.amax(x, axis=1)],
    "Amin": [lambda o, x: o.amin(x, axis=[1, 2], keepdims=True)],
    "Average": [lambda o, x: o.average(x, axis=1)],
    "Var": [lambda o, x: o.var(x, axis=[1, 2]), lambda o, x: o.var(x, axis=-1, keepdims=True)],
    "Std": [lambda o, x: o.std(x, axis=[1, 2])],
    "Moments": [lambda o, x: o.concatenate(list(o.moments(x, axes=[1, 2])), axis=-1)],
    "Concatenate": [lambda o, x: o.concatenate([x, x * 2], axis=-1), lambda o, x: o.concatenate([x, x], axis=1)],
    "Stack": [lambda o, x: o.stack([x, x * 2], axis=1), lambda o, x: o.stack([x, x * 2], axis=-1)],
    "ExpandDims": [lambda o, x: o.expand_dims(x, 1), lambda o, x: o.expand_dims(x, -1)],
    "Squeeze": [lambda o, x: o.squeeze(o.mean(x, axis=[1, 2], keepdims=True), axis=1)],
    "Reshape": [lambda o, x: o.reshape(x, (-1, 48, 4)), lambda o, x: o.reshape(x, (-1, 192))],
    "Transpose": [lambda o, x: o.transpose(x, (0, 3, 1, 2))],
    "Moveaxis": [lambda o, x: o.moveaxis(x, 1, -1), lambda o, x: o.moveaxis(x, (1, 2), (3, 1))],
    "Swapaxes": [lambda o, x: o.swapaxes(x, 1, 3)],
    "GetItem": [
        lambda o, x: x[:, 1:5, ::2],
        lambda o, x: x[:, 2],
        lambda o, x: x[..., -1],
        lambda o, x: x[:, None, :, 1:, 0],
        lambda o, x: x[:, ::-1, -3:-1],
        lambda o, x: x[:, :, :, None, 1],
    ],
    "Split": [
        lambda o, x: o.concatenate(o.split(x, 2, axis=-1)[::-1], axis=-1),
        lambda o, x: o.split(x, [2, 5], axis=1)[1],
    ],
    "Unstack": [lambda o, x: o.unstack(x, axis=3)[2]],
    "Pad": [
        lambda o, x: o.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
        lambda o, x: o.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect"),
        lambda o, x: o.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]], mode="symmetric"),
        lambda o, x: o.pad(x, [[0, 0], [1, 0], [0, 0], [1, 1]], constant_values=2.0),
    ],
    "Flip": [lambda o, x: o.flip(x, axis=2), lambda o, x: o.flip(x, axis=(1, 3))],
    "Tile": [lambda o, x: o.tile(x, 2), lambda o, x: o.tile(x, [1, 2, 1, 3])],
    "Repeat": [lambda o, x: o.repeat(x, 2, axis=1), lambda o, x: o.repeat(x, 3, axis=-1)],
    "BroadcastTo": [],  # its shape holds the batch, which Keras cannot leave open
    "Matmul": [lambda o, x: o.matmul(x, MATRIX), lambda o, x: o.matmul(o.swapaxes(x, 2, 3), x)],
    "Dot": [lambda o, x: o.dot(x, MATRIX)],
    "MaxPool": [lambda o, x: o.max_pool(x, 2), lambda o, x: o.max_pool(x, (3, 2), strides=2, padding="same")],
    "AveragePool": [lambda o, x: o.average_pool(x, 2, strides=1, padding="same")],
    "Conv": [lambda o, x: o.conv(x, KERNEL, strides=2, padding="same"), lambda o, x: o.conv(x, KERNEL)],
    "DepthwiseConv": [lambda o, x: o.depthwise_conv(x, DEPTHWISE, padding="same")],
    "SeparableConv": [lambda o, x: o.separable_conv(x, DEPTHWISE, POINTWISE)],
    "ConvTranspose": [],  # Keras 3.15 fails to call it with a constant kernel
    "Normalize": [lambda o, x: o.normalize(x, axis=-1)],
    "Resize": [
        lambda o, x: o.image.resize(x, (4, 9)),
        lambda o, x: o.image.resize(x, (5, 5), interpolation="nearest"),
        lambda o, x: o.image.resize(x, (12, 7), interpolation="bicubic", antialias=True),
    ],
    **_comparisons("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"),
    **{
        name: [lambda o, x, name=name: o.cast(getattr(o, snake(name))(x > 0, o.flip(x, 1) > 0), "float32")]
        for name in ("LogicalAnd", "LogicalOr", "LogicalXor")
    },
    "LogicalNot": [lambda o, x: o.cast(o.logical_not(x > 0), "float32")],
    "Isnan": [lambda o, x: o.cast(o.isnan(o.log(x)), "float32")],
    "Where": [
        lambda o, x: o.where(x > 0, o.sqrt(x), 0.5 * x),
        lambda o, x: o.where(o.less(o.mean(x, axis=-1, keepdims=True), 0.1), x, -1.0),
        lambda o, x: o.where(x > 0, 1.0, 0.0),
    ],
    **_named("Exp2", "Sinh", "Cosh", "Tan", "Trunc", "ZerosLike", "OnesLike"),
    "Log10": [lambda o, x: o.log10(o.abs(x) + 0.5)],
    "Log2": [lambda o, x: o.log2(o.abs(x) + 0.5)],
    "DivideNoNan": [lambda o, x: o.divide_no_nan(x, o.relu(o.flip(x, 1)))],
    "FloorDivide": [lambda o, x: o.floor_divide(x, 0.75)],
    "Mod": [lambda o, x: o.mod(x, 0.5), lambda o, x: o.mod(x, np.array([-0.25, 1, 2, -4], "f"))],
    "Logaddexp": [lambda o, x: o.logaddexp(x, o.flip(x, 1))],
    "Logsumexp": [lambda o, x: o.logsumexp(x, axis=-1), lambda o, x: o.logsumexp(100 * x, axis=(1, 2), keepdims=True)],
    "Norm": [lambda o, x: o.norm(x, axis=-1), lambda o, x: o.norm(x, ord=1, axis=2, keepdims=True)],
    "Roll": [lambda o, x: o.roll(x, 3, axis=1), lambda o, x: o.roll(x, (-1, 2), axis=(2, 3))],
    "Take": [lambda o, x: o.take(x, [2, 0], axis=-1), lambda o, x: o.take(x, 1, axis=1)],
    "LayerNorm": [lambda o, x: o.layer_normalization(x, axis=-1)],
    "RMSNorm": [lambda o, x: o.rms_normalization(x, axis=-1)],
    "RGBToGrayscale": [lambda o, x: o.image.rgb_to_grayscale(x[..., :3])],
    "SpaceToDepth": [lambda o, x: o.space_to_depth(x, 2)],
    "DepthToSpace": [lambda o, x: o.depth_to_space(x, 2)],
}  # fmt: skip


def backend() -> Any:
    """keras.backend of Keras 2."""
    import tf_keras

    return tf_keras.backend


def tensorflow() -> dict[str, list[Make]]:
    """The same for TensorFlow's functions in tf-keras."""
    positive: Make = lambda t, x: t.abs(x) + 0.5  # noqa: E731
    one = {
        "math.abs": "abs", "math.ceil": "math.ceil", "math.cos": "cos", "math.erf": "math.erf", "math.exp": "exp",
        "math.expm1": "math.expm1", "math.floor": "floor", "math.sign": "sign", "math.sin": "sin",
        "math.square": "square", "math.tanh": "tanh", "nn.tanh": "nn.tanh", "math.negative": "negative",
        "math.round": "math.round", "round": "round", "nn.relu": "nn.relu", "nn.relu6": "nn.relu6",
        "nn.sigmoid": "nn.sigmoid", "math.sigmoid": "sigmoid", "nn.softplus": "nn.softplus",
        "math.softplus": "math.softplus", "nn.softsign": "nn.softsign", "nn.silu": "nn.silu", "nn.swish": "nn.swish",
        "nn.selu": "nn.selu", "nn.elu": "nn.elu", "nn.leaky_relu": "nn.leaky_relu", "nn.softmax": "nn.softmax",
        "nn.log_softmax": "nn.log_softmax", "nn.gelu": "nn.gelu", "stop_gradient": "stop_gradient",
        "identity": "identity", "convert_to_tensor": "convert_to_tensor",
    }  # fmt: skip

    def call(path: str, prepare: Make | None = None) -> Make:
        def make(t: Any, x: Any) -> Any:
            function = t
            for part in path.split("."):
                function = getattr(function, part)
            return function(prepare(t, x) if prepare else x)

        return make

    table: dict[str, list[Make]] = {name: [call(path)] for name, path in one.items()}
    for name in ("math.log", "math.log1p", "math.sqrt", "math.rsqrt", "math.reciprocal"):
        table[name] = [call(name, positive)]
    return {
        **table,
        "__operators__.add": [lambda t, x: x + 2.0, lambda t, x: 2.0 + x],
        "math.add": [lambda t, x: t.math.add(x, x)],
        "add": [lambda t, x: t.add(x, 1.0)],
        "nn.bias_add": [lambda t, x: t.nn.bias_add(x, np.arange(4, dtype="f"))],
        "math.subtract": [lambda t, x: x - 1.5, lambda t, x: 1.5 - x],
        "subtract": [lambda t, x: t.subtract(x, 1.0)],
        "math.multiply": [lambda t, x: 2.0 * x, lambda t, x: x * t.reduce_mean(x, [1, 2], keepdims=True)],
        "multiply": [lambda t, x: t.multiply(x, 2.0)],
        "math.truediv": [lambda t, x: x / 3.0, lambda t, x: 1.0 / (x + 5.0)],
        "math.divide": [lambda t, x: t.math.divide(x, 4.0)],
        "divide": [lambda t, x: t.divide(x, 4.0)],
        "math.maximum": [lambda t, x: t.maximum(x, 0.25)],
        "maximum": [lambda t, x: t.maximum(0.25, x)],
        "math.minimum": [lambda t, x: t.minimum(x, 0.25)],
        "minimum": [lambda t, x: t.minimum(0.25, x)],
        "math.pow": [lambda t, x: t.pow(t.abs(x) + 0.5, 1.5)],
        "clip_by_value": [lambda t, x: t.clip_by_value(x, -0.5, 0.25)],
        "cast": [lambda t, x: t.cast(x, "float16")],
        "math.reduce_mean": [lambda t, x: t.reduce_mean(x, [1, 2]), lambda t, x: t.reduce_mean(x, -1, keepdims=True)],
        "math.reduce_sum": [lambda t, x: t.reduce_sum(x, [1, 3])],
        "math.reduce_max": [lambda t, x: t.reduce_max(x, 2)],
        "math.reduce_min": [lambda t, x: t.reduce_min(x, 1, keepdims=True)],
        "math.reduce_variance": [lambda t, x: t.math.reduce_variance(x, [1, 2])],
        "math.reduce_std": [lambda t, x: t.math.reduce_std(x, [1, 2], keepdims=True)],
        "concat": [lambda t, x: t.concat([x, x * 2.0], -1)],
        "stack": [lambda t, x: t.stack([x, x * 2.0], 1)],
        "expand_dims": [lambda t, x: t.expand_dims(x, 1)],
        "squeeze": [lambda t, x: t.squeeze(t.reduce_mean(x, [1, 2], keepdims=True), [1, 2])],
        "compat.v1.squeeze": [lambda t, x: t.compat.v1.squeeze(t.reduce_mean(x, [1], keepdims=True), [1])],
        "reshape": [lambda t, x: t.reshape(x, [-1, 48, 4])],
        "transpose": [lambda t, x: t.transpose(x, [0, 3, 1, 2])],
        "compat.v1.transpose": [lambda t, x: t.compat.v1.transpose(x, [0, 2, 1, 3])],
        "__operators__.getitem": [lambda t, x: x[:, 1:5, ::2], lambda t, x: x[:, 2], lambda t, x: x[:, :, :, -1]],
        "split": [lambda t, x: t.split(x, 2, axis=-1)[1], lambda t, x: t.split(x, [3, 5], axis=1)[1]],
        "unstack": [lambda t, x: t.unstack(x, axis=3)[2]],
        "pad": [lambda t, x: t.pad(x, [[0, 0], [1, 1], [1, 0], [0, 0]], "REFLECT")],
        "compat.v1.pad": [lambda t, x: t.compat.v1.pad(x, [[0, 0], [1, 1], [1, 0], [0, 0]])],
        "reverse": [lambda t, x: t.reverse(x, [2])],
        "tile": [lambda t, x: t.tile(x, [1, 2, 1, 1])],
        "repeat": [lambda t, x: t.repeat(x, 2, axis=2)],
        "broadcast_to": [],  # its shape holds the batch, which Keras 2 cannot leave open
        **{
            f"math.{name}": [
                lambda t, x, name=name: t.cast(getattr(t.math, name)(t.round(x), t.round(t.reverse(x, [1]))), "float32")
            ]
            for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
        },
        **{
            f"math.logical_{name}": [
                lambda t, x, name=name: t.cast(
                    getattr(t.math, f"logical_{name}")(x > 0, t.reverse(x, [1]) > 0), "float32"
                )
            ]
            for name in ("and", "or", "xor")
        },
        "math.logical_not": [lambda t, x: t.cast(t.math.logical_not(x > 0), "float32")],
        "math.is_nan": [lambda t, x: t.cast(t.math.is_nan(t.math.log(x)), "float32")],
        "where": [lambda t, x: t.where(x > 0, t.sqrt(x), x - 1.0), lambda t, x: t.where(x > 0, 1.0, x)],
        "math.sinh": [lambda t, x: t.sinh(x)],
        "math.cosh": [lambda t, x: t.cosh(x)],
        "math.tan": [lambda t, x: t.tan(x)],
        "zeros_like": [lambda t, x: t.zeros_like(x) + x],
        "ones_like": [lambda t, x: t.ones_like(x) * x],
        "math.divide_no_nan": [lambda t, x: t.math.divide_no_nan(x, t.nn.relu(t.reverse(x, [1])))],
        "compat.v1.floor_div": [lambda t, x: x // 0.75],
        "math.floordiv": [lambda t, x: t.math.floordiv(x, 0.75)],
        "math.floormod": [lambda t, x: x % 0.5],
        "math.squared_difference": [lambda t, x: t.math.squared_difference(x, t.reverse(x, [1]))],
        "math.add_n": [lambda t, x: t.add_n([x, 2.0 * x, t.reverse(x, [1])])],
        "math.reduce_logsumexp": [lambda t, x: t.reduce_logsumexp(x, [1, 2])],
        "math.l2_normalize": [lambda t, x: t.nn.l2_normalize(x, -1), lambda t, x: t.math.l2_normalize(x, [1, 2])],
        "compat.v1.norm": [lambda t, x: t.norm(x, axis=-1, keepdims=True)],
        "roll": [lambda t, x: t.roll(x, 3, 1)],
        "compat.v1.gather": [lambda t, x: t.gather(x, [2, 0], axis=3)],
        "compat.v1.shape": [
            lambda t, x: t.reshape(x, [t.shape(x)[0], -1, 4]),
            lambda t, x: t.reshape(x, t.stack([t.shape(x)[0], t.shape(x)[1] * t.shape(x)[2], 4])),
            lambda t, x: t.reshape(x, t.concat([t.shape(x)[:2], [24]], 0)),
            lambda t, x: t.image.resize(x[:, ::2], t.shape(x)[1:3]),
            lambda t, x: t.image.resize(x, (2 * t.shape(x)[1], t.shape(x)[2] // 2 + 1)),
            lambda t, x: t.broadcast_to(t.reduce_mean(x, [1, 2], keepdims=True), t.shape(x)),
            lambda t, x: x / t.cast(t.shape(x)[1], "float32"),
        ],
        "math.reduce_prod": [lambda t, x: t.reshape(x, [-1, t.reduce_prod(t.shape(x)[1:])])],
        "nn.max_pool2d": [
            lambda t, x: t.nn.max_pool2d(x, 3, 2, "SAME"),
            lambda t, x: t.nn.max_pool(x, [1, 2, 3, 1], 1, "VALID"),
        ],
        "nn.avg_pool2d": [lambda t, x: t.nn.avg_pool2d(x, 2, 2, "SAME")],
        "nn.avg_pool": [lambda t, x: t.nn.avg_pool(x, 2, 1, "VALID")],
        "compat.v1.nn.max_pool": [lambda t, x: backend().pool2d(x, (2, 2), padding="same")],
        "compat.v1.nn.avg_pool": [lambda t, x: backend().pool2d(x, (2, 2), (2, 1), pool_mode="avg")],
        "compat.v1.nn.conv2d": [
            lambda t, x: t.nn.conv2d(x, KERNEL, 1, "SAME"),
            lambda t, x: t.nn.conv2d(x, KERNEL, [1, 2, 1, 1], [[0, 0], [1, 0], [0, 2], [0, 0]]),
            lambda t, x: t.nn.conv2d(x, KERNEL, 1, "VALID", dilations=2),
        ],
        "compat.v1.nn.depthwise_conv2d": [lambda t, x: t.nn.depthwise_conv2d(x, DEPTHWISE, [1, 1, 1, 1], "SAME")],
        "nn.local_response_normalization": [lambda t, x: t.nn.lrn(x, depth_radius=1, bias=1.5, alpha=0.5)],
        "keras.backend.batch_flatten": [lambda t, x: backend().batch_flatten(x)],
        "image.flip_left_right": [lambda t, x: t.image.flip_left_right(x)],
        "image.flip_up_down": [lambda t, x: t.image.flip_up_down(x)],
        "slice": [lambda t, x: t.slice(x, [0, 1, 2, 0], [-1, 3, -1, 2])],
        "math.log_sigmoid": [lambda t, x: t.math.log_sigmoid(x)],
        "compat.v1.nn.crelu": [lambda t, x: t.nn.crelu(x)],
        "linalg.normalize": [lambda t, x: t.linalg.normalize(x, axis=-1)[0]],
        "image.rgb_to_grayscale": [lambda t, x: t.image.rgb_to_grayscale(x[:, :, :, :3])],
        "linalg.matmul": [lambda t, x: t.linalg.matmul(x, x, transpose_b=True)],
        "image.resize": [
            lambda t, x: t.image.resize(x, (5, 9)),
            lambda t, x: t.image.resize(x, (5, 9), method="nearest"),
        ],
        "nn.space_to_depth": [lambda t, x: t.nn.space_to_depth(x, 2)],
        "nn.depth_to_space": [lambda t, x: t.nn.depth_to_space(x, 2)],
        "compat.v1.nn.space_to_depth": [lambda t, x: t.compat.v1.space_to_depth(x, 2)],
        "compat.v1.nn.depth_to_space": [lambda t, x: t.compat.v1.depth_to_space(x, 2)],
    }


REFUSED = {"Ravel"}
LONG = {"LayerNorm": "layer_normalization", "RMSNorm": "rms_normalization", "RGBToGrayscale": "rgb_to_grayscale"}
"""Functions of keras.ops that are not called like their class."""


def test_every_registered_function_is_tested() -> None:
    assert {n.removeprefix("ops.") for n in LAYERS if n.startswith("ops.")} == KERAS.keys() | REFUSED
    assert {n.removeprefix("tf.") for n in LAYERS if n.startswith("tf.")} == tensorflow().keys()


def assert_agrees(keras: Any, namespace: Any, makes: list[Make], folder: Path) -> None:
    for make in makes:
        given = keras.layers.Input(SHAPE)
        y = make(namespace, given)
        model = keras.Model(given, y if y is not given else keras.layers.Activation("linear")(y))
        model.save(folder / "model.keras")
        x = np.random.default_rng(1).uniform(-2, 2, (3, *SHAPE)).astype(np.float32)
        expected = np.asarray(model(x, training=False), np.float32)
        tolerance = 1e-3 if "float16" in str(model.output.dtype) else 2e-5
        for source in (model, folder / "model.keras"):
            got = edgecnn.load(to_graph(source))(x)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", sorted(KERAS))
def test_function_of_keras(name: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    function = LONG.get(name, snake(name))
    if function != "get_item" and not any(hasattr(m, function) for m in (keras.ops, keras.ops.image)):
        pytest.skip(f"this Keras has no {name}")
    assert_agrees(keras, keras.ops, KERAS[name], tmp_path)


@pytest.mark.parametrize("name", sorted(tensorflow()))
def test_function_of_tensorflow_in_keras_2(name: str, tmp_path: Path) -> None:
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip("tf_keras")
    assert_agrees(keras, tf, tensorflow()[name], tmp_path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o, x: o.mean(x), "all axes"),
        (lambda o, x: o.sum(x, axis=0, keepdims=True), "batch"),
        (lambda o, x: o.transpose(x, (1, 0, 2, 3)), "batch"),
        (lambda o, x: x[1:, :], "batch"),
        (lambda o, x: o.reshape(x, (1, -1)), "images"),
        (lambda o, x: o.flip(x, axis=0), "batch"),
        (lambda o, x: o.argmax(x, axis=-1), "Argmax"),
        (lambda o, x: o.cast(x, "int32"), "int32"),
        (lambda o, x: o.mod(x, 0.1), "remainder by 0.1"),
        (lambda o, x: o.mod(x, x), "computed divisor"),
        (lambda o, x: o.matmul(x, np.ones((8, 4, 5), "f")), "a constant of shape"),
        (lambda o, x: o.matmul(x[:, :1], o.reshape(x, (-1, 8, 4, 6))), "cannot be multiplied; change it"),
    ],
)
def test_what_mixes_images_or_leaves_floats_is_refused(make: Make, words: str) -> None:
    keras = pytest.importorskip("keras")
    given = keras.layers.Input(SHAPE)
    with pytest.raises(edgecnn.UnsupportedLayerError, match=words):
        to_graph(keras.Model(given, make(keras.ops, given)))


@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_depth_to_space_of_images_of_any_size(block: int, data_format: str) -> None:
    keras = pytest.importorskip("keras")
    if not hasattr(keras.ops.nn, "depth_to_space"):
        pytest.skip("this Keras has no depth_to_space")
    channels = 2 * block * block
    first = data_format == "channels_first"
    x = keras.Input((channels, None, None) if first else (None, None, channels))
    model = keras.Model(x, keras.ops.nn.depth_to_space(x, block, data_format=data_format))
    converted = edgecnn.load(to_graph(model))
    for height, width in ((3, 5), (4, 4), (1, 7)):
        shape = (2, channels, height, width) if first else (2, height, width, channels)
        given = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(converted(given), np.asarray(model(given)))


INF, NAN = np.inf, np.nan
SPECIAL = (
    np.array([[NAN, NAN, 1, INF, -INF, INF, -INF, 2, -0.0, INF]], np.float32),
    np.array([[NAN, 1, NAN, INF, -INF, -INF, NAN, 3, 0.0, 5]], np.float32),
)
ROWS = np.array([[INF, INF], [-INF, -INF], [NAN, INF], [-INF, 1], [INF, -INF], [100, -INF]], np.float32)
SHORT = np.array([[1e-8] * 4, [1e-14, 0, 0, 0], [0] * 4, [3e-5, 0, 0, 4e-5], [1, 2, 3, 4]], np.float32)
NUMBERS = np.random.default_rng(8).normal(size=(1, 4000)) * 10.0 ** np.random.default_rng(9).integers(-8, 37, 4000)
NUMBERS = np.concatenate([NUMBERS, np.arange(-300, 300)[None] * 0.1, SPECIAL[0], [[3e38, -3e38]]], 1).astype(np.float32)


def assert_same(model: Any, xs: Any) -> None:
    """Keras' answer, be it infinite or NaN."""
    np.testing.assert_allclose(edgecnn.load(to_graph(model))(xs), np.asarray(model(xs)), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", ["fmax", "fmin", "logaddexp"])
def test_functions_of_two_at_infinity_and_nan(name: str) -> None:
    keras = pytest.importorskip("keras")
    function = getattr(keras.ops, name)
    x, y = keras.Input((10,)), keras.Input((10,))
    assert_same(keras.Model([x, y], function(x, y)), list(SPECIAL))
    for constant in (SPECIAL[1][0], np.float32(1), np.float32(-INF)):
        assert_same(keras.Model(x, function(x, constant)), SPECIAL[0])
        assert_same(keras.Model(x, function(constant, x)), SPECIAL[0])


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda o, x: o.logsumexp(x, axis=-1), ROWS),
        (lambda o, x: o.logsumexp(x, axis=-1, keepdims=True), ROWS),
        (lambda o, x: o.clip(x, 1.0, -1.0), SPECIAL[0]),
        (lambda o, x: o.normalize(x), SHORT),
        (lambda o, x: o.normalize(x, epsilon=1e-3), SHORT),
        (lambda o, x: o.layer_normalization(x, epsilon=0.0), SHORT[3:] * 1e-3),
        *(((lambda o, x, y=y: o.mod(x, np.float32(y))), NUMBERS) for y in (0.25, -0.5, 1, -4, 2**20, 2**-10)),
        *(((lambda o, x, y=y: o.floor_divide(x, np.float32(y))), NUMBERS) for y in (0.1, 0.3, 3)),
    ],
)
def test_special_values(make: Make, x: np.ndarray) -> None:
    keras = pytest.importorskip("keras")
    given = keras.Input(x.shape[1:])
    assert_same(keras.Model(given, make(keras.ops, given)), x)


def test_short_vectors_of_unit_length() -> None:
    keras, two = pytest.importorskip("keras"), pytest.importorskip("tf_keras")
    for which in (keras, two):
        x, y = which.layers.Input((4,)), which.layers.Input((4,))
        assert_same(which.Model(x, which.layers.UnitNormalization()(x)), SHORT)
        product = which.layers.Dot(axes=1, normalize=True)([x, y])
        assert_same(which.Model([x, y], product), [SHORT, np.ones((5, 4), np.float32)])


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize(
    ("axis", "shape"),
    [
        (1, (4,)), ([1, 2], (4, 4)), ([1, 2], (16,)), ([1, -1], (4, 4)), ([2], (4,)), (3, (4, 4)), (3, (4, 4, 4)),
        (3, (4,)), (-1, (4,)), ([-2, -1], (4, 4)), (1, (1, 4, 1, 1)), (3, ()), (1, (1, 4, 4, 4)),
    ],
)  # fmt: skip
def test_weights_of_layer_normalization_lie_along_its_axes(rms: bool, axis: Any, shape: tuple[int, ...]) -> None:
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 4, 4, 4)).astype(np.float32)
    gamma, beta = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    given = keras.Input(x.shape[1:])
    y = keras.ops.layer_normalization(given, gamma, beta, axis=axis, rms_scaling=rms)
    model = keras.Model(given, y)
    np.testing.assert_allclose(edgecnn.load(to_graph(model))(x), np.asarray(model(x)), rtol=1e-4, atol=1e-5)


def test_weights_of_another_size_than_the_axes_are_refused() -> None:
    keras = pytest.importorskip("keras")
    given = keras.Input((4, 5, 6))
    model = keras.Model(given, keras.ops.layer_normalization(given, np.ones(6, np.float32), axis=1))
    with pytest.raises(edgecnn.UnsupportedLayerError, match=r"shape \(6,\), the axes \[1\] have sizes \[4\]"):
        to_graph(model)


@pytest.mark.parametrize("name", ["matmul", "dot"])
def test_a_product_with_a_constant_vector(name: str) -> None:
    keras = pytest.importorskip("keras")
    given = keras.Input((8, 6, 4))
    x = np.random.default_rng(1).normal(size=(2, 8, 6, 4)).astype(np.float32)
    model = keras.Model(given, getattr(keras.ops, name)(given, np.arange(4, dtype=np.float32)))
    np.testing.assert_allclose(edgecnn.load(to_graph(model))(x), np.asarray(model(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (3, 1, 1), (1, 3, 1)])
def test_a_constant_that_tensorflow_takes_for_a_bias_is_refused(shape: tuple[int, ...]) -> None:
    """Keras on TensorFlow adds a vector of three along the last axis of (3, 3, 3), wherever its axis is."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of TensorFlow alone")
    constant = np.arange(3, dtype=np.float32).reshape(shape)
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    given = keras.Input((3, 3, 3))
    model = keras.Model(given, given + constant)
    assert np.abs(np.asarray(model(x)) - (x + constant)).max() > 0.5
    with pytest.raises(edgecnn.UnsupportedLayerError, match="along another axis on TensorFlow"):
        to_graph(model)
    for other in (
        keras.ops.add(constant, given),
        given + np.broadcast_to(constant, (3, 3, 3)),
        given + np.ones(shape, "f"),
        given + constant.reshape(-1),
    ):
        assert_same(keras.Model(given, other), x)


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose", "SeparableConv2D", "DepthwiseConv2D"])
def test_a_bias_that_tensorflow_adds_along_the_width_is_refused(name: str) -> None:
    keras = pytest.importorskip("keras")
    settings = {"data_format": "channels_first", "bias_initializer": "random_normal", "kernel_size": 1}
    if name != "DepthwiseConv2D":
        settings["filters"] = 3
    given = keras.Input((3, 5, 3))
    with pytest.raises(edgecnn.UnsupportedLayerError, match=r"wide as it has filters \(3\)"):
        to_graph(keras.Model(given, getattr(keras.layers, name)(**settings)(given)))
    for changes, shape in (
        ({"use_bias": False}, (3, 5, 3)),
        ({}, (3, 3, 5)),
        ({"data_format": "channels_last"}, (3, 5, 3)),
    ):
        given = keras.Input(shape)
        to_graph(keras.Model(given, getattr(keras.layers, name)(**settings | changes)(given)))

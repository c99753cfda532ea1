"""Hypothesis strategies: for every registered Keras class its arguments, over its whole configuration space, and inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Arguments = tuple[str, dict[str, Any], list[tuple[int, ...]]]
"""Class name in Keras, keyword arguments, shapes of the inputs without the batch."""

FUNCTIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softmax", "swish", "silu",
    "gelu", "softplus", "softsign", "exponential",
)  # fmt: skip
KERAS_3_FUNCTIONS = ("hard_swish", "hard_silu")

FUNCTION = st.sampled_from(FUNCTIONS)
CHANNELS = st.integers(1, 9)
SIZE = st.integers(5, 11)
IMAGE = st.tuples(SIZE, SIZE, CHANNELS)
SHAPE = st.one_of(IMAGE, st.tuples(CHANNELS), st.tuples(SIZE, CHANNELS))
PADDING = st.sampled_from(["valid", "same"])


@st.composite
def _window(draw: st.DrawFn, equal_strides: bool = False) -> dict[str, Any]:
    """kernel_size, strides, padding and dilation_rate; Keras forbids strides and dilation together."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    if equal_strides:
        side = draw(st.integers(1, 3))
        strides = (side, side)
    else:
        strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = (1, 1)
    if strides == (1, 1):
        rate = draw(st.integers(1, 2))
        dilation = (rate, rate)
    fits = (max(kernel) - 1) * dilation[0] + 1 <= 5
    padding = draw(PADDING) if fits else "same"
    return {"kernel_size": kernel, "strides": strides, "padding": padding, "dilation_rate": dilation}


@st.composite
def _conv2d(draw: st.DrawFn) -> Arguments:
    groups = draw(st.sampled_from([1, 1, 2]))
    height, width, channels = draw(IMAGE)
    arguments = {
        **draw(_window()),
        "filters": groups * draw(st.integers(1, 9)),
        "groups": groups,
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
    }
    return "Conv2D", arguments, [(height, width, channels * groups)]


@st.composite
def _depthwise(draw: st.DrawFn) -> Arguments:
    arguments = {
        **draw(_window(equal_strides=True)),
        "depth_multiplier": draw(st.integers(1, 2)),
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
    }
    return "DepthwiseConv2D", arguments, [draw(IMAGE)]


@st.composite
def _separable(draw: st.DrawFn) -> Arguments:
    arguments = {
        **draw(_window(equal_strides=True)),
        "filters": draw(st.integers(1, 9)),
        "depth_multiplier": draw(st.integers(1, 2)),
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
    }
    return "SeparableConv2D", arguments, [draw(IMAGE)]


@st.composite
def _dense(draw: st.DrawFn) -> Arguments:
    arguments = {"units": draw(CHANNELS), "use_bias": draw(st.booleans()), "activation": draw(FUNCTION)}
    return "Dense", arguments, [draw(SHAPE)]


@st.composite
def _batch_normalization(draw: st.DrawFn) -> Arguments:
    arguments = {
        "scale": draw(st.booleans()),
        "center": draw(st.booleans()),
        "epsilon": draw(st.sampled_from([1e-3, 1e-5, 0.1])),
    }
    return "BatchNormalization", arguments, [draw(SHAPE)]


@st.composite
def _pooling(draw: st.DrawFn, name: str) -> Arguments:
    arguments = {
        "pool_size": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "strides": draw(st.one_of(st.none(), st.integers(1, 3))),
        "padding": draw(PADDING),
    }
    return name, arguments, [draw(IMAGE)]


@st.composite
def _merging(draw: st.DrawFn, name: str) -> Arguments:
    shape = draw(SHAPE)
    return name, {}, [shape] * draw(st.integers(2, 4))


@st.composite
def _concatenate(draw: st.DrawFn) -> Arguments:
    shape = list(draw(SHAPE))
    axis = draw(st.integers(0, len(shape) - 1))
    shapes = []
    for _ in range(draw(st.integers(1, 3)) + 1):
        shape[axis] = draw(st.integers(1, 6))
        shapes.append(tuple(shape))
    return "Concatenate", {"axis": draw(st.sampled_from([axis + 1, axis - len(shape)]))}, shapes


@st.composite
def _reshape(draw: st.DrawFn) -> Arguments:
    h, w, c = draw(IMAGE)
    target = draw(st.sampled_from([(h * w * c,), (-1, c), (w, h, c), (c, -1), (1, h, w, c), (h, w, c)]))
    return "Reshape", {"target_shape": target}, [(h, w, c)]


@st.composite
def _zero_padding(draw: st.DrawFn) -> Arguments:
    sides = st.integers(0, 3)
    padding = draw(
        st.one_of(sides, st.tuples(sides, sides), st.tuples(st.tuples(sides, sides), st.tuples(sides, sides)))
    )
    return "ZeroPadding2D", {"padding": padding}, [draw(IMAGE)]


@st.composite
def _rescaling(draw: st.DrawFn) -> Arguments:
    shape = draw(IMAGE)
    value = st.floats(-2, 2, width=32)
    vector = st.lists(value, min_size=shape[-1], max_size=shape[-1])
    return "Rescaling", {"scale": draw(value | vector), "offset": draw(value | vector)}, [shape]


def _alone(name: str, arguments: st.SearchStrategy[dict[str, Any]], shape: st.SearchStrategy[Any] = SHAPE) -> Any:
    return st.builds(lambda a, s: (name, a, [s]), arguments, shape)


NOTHING: st.SearchStrategy[dict[str, Any]] = st.just({})
RATE = st.fixed_dictionaries({"rate": st.sampled_from([0.1, 0.5])})
KEEPDIMS = st.fixed_dictionaries({"keepdims": st.booleans()})

_RELU = st.fixed_dictionaries(
    {
        "max_value": st.sampled_from([None, 6.0, 0.5]),
        "negative_slope": st.sampled_from([0.0, 0.25]),
        "threshold": st.sampled_from([0.0, 0.3]),
    }
)

LAYERS: dict[str, Callable[[], Any]] = {
    "Conv2D": _conv2d,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "MaxPooling2D": lambda: _pooling("MaxPooling2D"),
    "AveragePooling2D": lambda: _pooling("AveragePooling2D"),
    "GlobalMaxPooling2D": lambda: _alone("GlobalMaxPooling2D", KEEPDIMS, IMAGE),
    "GlobalAveragePooling2D": lambda: _alone("GlobalAveragePooling2D", KEEPDIMS, IMAGE),
    "Add": lambda: _merging("Add"),
    "Multiply": lambda: _merging("Multiply"),
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Flatten": lambda: _alone("Flatten", NOTHING),
    "ZeroPadding2D": _zero_padding,
    "Rescaling": _rescaling,
    "Activation": lambda: _alone("Activation", st.fixed_dictionaries({"activation": FUNCTION})),
    "ReLU": lambda: _alone("ReLU", _RELU),
    "LeakyReLU": lambda: _alone("LeakyReLU", NOTHING),
    "ELU": lambda: _alone("ELU", st.fixed_dictionaries({"alpha": st.sampled_from([0.5, 1.0, 2.0])})),
    "Softmax": lambda: _alone("Softmax", st.fixed_dictionaries({"axis": st.sampled_from([-1])})),
    "Dropout": lambda: _alone("Dropout", RATE),
    "SpatialDropout2D": lambda: _alone("SpatialDropout2D", RATE, IMAGE),
    "GaussianDropout": lambda: _alone("GaussianDropout", RATE),
    "GaussianNoise": lambda: _alone("GaussianNoise", st.fixed_dictionaries({"stddev": st.just(0.5)})),
    "AlphaDropout": lambda: _alone("AlphaDropout", RATE),
    "ActivityRegularization": lambda: _alone("ActivityRegularization", NOTHING),
    "Identity": lambda: _alone("Identity", NOTHING),
}
"""A strategy for each registered class, by its name in Keras 3."""

SYNONYMS = {
    "Convolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "MaxPool2D": "MaxPooling2D",
    "AvgPool2D": "AveragePooling2D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "SyncBatchNormalization": "BatchNormalization",
}
"""Other names under which the same classes appear in files."""

"""Functions of keras.ops and of TensorFlow that Keras records inside a functional model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder, Operand, known
from edgecnn.converters.layers.activation import Function, function_of
from edgecnn.converters.layers.convolution import transposed_padding
from edgecnn.converters.layers.dense import unit
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import (
    Layer,
    Output,
    axis_of,
    from_channels_last,
    layer,
    sizes_of,
    to_channels_last,
)
from edgecnn.converters.layers.resizing import convert_resizing
from edgecnn.converters.layers.sizes import BATCH, FIX, UNKNOWN, check_known, known_numbers, numbers
from edgecnn.graph import Tensor
from edgecnn.graph.operators import LIMIT

Array = np.ndarray[Any, Any]

_UNARY: Mapping[str, tuple[str, ...]] = {
    # Our function: Keras' names, TensorFlow's names.
    "abs": ("Abs", "Absolute", "Fabs", "math.abs"),
    "ceil": ("Ceil", "math.ceil"),
    "cos": ("Cos", "math.cos"),
    "erf": ("Erf", "math.erf"),
    "exponential": ("Exp", "math.exp"),
    "expm1": ("Expm1", "math.expm1"),
    "floor": ("Floor", "math.floor"),
    "log": ("Log", "math.log"),
    "log1p": ("Log1p", "math.log1p"),
    "reciprocal": ("Reciprocal", "math.reciprocal"),
    "rsqrt": ("Rsqrt", "math.rsqrt"),
    "sign": ("Sign", "math.sign"),
    "sin": ("Sin", "math.sin"),
    "sqrt": ("Sqrt", "math.sqrt"),
    "square": ("Square", "math.square"),
    "tanh": ("Tanh", "math.tanh", "nn.tanh"),
}
_BINARY: Mapping[str, tuple[str, ...]] = {
    "add": ("Add", "__operators__.add", "math.add", "add", "nn.bias_add"),
    "subtract": ("Subtract", "math.subtract", "subtract"),
    "multiply": ("Multiply", "math.multiply", "multiply"),
    "divide": ("Divide", "TrueDivide", "math.truediv", "math.divide", "divide"),
    "maximum": ("Maximum", "math.maximum", "maximum"),
    "minimum": ("Minimum", "math.minimum", "minimum"),
    "power": ("Power", "math.pow"),
}
_ACTIVATIONS: Mapping[str, str] = {
    # Those of keras.activations that take no argument.
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "SparseSigmoid": "sparse_sigmoid", "Softplus": "softplus",
    "Softsign": "softsign", "SparsePlus": "sparse_plus", "Silu": "silu", "LogSigmoid": "log_sigmoid",
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Selu": "selu", "TanhShrink": "tanh_shrink",
    "HardTanh": "hard_tanh", "nn.relu": "relu", "nn.relu6": "relu6", "nn.sigmoid": "sigmoid", "math.sigmoid": "sigmoid",
    "nn.softplus": "softplus", "math.softplus": "softplus", "nn.softsign": "softsign", "nn.silu": "silu", "nn.swish": "silu",
    "nn.selu": "selu", "nn.elu": "elu",
}  # fmt: skip
_WITH_PARAMETERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Elu": ("elu", ("alpha",)),
    "Celu": ("celu", ("alpha",)),
    "SoftShrink": ("soft_shrink", ("threshold",)),
    "HardShrink": ("hard_shrink", ("threshold",)),
    "Threshold": ("threshold", ("threshold", "default_value")),
    "Squareplus": ("squareplus", ("b",)),
    "Clip": ("clip", ("x_min", "x_max")),
    "clip_by_value": ("clip", ("clip_value_min", "clip_value_max")),
}
_REDUCTIONS: Mapping[str, tuple[str, ...]] = {
    "mean": ("Mean", "Average", "math.reduce_mean"),
    "sum": ("Sum", "math.reduce_sum"),
    "max": ("Max", "Amax", "math.reduce_max"),
    "min": ("Min", "Amin", "math.reduce_min"),
}


def full(name: str) -> str:
    """The registry's name of a function."""
    return f"tf.{name}" if "." in name or name.islower() or name.startswith("_") else f"ops.{name}"


def _all(table: Mapping[str, Any]) -> list[str]:
    """All names of a table's values."""
    return [full(name) for value in table.values() for name in value]


def _find(table: Mapping[str, Sequence[str]], class_name: str) -> str:
    """The key under which a name stands."""
    return next(key for key, value in table.items() if class_name.split(".", 1)[1] in value)


_MISSING = object()


def given(layer: Layer, position: int | None, *names: str, default: Any = _MISSING) -> Any:
    """An argument, by its place in the call, by name in the call, or by name in the configuration."""
    if position is not None and position < len(layer.arguments):
        return layer.arguments[position]
    for name in names:
        for source in (layer.keywords, layer.config):
            if source.get(name) is not None:
                return source[name]
    if default is _MISSING:
        raise KeyError(names[0])
    return default


def tensor(layer: Layer, position: int = 0, *names: str) -> Tensor:
    """An argument that must be a tensor."""
    value = given(layer, position, *names, "x", "inputs", "images", "input", "tensor", "features", "logits", "value")
    if not isinstance(value, Tensor):
        raise Unsupported(f"it is applied to the constant {value!r}", "apply it to a tensor")
    return value


def operand(value: Any) -> Operand:
    """A tensor, or a constant as an array."""
    if isinstance(value, Tensor):
        return value
    check_known(np.asarray(value))
    return np.atleast_1d(np.asarray(value, np.float32))


def combine(build: Builder, operator: str, x: Any, y: Any) -> Tensor:
    """A function of two operands by NumPy's rule; at least one is a tensor, the other may be a number or an array."""
    a, b = operand(x), operand(y)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and len(a.shape) != len(b.shape):
        raise Unsupported(f"its operands have shapes {a.shape} and {b.shape}", "give them the same rank")
    for constant, other in ((a, b), (b, a)):
        if isinstance(constant, np.ndarray) and isinstance(other, Tensor):
            rank = len(other.shape)
            if constant.ndim > rank or (constant.ndim == rank and constant.shape[0] != 1):
                raise Unsupported(f"a constant of shape {constant.shape} meets {other.shape}", "leave its batch out")
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        raise Unsupported("it is applied to constants", "apply it to tensors")
    return build(operator, a, b)


@layer(*_all(_UNARY))
def convert_unary(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Functions of one value."""
    return build.activation(tensor(layer), _find(_UNARY, layer.class_name))


@layer("ops.Negative", "tf.math.negative")
def convert_negative(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """-x."""
    return build("multiply", tensor(layer), np.full(1, -1.0))


@layer("ops.Round", "tf.math.round", "tf.round")
def convert_round(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Rounding to whole numbers, halves to even."""
    if given(layer, None, "decimals", default=0) != 0:
        raise Unsupported("it rounds to decimals", "round to whole numbers")
    return build.activation(tensor(layer), "round")


@layer(*_all(_BINARY))
def convert_binary(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Functions of two values, with broadcasting."""
    x, y = given(layer, 0, "x1", "x", "value"), given(layer, 1, "x2", "y", "bias")
    if layer.class_name == "ops.Add" and isinstance(x, Tensor) and not isinstance(y, Tensor):
        _check_added(x, np.asarray(y))
    return combine(build, _find(_BINARY, layer.class_name), x, y)


def _check_added(x: Tensor, constant: Array) -> None:
    """Refuses a constant that TensorFlow-backed Keras takes for a bias, by its only size above 1, and adds along another axis
    than NumPy's rule and the other backends do (keras/src/backend/tensorflow/numpy.py, add)."""
    long = [axis - constant.ndim for axis, size in enumerate(constant.shape) if size > 1]
    rank = len(x.shape)
    if len(long) != 1 or rank < 2 or not np.ptp(constant):
        return
    size = constant.shape[long[0]]
    if size not in (x.shape[1], x.shape[-1]):
        return
    if (-1 if x.shape[-1] == size else 1 - rank) != long[0]:
        raise Unsupported(
            f"it adds a constant of shape {constant.shape} to {x.shape}, which Keras adds along another axis on TensorFlow than "
            f"elsewhere",
            "repeat the constant to the shape that it is added to: np.broadcast_to",
        )


@layer(*(full(name) for name in _ACTIVATIONS))
def convert_named_activation(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Activations without arguments."""
    x = tensor(layer)
    return function_of(_ACTIVATIONS[layer.class_name.split(".", 1)[1]], layer.keras, len(x.shape)).apply(build, x)


@layer(*(full(name) for name in _WITH_PARAMETERS))
def convert_activation_with_parameters(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Activations with numbers, and clipping."""
    function, names = _WITH_PARAMETERS[layer.class_name.split(".", 1)[1]]
    values = [given(layer, 1 + index, name) for index, name in enumerate(names)]
    if any(isinstance(value, Tensor) or np.size(value) != 1 for value in values):
        raise Unsupported(f"its {' and '.join(names)} are no numbers", "give numbers")
    parameters = [float(value) for value in values]
    if function == "clip":  # the lower bound wins where it is above the upper one
        parameters[1] = max(parameters)
    return build.activation(tensor(layer), function, *parameters)


@layer("ops.LeakyRelu", "tf.nn.leaky_relu")
def convert_leaky_relu(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Leaky ReLU."""
    slope = float(given(layer, 1, "negative_slope", "alpha", default=0.2))
    return build.activation(tensor(layer), "relu", slope, math.inf, 0.0)


@layer("ops.Gelu", "tf.nn.gelu")
def convert_gelu(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """GELU, exact or by tanh."""
    approximate = given(layer, 1, "approximate", default=layer.class_name.startswith("ops."))
    return build.activation(tensor(layer), "gelu_tanh" if approximate else "gelu")


@layer("ops.Softmax", "ops.LogSoftmax", "ops.Sparsemax", "ops.Glu", "tf.nn.softmax", "tf.nn.log_softmax")
def convert_along_axis(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Softmax and what else works along an axis."""
    names = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sparsemax": "sparsemax", "Glu": "glu"}
    name = layer.class_name.split(".")[-1]
    x = tensor(layer)
    axis = axis_of(given(layer, 1, "axis", default=-1), len(x.shape))
    return Function(names.get(name, name), axis=axis).apply(build, x)


@layer("ops.StopGradient", "ops.Copy", "ops.ConvertToTensor", "tf.stop_gradient", "tf.identity", "tf.convert_to_tensor")
def convert_nothing(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """What gives back its input."""
    return tensor(layer)


@layer("ops.Cast", "tf.cast")
def convert_cast(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A cast to a float type (all is computed in float32), or to truth values."""
    x, dtype = tensor(layer), str(given(layer, 1, "dtype"))
    if dtype != "bool":  # whole numbers to wider ones, too: integers.py refuses others
        return x
    zero = np.zeros(1)
    return build("equal", build("equal", x, zero), zero)


def axes_of(layer: Layer, x: Tensor, position: int | None = 1) -> list[int]:
    """The axes that a function names."""
    value = given(layer, position, "axis", "axes", default=None)
    if value is None:
        raise Unsupported("it works along all axes, the batch too", "name the axes: axis=[1, 2, 3]")
    return sorted({axis_of(a, len(x.shape)) for a in (value if isinstance(value, list | tuple) else [value])})


@layer(*_all(_REDUCTIONS))
def convert_reduction(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Mean, sum, maximum and minimum along axes."""
    x = tensor(layer, 0, "input_tensor")
    if given(layer, None, "initial", "weights", default=None) is not None:
        raise Unsupported("it has an initial value or weights", "leave them out")
    keepdims = bool(given(layer, 2, "keepdims", default=False))
    return build.reduce(x, _find(_REDUCTIONS, layer.class_name), axes_of(layer, x), keepdims)


def _variance(build: Builder, x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    centred = build("subtract", x, build.reduce(x, "mean", axes, keepdims=True))
    return build.reduce(build.activation(centred, "square"), "mean", axes, keepdims)


@layer("ops.Var", "ops.Std", "tf.math.reduce_variance", "tf.math.reduce_std")
def convert_variance(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Variance and standard deviation along axes."""
    x = tensor(layer, 0, "input_tensor")
    y = _variance(build, x, axes_of(layer, x), bool(given(layer, 2, "keepdims", default=False)))
    return build.activation(y, "sqrt") if layer.class_name.lower().endswith("std") else y


@layer("ops.Moments")
def convert_moments(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """Mean and variance along axes."""
    x, keepdims = tensor(layer), bool(given(layer, None, "keepdims", default=False))
    axes = axes_of(layer, x)
    return [build.reduce(x, "mean", axes, keepdims), _variance(build, x, axes, keepdims)]


def _several(layer: Layer, *names: str) -> list[Tensor]:
    value = given(layer, 0, *names)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(x, Tensor) for x in value):
        raise Unsupported("it joins constants", "join tensors only")
    return list(value)


@layer("ops.Concatenate", "tf.concat")
def convert_concatenate(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Concatenation along an axis."""
    xs = _several(layer, "xs", "values")
    return build("concatenate", *xs, axis=axis_of(given(layer, 1, "axis", default=0), len(xs[0].shape), "it joins"))


@layer("ops.Stack", "tf.stack")
def convert_stack(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Concatenation along a new axis."""
    xs = _several(layer, "x", "values")
    axis = axis_of(given(layer, 1, "axis", default=0), len(xs[0].shape) + 1, "it joins")
    return build("concatenate", *(_with_axes(build, x, [axis]) for x in xs), axis=axis)


def _static(x: Tensor) -> list[int]:
    """Sizes without the batch, for a reshape; one may be unknown."""
    if list(x.shape[1:]).count(None) > 1:
        raise Unsupported(f"several sizes of its input {x.shape} are unknown", "give the model's input a fixed size")
    return [-1 if size is None else size for size in x.shape[1:]]


def _with_axes(build: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """x with axes of size 1, at places of the result."""
    sizes = _static(x)
    for axis in sorted(axes):
        sizes.insert(axis - 1, 1)
    return build.reshape(x, *sizes)


def _without_axes(build: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """x without axes of size 1."""
    wrong = [axis for axis in axes if x.shape[axis] != 1]
    if wrong:
        raise Unsupported(f"axis {wrong[0]} of {x.shape} is not of size 1", "remove axes of size 1 only")
    return build.reshape(x, *(size for axis, size in enumerate(_static(x), 1) if axis not in axes))


@layer("ops.ExpandDims", "tf.expand_dims")
def convert_expand_dims(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """New axes of size 1."""
    x, value = tensor(layer), given(layer, 1, "axis")
    axes = value if isinstance(value, list | tuple) else [value]
    return _with_axes(build, x, [axis_of(a, len(x.shape) + len(axes), "it adds an axis") for a in axes])


@layer("ops.Squeeze", "tf.squeeze", "tf.compat.v1.squeeze")
def convert_squeeze(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Axes of size 1 removed."""
    x = tensor(layer)
    if given(layer, 1, "axis", default=None) is None:
        return _without_axes(build, x, [axis for axis, size in enumerate(x.shape) if axis and size == 1])
    return _without_axes(build, x, axes_of(layer, x))


@layer("ops.Reshape", "tf.reshape")
def convert_reshape(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A reshape that keeps the batch."""
    x, target = tensor(layer), given(layer, 1, "newshape", "shape")
    if (found := numbers(target)) is None:
        raise Unsupported(f"its target {target!r} is computed", "give numbers")
    if found.count(UNKNOWN) == 1 and -1 not in found[1:]:
        found[found.index(UNKNOWN)] = -1  # the others tell which it is
    batch, *sizes = target = [-1 if size == BATCH else size for size in found]
    # A first -1 is the batch if the others leave each image as it is.
    if batch != -1:
        raise Unsupported(
            f"its target {tuple(target)} mixes images", "give -1 for the batch, and the other sizes as numbers"
        )
    if UNKNOWN in sizes or sizes.count(-1) > 1:
        raise Unsupported("several sizes of its target are known at the call only", FIX)
    if known(x.shape) and math.prod(size or 1 for size in x.shape[1:]) != abs(math.prod(sizes)) and -1 not in sizes:
        raise Unsupported(f"its target {tuple(target)} mixes images of {x.shape}", "keep the size of each image")
    return build.reshape(x, *sizes)


@layer("ops.Ravel")
def convert_ravel(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """All values in one row, which mixes images."""
    raise Unsupported("it mixes the images of a batch", "use a Flatten layer")


@layer("ops.Transpose", "tf.transpose", "tf.compat.v1.transpose", "ops.Moveaxis", "ops.Swapaxes")
def convert_transpose(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Axes in another order, the batch first."""
    x = tensor(layer, 0, "a")
    rank = len(x.shape)
    order = list(range(rank))
    if layer.class_name == "ops.Swapaxes":
        a, b = (axis_of(given(layer, None, name), rank) for name in ("axis1", "axis2"))
        order[a], order[b] = b, a
    elif layer.class_name == "ops.Moveaxis":
        lists = [given(layer, None, name) for name in ("source", "destination")]
        moved, places = ([axis_of(v, rank) for v in (value if isinstance(value, list) else [value])] for value in lists)
        order = [axis for axis in order if axis not in moved]
        for to, axis in sorted(zip(places, moved, strict=True)):
            order.insert(to, axis)
    else:
        value = given(layer, 1, "axes", "perm", default=list(reversed(order)))
        order = [int(axis) % rank for axis in value]
    if order[:1] != [0]:
        raise Unsupported(f"it moves the batch: axes {order}", "keep axis 0 first")
    return build.transpose(x, *order[1:])


@layer("ops.GetItem", "tf.__operators__.getitem")
def convert_getitem(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """x[...]: slices, whole numbers, new axes."""
    x, key = tensor(layer), given(layer, 1, "key", "slice_spec")
    items = list(key) if isinstance(key, list | tuple) else [key]
    rank = len(x.shape)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        missing = rank - sum(1 for item in items if item is not None and item is not Ellipsis)
        items[at : at + 1] = [slice(None)] * missing
    items += [slice(None)] * (rank - sum(1 for item in items if item is not None))
    axis, gone, new, place = 0, [], [], 0
    for item in items:
        if item is None:
            new.append(place)
            place += 1
            continue
        if axis == 0:
            if item != slice(None):
                raise Unsupported("it takes a part of the batch", "begin with a colon: x[:, ...]")
        elif isinstance(item, slice):
            parts = (item.start, item.stop, item.step)
            if not all(isinstance(part, int | None) for part in parts):
                raise Unsupported(f"its bounds {parts} are computed", "give numbers")
            step = 1 if item.step is None else item.step
            start = item.start if item.start is not None else 0 if step > 0 else LIMIT
            stop = LIMIT if item.stop is None else item.stop
            if (start, stop, step) != (0, LIMIT, 1):
                x = build.slice(x, axis, start, stop, step)
        elif isinstance(item, int):
            x = build.slice(x, axis, item, item + 1 if item != -1 else LIMIT)
            gone.append(axis)
        else:
            raise Unsupported(f"it is indexed by {item!r}", "use slices and whole numbers")
        place += not (axis and isinstance(item, int))
        axis += 1
    if gone:
        x = _without_axes(build, x, gone)
    return _with_axes(build, x, new) if new else x


@layer("ops.Split", "tf.split")
def convert_split(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """Equal parts along an axis, or parts that begin at given places (TensorFlow: of given sizes)."""
    x = tensor(layer)
    parts = given(layer, 1, "indices_or_sections", "num_or_size_splits")
    axis = axis_of(given(layer, 2, "axis", default=0), len(x.shape), "it splits")
    size = x.shape[axis]
    if size is None:
        raise Unsupported(f"it splits an axis of unknown size, of {x.shape}", "give the input that size")
    if isinstance(parts, int):
        if parts < 1 or size % parts:
            raise Unsupported(f"{parts} equal parts of {size}", "split into parts of a whole size")
        bounds = [size // parts * i for i in range(parts + 1)]
    elif layer.class_name.startswith("tf."):
        bounds = [0, *np.cumsum(parts).tolist()]
    else:
        bounds = [0, *(int(place) for place in parts), size]
    return [build.slice(x, axis, a, b) for a, b in itertools.pairwise(bounds)]


@layer("ops.Unstack", "tf.unstack")
def convert_unstack(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """The slices along an axis, without it."""
    x = tensor(layer)
    axis = axis_of(given(layer, None, "axis", default=0), len(x.shape), "it splits")
    if x.shape[axis] is None:
        raise Unsupported(f"it splits an axis of unknown size, of {x.shape}", "give the input that size")
    return [_without_axes(build, build.slice(x, axis, i, i + 1), [axis]) for i in range(x.shape[axis] or 0)]


@layer("ops.Pad", "tf.pad", "tf.compat.v1.pad")
def convert_pad(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A frame, constant or mirrored."""
    x, width = tensor(layer), np.asarray(given(layer, 1, "pad_width", "paddings"))
    pairs = np.broadcast_to(width, (len(x.shape), 2)).tolist()
    mode = str(given(layer, None, "mode", default="constant")).lower()
    value = given(layer, 2, "constant_values", default=0.0)
    if any(pairs[0]):
        raise Unsupported("it pads the batch", "pad the other axes only")
    if mode not in ("constant", "reflect", "symmetric", "edge") or np.size(value) != 1:
        raise Unsupported(f"it pads by {mode!r}", "use constant, reflect, symmetric or edge")
    return build.pad(x, [(int(a), int(b)) for a, b in pairs[1:]], mode, float(np.asarray(value).reshape(())))


@layer("ops.Flip", "tf.reverse")
def convert_flip(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Axes backwards."""
    x = tensor(layer)
    for axis in axes_of(layer, x):
        x = build.slice(x, axis, LIMIT, LIMIT, -1)
    return x


@layer("ops.Tile", "tf.tile")
def convert_tile(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """The whole several times along axes."""
    x, value = tensor(layer), given(layer, 1, "repeats", "multiples")
    repeats = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    if len(repeats) != len(x.shape) or repeats[0] != 1:
        raise Unsupported(f"it repeats the batch: {repeats}", "repeat the other axes only")
    for axis, count in enumerate(repeats):
        if count > 1:
            x = build("concatenate", *[x] * count, axis=axis)
    return x


@layer("ops.Repeat", "tf.repeat")
def convert_repeat(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Each value several times along an axis."""
    x, count = tensor(layer), given(layer, 1, "repeats")
    (axis,) = axes_of(layer, x, 2)
    if not isinstance(count, int):
        raise Unsupported(f"it repeats {count!r} times", "give one number")
    sizes = _static(x)
    wide = build("multiply", _with_axes(build, x, [axis + 1]), np.ones((count, *[1] * (len(sizes) - axis))))
    sizes[axis - 1] *= count if sizes[axis - 1] > 0 else 1
    return build.reshape(wide, *sizes)


@layer("ops.BroadcastTo", "tf.broadcast_to")
def convert_broadcast_to(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A wider shape, by NumPy's rule."""
    x, shape = tensor(layer), numbers(given(layer, 1, "shape")) or []
    sizes = [1 if size == UNKNOWN and own is None else max(1, size) for size, own in zip(shape, x.shape, strict=False)][
        1:
    ]
    if len(shape) != len(x.shape) or shape[0] not in (BATCH, -1) or UNKNOWN in sizes:
        raise Unsupported(f"it broadcasts {x.shape} to {shape}", "keep the rank and the batch")
    return build("multiply", x, np.ones(sizes))


@layer("ops.Matmul", "ops.Dot", "tf.linalg.matmul")
def convert_matmul(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A product of two tensors, or of one with a constant matrix."""
    x, y = given(layer, 0, "x1", "a"), given(layer, 1, "x2", "b")
    if given(layer, None, "transpose_a", "adjoint_a", "adjoint_b", default=False):
        raise Unsupported("it transposes its first operand, or takes adjoints", "transpose before")
    swap = bool(given(layer, None, "transpose_b", default=False))
    if not isinstance(x, Tensor):
        raise Unsupported("its first operand is a constant", "multiply from the right")
    if not isinstance(y, Tensor):
        matrix = np.asarray(y, np.float32)
        if matrix.ndim == 1 and len(x.shape) > 2:
            product = build("dense", x, matrix[:, None])
            return _without_axes(build, product, [len(x.shape) - 1])
        if matrix.ndim != 2:
            raise Unsupported(f"it multiplies by a constant of shape {matrix.shape}", "multiply by a matrix")
        return build("dense", x, matrix.T if swap else matrix)
    if layer.class_name == "ops.Dot":
        raise Unsupported("it multiplies two tensors across the batch", "use matmul")
    return build(
        "matmul", x, build.transpose(y, *range(1, len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2) if swap else y
    )


@layer("ops.MaxPool", "ops.AveragePool")
def convert_pool(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Pooling over windows."""
    x = to_channels_last(layer, build, tensor(layer))
    axes = len(x.shape) - 2
    pool_size = sizes_of(given(layer, 1, "pool_size"), axes)
    strides = sizes_of(given(layer, None, "strides", default=list(pool_size)), axes)
    window = _window(layer, axes, strides)
    return from_channels_last(
        layer,
        build,
        build("max_pool" if "Max" in layer.class_name else "average_pool", x, pool_size=pool_size, **window),
    )


def _window(layer: Layer, axes: int, strides: tuple[int, ...]) -> dict[str, Any]:
    padding = str(given(layer, None, "padding", default="valid")).lower()
    if padding not in ("valid", "same"):
        raise Unsupported(f"padding is {padding!r}", "use 'valid' or 'same'")
    return {"strides": strides, "padding": "same" if padding == "same" else "explicit"}


@layer("ops.Conv", "ops.DepthwiseConv", "ops.SeparableConv", "ops.ConvTranspose")
def convert_conv(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Convolutions whose kernels are constants of the model."""
    x, *kernels = layer.arguments
    kernels += [layer.keywords[n] for n in ("kernel", "depthwise_kernel", "pointwise_kernel") if n in layer.keywords]
    if not isinstance(x, Tensor) or not kernels or any(isinstance(kernel, Tensor) for kernel in kernels):
        raise Unsupported("its kernel is computed", "use a Conv layer")
    weights = [np.asarray(kernel, np.float32) for kernel in kernels]
    x = to_channels_last(layer, build, x)
    axes = len(x.shape) - 2
    strides = sizes_of(layer.get("strides", 1), axes)
    dilations = sizes_of(layer.get("dilation_rate", 1), axes)
    window = _window(layer, axes, strides)
    name = layer.class_name.split(".")[1]
    if name == "ConvTranspose":
        extra = layer.config.get("output_padding")
        wanted = [None] * axes if extra is None else list(sizes_of(extra, axes))
        pads: list[int] = []
        more = []
        for size, d, s, e in zip(weights[0].shape, dilations, strides, wanted, strict=False):
            cut, ends = transposed_padding((size - 1) * d + 1, s, window["padding"] == "same", e)
            pads += [cut // 2, cut - cut // 2]
            more.append(ends)
        attributes = {"strides": strides, "dilations": dilations, "pads": tuple(pads), "output_padding": tuple(more)}
        y = build("conv_transpose", x, weights[0], **attributes)
    elif name == "Conv":
        groups = (x.shape[-1] or 1) // weights[0].shape[-2]
        y = build("conv", x, weights[0], dilations=dilations, groups=groups, **window)
    else:
        y = build("depthwise_conv", x, weights[0], dilations=dilations, **window)
        if name == "SeparableConv":
            y = build("conv", y, weights[1])
    return from_channels_last(layer, build, y)


@layer("ops.Normalize")
def convert_normalize(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Vectors over their length."""
    x = tensor(layer)
    if given(layer, None, "order", default=2) != 2:
        raise Unsupported("its norm is not the Euclidean one", "use order=2")
    return unit(build, x, axes_of(layer, x), float(given(layer, None, "epsilon", default=1e-7)))


@layer("ops.Resize", "tf.image.resize")
def convert_resize(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Another size of images."""
    height, width = known_numbers(given(layer, 1, "size"), "size")
    method = given(layer, None, "interpolation", "method", default="bilinear")
    antialias = given(layer, None, "antialias", default=False)
    resizing = layer.changed("Resizing", height=height, width=width, interpolation=method, antialias=antialias)
    return convert_resizing(resizing, build, [tensor(layer)])  # type: ignore[return-value]


def space_to_depth(build: Builder, x: Tensor, block: int, channels_first_order: bool = False) -> Tensor:
    """Blocks of pixels to channels: TensorFlow's order, a block's pixels before the channels, or the other (see below)."""
    height, width, channels = _whole(x)
    cut = build.reshape(x, height // block, block, width // block, block, channels)
    order = (1, 3, 5, 2, 4) if channels_first_order else (1, 3, 2, 4, 5)
    return build.reshape(build.transpose(cut, *order), height // block, width // block, block * block * channels)


def depth_to_space(build: Builder, x: Tensor, block: int, channels_first_order: bool = False) -> Tensor:
    """Channels to blocks of pixels. channels_first_order: PyTorch's (and ONNX' CRD) order, the channels before a block."""
    if x.shape[1:3].count(None) and len(x.shape) == 4 and x.shape[3] is not None:
        return _placed(build, x, block, channels_first_order)
    height, width, channels = _whole(x)
    each = channels // (block * block)
    if channels_first_order:
        cut = build.transpose(build.reshape(x, height, width, each, block, block), 1, 4, 2, 5, 3)
    else:
        cut = build.transpose(build.reshape(x, height, width, block, block, each), 1, 3, 2, 4, 5)
    return build.reshape(cut, height * block, width * block, each)


def _placed(build: Builder, x: Tensor, block: int, channels_first_order: bool) -> Tensor:
    """The same where a size is known at the call only, which no reshape can name: a transposed convolution whose weights are
    ones and zeros puts each channel at its place. (Infinity and NaN in one channel make NaN of its neighbours.)"""
    channels = x.shape[3] or 0
    each = channels // (block * block)
    if block < 1 or each * block * block != channels:
        raise Unsupported(f"{channels} channels make no blocks of {block} x {block}", "give it a multiple of that")
    weights = np.zeros((block, block, each, channels), np.float32)
    for row, column, channel in np.ndindex(block, block, each):
        place = (
            (channel * block + row) * block + column
            if channels_first_order
            else (row * block + column) * each + channel
        )
        weights[row, column, channel, place] = 1
    return build("conv_transpose", x, weights, strides=(block, block))


def _whole(x: Tensor) -> tuple[int, int, int]:
    if not known(x.shape) or len(x.shape) != 4:
        raise Unsupported(f"its input is {x.shape}", "give it images of a fixed size")
    return x.shape[1], x.shape[2], x.shape[3]  # type: ignore[return-value]


@layer("ops.SpaceToDepth", "ops.DepthToSpace", "tf.nn.space_to_depth", "tf.nn.depth_to_space", "tf.compat.v1.nn.depth_to_space", "tf.compat.v1.nn.space_to_depth")  # fmt: skip
def convert_space_and_depth(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Blocks of pixels to channels, and back."""
    block = int(given(layer, 1, "block_size"))
    x = to_channels_last(layer, build, tensor(layer))
    to_depth = layer.class_name.lower().replace("_", "").endswith("spacetodepth")
    return from_channels_last(layer, build, (space_to_depth if to_depth else depth_to_space)(build, x, block))

"""Functions of keras.ops and of TensorFlow that compare and choose, and others that are made of a few operators.

What is true is 1, what is not is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder, Operand
from edgecnn.converters.layers.operations import axes_of, combine, full, given, operand, tensor
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, axis_of, layer
from edgecnn.graph import Tensor
from edgecnn.graph.operators import LIMIT

_ZERO = np.zeros(1)


def negated(build: Builder, x: Any) -> Tensor:
    """1 where x is 0, else 0."""
    return combine(build, "equal", x, _ZERO)


def chosen(build: Builder, condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition is not 0, else y. Nothing of what is not taken comes through, be it NaN."""
    if not isinstance(operand(condition), Tensor):
        raise Unsupported("its condition is a constant", "compute it from a tensor")
    return combine(
        build, "add", combine(build, "keep", x, condition), combine(build, "keep", y, negated(build, condition))
    )


def _scaled(function: str, factor: float, before: bool = False) -> Callable[[Builder, Tensor], Tensor]:
    def make(build: Builder, x: Tensor) -> Tensor:
        number = np.full(1, factor)
        if before:
            return build.activation(build("multiply", x, number), function)
        return build("multiply", build.activation(x, function), number)

    return make


def hyperbolic(build: Builder, x: Tensor, function: str) -> Tensor:
    """(e^x +- e^-x) / 2."""
    other = build.activation(build("multiply", x, np.full(1, -1.0)), "exponential")
    return build("multiply", build(function, build.activation(x, "exponential"), other), np.full(1, 0.5))


_OF_ONE: Mapping[str, tuple[Callable[[Builder, Tensor], Tensor], tuple[str, ...]]] = {
    # A name for reading: how it is made; Keras' names, TensorFlow's names.
    "log10": (_scaled("log", 1 / math.log(10)), ("Log10",)),
    "log2": (_scaled("log", 1 / math.log(2)), ("Log2",)),
    "exp2": (_scaled("exponential", math.log(2), before=True), ("Exp2",)),
    "sinh": (lambda build, x: hyperbolic(build, x, "subtract"), ("Sinh", "math.sinh")),
    "cosh": (lambda build, x: hyperbolic(build, x, "add"), ("Cosh", "math.cosh")),
    "tan": (
        lambda build, x: build("divide", build.activation(x, "sin"), build.activation(x, "cos")),
        ("Tan", "math.tan"),
    ),
    "trunc": (
        lambda build, x: build(
            "multiply", build.activation(x, "sign"), build.activation(build.activation(x, "abs"), "floor")
        ),
        ("Trunc",),
    ),
    "zeros": (lambda build, x: build("keep", x, _ZERO), ("ZerosLike", "zeros_like")),
    "ones": (lambda build, x: build("add", build("keep", x, _ZERO), np.ones(1)), ("OnesLike", "ones_like")),
    "not": (negated, ("LogicalNot", "math.logical_not")),
    "nan": (lambda build, x: negated(build, build("equal", x, x)), ("Isnan", "math.is_nan")),
}


def _at_most(build: Builder, x: Any, y: Any) -> Tensor:
    """1 where x <= y, which is not "not y < x" where one of them is NaN."""
    return build("maximum", combine(build, "less", x, y), combine(build, "equal", x, y))


def _floor_quotient(build: Builder, x: Any, y: Any) -> Tensor:
    return build.activation(combine(build, "divide", x, y), "floor")


def is_power_of_two(value: Any) -> bool:
    """Whether all numbers of a constant are powers of two, or such below 0: then quotients by them are exact."""
    if isinstance(value, Tensor):
        return False
    numbers = np.asarray(operand(value))
    return bool(np.isfinite(numbers).all() and (np.abs(np.frexp(numbers)[0]) == 0.5).all())


def remainder(build: Builder, x: Any, y: Any) -> Tensor:
    """x - floor(x / y) * y, which rounds nothing where y is a power of two.

    TensorFlow and LiteRT compute the remainder exactly, however large x is. By other divisors the quotient is rounded, and
    where it is rounded to a whole number the remainder is wrong by y.
    """
    if not is_power_of_two(y):
        shown = "a computed divisor" if isinstance(y, Tensor) else np.array2string(np.asarray(y), threshold=4)
        raise Unsupported(
            f"it takes the remainder by {shown}, not by powers of two, and hangs on how the quotient is rounded",
            "divide by a power of two, or write x - floor(x / y) * y, which is computed as it is written",
        )
    small = np.abs(np.asarray(operand(y))) < 1
    if isinstance(x, Tensor) and small.any():  # whole parts go first: x / y might be too large a number
        whole = build("multiply", build.activation(x, "sign"), build.activation(build.activation(x, "abs"), "floor"))
        x = combine(build, "subtract", x, combine(build, "multiply", whole, small))
    return combine(build, "subtract", x, combine(build, "multiply", _floor_quotient(build, x, y), y))


def _difference_squared(build: Builder, x: Any, y: Any) -> Tensor:
    return build.activation(combine(build, "subtract", x, y), "square")


def _log_of_sum(build: Builder, x: Any, y: Any) -> Tensor:
    """log(e^x + e^y) = max(x, y) + log(1 + e^-|x - y|); of two equal infinities, whose difference is NaN, that infinity."""
    difference = combine(build, "subtract", x, y)
    apart = build.activation(difference, "abs")
    rest = build.activation(build("multiply", apart, np.full(1, -1.0)), "exponential")
    total = build("add", combine(build, "maximum", x, y), build.activation(rest, "log1p"))
    return chosen(build, build("equal", difference, difference), total, combine(build, "add", x, y))


def _heeding_no_nan(build: Builder, function: str, x: Any, y: Any) -> Tensor:
    """The maximum or the minimum of two values, or, where one of them is NaN, the other."""
    never_wins = -math.inf if function == "maximum" else math.inf

    def replaced(value: Any, other: Any) -> Any:
        one = operand(value)
        if isinstance(one, Tensor):
            return chosen(build, build("equal", one, one), one, other)
        return np.where(np.isnan(np.asarray(one)), np.float32(never_wins), np.asarray(one))

    return combine(build, function, replaced(x, y), replaced(y, x))


def finite_or_zero(build: Builder, x: Tensor) -> Tensor:
    """x where it is finite, else 0: what is taken out of exponents before they are summed up."""
    return build("keep", x, build("less", build.activation(x, "abs"), np.full(1, math.inf)))


_OF_TWO: Mapping[str, tuple[Callable[[Builder, Any, Any], Tensor], tuple[str, ...]]] = {
    "equal": (lambda build, x, y: combine(build, "equal", x, y), ("Equal", "math.equal")),
    "unequal": (lambda build, x, y: negated(build, combine(build, "equal", x, y)), ("NotEqual", "math.not_equal")),
    "less": (lambda build, x, y: combine(build, "less", x, y), ("Less", "math.less")),
    "greater": (lambda build, x, y: combine(build, "less", y, x), ("Greater", "math.greater")),
    "at most": (lambda build, x, y: _at_most(build, x, y), ("LessEqual", "math.less_equal")),
    "at least": (
        lambda build, x, y: _at_most(build, y, x),
        ("GreaterEqual", "math.greater_equal"),
    ),
    "and": (lambda build, x, y: combine(build, "keep", truth(build, x), y), ("LogicalAnd", "math.logical_and")),
    "or": (
        lambda build, x, y: combine(build, "maximum", truth(build, x), truth(build, y)),
        ("LogicalOr", "math.logical_or"),
    ),
    "xor": (
        lambda build, x, y: negated(build, combine(build, "equal", truth(build, x), truth(build, y))),
        ("LogicalXor", "math.logical_xor"),
    ),
    "quotient": (
        lambda build, x, y: combine(build, "keep", combine(build, "divide", x, y), y),
        ("DivideNoNan", "math.divide_no_nan"),
    ),
    "floor quotient": (_floor_quotient, ("FloorDivide", "compat.v1.floor_div", "math.floordiv")),
    "remainder": (remainder, ("Mod", "math.floormod")),
    "squared difference": (_difference_squared, ("math.squared_difference",)),
    "log of sum": (_log_of_sum, ("Logaddexp",)),
    "larger number": (lambda build, x, y: _heeding_no_nan(build, "maximum", x, y), ("Fmax",)),
    "smaller number": (lambda build, x, y: _heeding_no_nan(build, "minimum", x, y), ("Fmin",)),
}


def truth(build: Builder, x: Any) -> Operand:
    """1 where x is not 0, else 0."""
    value = operand(x)
    return negated(build, negated(build, value)) if isinstance(value, Tensor) else np.asarray(value != 0, np.float32)


def _found(table: Mapping[str, tuple[Any, tuple[str, ...]]], class_name: str) -> Any:
    name = class_name.split(".", 1)[1]
    return next(make for make, names in table.values() if name in names)


@layer(*(full(name) for _, names in _OF_ONE.values() for name in names))
def convert_one(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Functions of one value."""
    y: Tensor = _found(_OF_ONE, layer.class_name)(build, tensor(layer))
    return y


@layer(*(full(name) for _, names in _OF_TWO.values() for name in names))
def convert_two(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Functions of two values, with broadcasting."""
    y: Tensor = _found(_OF_TWO, layer.class_name)(build, given(layer, 0, "x1", "x"), given(layer, 1, "x2", "y"))
    return y


@layer("ops.Where", "tf.where")
def convert_where(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """One of two values."""
    condition, x, y = given(layer, 0, "condition"), given(layer, 1, "x1", "x"), given(layer, 2, "x2", "y")
    return chosen(build, condition, x, y)


@layer("tf.math.add_n")
def convert_add_n(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """The sum of a list."""
    first, *rest = given(layer, 0, "inputs")
    for x in rest:
        first = combine(build, "add", first, x)
    return build("identity", first) if not rest else first


@layer("ops.Logsumexp", "tf.math.reduce_logsumexp")
def convert_logsumexp(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """log of the sum of e^x along axes, the largest x taken out if it is finite."""
    x = tensor(layer, 0, "input_tensor")
    axes, keepdims = axes_of(layer, x), bool(given(layer, 2, "keepdims", default=False))
    top = finite_or_zero(build, build.reduce(x, "max", axes, keepdims=True))
    total = build.reduce(build.activation(build("subtract", x, top), "exponential"), "sum", axes, keepdims)
    top = top if keepdims else build.reduce(top, "max", axes, keepdims=False)
    return build("add", build.activation(total, "log"), top)


@layer("tf.math.l2_normalize")
def convert_l2_normalize(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """x / sqrt(max(sum of squares, epsilon))."""
    x = tensor(layer)
    total = build.reduce(build.activation(x, "square"), "sum", axes_of(layer, x), keepdims=True)
    least = np.full(1, float(given(layer, 2, "epsilon", default=1e-12)))
    return build("multiply", x, build.activation(build("maximum", total, least), "rsqrt"))


@layer("ops.Norm", "tf.compat.v1.norm")
def convert_norm(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """The Euclidean length of vectors, or the sum of their sizes."""
    x, order = tensor(layer), given(layer, 1, "ord", default="euclidean")
    if order not in (1, 2, "euclidean", None):
        raise Unsupported(f"it is a norm of order {order!r}", "use order 1 or 2")
    axes = axes_of(layer, x, 2)
    if len(axes) > 1 and order in (1, 2):
        raise Unsupported("it is the norm of matrices", "name one axis")
    sizes = build.activation(x, "abs" if order == 1 else "square")
    y = build.reduce(sizes, "sum", axes, bool(given(layer, 3, "keepdims", default=False)))
    return y if order == 1 else build.activation(y, "sqrt")


@layer("ops.Roll", "tf.roll")
def convert_roll(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Values moved along axes, those that leave at one end entering at the other."""
    x, shifts, axes = tensor(layer), given(layer, 1, "shift"), given(layer, 2, "axis", default=None)
    if axes is None:
        raise Unsupported("it works along all axes, the batch too", "name the axes")
    pairs = zip(*(value if isinstance(value, list | tuple) else [value] for value in (shifts, axes)), strict=True)
    for shift, axis in pairs:
        at = axis_of(axis, len(x.shape))
        if x.shape[at] is None:
            raise Unsupported(f"it works along an axis of unknown size, of {x.shape}", "give the input that size")
        cut = -int(shift) % (x.shape[at] or 1)
        if cut:
            x = build("concatenate", build.slice(x, at, cut, LIMIT), build.slice(x, at, 0, cut), axis=at)
    return x


@layer("ops.Take", "tf.compat.v1.gather")
def convert_take(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Some of the values along an axis, by constant indices."""
    x, indices = tensor(layer, 0, "params"), np.asarray(given(layer, 1, "indices"))
    if indices.dtype == object or indices.ndim > 1 or indices.size > 1024:
        raise Unsupported("its indices are computed, many, or of a higher rank", "take by a short constant list")
    axis = axis_of(given(layer, None, "axis", default=None), len(x.shape), "it takes")
    parts = [build.slice(x, axis, int(i), int(i) + 1 if i != -1 else LIMIT) for i in indices.reshape(-1)]
    y = parts[0] if len(parts) == 1 else build("concatenate", *parts, axis=axis)
    if indices.ndim:
        return y
    return build.reshape(y, *(-1 if size is None else size for a, size in enumerate(y.shape) if a and a != axis))


@layer("ops.LayerNorm", "ops.RMSNorm")
def convert_norms(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Normalisation along the last axes, without weights or with constant ones."""
    x, axis = tensor(layer), given(layer, None, "axis", default=-1)
    axes = sorted(axis_of(a, len(x.shape)) for a in (axis if isinstance(axis, list | tuple) else [axis]))
    scale = given(layer, 1, "gamma", "scale", default=None)
    offset = given(layer, 2, "beta", default=None) if layer.class_name == "ops.LayerNorm" else None
    if any(isinstance(value, Tensor) for value in (scale, offset)):
        raise Unsupported("its weights are computed", "use a LayerNormalization layer")
    plain, rms_scaling = x, bool(given(layer, None, "rms_scaling", default=False))
    if layer.class_name == "ops.LayerNorm":
        x = build("subtract", x, build.reduce(x, "mean", axes, keepdims=True))
    power = build.reduce(build.activation(x, "square"), "mean", axes, keepdims=True)
    epsilon = float(given(layer, None, "epsilon", default=1e-7))
    inverse = build.activation(build("add", power, np.full(1, epsilon)), "rsqrt")
    last = [len(x.shape) - 1]
    if layer.class_name == "ops.LayerNorm" and (list(axis) if isinstance(axis, list | tuple) else [axis]) != last:
        scale, offset = (_along(value, axes, x) for value in (scale, offset))
    y = build("multiply", plain if rms_scaling else x, inverse)
    y = y if scale is None else combine(build, "multiply", y, scale)
    return y if offset is None or rms_scaling else combine(build, "add", y, offset)


def _along(value: Any, axes: Sequence[int], x: Tensor) -> Any:
    """A constant weight with its axes where the normalised ones are in x, as Keras reshapes one of another rank than x."""
    if value is None or np.ndim(value) == len(x.shape):
        return value
    sizes = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    if None in sizes:
        raise Unsupported(f"it normalises axes of unknown size, of {x.shape}", "give the input that size")
    weight = np.asarray(value)
    if weight.size != math.prod(size or 1 for size in sizes):
        wanted = [x.shape[axis] for axis in axes]
        raise Unsupported(f"a weight has shape {weight.shape}, the axes {axes} have sizes {wanted}", "give as many")
    return weight.reshape([size or 1 for size in sizes])


@layer("ops.RGBToGrayscale", "tf.image.rgb_to_grayscale")
def convert_grayscale(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Grey from red, green and blue."""
    if layer.get("data_format", "channels_last") == "channels_first":
        raise Unsupported("its channels come first", "put them last")
    return build("dense", tensor(layer), np.array([[0.2989], [0.5870], [0.1140]]))

"""LiteRT operators: one function each. Tensors are channels last, as ours are.

Arguments are tensors or constants (arrays). What is computed from constants and shapes alone is computed here: Keras puts
such arithmetic around reshapes, resizes and transposed convolutions. Sizes that are known at the call only are marked by
large numbers: SHAPE gives for each its unit, and arithmetic leaves a * unit + b, from which `_of_size` reads a and b again.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder, known
from edgecnn.converters.layers.activation import Function
from edgecnn.converters.layers.choosing import chosen, is_power_of_two, negated, remainder
from edgecnn.converters.layers.operations import combine, depth_to_space, space_to_depth
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import LAYERS, Array, Layer, axis_of
from edgecnn.converters.sources.tflite import Unreadable
from edgecnn.graph import Tensor
from edgecnn.graph.operators import LIMIT

MARKED = 2**32
"""Whole numbers from here on stand for what is known at the call only: no 32-bit shape holds them."""
BATCH = 2**33
"""The number of images."""
UNKNOWN = 2**62
"""A size of which nothing is known."""
MOST_PARTS = 1024
"""Slices that a gather or a tile may become."""

Value = Tensor | Array
OperatorFunction = Callable[["Call", Builder], Any]

_FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")
_LATER = "export the model with fixed sizes"


class Call:
    """One operator: its inputs and options."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.name = layer.class_name.removeprefix("tflite.")
        self.inputs: list[Value | None] = list(layer.arguments)
        self._read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """An option."""
        self._read.add(name)
        return self.layer.get(name, default)

    def option(self, name: str) -> int:
        """An option that must be there."""
        self._read.add(name)
        return int(self.layer.config[name])

    def number(self, name: str) -> float:
        """The same, of a float."""
        self._read.add(name)
        return float(self.layer.config[name])

    def check_read(self, results: int) -> None:
        """Refuses an option that nobody has read and that has an effect; and so an output that is not given."""
        for name in self.layer.config.get("given", ()):
            value = self.layer.config[name]
            if name not in self._read and name not in NEUTRAL and np.any(np.asarray(value if value is not None else 0)):
                raise Unsupported(
                    f"its option {name} is {value!r}, which is not converted", "export the model without it"
                )
        if results < int(self.layer.config.get("outputs", results)):
            raise Unsupported("it has outputs that are not converted", "export the model without them")

    def __len__(self) -> int:
        return len(self.inputs)

    def value(self, index: int) -> Value | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int = 0) -> Tensor:
        """An input that must be computed."""
        value = self.value(index)
        if not isinstance(value, Tensor):
            raise Unsupported(f"its input {index} is a constant", "compute it from the model's inputs")
        return value

    def constant(self, index: int, what: str) -> Array:
        """An input that must be constant."""
        value = self.value(index)
        if isinstance(value, Tensor):
            raise Unsupported(f"its {what} are computed", f"export the model with constant {what}")
        if value is None:
            raise Unsupported(f"its {what} are absent", "export the model again")
        return value

    def optional(self, index: int, what: str) -> Array | None:
        """An input that must be constant where it is not absent."""
        return None if self.value(index) is None else self.constant(index, what)

    def numbers(self, index: int, what: str) -> list[int]:
        """Whole numbers of a constant input."""
        return [int(v) for v in self.constant(index, what).reshape(-1)]

    def finished(self, build: Builder, y: Tensor) -> Tensor:
        """The output behind the activation that is fused into the operator."""
        code = int(self.get("fused_activation_function", 0))
        if code not in _FUSED:
            raise Unsupported(f"its fused activation is number {code}", "use an activation operator")
        function, parameters = _FUSED[code]
        return y if function == "linear" else build.activation(y, function, *parameters)


NEUTRAL = {
    "asymmetric_quantize_inputs": "how integers stand for floats, in quantised models",
    "quantized_bias_type": "of quantised models",
    "pot_scale_int16": "of quantised models",
    "in_data_type": "the tensors tell their types",
    "out_data_type": "the tensors tell their types",
    "out_type": "a shape is computed at conversion",
    "values_count": "as many as there are inputs",
    "num": "as many as there are outputs",
    "num_splits": "as many as there are outputs",
    "depth_multiplier": "the weights tell",
    "new_shape": "the second input tells; where there is none, it is read",
}
"""Options that have no effect on what is converted, and why. Of all others 0, false and nothing, which a file leaves out, have
none, or are read."""

_FUSED: Mapping[int, tuple[str, tuple[float, ...]]] = {
    # By the schema's ActivationFunctionType. LiteRT's kernels pass over TANH and SIGN_BIT; no converter writes them.
    0: ("linear", ()),
    1: ("relu", (0.0, math.inf, 0.0)),
    2: ("clip", (-1.0, 1.0)),
    3: ("relu", (0.0, 6.0, 0.0)),
}


_ON_ANYTHING = ("CAST", "SHAPE", "RANK")
_ON_TRUTH = (
    *(*_ON_ANYTHING, "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "SELECT", "SELECT_V2", "EQUAL", "NOT_EQUAL"),
    *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V"),
    *("SLICE", "STRIDED_SLICE", "GATHER", "TILE", "BROADCAST_TO", "REVERSE_V2"),
)
"""Operators that take what is true, which is 1, and false, which is 0: those of logic, and those that move values."""


def operator(*names: str) -> Callable[[OperatorFunction], OperatorFunction]:
    """Registers a function for LiteRT operators. Where all inputs are constants, so is the output."""

    def enter(function: OperatorFunction) -> OperatorFunction:
        def convert(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Any:
            call = Call(layer)
            for value in call.inputs:
                if isinstance(value, Unreadable):
                    raise Unsupported(f"an input of it {value.reason}", "export the model with dense float weights")
            if not any(isinstance(value, Tensor) for value in call.inputs):
                return _folded(call)
            for value, kind in zip(call.inputs, call.get("types", ()), strict=False):
                allowed = _ON_TRUTH if kind == "BOOL" else _ON_ANYTHING
                if isinstance(value, Tensor) and kind not in _FLOATS and call.name not in allowed:
                    raise Unsupported(f"it works on computed {kind}", "compute in float32")
            result = function(call, build)
            call.check_read(len(result) if isinstance(result, list | tuple) else 1)
            return result

        for name in names:
            LAYERS[f"tflite.{name}"] = convert
        return function

    return enter


# Constants -------------------------------------------------------------------------------------------------------------


def _marked(*values: Any) -> bool:
    return any(
        isinstance(v, np.ndarray)
        and v.dtype.kind in "iufO"
        and v.size < MOST_PARTS
        and bool((np.abs(v) >= MARKED).any())
        for v in values
        if not (isinstance(v, np.ndarray) and v.dtype.kind == "f" and not np.isfinite(v).all())
    )


def _folded(call: Call) -> Any:
    """An operator on constants."""
    if call.name not in _ON_CONSTANTS:
        raise Unsupported("it is applied to constants", "apply it to what is computed from the model's inputs")
    values = [None if v is None else np.asarray(v) for v in call.inputs]
    given = [v for v in values if v is not None]
    # The source has counted what the file says that it gives.
    most = max(int(call.get("values")), MOST_PARTS)
    marked = _marked(*given)
    if marked:
        # Python's own numbers: no product of sizes overflows.
        given = [v.astype(object) if v.dtype.kind in "iu" else v for v in given]
        if call.name not in (*_VIEWS, *_EXACT):
            return np.full_like(given[0], UNKNOWN, np.int64)
    with np.errstate(all="ignore"):
        result = _ON_CONSTANTS[call.name](call, given, most)
    outputs = result if isinstance(result, list) else [result]
    return [_stored(np.asarray(value), marked) for value in outputs]


def _stored(value: Array, marked: bool) -> Array:
    """A folded constant: whole numbers as int64, floats as float32 unless they stand for sizes."""
    if value.dtype == object:
        value = np.asarray(np.clip(value, -UNKNOWN, UNKNOWN)).astype(np.int64)
    if value.dtype.kind in "iu":
        return value.astype(np.int64, copy=False)
    return value.astype(np.float32, copy=False) if value.dtype.kind == "f" and not marked else value


def _broadcast(function: Callable[[Any, Any], Any]) -> Callable[[Call, list[Array], int], Array]:
    def fold(call: Call, given: list[Array], most: int) -> Array:
        shape = np.broadcast_shapes(*(v.shape for v in given))
        _bounded(math.prod(shape), most)
        x, y = given
        result = np.asarray(function(x, y))
        function_name, parameters = _FUSED.get(int(call.get("fused_activation_function", 0)), ("", ()))
        if function_name == "relu":
            return np.asarray(np.clip(result, 0, parameters[1]))
        if function_name != "linear":
            raise Unsupported("it has an activation on constants", "export the model with it folded")
        return result

    return fold


def _bounded(count: int, most: int) -> None:
    if count > most:
        raise Unsupported(f"it makes a constant of {count} values; the file says {most}", "export the model without it")


def _cast_constant(call: Call, given: list[Array], most: int) -> Array:
    (x,) = given
    kind = str(call.get("output_type"))
    if kind == "BOOL":
        return np.asarray(x != 0)
    if kind in _FLOATS:
        return x.astype(np.float64)
    whole = np.trunc(x.astype(np.float64)) if x.dtype.kind == "f" else x
    if x.dtype.kind == "f" and not np.isfinite(whole).all():
        raise Unsupported("it casts a number that is none to a whole number", "export the model again")
    return np.clip(whole, -UNKNOWN, UNKNOWN).astype(np.int64) if x.dtype != object else whole


def _strided_constant(call: Call, given: list[Array], most: int) -> Array:
    return np.asarray(given[0][_key(call, given[0].ndim)])


def _gathered_constant(call: Call, given: list[Array], most: int) -> Array:
    x, indices = given
    if int(call.get("batch_dims", 0)):
        raise Unsupported("it gathers image by image", "use one list of indices")
    axis = int(call.get("axis", 0))
    _bounded(x.size // max(1, x.shape[axis]) * indices.size, most)
    return np.take(x, indices.astype(np.int64), axis=axis)


def _range_constant(call: Call, given: list[Array], most: int) -> Array:
    start, stop, step = (v.reshape(()).item() for v in given)
    if step == 0 or not all(math.isfinite(v) for v in (start, stop, step)):
        raise Unsupported(f"its step is {step}", "export the model again")
    _bounded(int(abs((stop - start) / step)) + 1, most)
    return np.arange(start, stop, step)


def _filled(call: Call, given: list[Array], most: int) -> Array:
    sizes = _fixed([int(v) for v in given[0].reshape(-1)], "size")
    _bounded(math.prod(sizes), most)
    return np.full(sizes, given[1].reshape(()))


def _tiled(call: Call, given: list[Array], most: int) -> Array:
    _bounded(given[0].size * math.prod(int(v) for v in given[1]), most)
    return np.tile(given[0], [int(v) for v in given[1]])


def _broadcast_constant(call: Call, given: list[Array], most: int) -> Array:
    sizes = _fixed([int(v) for v in given[1].reshape(-1)], "size")
    _bounded(math.prod(sizes), most)
    return np.broadcast_to(given[0], sizes)


def _reduced_constant(function: Callable[..., Any]) -> Callable[[Call, list[Array], int], Array]:
    def fold(call: Call, given: list[Array], most: int) -> Array:
        axes = tuple(int(v) for v in given[1].reshape(-1))
        return np.asarray(function(given[0], axis=axes, keepdims=bool(call.get("keep_dims", False))))

    return fold


def _sliced_constant(call: Call, given: list[Array], most: int) -> Array:
    x, begins, sizes = given
    key = tuple(
        slice(int(b), None if n == -1 else int(b) + int(n))
        for b, n in zip(begins.reshape(-1), sizes.reshape(-1), strict=True)
    )
    return np.asarray(x[key])


def _split_constant(call: Call, given: list[Array], most: int) -> list[Array]:
    if call.name == "SPLIT":
        axis, x = given
        if call.option("num_splits") < 1:
            raise Unsupported("it splits into nothing", "export the model again")
        return list(np.split(x, call.option("num_splits"), int(axis.reshape(()))))
    x, sizes, axis = given
    return list(np.split(x, np.cumsum(sizes.reshape(-1).astype(np.int64))[:-1], int(axis.reshape(()))))


def _unpacked_constant(call: Call, given: list[Array], most: int) -> list[Array]:
    axis = int(call.get("axis", 0))
    return [np.take(given[0], i, axis) for i in range(min(given[0].shape[axis], call.option("outputs")))]


def _padded_constant(call: Call, given: list[Array], most: int) -> Array:
    pairs = given[1].reshape(-1, 2).astype(np.int64)
    if (pairs < 0).any():
        raise Unsupported("it pads by a negative number", "use a slice")
    _bounded(math.prod(n + int(a) + int(b) for n, (a, b) in zip(given[0].shape, pairs, strict=True)), most)
    return np.pad(given[0], pairs, constant_values=given[2].reshape(()).item() if len(given) > 2 else 0)


def _reshaped_constant(call: Call, given: list[Array], most: int) -> Array:
    return given[0].reshape([int(v) for v in (given[1].reshape(-1) if len(given) > 1 else call.get("new_shape"))])


def _squeezed(call: Call, given: list[Array], most: int) -> Array:
    return np.squeeze(given[0], tuple(call.get("squeeze_dims", ())) or None)


def _floor_divide(x: Array, y: Array) -> Array:
    if x.dtype.kind != "f" and (np.asarray(y) == 0).any():
        raise Unsupported("it divides by 0", "export the model again")
    return np.asarray(x // y)


def _floor_rest(x: Array, y: Array) -> Array:
    if x.dtype.kind != "f" and (np.asarray(y) == 0).any():
        raise Unsupported("it divides by 0", "export the model again")
    return np.asarray(np.mod(x, y))


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    # Whole numbers are cut towards zero.
    return np.asarray(np.sign(x) * np.sign(y) * _floor_divide(np.abs(x), np.abs(y)))


_PAIRS: Mapping[str, Callable[[Any, Any], Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": _divide, "FLOOR_DIV": _floor_divide,
    "FLOOR_MOD": _floor_rest, "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal, "LESS": np.less, "LESS_EQUAL": np.less_equal, "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal, "LOGICAL_AND": np.logical_and, "LOGICAL_OR": np.logical_or,
    "SQUARED_DIFFERENCE": lambda x, y: (x - y) ** 2,
}  # fmt: skip
_SINGLES: Mapping[str, Callable[[Any], Any]] = {
    "ABS": np.abs, "NEG": np.negative, "SQRT": np.sqrt, "RSQRT": lambda x: 1 / np.sqrt(x), "SQUARE": np.square,
    "EXP": np.exp, "LOG": np.log, "FLOOR": np.floor, "CEIL": np.ceil, "ROUND": np.rint, "LOGICAL_NOT": np.logical_not,
    "DENSIFY": lambda x: x, "DEQUANTIZE": lambda x: x, "ZEROS_LIKE": np.zeros_like, "SHAPE": lambda x: np.asarray(x.shape),
    "RANK": lambda x: np.asarray(x.ndim),
}  # fmt: skip


def _single(function: Callable[[Any], Any]) -> Callable[[Call, list[Array], int], Array]:
    return lambda call, given, most: np.asarray(function(given[0]))


_ON_CONSTANTS: Mapping[str, Callable[[Call, list[Array], int], Any]] = {
    **{name: _broadcast(function) for name, function in _PAIRS.items()},
    **{name: _single(function) for name, function in _SINGLES.items()},
    "POW": _broadcast(lambda x, y: np.power(x.astype(np.float64), y)),
    "BROADCAST_ARGS": lambda call, given, most: np.asarray(
        np.broadcast_shapes(*(tuple(_fixed([int(n) for n in v], "size")) for v in given))
    ),
    "BROADCAST_TO": _broadcast_constant,
    "CAST": _cast_constant,
    "CONCATENATION": lambda call, given, most: np.concatenate(given, int(call.get("axis", 0))),
    "EXPAND_DIMS": lambda call, given, most: np.expand_dims(given[0], int(given[1].reshape(()))),
    "FILL": _filled,
    "GATHER": _gathered_constant,
    "MEAN": _reduced_constant(np.mean),
    "PACK": lambda call, given, most: np.stack(given, int(call.get("axis", 0))),
    "PAD": _padded_constant,
    "PADV2": _padded_constant,
    "RANGE": _range_constant,
    "REDUCE_MAX": _reduced_constant(np.max),
    "REDUCE_MIN": _reduced_constant(np.min),
    "REDUCE_PROD": _reduced_constant(np.prod),
    "RESHAPE": _reshaped_constant,
    "REVERSE_V2": lambda call, given, most: np.flip(given[0], tuple(int(v) for v in given[1].reshape(-1))),
    "SELECT": lambda call, given, most: np.where(given[0] != 0, given[1], given[2]),
    "SELECT_V2": lambda call, given, most: np.where(given[0] != 0, given[1], given[2]),
    "SLICE": _sliced_constant,
    "SPLIT": _split_constant,
    "SPLIT_V": _split_constant,
    "SQUEEZE": _squeezed,
    "STRIDED_SLICE": _strided_constant,
    "SUM": _reduced_constant(np.sum),
    "TILE": _tiled,
    "TRANSPOSE": lambda call, given, most: np.transpose(given[0], [int(v) for v in given[1]]),
    "UNPACK": _unpacked_constant,
}  # fmt: skip
"""What an operator makes of constants: (call, inputs, most values) -> array, or a list of arrays."""
_VIEWS = (
    "CONCATENATION", "DENSIFY", "DEQUANTIZE", "EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SHAPE", "SLICE", "SPLIT", "SPLIT_V",
    "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
)  # fmt: skip
"""Operators that only move values: marked sizes stay as they are."""
_EXACT = ("ADD", "CAST", "DIV", "FLOOR_DIV", "MUL", "REDUCE_PROD", "SUB", "SUM", "FILL", "BROADCAST_TO", "TILE")
"""Arithmetic in which marked sizes stay known, or whose functions refuse them."""


@operator(*(name for name in _ON_CONSTANTS if name not in ("SHAPE", "RANK")))
def _constant_only(call: Call, build: Builder) -> Array:
    raise Unsupported("it is applied to computed tensors", "use it on constants and shapes only")


# Sizes -----------------------------------------------------------------------------------------------------------------


def _unit(x: Tensor, axis: int) -> int:
    """The number that stands for a size of a tensor that is known at the call only. An odd number of 19 bits, so that
    a sum of multiples of other units is none of its own."""
    mixed = zlib.crc32(f"{x.name} {axis}".encode())
    return 2**34 * (2**18 + (mixed % 2**17) * 2 + 1)


def _of_size(value: int, x: Tensor, axis: int) -> tuple[int, int] | None:
    """(a, b) of a value that is a * the unknown size of an axis of x + b; None of any other value."""
    unit = _unit(x, axis)
    factor = (value + unit // 2) // unit
    rest = value - factor * unit
    return (factor, rest) if 0 < factor < 1024 and abs(rest) < MARKED // 2 else None


@operator("SHAPE")
def _shape(call: Call, build: Builder) -> Array:
    x = call.tensor()
    sizes = [BATCH, *(_unit(x, axis) if size is None else size for axis, size in enumerate(x.shape) if axis)]
    return np.asarray(sizes, np.int64)


@operator("RANK")
def _rank(call: Call, build: Builder) -> Array:
    return np.asarray(len(call.tensor().shape), np.int64)


def _fixed(values: Sequence[int], what: str) -> list[int]:
    """Numbers of which none may be marked."""
    if any(abs(v) >= MARKED for v in values):
        raise Unsupported(f"its {what} depends on sizes that are known at the call only", _LATER)
    return list(values)


def _is_batch(call: Call, size: int) -> bool:
    return size == BATCH or size in call.get("batches", ())


def _static(x: Tensor) -> list[int]:
    """Sizes without the batch, for a reshape; one may be unknown."""
    if list(x.shape[1:]).count(None) > 1:
        raise Unsupported(f"several sizes of its input {x.shape} are known at the call only", _LATER)
    return [-1 if size is None else size for size in x.shape[1:]]


def _with_axes(build: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    sizes = _static(x)
    for axis in sorted(axes):
        sizes.insert(axis - 1, 1)
    return build.reshape(x, *sizes)


def _without_axes(build: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    wrong = [axis for axis in axes if x.shape[axis] != 1]
    if wrong:
        raise Unsupported(f"axis {wrong[0]} of {x.shape} is not of size 1", "remove axes of size 1 only")
    return build.reshape(x, *(size for axis, size in enumerate(_static(x), 1) if axis not in axes))


@operator("RESHAPE")
def _reshape(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    target = call.numbers(1, "target") if call.value(1) is not None else list(call.get("new_shape", ()))
    each = math.prod(size or 1 for size in x.shape[1:]) if known(x.shape) else None
    # Marked sizes but the batch count as one that is left open; what x has fixes them.
    rest = [-1 if v >= MARKED and v != BATCH else v for v in target[1:]]
    first = target[0] if target else 0
    keeps = _is_batch(call, first) or (
        (first == -1 or first >= MARKED) and -1 not in rest and (each is None or math.prod(rest) == each)
    )
    if not keeps or BATCH in rest:
        shown = ["N" if v == BATCH else "?" if v >= MARKED else v for v in target]
        raise Unsupported(f"its target {shown} mixes the images of {x.shape}", "keep the batch in front")
    if len(target) == len(x.shape) and all(_is_whole(v, x, axis) for axis, v in enumerate(target) if axis):
        return build("identity", x)
    if rest.count(-1) > 1 or not rest:
        raise Unsupported(f"its target leaves {rest.count(-1)} sizes open, of {len(rest)}", _LATER)
    return build.reshape(x, *rest)


@operator("SQUEEZE")
def _squeeze(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    axes = call.get("squeeze_dims", ())
    if not axes:
        return _without_axes(build, x, [axis for axis, size in enumerate(x.shape) if axis and size == 1])
    return _without_axes(build, x, sorted({axis_of(int(a), len(x.shape), "it squeezes") for a in axes}))


@operator("EXPAND_DIMS")
def _expand_dims(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    (axis,) = call.numbers(1, "axis")
    return _with_axes(build, x, [axis_of(axis, len(x.shape) + 1, "it adds an axis")])


@operator("TRANSPOSE")
def _transpose(call: Call, build: Builder) -> Tensor:
    order = call.numbers(1, "axes")
    if order[:1] != [0]:
        raise Unsupported(f"it moves the batch: {order}", "keep axis 0 first")
    return build.transpose(call.tensor(), *order[1:])


@operator("CONCATENATION")
def _concatenation(call: Call, build: Builder) -> Tensor:
    first = next(value for value in call.inputs if isinstance(value, Tensor))
    axis = axis_of(int(call.get("axis", 0)), len(first.shape), "it joins")
    parts: list[Tensor] = []
    waiting: list[tuple[int, float]] = []
    for value in call.inputs:
        if isinstance(value, Tensor):
            for width, number in reversed(waiting):
                value = _framed(build, value, axis, (width, 0), number)
            waiting.clear()
            parts.append(value)
            continue
        # One number everywhere is a frame.
        if value is None or value.ndim != len(first.shape) or value.size == 0 or (value != value.flat[0]).any():
            raise Unsupported("it joins constants to computed tensors", "join computed tensors only")
        width, number = value.shape[axis], float(value.flat[0])
        if parts:
            parts[-1] = _framed(build, parts[-1], axis, (0, width), number)
        else:
            waiting.append((width, number))
    return call.finished(build, parts[0] if len(parts) == 1 else build("concatenate", *parts, axis=axis))


def _framed(build: Builder, x: Tensor, axis: int, width: tuple[int, int], number: float) -> Tensor:
    """A number before and behind x along an axis."""
    return build.pad(x, [width if a == axis else (0, 0) for a in range(1, len(x.shape))], value=number)


@operator("PACK")
def _pack(call: Call, build: Builder) -> Tensor:
    xs = [call.tensor(index) for index in range(len(call))]
    axis = axis_of(int(call.get("axis", 0)), len(xs[0].shape) + 1, "it joins")
    return build("concatenate", *(_with_axes(build, x, [axis]) for x in xs), axis=axis)


@operator("UNPACK")
def _unpack(call: Call, build: Builder) -> list[Tensor]:
    x = call.tensor()
    axis = axis_of(int(call.get("axis", 0)), len(x.shape), "it splits")
    if x.shape[axis] != call.option("outputs"):
        raise Unsupported(f"it splits {x.shape} into {call.option('outputs')}", _LATER)
    return [_without_axes(build, build.slice(x, axis, i, i + 1), [axis]) for i in range(call.option("outputs"))]


@operator("SPLIT", "SPLIT_V")
def _split(call: Call, build: Builder) -> list[Tensor]:
    places = (1, 0) if call.name == "SPLIT" else (0, 2)
    x, (at,) = call.tensor(places[0]), call.numbers(places[1], "axis")
    axis, count = axis_of(at, len(x.shape), "it splits"), call.option("outputs")
    size = x.shape[axis]
    if size is None:
        raise Unsupported(f"it splits an axis of unknown size, of {x.shape}", "give the input that size")
    if call.name == "SPLIT":
        if size % count:
            raise Unsupported(f"{count} equal parts of {size}", "split into parts of a whole size")
        parts = [size // count] * count
    else:
        parts = _fixed(call.numbers(1, "sizes"), "sizes")
        if parts.count(-1) == 1:
            parts[parts.index(-1)] = size - sum(parts) - 1
    if len(parts) != count or sum(parts) != size or min(parts) < 0:
        raise Unsupported(f"it splits {size} into {parts}", "export the model again")
    bounds = [0, *itertools.accumulate(parts)]
    return [build.slice(x, axis, a, b) for a, b in itertools.pairwise(bounds)]


@operator("SLICE")
def _slice(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    begins, sizes = call.numbers(1, "begins"), call.numbers(2, "sizes")
    for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        whole = size == -1 or (_is_batch(call, size) if axis == 0 else _is_whole(size, x, axis))
        if begin == 0 and whole:
            continue
        at = axis_of(axis, len(x.shape), "it takes a part")
        (begin, size) = _fixed([begin, size], "range")
        x = build.slice(x, at, begin, LIMIT if size == -1 else begin + size)
    return x


def _is_whole(size: int, x: Tensor, axis: int) -> bool:
    """Whether a number is the size of an axis."""
    return _of_size(size, x, axis) == (1, 0) if x.shape[axis] is None else size == x.shape[axis]


def _key(call: Call, rank: int) -> tuple[Any, ...]:
    """STRIDED_SLICE's bounds and masks as Python's x[...]: slices, whole numbers, None for new axes."""
    begins, ends, steps = (call.numbers(index, "bounds") for index in (1, 2, 3))
    begin_mask, end_mask, ellipsis, new, shrink = (
        int(call.get(f"{name}_mask", 0)) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    )
    if call.get("offset", False):
        ends = [a + b for a, b in zip(begins, ends, strict=True)]
    used = sum(1 for i in range(len(begins)) if not (ellipsis | new) >> i & 1)
    key: list[Any] = []
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if ellipsis >> i & 1:
            key += [slice(None)] * (rank - used)
        elif new >> i & 1:
            key.append(None)
        elif shrink >> i & 1:
            key.append(begin)
        else:
            key.append(slice(None if begin_mask >> i & 1 else begin, None if end_mask >> i & 1 else end, step))
    key += [slice(None)] * (rank - sum(1 for item in key if item is not None))
    return tuple(key)


@operator("STRIDED_SLICE")
def _strided_slice(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    axis, gone, new, place = 0, [], [], 0
    for item in _key(call, len(x.shape)):
        if item is None:
            new.append(place)
            place += 1
            continue
        if isinstance(item, slice):
            step = 1 if item.step is None else item.step
            ends = item.stop is None or (_is_batch(call, item.stop) if axis == 0 else _is_whole(item.stop, x, axis))
            if not (step == 1 and item.start in (None, 0) and ends):
                x = _cut(build, x, axis_of(axis, len(x.shape), "it takes a part"), item.start, item.stop, step)
            place += 1
        else:
            (at,) = _fixed([item], "index")
            x = build.slice(x, axis_of(axis, len(x.shape), "it takes a part"), at, at + 1 if at != -1 else LIMIT)
            gone.append(axis)
        axis += 1
    if 0 in new:
        raise Unsupported("it puts a new axis before the batch", "keep the batch in front")
    if gone:
        x = _without_axes(build, x, gone)
    return _with_axes(build, x, new) if new else x


def _cut(build: Builder, x: Tensor, axis: int, start: int | None, stop: int | None, step: int) -> Tensor:
    """A slice whose end may be the unknown size of x less some."""
    if stop is not None and x.shape[axis] is None and stop >= MARKED:
        relative = _of_size(stop, x, axis)
        if relative is None or relative[0] != 1 or relative[1] > 0:
            _fixed([stop], "range")
        stop = (relative or (1, 0))[1] or None
    if step == 0:
        raise Unsupported("its step is 0", "export the model again")
    first = (0 if step > 0 else LIMIT) if start is None else start
    last = LIMIT if stop is None else stop
    _fixed([first, last], "range")
    return build.slice(x, axis, max(-LIMIT, min(first, LIMIT)), max(-LIMIT, min(last, LIMIT)), step)


@operator("GATHER")
def _gather(call: Call, build: Builder) -> Tensor:
    x, indices = call.tensor(), call.constant(1, "indices")
    axis = axis_of(int(call.get("axis", 0)), len(x.shape), "it gathers")
    if indices.ndim > 1 or not 0 < indices.size <= MOST_PARTS or int(call.get("batch_dims", 0)):
        raise Unsupported(f"it gathers by indices of shape {indices.shape}", "gather by one index or a short list")
    runs: list[list[int]] = []
    for i in _fixed([int(v) for v in indices.reshape(-1)], "indices"):
        if i < 0:
            raise Unsupported(f"it gathers number {i}", "count from the front")
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    parts = [build.slice(x, axis, run[0], run[-1] + 1) for run in runs]
    if (x.shape[axis] or LIMIT) <= int(indices.max()):
        raise Unsupported(f"it gathers number {int(indices.max())} of {x.shape}", "export the model again")
    y = parts[0] if len(parts) == 1 else build("concatenate", *parts, axis=axis)
    return y if indices.ndim else _without_axes(build, y, [axis])


@operator("TILE")
def _tile(call: Call, build: Builder) -> Tensor:
    x, repeats = call.tensor(), _fixed(call.numbers(1, "repeats"), "repeats")
    if len(repeats) != len(x.shape) or repeats[0] != 1 or not 1 <= min(repeats) <= max(repeats) <= MOST_PARTS:
        raise Unsupported(f"it repeats {repeats}", "repeat axes after the batch")
    for axis, count in enumerate(repeats):
        if count > 1:
            x = build("concatenate", *[x] * count, axis=axis)
    return x


@operator("BROADCAST_TO")
def _broadcast_to(call: Call, build: Builder) -> Tensor:
    x, target = call.tensor(), call.numbers(1, "shape")
    if len(target) != len(x.shape) or not (_is_batch(call, target[0]) or target[0] == 1):
        raise Unsupported(f"it broadcasts {x.shape} to {len(target)} axes", "keep the rank and the batch")
    sizes = [1 if _is_whole(size, x, axis) else size for axis, size in enumerate(target) if axis]
    _bounded(math.prod(_fixed(sizes, "shape")), max(int(call.get("values")), MOST_PARTS))
    return build("multiply", x, np.ones(sizes))


@operator("REVERSE_V2")
def _reverse(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    for axis in call.numbers(1, "axes"):
        x = build.slice(x, axis_of(axis, len(x.shape), "it works"), LIMIT, LIMIT, -1)
    return x


@operator("PAD", "PADV2", "MIRROR_PAD")
def _pad(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    pads = _fixed(call.numbers(1, "pads"), "frame")
    frame = list(zip(pads[::2], pads[1::2], strict=True))
    value = call.optional(2, "values") if call.name == "PADV2" else None
    mode = "constant"
    if call.name == "MIRROR_PAD":
        mode = "symmetric" if call.option("mode") == 1 else "reflect"
    if len(frame) != len(x.shape) or any(frame[0]):
        raise Unsupported(f"it pads the batch, or {len(frame)} axes of {x.shape}", "pad the other axes only")
    return build.pad(x, frame[1:], mode, 0.0 if value is None else float(value.reshape(())))


# Element by element ----------------------------------------------------------------------------------------------------

_UNARY: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "ABS": ("abs", ()),
    "CEIL": ("ceil", ()),
    "COS": ("cos", ()),
    "ELU": ("elu", (1.0,)),
    "EXP": ("exponential", ()),
    "FLOOR": ("floor", ()),
    "HARD_SWISH": ("hard_swish", ()),
    "LOG": ("log", ()),
    "LOGISTIC": ("sigmoid", ()),
    "RELU": ("relu", (0.0, math.inf, 0.0)),
    "RELU6": ("relu", (0.0, 6.0, 0.0)),
    "RELU_0_TO_1": ("clip", (0.0, 1.0)),
    "RELU_N1_TO_1": ("clip", (-1.0, 1.0)),
    "ROUND": ("round", ()),
    "RSQRT": ("rsqrt", ()),
    "SIGN": ("sign", ()),
    "SIN": ("sin", ()),
    "SQRT": ("sqrt", ()),
    "SQUARE": ("square", ()),
    "TANH": ("tanh", ()),
}
_BINARY = {
    "ADD": "add",
    "SUB": "subtract",
    "MUL": "multiply",
    "DIV": "divide",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
    "POW": "power",
    "PRELU": "prelu",
}


@operator(*_UNARY)
def _unary(call: Call, build: Builder) -> Tensor:
    function, parameters = _UNARY[call.name]
    return build.activation(call.tensor(), function, *parameters)


@operator("LEAKY_RELU")
def _leaky_relu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "relu", call.number("alpha"), math.inf, 0.0)


@operator("GELU")
def _gelu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "gelu_tanh" if call.get("approximate", False) else "gelu")


@operator("NEG")
def _neg(call: Call, build: Builder) -> Tensor:
    return build("multiply", call.tensor(), np.full(1, -1.0))


@operator(*_BINARY)
def _binary(call: Call, build: Builder) -> Tensor:
    return call.finished(build, combine(build, _BINARY[call.name], call.value(0), call.value(1)))


@operator("SQUARED_DIFFERENCE")
def _squared_difference(call: Call, build: Builder) -> Tensor:
    return build.activation(combine(build, "subtract", call.value(0), call.value(1)), "square")


@operator("FLOOR_DIV", "FLOOR_MOD")
def _floor_division(call: Call, build: Builder) -> Tensor:
    x, y = call.value(0), call.value(1)
    if call.name == "FLOOR_MOD":
        return remainder(build, x, y)
    if not is_power_of_two(y):
        raise Unsupported(
            "its divisor is no power of two, and LiteRT rounds the quotient down from more digits than float32 has",
            "divide by a power of two, or write floor(x / y), which is computed as it is written",
        )
    return build.activation(combine(build, "divide", x, y), "floor")


@operator("ADD_N")
def _add_n(call: Call, build: Builder) -> Tensor:
    y: Any = call.value(0)
    for x in call.inputs[1:]:
        y = combine(build, "add", y, x)
    return build("identity", y) if len(call) == 1 else y


_COMPARISONS = {
    # The operator's name, and whether it is "equal" or "less", with operands exchanged, and negated.
    "EQUAL": ("equal", False, False),
    "NOT_EQUAL": ("equal", False, True),
    "LESS": ("less", False, False),
    "GREATER": ("less", True, False),
    "LESS_EQUAL": ("less", True, True),
    "GREATER_EQUAL": ("less", False, True),
}


@operator(*_COMPARISONS)
def _comparison(call: Call, build: Builder) -> Tensor:
    """1 where it holds, else 0."""
    function, exchanged, negative = _COMPARISONS[call.name]
    x, y = (call.value(1), call.value(0)) if exchanged else (call.value(0), call.value(1))
    if negative and function == "less":
        # x <= y is not "not y < x" where one of them is NaN
        return combine(build, "maximum", combine(build, "less", y, x), combine(build, "equal", x, y))
    found = combine(build, function, x, y)
    return negated(build, found) if negative else found


@operator("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT")
def _logic(call: Call, build: Builder) -> Tensor:
    if call.name == "LOGICAL_NOT":
        return negated(build, call.tensor())
    return combine(build, "multiply" if call.name == "LOGICAL_AND" else "maximum", call.value(0), call.value(1))


@operator("ZEROS_LIKE")
def _zeros_like(call: Call, build: Builder) -> Tensor:
    return build("keep", call.tensor(), np.zeros(1))


@operator("SELECT", "SELECT_V2")
def _select(call: Call, build: Builder) -> Tensor:
    condition, x, y = (call.value(index) for index in range(3))
    if condition is None or x is None or y is None:
        raise Unsupported("it lacks an input", "export the model again")
    if call.name == "SELECT" and len(condition.shape) not in (0, len(x.shape)):
        raise Unsupported(f"its condition has shape {condition.shape}, which chooses whole images", "use SELECT_V2")
    if isinstance(condition, Tensor):
        return chosen(build, condition, x, y)
    parts: list[Value] = []
    for value, where in ((x, condition != 0), (y, condition == 0)):
        kept = np.asarray(where, np.float32)
        parts.append(
            combine(build, "keep", value, kept) if isinstance(value, Tensor) else np.where(where, value, np.float32(0))
        )
    return combine(build, "add", *parts)


@operator("DEQUANTIZE")
def _identity(call: Call, build: Builder) -> Tensor:
    return build("identity", call.tensor())


@operator("CAST")
def _cast(call: Call, build: Builder) -> Tensor:
    if call.get("output_type") == "BOOL":
        return negated(build, negated(build, call.tensor()))
    if call.get("output_type") not in _FLOATS:
        raise Unsupported(f"it casts to {call.get('output_type')}", "keep to float types")
    return build("identity", call.tensor())


# Windows ---------------------------------------------------------------------------------------------------------------


def _window(call: Call, axes: str) -> dict[str, Any]:
    """Strides and padding as attributes of a window operator; axes: "hw", "dhw"."""
    padding = int(call.get("padding", 0))
    if padding not in (0, 1):
        raise Unsupported(f"its padding is number {padding}", "use SAME or VALID")
    return {
        "strides": tuple(call.option(f"stride_{axis}") for axis in axes),
        "padding": "same" if padding == 0 else "explicit",
    }


def _factors(call: Call, axes: str) -> tuple[int, ...]:
    return tuple(int(call.get(f"dilation_{axis}_factor", 1)) for axis in axes)


def _channels(x: Tensor) -> int:
    size = x.shape[-1]
    if size is None:
        raise Unsupported(f"the channels of its input {x.shape} are unknown", "export the model with a fixed number")
    return size


def _groups(x: Tensor, depth: int) -> int:
    if depth < 1 or _channels(x) % depth:
        raise Unsupported(f"its filters are for {depth} channels of {x.shape}", "export the model again")
    return _channels(x) // depth


def _convolved(build: Builder, x: Tensor, weights: Array, bias: Array | None, **window: Any) -> Tensor:
    """A convolution by weights [filters, height, width, channels / groups]."""
    if weights.ndim != 4:
        raise Unsupported(f"its weights have shape {weights.shape}", "export the model again")
    groups = _groups(x, weights.shape[3])
    if groups > 1 and weights.shape[3] == 1 and weights.shape[0] % groups == 0:
        moved = np.moveaxis(weights[..., 0], 0, -1).reshape(*weights.shape[1:3], groups, -1)
        return build("depthwise_conv", x, moved, bias, **window)
    return build("conv", x, np.moveaxis(weights, 0, -1), bias, groups=groups, **window)


def _depthwise(build: Builder, x: Tensor, weights: Array, bias: Array | None, **window: Any) -> Tensor:
    """A convolution of each channel by weights [1, height, width, channels * multiplier]."""
    if weights.ndim != 4 or weights.shape[0] != 1 or weights.shape[3] % _channels(x):
        raise Unsupported(f"its weights have shape {weights.shape}, its input {x.shape}", "export the model again")
    return build("depthwise_conv", x, weights.reshape(*weights.shape[1:3], _channels(x), -1), bias, **window)


@operator("CONV_2D", "DEPTHWISE_CONV_2D")
def _conv_2d(call: Call, build: Builder) -> Tensor:
    weights, bias = call.constant(1, "weights"), call.optional(2, "biases")
    function = _convolved if call.name == "CONV_2D" else _depthwise
    if call.get("between_batches", False):
        return _dilated(call, build, function, weights, bias)
    y = function(build, call.tensor(), weights, bias, dilations=_factors(call, "hw"), **_window(call, "hw"))
    return call.finished(build, y)


def _dilated(call: Call, build: Builder, function: Callable[..., Tensor], weights: Array, bias: Array | None) -> Tensor:
    """space_to_batch -> conv -> batch_to_space: a frame, a dilated convolution, and a cut.

    Source: Chen et al. 2014 (arXiv 1412.7062), section 3.1.
    """
    x = call.tensor()
    blocks, pads = call.numbers(3, "blocks"), _fixed(call.numbers(4, "pads"), "frame")
    again, crops = call.numbers(5, "blocks"), _fixed(call.numbers(6, "crops"), "cut")
    expanded = call.get("expanded")
    if expanded is not None:
        expanded = axis_of(int(expanded), len(x.shape) + 1, "it adds an axis")
        x = _with_axes(build, x, [expanded])
    if len(blocks) == 1:
        at = 1 if expanded == 2 else 2 if expanded == 1 else 1
        blocks, again = ([n[0], 1] if at == 1 else [1, n[0]] for n in (blocks, again))
        pads, crops = ([*n, 0, 0] if at == 1 else [0, 0, *n] for n in (pads, crops))
    strides = (call.option("stride_h"), call.option("stride_w"))
    if blocks != again or len(blocks) != 2 or strides != (1, 1) or _factors(call, "hw") != (1, 1) or min(pads) < 0:
        raise Unsupported("it lies between space_to_batch and batch_to_space", "use a dilated convolution")
    frame = [(pads[0], pads[1]), (pads[2], pads[3])]
    if int(call.get("padding", 0)) == 0:
        totals = [(size - 1) * block for size, block in zip(weights.shape[1:3], blocks, strict=True)]
        before = [(size - 1) // 2 * block for size, block in zip(weights.shape[1:3], blocks, strict=True)]
        frame = [(a + b, c + t - b) for (a, c), t, b in zip(frame, totals, before, strict=True)]
    # What is cut at the end need not be put there before.
    less = [min(crops[2 * axis + 1], frame[axis][1]) for axis in (0, 1)]
    frame = [(a, b - n) for (a, b), n in zip(frame, less, strict=True)]
    if any(map(any, frame)):
        x = build.pad(x, [*frame, (0, 0)])
    y = call.finished(build, function(build, x, weights, bias, dilations=tuple(blocks)))
    for axis in (0, 1):
        start, end = crops[2 * axis], crops[2 * axis + 1] - less[axis]
        if start or end:
            y = build.slice(y, axis + 1, start, -end or LIMIT)
    return y if expanded is None else _without_axes(build, y, [expanded])


@operator("CONV_3D")
def _conv_3d(call: Call, build: Builder) -> Tensor:
    x, weights, bias = call.tensor(), call.constant(1, "weights"), call.optional(2, "biases")
    groups = _groups(x, weights.shape[3])
    y = build("conv", x, weights, bias, groups=groups, dilations=_factors(call, "dhw"), **_window(call, "dhw"))
    return call.finished(build, y)


def _transposed(
    build: Builder,
    x: Tensor,
    weights: Array,
    bias: Array | None,
    window: Mapping[str, Any],
    sizes: Sequence[int] | None,
    dilations: Sequence[int],
) -> Tensor:
    """A transposed convolution by weights [*kernel, filters, channels]; sizes: of its output, None for the usual ones."""
    pads: list[int] = []
    more: list[int] = []
    for axis, (k, s, d) in enumerate(zip(weights.shape, window["strides"], dilations, strict=False)):
        span, same = (k - 1) * d + 1, window["padding"] == "same"
        usual = max(span - s, 0), max(s - span, 0)
        length = x.shape[axis + 1]
        # (length - 1) * s + span, less what is cut, plus what is added, is the output.
        cut, ends = (usual if same else (0, usual[1])) if sizes is None else (0, 0)
        if sizes is not None:
            wanted = sizes[axis]
            if length is None:
                found = _of_size(wanted, x, axis + 1)
                if found is None or found[0] != s:
                    _fixed([wanted], "output's size")
                    raise Unsupported("its output has a fixed size, its input has not", _LATER)
                over = span - s - found[1]
            else:
                (wanted,) = _fixed([wanted], "output's size")
                over = (length - 1) * s + span - wanted
            cut, ends = max(over, 0), max(-over, 0)
        pads += [cut // 2, cut - cut // 2]
        more.append(ends)
    attributes = {"strides": window["strides"], "dilations": tuple(dilations)}
    return build("conv_transpose", x, weights, bias, pads=tuple(pads), output_padding=tuple(more), **attributes)


@operator("TRANSPOSE_CONV")
def _transpose_conv(call: Call, build: Builder) -> Tensor:
    sizes, weights, x = call.numbers(0, "sizes"), call.constant(1, "weights"), call.tensor(2)
    bias = call.optional(3, "biases")
    moved = np.moveaxis(weights, 0, 2)  # [F, height, width, C] to [height, width, F, C]
    y = _transposed(build, x, moved, bias, _window(call, "hw"), sizes[1:3], (1, 1))
    return call.finished(build, y)


@operator("CONV_3D_TRANSPOSE")
def _conv_3d_transpose(call: Call, build: Builder) -> Tensor:
    sizes, weights, x = call.numbers(0, "sizes"), call.constant(1, "weights"), call.tensor(2)
    bias = call.optional(3, "biases")
    y = _transposed(build, x, weights, bias, _window(call, "dhw"), sizes[1:4], _factors(call, "dhw"))
    return call.finished(build, y)


@operator("Convolution2DTransposeBias")
def _mediapipe_transpose_conv(call: Call, build: Builder) -> Tensor:
    """MediaPipe's own operator; its options are the C struct {padding, width of a stride, height of a stride}."""
    x, weights, bias = call.tensor(), call.constant(1, "weights"), call.optional(2, "biases")
    options = bytes(call.get("custom_options"))
    if len(options) < 12:
        raise Unsupported(f"its options have {len(options)} bytes; wanted 12", "export the model again")
    padding, width, height = struct.unpack_from("<3i", options)
    if padding not in (1, 2):
        raise Unsupported(f"its padding is number {padding}", "use SAME or VALID")
    window = {"strides": (height, width), "padding": "same" if padding == 1 else "explicit"}
    return _transposed(build, x, np.moveaxis(weights, 0, 2), bias, window, None, (1, 1))


@operator("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
def _pool(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    if call.name == "L2_POOL_2D":
        x = build.activation(x, "square")
    size = (call.option("filter_height"), call.option("filter_width"))
    y = build("max_pool" if call.name == "MAX_POOL_2D" else "average_pool", x, pool_size=size, **_window(call, "hw"))
    return call.finished(build, build.activation(y, "sqrt") if call.name == "L2_POOL_2D" else y)


_REDUCTIONS = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max", "REDUCE_MIN": "min"}


@operator(*_REDUCTIONS)
def _reduce(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    axes = [axis_of(axis, len(x.shape)) for axis in call.numbers(1, "axes")]
    if not axes:
        return build("identity", x)
    return build.reduce(x, _REDUCTIONS[call.name], axes, bool(call.get("keep_dims", False)))


# Normalisation, products, sizes of images ------------------------------------------------------------------------------


@operator("SOFTMAX", "LOG_SOFTMAX")
def _softmax(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    beta = float(call.number("beta")) if call.name == "SOFTMAX" else 1.0
    if beta != 1.0:
        x = build("multiply", x, np.full(1, beta))
    return Function(call.name.lower(), axis=axis_of(-1, len(x.shape))).apply(build, x)


@operator("L2_NORMALIZATION")
def _l2_normalization(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    total = build.reduce(build.activation(x, "square"), "sum", [len(x.shape) - 1], keepdims=True)
    length = build("maximum", build.activation(total, "sqrt"), np.full(1, 1e-6))
    return call.finished(build, build("divide", x, length))


@operator("LOCAL_RESPONSE_NORMALIZATION")
def _local_response_normalization(call: Call, build: Builder) -> Tensor:
    numbers = {name: call.number(name) for name in ("bias", "alpha", "beta")}
    return build("local_response_normalization", call.tensor(), size=2 * call.option("radius") + 1, **numbers)


@operator("FULLY_CONNECTED")
def _fully_connected(call: Call, build: Builder) -> Tensor:
    x, y = call.tensor(), call.value(1)
    if int(call.get("weights_format", 0)) != 0:
        raise Unsupported("its weights are shuffled", "export the model again")
    if isinstance(y, Tensor):
        raise Unsupported("its weights are computed", "use a matrix product")
    weights, bias = call.constant(1, "weights"), call.optional(2, "biases")
    if weights.ndim != 2:
        raise Unsupported(f"its weights have shape {weights.shape}", "export the model again")
    depth = weights.shape[1]
    if not call.get("keep_num_dims", False) and len(x.shape) != 2:
        # The input counts as rows of the weights' length: one for each image, or, where a reshape parts them again, several.
        if known(x.shape) and math.prod(size or 1 for size in x.shape[1:]) == depth:
            x = build.reshape(x, depth)
        elif x.shape[-1] != depth or not call.get("rows", False):
            raise Unsupported(
                f"it makes rows of {depth} values of {x.shape}, which mixes images", "keep the batch in front"
            )
    return call.finished(build, build("dense", x, weights.T, bias))


def _swapped(build: Builder, x: Tensor) -> Tensor:
    """The last two axes in each other's place."""
    rank = len(x.shape)
    return build.transpose(x, *range(1, rank - 2), rank - 1, rank - 2)


@operator("BATCH_MATMUL")
def _batch_matmul(call: Call, build: Builder) -> Tensor:
    x, y = call.value(0), call.value(1)
    first, second = bool(call.get("adj_x", False)), bool(call.get("adj_y", False))
    if isinstance(x, Tensor) and first:
        if len(x.shape) < 3:
            raise Unsupported(f"it transposes {x.shape}, the batch too", "keep the batch in front")
        x = _swapped(build, x)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return build("matmul", x, _swapped(build, y) if second else y)
    if isinstance(x, Tensor) and isinstance(y, np.ndarray) and y.ndim >= 2 and math.prod(y.shape[:-2]) == 1:
        matrix = y.reshape(y.shape[-2:])
        return build("dense", x, matrix.T if second else matrix)
    if isinstance(y, Tensor) and isinstance(x, np.ndarray) and len(y.shape) >= 3 and math.prod(x.shape[:-2]) == 1:
        # A y = (y^T A^T)^T
        matrix = x.reshape(x.shape[-2:])
        turned = y if second else _swapped(build, y)
        return _swapped(build, build("dense", turned, matrix if first else matrix.T))
    raise Unsupported("it multiplies by constants that are no matrix", "use one matrix for all images")


@operator("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def _resize(call: Call, build: Builder) -> Tensor:
    x, wanted = call.tensor(), call.numbers(1, "sizes")
    align, half = bool(call.get("align_corners", False)), bool(call.get("half_pixel_centers", False))
    if align and half:
        raise Unsupported("it both aligns corners and takes pixels as areas", "choose one")
    nearest = call.name == "RESIZE_NEAREST_NEIGHBOR"
    attributes: dict[str, Any] = {
        "method": "nearest" if nearest else "linear",
        "coordinates": "align_corners" if align else "half_pixel" if half else "asymmetric",
        "rounding": "tensorflow",
    }
    factors = [_factor(size, x, axis) for axis, size in enumerate(wanted, 1)]
    if len(factors) == 2 and None not in factors:
        return build("resize", x, scales=tuple(float(f or 1) for f in factors), **attributes)
    return build("resize", x, sizes=tuple(_fixed(wanted, "size")), **attributes)


def _factor(size: int, x: Tensor, axis: int) -> int | None:
    """How many times an axis of unknown size is taken, None where a size is given."""
    if size < MARKED or axis >= len(x.shape):
        return None
    found = _of_size(size, x, axis)
    return found[0] if found and found[1] == 0 else None


@operator("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _space_and_depth(call: Call, build: Builder) -> Tensor:
    block = call.option("block_size")
    if block < 1:
        raise Unsupported(f"its blocks are of size {block}", "export the model again")
    return (depth_to_space if call.name == "DEPTH_TO_SPACE" else space_to_depth)(build, call.tensor(), block)

"""ONNX operators: one function each. Tensors are channels first; what is built here is channels last between two
transpositions, which passes/sink_transposes.py takes away again.

Arguments are tensors or constants (arrays). What is computed from constants and shapes alone is computed here: exporters put
such arithmetic around every reshape. A shape's unknown sizes, the batch first of all, are marked by numbers that no
arithmetic keeps.

Some models carry the batch to another axis, mostly for a while ([N, T, 3, H, D] to [3, N, H, T, D] around attention). Such a
tensor is `Turned`: the operators that know axes work on it, with the batch in front all the while; others refuse it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.budget import charge
from edgecnn.converters.builder import Builder, known
from edgecnn.converters.layers.activation import Function
from edgecnn.converters.layers.choosing import chosen, finite_or_zero, hyperbolic
from edgecnn.converters.layers.onnx_node import Call, OperatorFunction, Value, data_type, operator, placed
from edgecnn.converters.layers.operations import combine, depth_to_space, space_to_depth
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Array, Turned, axis_of
from edgecnn.converters.layers.sizes import BATCH, FIX, UNKNOWN, check_known
from edgecnn.graph import Tensor
from edgecnn.graph.interpolation import ENTRY_BYTES, NEAREST, axis_table
from edgecnn.graph.operators import LIMIT

MOST_IMAGES = 2**24
"""A slice of the batch up to here means all of it."""


def pointwise(function: Callable[[Call, Builder], Tensor]) -> OperatorFunction:
    """A function of one value, for which it is all the same where the batch stands."""

    def convert(call: Call, build: Builder) -> Tensor | Turned:
        x = call.turned()
        call.replace(0, x.tensor)
        return _turn(function(call, build), x.axis)

    return convert


_UNARY: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    # Our function, and where its parameters come from: attribute and default.
    "Abs": ("abs", ()),
    "Ceil": ("ceil", ()),
    "Celu": ("celu", (("alpha", 1.0),)),
    "Cos": ("cos", ()),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Erf": ("erf", ()),
    "Exp": ("exponential", ()),
    "Floor": ("floor", ()),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "HardSwish": ("hard_swish", ()),
    "Log": ("log", ()),
    "Mish": ("mish", ()),
    "Reciprocal": ("reciprocal", ()),
    "Round": ("round", ()),
    "Sigmoid": ("sigmoid", ()),
    "Sign": ("sign", ()),
    "Sin": ("sin", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Sqrt": ("sqrt", ()),
    "Tanh": ("tanh", ()),
}
_BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Pow": "power"}
_CHAINS = {"Sum": "add", "Mean": "add", "Max": "maximum", "Min": "minimum"}


@operator(*_UNARY)
@pointwise
def _unary(call: Call, build: Builder) -> Tensor:
    function, parameters = _UNARY[call.name]
    return build.activation(call.tensor(), function, *(float(call.get(name, default)) for name, default in parameters))


@operator("Relu")
@pointwise
def _relu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "relu")


@operator("LeakyRelu")
@pointwise
def _leaky_relu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "relu", float(call.get("alpha", 0.01)), math.inf, 0.0)


@operator("ThresholdedRelu")
@pointwise
def _thresholded_relu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "threshold", float(call.get("alpha", 1.0)), 0.0)


@operator("Selu")
@pointwise
def _selu(call: Call, build: Builder) -> Tensor:
    alpha, gamma = (
        float(call.get("alpha", 1.67326319217681884765625)),
        float(call.get("gamma", 1.05070102214813232421875)),
    )
    return build("multiply", build.activation(call.tensor(), "elu", alpha), np.full(1, gamma))


@operator("Sinh", "Cosh")
@pointwise
def _hyperbolic(call: Call, build: Builder) -> Tensor:
    return hyperbolic(build, call.tensor(), "subtract" if call.name == "Sinh" else "add")


@operator("Tan")
@pointwise
def _tan(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    return build("divide", build.activation(x, "sin"), build.activation(x, "cos"))


@operator("Swish")
@pointwise
def _swish(call: Call, build: Builder) -> Tensor:
    x, alpha = call.tensor(), float(call.get("alpha", 1.0))
    if alpha == 1.0:
        return build.activation(x, "swish")
    return build("multiply", x, build.activation(build("multiply", x, np.full(1, alpha)), "sigmoid"))


@operator("Gelu")
@pointwise
def _gelu(call: Call, build: Builder) -> Tensor:
    return build.activation(call.tensor(), "gelu_tanh" if call.get("approximate", "none") == "tanh" else "gelu")


@operator("Shrink")
@pointwise
def _shrink(call: Call, build: Builder) -> Tensor:
    x, bias, limit = call.tensor(), float(call.get("bias", 0.0)), float(call.get("lambd", 0.5))
    if limit >= 0 and bias in (0.0, limit):
        return build.activation(x, "hard_shrink" if bias == 0.0 else "soft_shrink", limit)
    # x + bias below -limit, which is looked at first, x - bias above limit, else 0
    above = build("keep", build("subtract", x, np.full(1, bias)), build("less", np.full(1, limit), x))
    return chosen(build, build("less", x, np.full(1, -limit)), build("add", x, np.full(1, bias)), above)


@operator("Neg")
@pointwise
def _neg(call: Call, build: Builder) -> Tensor:
    return build("multiply", call.tensor(), np.full(1, -1.0))


@operator("Clip")
def _clip(call: Call, build: Builder) -> Tensor | Turned:
    bounds: list[Any] = []
    for index, name in enumerate(("min", "max"), 1):
        given = call.get(name)
        bounds.append(call.value(index) if given is None else np.asarray(given))
    x, low, high = call.turned(), *bounds
    if not any(isinstance(bound, Tensor | Turned) for bound in bounds):
        values = [
            float(default if bound is None else np.asarray(bound).reshape(()))
            for bound, default in ((low, -math.inf), (high, math.inf))
        ]
        return _turn(build.activation(x.tensor, "clip", *values), x.axis)
    y: Tensor | Turned = x
    for function, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            y = _combined(build, function, y, bound)
    return y


@operator("PRelu")
def _prelu(call: Call, build: Builder) -> Tensor:
    x, slope = call.tensor(), call.constant(1, "slopes")
    assert slope is not None
    if call.since < 7 and slope.ndim == 1:  # then it was one number for each channel
        slope = slope.reshape(-1, *(1,) * (len(x.shape) - 2))
    return combine(build, "prelu", x, slope)


def _turn(tensor: Tensor, axis: int) -> Tensor | Turned:
    return Turned(tensor, axis) if axis else tensor


def _aligned(build: Builder, values: Sequence[Value | None]) -> tuple[list[Tensor | Array], int]:
    """Operands that broadcast by NumPy's rule with their batches in front, and the axis of the batch in the result."""
    turned = [Turned(v, 0) if isinstance(v, Tensor) else v for v in values]
    ranks = [len(v.shape) if v is not None else 0 for v in turned]
    behind = {rank - v.axis for v, rank in zip(turned, ranks, strict=True) if isinstance(v, Turned)}
    if len(behind) > 1:
        shapes = " and ".join(str(v.shape) for v in turned if isinstance(v, Turned))
        raise Unsupported(f"its operands have shapes {shapes}, whose batches do not meet", "give them the same rank")
    rank = max(ranks)
    batch = rank - behind.pop()
    found: list[Tensor | Array] = []
    for value in turned:
        if isinstance(value, Turned):
            x, missing = value.tensor, rank - len(value.shape)
            found.append(build.reshape(x, *(1,) * missing, *_open(x.shape[1:])) if missing else x)
            continue
        constant = np.asarray(value)
        check_known(constant)
        full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
        if full.shape[batch] != 1:
            shape = next(v.shape for v in turned if isinstance(v, Turned))
            raise Unsupported(f"a constant of shape {constant.shape} meets {shape}", "leave its batch out")
        found.append(np.moveaxis(full, batch, 0) if batch else constant)
    return found, batch


def _open(sizes: Sequence[int | None]) -> list[int]:
    """A shape with unknown sizes as a reshape's target."""
    return [-1 if size is None else size for size in sizes]


def _combined(build: Builder, function: str, *values: Value | None) -> Tensor | Turned:
    """A function of two values, or a chain of one that does not heed their order."""
    operands, axis = _aligned(build, values)
    if len(operands) > 2:
        operands.sort(key=lambda value: not isinstance(value, Tensor))
    y = build(function, *operands[:2])
    for x in operands[2:]:
        y = build(function, y, x)
    return _turn(y, axis)


@operator(*_BINARY)
def _binary(call: Call, build: Builder) -> Tensor | Turned:
    return _combined(build, _BINARY[call.name], *_pair(call, build))


def _pair(call: Call, build: Builder) -> tuple[Value | None, Value | None]:
    """Two operands that broadcast by NumPy's rule."""
    x, y = call.value(0), call.value(1)
    if "broadcast" not in call.schema.attributes or x is None or y is None:
        return x, y
    # Until opset 6 the second operand was broadcast on request, its axes put at `axis` of the first one's.
    axis, asked = call.get("axis"), call.get("broadcast")
    if not asked:
        if y.shape != x.shape and np.prod([size or 0 for size in y.shape]) != 1:
            raise Unsupported(f"its operands have shapes {x.shape} and {y.shape}, and broadcast is 0", "set broadcast")
        return x, y
    if axis is None or len(y.shape) == len(x.shape):
        return x, y
    if isinstance(y, np.ndarray):
        return x, placed(y, int(axis), len(x.shape))
    missing = len(x.shape) - len(y.shape)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or axis != 0:
        raise Unsupported(
            f"it broadcasts {y.shape} to {x.shape} at axis {axis}", "broadcast a constant, or from axis 0 on"
        )
    return x, build.reshape(y, *_open(y.shape[1:]), *(1,) * missing)


@operator(*_CHAINS)
def _chain(call: Call, build: Builder) -> Tensor | Turned:
    name = call.name
    if len(call) == 1:
        return _turn(call.turned().tensor, call.turned().axis)
    y = _combined(build, _CHAINS[name], *call.inputs)
    return _combined(build, "multiply", y, np.full(1, 1 / len(call))) if name == "Mean" else y


def _not(build: Builder, x: Value) -> Tensor | Turned:
    return _combined(build, "equal", x, np.zeros(1))


@operator("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
def _comparison(call: Call, build: Builder) -> Tensor | Turned:
    """1 where it holds, else 0."""
    name = call.name
    x, y = _pair(call, build)
    if name == "Equal":
        return _combined(build, "equal", x, y)
    first, second = (x, y) if name in ("Less", "LessOrEqual") else (y, x)
    less = _combined(build, "less", first, second)
    # x <= y is not "not y < x" where one of them is NaN.
    return _combined(build, "maximum", less, _combined(build, "equal", x, y)) if name.endswith("OrEqual") else less


@operator("Not", "IsNaN")
def _negation(call: Call, build: Builder) -> Tensor | Turned:
    x = call.value(0)
    assert x is not None
    return _not(build, x if call.name == "Not" else _combined(build, "equal", x, x))


@operator("And", "Or", "Xor")
def _logic(call: Call, build: Builder) -> Tensor | Turned:
    name = call.name
    function = {"And": "multiply", "Or": "maximum", "Xor": "equal"}[name]
    y = _combined(build, function, *_pair(call, build))
    return _not(build, y) if name == "Xor" else y


@operator("Where")
def _where(call: Call, build: Builder) -> Tensor | Turned:
    (condition, *branches), axis = _aligned(build, call.inputs)
    if isinstance(condition, Tensor):
        choices: list[Any] = [condition, build("equal", condition, np.zeros(1))]
    else:
        choices = [np.atleast_1d(condition) != 0, np.atleast_1d(condition) == 0]
    parts: list[Any] = []
    for branch, taken in zip(branches, choices, strict=True):
        if isinstance(branch, Tensor) or isinstance(taken, Tensor):
            if isinstance(branch, Tensor) or branch.size > 1 or branch.any() or not parts:
                parts.append(build("keep", branch, taken))
        else:
            parts.append(np.where(taken, branch, 0.0))
    y = build("add", *parts) if len(parts) == 2 else parts[0]
    return _turn(y, axis)


@operator("Identity", "Dropout")
@pointwise
def _identity(call: Call, build: Builder) -> Tensor:
    training = call.constant(2, "mode") if call.name == "Dropout" else None
    if (training is not None and training.any()) or ("is_test" in call.schema.attributes and not call.get("is_test")):
        raise Unsupported("it is a dropout for training", "export the model for inference: model.eval()")
    return call.tensor()


@operator("Cast")
@pointwise
def _cast(call: Call, build: Builder) -> Tensor:
    x, kind = call.tensor(), data_type(call.get("to"))
    if kind == 9:  # bool
        return build("equal", build("equal", x, np.zeros(1)), np.zeros(1))
    if kind not in (1, 10, 11, 16):  # float, float16, double, bfloat16
        raise Unsupported(f"it casts to type {kind}", "keep to float types")
    return x


# Shapes ---------------------------------------------------------------------------------------------------------------


@operator("Constant")
def _constant(call: Call, build: Builder) -> Array:
    raise AssertionError("a constant has no inputs")


@operator("ConstantOfShape", "Range", "ReduceProd", "Mod")
def _constant_only(call: Call, build: Builder) -> Array:
    raise Unsupported("it is applied to computed tensors", "use it on constants and shapes only")


@operator("Shape")
def _shape(call: Call, build: Builder) -> Array:
    x = call.turned()
    sizes = [UNKNOWN if size is None else size for size in x.shape]
    sizes[x.axis] = BATCH
    return np.asarray(sizes[slice(call.get("start", 0), call.get("end"))], np.int64)


@operator("Size")
def _size(call: Call, build: Builder) -> Array:
    return np.full((), UNKNOWN)


def _sizes(values: Sequence[int] | Array | None, what: str) -> list[int]:
    """A constant shape, of which no size may be unknown but the batch."""
    if values is None:
        raise Unsupported(f"its {what} is absent", "export the model again")
    found = [int(v) for v in np.asarray(values).reshape(-1)]
    if UNKNOWN in found:
        raise Unsupported(f"its {what} depends on sizes that are known at the call only", FIX)
    return found


def _is_batch(call: Call, size: int) -> bool:
    return size == BATCH or size in call.layer.config["batches"]


def _inner(x: Turned, axis: int, what: str = "it works") -> int:
    """Where an axis of the model, which may be counted from the end, is in the tensor that has its batch in front."""
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise Unsupported(f"{what} along axis {axis} of a tensor of rank {rank}", "give an axis that is there")
    if axis % rank == x.axis:
        raise Unsupported(f"{what} along the batch", "use another axis; each image is computed alone")
    return axis % rank + (axis % rank < x.axis)


def _without(x: Turned, axes: Sequence[int], build: Builder) -> Tensor | Turned:
    """The tensor without some of the model's axes, which are of size 1."""
    gone = {_inner(x, axis, "it squeezes") for axis in axes}
    left = [size for axis, size in enumerate(x.tensor.shape) if axis and axis not in gone]
    return _turn(build.reshape(x.tensor, *_open(left)), x.axis - sum(axis <= x.axis for axis in gone))


@operator("Reshape")
def _reshape(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    target = call.numbers("shape", 1)
    if target is None:
        raise Unsupported("its target is absent", "export the model again")
    if not call.get("allowzero", 0):
        for index, size in enumerate(target):
            if size == 0 and index < len(x.shape):
                target[index] = BATCH if index == x.axis else UNKNOWN if x.shape[index] is None else x.shape[index]  # type: ignore[assignment]
    kept = [BATCH if axis == x.axis else UNKNOWN if size is None else size for axis, size in enumerate(x.shape)]
    if target == kept:
        return _turn(x.tensor, x.axis)
    if target.count(UNKNOWN) == 1 and -1 not in target:
        target[target.index(UNKNOWN)] = -1  # the others tell which it is
    target = _sizes(target, "target")
    axis = _batch_of(call, x, target)
    if axis is None or target.count(BATCH) > 1:
        raise Unsupported(f"its target {_readable(target)} mixes images", "keep each image's values together")
    rest = target[:axis] + target[axis + 1 :]
    if rest.count(-1) > 1 or not rest:
        raise Unsupported(f"its target is {_readable(target)}", f"leave one size open at most, or {FIX}")
    return _turn(build.reshape(x.tensor, *rest), axis)


def _readable(sizes: Sequence[int]) -> str:
    names = {BATCH: "batch", UNKNOWN: "?"}
    return f"[{', '.join(names.get(size, str(size)) for size in sizes)}]"


def _product(sizes: Sequence[int | None]) -> int | None:
    """None where a size is not known."""
    return None if any(size is None or size < 0 for size in sizes) else math.prod(size or 0 for size in sizes)


def _batch_of(call: Call, x: Turned, target: Sequence[int]) -> int | None:
    """Which size of a reshape's target is the batch: as much must lie before it as before, and as much behind."""
    before, behind = _product(x.shape[: x.axis]), _product(x.shape[x.axis + 1 :])

    def fits(index: int) -> bool:
        first, last = _product(target[:index]), _product(target[index + 1 :])
        if first is not None and first == before:
            return last is None or behind is None or last == behind
        return last is not None and last == behind and None in (first, before)

    certain = [index for index, size in enumerate(target) if size == BATCH]
    likely = certain or [index for index, size in enumerate(target) if size == -1 or _is_batch(call, size)]
    return next((index for index in likely if fits(index)), None)


@operator("Flatten")
def _flatten(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    axis = int(call.get("axis", 1)) % len(x.shape)
    before, behind = _product(x.shape[: x.axis]), _product(x.shape[x.axis + 1 : axis])
    if axis <= x.axis or before != 1 or behind != 1:
        raise Unsupported(f"it flattens at axis {axis}, which mixes images", "flatten at axis 1")
    return build.reshape(x.tensor, -1)


@operator("Squeeze")
def _squeeze(call: Call, build: Builder) -> Tensor | Turned:
    x, axes = call.turned(), call.numbers("axes", 1)
    if axes is None:
        if 1 in call.layer.config["batches"]:
            raise Unsupported("it squeezes all axes of size 1, the batch of 1 too", "name the axes after the batch")
        axes = [axis for axis, size in enumerate(x.shape) if axis != x.axis and size == 1]
    return _without(x, axes, build)


@operator("Unsqueeze")
def _unsqueeze(call: Call, build: Builder) -> Tensor | Turned:
    x, axes = call.turned(), call.numbers("axes", 1) or []
    rank = len(x.shape) + len(axes)
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise Unsupported(f"it adds the axes {axes} to a tensor of shape {x.shape}", "add axes that are not there")
    new = {axis % rank for axis in axes}
    old = [axis for axis in range(rank) if axis not in new]
    sizes = dict(zip(old, x.shape, strict=True))
    batch = old[x.axis]
    return _turn(build.reshape(x.tensor, *_open([sizes.get(axis, 1) for axis in range(rank) if axis != batch])), batch)


@operator("Transpose")
def _transpose(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    order = [int(axis) for axis in call.get("perm", list(reversed(range(len(x.shape)))))]
    if sorted(order) != list(range(len(x.shape))):
        raise Unsupported(f"it orders the axes {order} of a tensor of rank {len(x.shape)}", "name each axis once")
    return _turn(build.transpose(x.tensor, *(_inner(x, axis) for axis in order if axis != x.axis)), order.index(x.axis))


@operator("Concat")
def _concat(call: Call, build: Builder) -> Tensor | Turned:
    first = next(value for value in call.inputs if isinstance(value, Tensor | Turned))
    first = first if isinstance(first, Turned) else Turned(first, 0)
    axis = _inner(first, int(call.get("axis", 1)), "it joins")
    xs = []
    for index, value in enumerate(call.inputs):
        if isinstance(value, np.ndarray):
            if value.size:
                xs.append(_for_each_image(build, value, first))
        elif call.turned(index).axis != first.axis:
            raise Unsupported("its inputs have their batches at different axes", "keep the batch in front")
        else:
            xs.append(call.turned(index).tensor)
    return _turn(build("concatenate", *xs, axis=axis), first.axis)


def _for_each_image(build: Builder, constant: Array, like: Turned) -> Tensor:
    """A constant as a tensor: added to a zero of each image, which is what surrounds a padded value."""
    if constant.ndim != len(like.shape) or constant.shape[like.axis] != 1:
        raise Unsupported(f"it joins a constant of shape {constant.shape} to {like.shape}", "leave its batch out")
    one = build.slice(build.reshape(like.tensor, -1), 1, 0, 1)
    zero = build.slice(build.pad(one, [(0, 1)]), 1, 1, 2)
    values = np.moveaxis(constant, like.axis, 0)
    return build("add", build.reshape(zero, *(1,) * (constant.ndim - 1)), values)


@operator("Slice")
def _slice(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    starts, stops = call.numbers("starts", 1), call.numbers("ends", 2)
    if starts is None or stops is None:
        raise Unsupported("its bounds are absent", "export the model again")
    axes = call.numbers("axes", 3) or list(range(len(starts)))
    steps = call.numbers("steps", 4) or [1] * len(starts)
    y = x.tensor
    for start, stop, axis, step in zip(_sizes(starts, "start"), _sizes(stops, "end"), axes, steps, strict=True):
        is_batch = axis % len(x.shape) == x.axis
        long = MOST_IMAGES if is_batch else LIMIT
        whole = step == 1 and start == 0 and (stop >= long or (is_batch and _is_batch(call, stop)))
        if whole:
            continue
        at = _inner(x, axis, "it takes a part")
        backwards = step < 0 and stop <= -LIMIT
        stop = LIMIT if backwards or stop >= LIMIT else max(stop, -LIMIT)
        y = build.slice(y, at, max(-LIMIT, min(start, LIMIT)), stop, step)
    return _turn(y, x.axis)


@operator("Gather")
def _gather(call: Call, build: Builder) -> Tensor | Turned:
    if isinstance(call.value(0), np.ndarray):
        raise Unsupported("it looks computed indices up in a table", "do it before the model, in Python")
    x, indices = call.turned(), call.constant(1, "indices")
    assert indices is not None
    at = int(call.get("axis", 0)) % len(x.shape)
    axis = _inner(x, at, "it gathers")
    if indices.ndim > 1 or indices.size > 1024:
        raise Unsupported(f"it gathers by indices of shape {indices.shape}", "gather by one index or a short list")
    parts = [build.slice(x.tensor, axis, int(i), int(i) + 1 if i != -1 else LIMIT) for i in indices.reshape(-1)]
    y = _turn(parts[0] if len(parts) == 1 else build("concatenate", *parts, axis=axis), x.axis)
    return y if indices.ndim else _without(y if isinstance(y, Turned) else Turned(y, 0), [at], build)


@operator("Split")
def _split(call: Call, build: Builder) -> list[Tensor | Turned]:
    x = call.turned()
    axis = _inner(x, int(call.get("axis", 0)), "it splits")
    size, count = x.tensor.shape[axis], call.outputs
    if size is None:
        raise Unsupported(f"it splits an axis of unknown size, of {x.shape}", FIX)
    parts = call.numbers("split", 1)
    if int(call.get("num_outputs", count)) != count or (parts is not None and len(parts) != count):
        raise Unsupported(f"it has {count} outputs, and tells of another number", "export the model again")
    if parts is None:
        each = -(-size // count)
        if size % count and call.since < 18:
            raise Unsupported(f"it splits {size} values into {count} equal parts", "name the parts' sizes")
        parts = [min(each, size - each * i) for i in range(count)]
    bounds = [0, *itertools.accumulate(parts)]
    return [_turn(build.slice(x.tensor, axis, a, b), x.axis) for a, b in itertools.pairwise(bounds)]


@operator("Expand")
def _expand(call: Call, build: Builder) -> Tensor | Turned:
    x, given = call.turned(), call.constant(1, "shape")
    target = [int(size) for size in np.asarray(given).reshape(-1)]
    behind = len(x.shape) - x.axis  # axes from the batch on
    if len(target) < behind:
        target = [1] * (behind - len(target)) + target
    batch = len(target) - behind
    if not (_is_batch(call, target[batch]) or target[batch] == 1):
        raise Unsupported(f"it expands {x.shape} to {_readable(target)}", "keep the batch")
    target[batch] = 1
    for index, size in enumerate(reversed(x.shape), 1):  # to a size that is unknown, where it is the tensor's own
        if index <= len(target) and target[-index] == UNKNOWN and size is None:
            target[-index] = 1
    return _combined(build, "multiply", x, np.ones([max(1, size) for size in _sizes(target, "shape")]))


@operator("Tile")
def _tile(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    repeats = call.numbers("repeats", 1) or []
    if call.since < 6:  # one number, and along which axis
        axis = (call.numbers("axis", 2) or [0])[0] % len(x.shape)
        repeats = [repeats[0] if index == axis else 1 for index in range(len(x.shape))]
    if len(repeats) != len(x.shape) or repeats[x.axis] != 1 or max(repeats) > 1024:
        raise Unsupported(f"it repeats {_readable(repeats)}", "repeat axes after the batch")
    y = x.tensor
    for axis, count in enumerate(repeats):
        if count > 1:
            y = build("concatenate", *[y] * count, axis=_inner(x, axis))
    return _turn(y, x.axis)


# Channels first and last ----------------------------------------------------------------------------------------------


def _last(build: Builder, x: Tensor) -> Tensor:
    """Channels last."""
    return build.transpose(x, *range(2, len(x.shape)), 1)


def _first(build: Builder, x: Tensor) -> Tensor:
    """Channels first."""
    rank = len(x.shape)
    return build.transpose(x, rank - 1, *range(1, rank - 1))


def _spatial(call: Call, name: str, axes: int, default: int) -> tuple[int, ...]:
    given = call.get(name)
    values = tuple(int(v) for v in given) if given is not None else (default,) * axes
    if len(values) != axes:
        raise Unsupported(f"its {name} {values} are not {axes}", "export the model again")
    return values


def _pairs(call: Call, axes: int) -> list[int]:
    """ONNX' pads [all begins, all ends] as (begin, end) of each axis."""
    pads = _spatial(call, "pads", 2 * axes, 0)
    if min(pads) < 0:
        raise Unsupported(f"its pads {pads} are negative", "use a Pad operator")
    return [pad for axis in range(axes) for pad in (pads[axis], pads[axes + axis])]


def _check_kernel(call: Call, kernel: Sequence[int]) -> None:
    """Refuses a kernel_shape that is not the weights'."""
    given = call.get("kernel_shape")
    if given is not None and tuple(int(size) for size in given) != tuple(kernel):
        raise Unsupported(
            f"its kernel_shape {list(given)} is not that of its weights, {list(kernel)}", "export it again"
        )


def _window(call: Call, x: Tensor, kernel: Sequence[int], dilations: Sequence[int]) -> dict[str, Any]:
    """Strides and padding as attributes of a window operator over channels-last x."""
    axes = len(kernel)
    strides = _spatial(call, "strides", axes, 1)
    mode = str(call.get("auto_pad", "NOTSET"))
    if mode == "SAME_UPPER":
        return {"strides": strides, "padding": "same"}
    if mode == "SAME_LOWER":
        pads: list[int] = []
        for size, k, d, s in zip(x.shape[1:-1], kernel, dilations, strides, strict=True):
            if size is None:
                raise Unsupported("auto_pad is SAME_LOWER for an unknown size", "export the model with explicit pads")
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pads += [total - total // 2, total // 2]
        return {"strides": strides, "pads": tuple(pads)}
    return {"strides": strides, "pads": tuple(_pairs(call, axes)) if mode == "NOTSET" else (0,) * (2 * axes)}


@operator("Conv")
def _conv(call: Call, build: Builder) -> Tensor:
    weights, bias = call.constant(1, "weights"), call.constant(2, "biases")
    assert weights is not None
    x = _last(build, call.tensor())
    kernel, groups = weights.shape[2:], int(call.get("group", 1))
    _check_kernel(call, kernel)
    dilations = _spatial(call, "dilations", len(kernel), 1)
    window = {**_window(call, x, kernel, dilations), "dilations": dilations}
    moved = np.moveaxis(weights, (0, 1), (-1, -2))  # [F, C / g, *kernel] to [*kernel, C / g, F]
    if groups == x.shape[-1] and weights.shape[1] == 1 and len(kernel) < 3:
        moved = moved.reshape(*kernel, groups, -1)
        return _first(build, build("depthwise_conv", x, moved, bias, **window))
    return _first(build, build("conv", x, moved, bias, groups=groups, **window))


@operator("ConvTranspose")
def _conv_transpose(call: Call, build: Builder) -> Tensor:
    weights, bias = call.constant(1, "weights"), call.constant(2, "biases")
    assert weights is not None
    x = _last(build, call.tensor())
    kernel = weights.shape[2:]
    _check_kernel(call, kernel)
    axes = len(kernel)
    strides, dilations = _spatial(call, "strides", axes, 1), _spatial(call, "dilations", axes, 1)
    more = list(_spatial(call, "output_padding", axes, 0))
    mode, wanted = str(call.get("auto_pad", "NOTSET")), call.get("output_shape")
    pads = _pairs(call, axes)  # which count for nothing where the output's shape is given
    if mode != "NOTSET" or wanted is not None:
        pads = [0] * (2 * axes)
    if wanted is not None or mode.startswith("SAME"):
        for axis, (k, d, s) in enumerate(zip(kernel, dilations, strides, strict=True)):
            size = x.shape[1 + axis]
            if wanted is None and (k - 1) * d + 1 < s:
                raise Unsupported(f"its auto_pad is {mode} for windows shorter than strides", "give explicit pads")
            if size is None:
                raise Unsupported("its padding depends on an unknown size", "export the model with explicit pads")
            out = int(wanted[len(wanted) - axes + axis]) if wanted is not None else size * s
            total = (size - 1) * s + (k - 1) * d + 1 + more[axis] - out
            if total < 0:
                more[axis] -= total
            half = max(total, 0) // 2
            ends = [half, max(total, 0) - half]
            pads[2 * axis : 2 * axis + 2] = ends if mode == "SAME_UPPER" else ends[::-1]
    # [C, F / g, *kernel] to [*kernel, F / g, C]
    moved = np.moveaxis(weights, (0, 1), (-1, -2))
    y = build(
        "conv_transpose",
        x,
        moved,
        bias,
        strides=strides,
        dilations=dilations,
        pads=tuple(pads),
        output_padding=tuple(more),
        groups=int(call.get("group", 1)),
    )
    return _first(build, y)


@operator("MaxPool", "AveragePool")
def _pool(call: Call, build: Builder) -> Tensor:
    x = _last(build, call.tensor())
    average = call.name == "AveragePool"
    kernel = tuple(int(size) for size in call.get("kernel_shape"))
    dilations = _spatial(call, "dilations", len(kernel), 1)
    window = _window(call, x, kernel, dilations)
    pads = list(window.get("pads", (0,) * (2 * len(kernel))))
    count = average and bool(call.get("count_include_pad", 0))
    extra = [0] * len(kernel)
    if call.get("ceil_mode", 0) and "padding" not in window:
        for axis, (k, d, s) in enumerate(zip(kernel, dilations, window["strides"], strict=True)):
            size = x.shape[1 + axis]
            if size is None:
                raise Unsupported("it rounds an unknown size up", "export the model with a fixed size")
            span = (k - 1) * d + 1
            padded = size + pads[2 * axis] + pads[2 * axis + 1]
            outputs = -(-(padded - span) // s) + 1
            if (outputs - 1) * s >= size + pads[2 * axis]:
                outputs -= 1  # a window must begin in the image or before it
            extra[axis] = max(0, (outputs - 1) * s + span - padded)
    if max(dilations) > 1:
        if str(call.get("auto_pad", "NOTSET")).startswith("SAME"):
            raise Unsupported("its windows are dilated, and auto_pad sets its padding", "give explicit pads")
        return _first(build, _dilated_pool(build, x, kernel, dilations, window, pads, extra, average))
    frame = [(pads[2 * axis], pads[2 * axis + 1]) for axis in range(len(kernel))]
    if any(max(pair) + more >= k for pair, more, k in zip(frame, extra, kernel, strict=True)) or (count and any(extra)):
        # What a window operator does not take as its own: zeros that count, or more of them than its size.
        if average and not count:
            raise Unsupported(f"its pads {pads} are as long as its windows {kernel}", "use smaller pads")
        x = build.pad(x, [*frame, (0, 0)], value=0.0 if average else -math.inf)
        frame, count = [(0, 0)] * len(kernel), False
    if "padding" not in window:
        window["pads"] = tuple(n for (a, b), more in zip(frame, extra, strict=True) for n in (a, b + more))
    counted = {"count_padding": int(count)} if average else {}
    return _first(build, build("average_pool" if average else "max_pool", x, pool_size=kernel, **window, **counted))


def _dilated_pool(
    build: Builder,
    x: Tensor,
    kernel: Sequence[int],
    dilations: Sequence[int],
    window: Mapping[str, Any],
    pads: Sequence[int],
    extra: Sequence[int],
    average: bool,
) -> Tensor:
    """A maximum over taps that lie apart: of one slice for each."""
    if average or "padding" in window or not known(x.shape):
        raise Unsupported("its windows are dilated", "use a pooling without dilation")
    frame = [(pads[2 * a], pads[2 * a + 1] + more) for a, more in enumerate(extra)]
    framed = build.pad(x, [*frame, (0, 0)], value=-math.inf) if any(map(any, frame)) else x
    result: Tensor | None = None
    for tap in itertools.product(*map(range, kernel)):
        y = framed
        for axis, (index, k, d, s) in enumerate(zip(tap, kernel, dilations, window["strides"], strict=True), 1):
            outputs = ((framed.shape[axis] or 0) - (k - 1) * d - 1) // s + 1
            y = build.slice(y, axis, index * d, index * d + (outputs - 1) * s + 1, s)
        result = y if result is None else build("maximum", result, y)
    assert result is not None
    return result


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    kind = "mean" if call.name == "GlobalAveragePool" else "max"
    return _first(build, build.reduce(_last(build, x), kind, range(1, len(x.shape) - 1), keepdims=True))


_REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}


def _reduced(call: Call, build: Builder, x: Turned, kind: str, kept: bool = False) -> Tensor | Turned:
    axes, keep = call.numbers("axes", 1), bool(call.get("keepdims", 1)) or kept
    nothing = bool(call.get("noop_with_empty_axes", 0))
    if not axes:
        if nothing:
            return _turn(x.tensor, x.axis)
        raise Unsupported("it works along all axes, the batch too", "name the axes")
    chosen = [_inner(x, axis) for axis in axes]
    gone = 0 if keep else sum(axis <= x.axis for axis in set(chosen))
    return _turn(build.reduce(x.tensor, kind, chosen, keep), x.axis - gone)


@operator(*_REDUCTIONS)
def _reduce(call: Call, build: Builder) -> Tensor | Turned:
    return _reduced(call, build, call.turned(), _REDUCTIONS[call.name])


@operator("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def _reduce_norm(call: Call, build: Builder) -> Tensor | Turned:
    name, x = call.name, call.turned()
    if call.get("noop_with_empty_axes", 0):
        raise Unsupported("noop_with_empty_axes is set, which engines understand in two ways", "name the axes")
    if name != "ReduceLogSum":
        x = Turned(build.activation(x.tensor, "abs" if name == "ReduceL1" else "square"), x.axis)
    y = _reduced(call, build, x, "sum")
    if name not in ("ReduceL2", "ReduceLogSum"):
        return y
    whole = y if isinstance(y, Turned) else Turned(y, 0)
    return _turn(build.activation(whole.tensor, {"ReduceL2": "sqrt", "ReduceLogSum": "log"}[name]), whole.axis)


@operator("ReduceLogSumExp")
def _reduce_log_sum_exp(call: Call, build: Builder) -> Tensor | Turned:
    """log of the sum of e^x, the largest x taken out if it is finite."""
    x = call.turned()
    if call.get("noop_with_empty_axes", 0):
        raise Unsupported("noop_with_empty_axes is set, which engines understand in two ways", "name the axes")
    top = _as_turned(_reduced(call, build, x, "max", kept=True))
    top = Turned(finite_or_zero(build, top.tensor), top.axis)
    powers = _as_turned(_combined(build, "subtract", x, top))
    powers = Turned(build.activation(powers.tensor, "exponential"), powers.axis)
    total = _as_turned(_reduced(call, build, powers, "sum"))
    logarithm = _turn(build.activation(total.tensor, "log"), total.axis)
    return _combined(build, "add", logarithm, _reduced(call, build, top, "max"))


def _as_turned(value: Tensor | Turned) -> Turned:
    return value if isinstance(value, Turned) else Turned(value, 0)


# Normalisation --------------------------------------------------------------------------------------------------------


@operator("BatchNormalization")
def _batch_normalization(call: Call, build: Builder) -> Tensor:
    # Until opset 6 is_test told, until 13 whether there are more outputs.
    training = call.get("training_mode", 0) if call.since >= 14 else len(call.layer.config["named"]) > 1
    if training or ("is_test" in call.schema.attributes and not call.get("is_test")):
        raise Unsupported("it is for training, by the statistics of the batch", "export the model for inference")
    vectors = [call.constant(index, "statistics") for index in range(1, 5)]
    x = call.tensor()
    epsilon = {"epsilon": float(call.get("epsilon", 1e-5))}
    return _first(build, build("batch_normalization", _last(build, x), *vectors, **epsilon))


@operator("InstanceNormalization", "GroupNormalization")
def _group_normalization(call: Call, build: Builder) -> Tensor:
    x, gamma, beta = call.tensor(), call.constant(1, "scales"), call.constant(2, "offsets")
    channels = x.shape[1]
    if channels is None or gamma is None or beta is None:
        raise Unsupported("its channels are unknown", "export the model with a fixed number of channels")
    groups = int(call.get("num_groups", channels))
    if gamma.size == groups != channels:  # opset 18 gives one for each group
        gamma, beta = (np.repeat(v, channels // groups) for v in (gamma, beta))
    attributes = {"groups": groups, "epsilon": float(call.get("epsilon", 1e-5))}
    return _first(build, build("group_normalization", _last(build, x), gamma, beta, **attributes))


@operator("LayerNormalization")
def _layer_normalization(call: Call, build: Builder) -> Tensor | Turned:
    whole, gamma, beta = call.turned(), call.constant(1, "scales"), call.constant(2, "offsets")
    x = whole.tensor
    axis = _inner(whole, int(call.get("axis", -1)), "it normalises")
    if axis <= whole.axis:
        raise Unsupported("it normalises the batch", "normalise axes behind it; each image is computed alone")
    sizes = x.shape[axis:]
    if None in sizes or gamma is None:
        raise Unsupported(f"it normalises axes of unknown size, of {x.shape}", "export the model with fixed sizes")
    count = math.prod(size or 1 for size in sizes)
    vectors = [
        np.broadcast_to(v if v is not None else np.zeros(1), sizes).reshape(-1)  # type: ignore[arg-type]
        for v in (gamma, beta)
    ]
    flat = build.reshape(x, *(-1 if size is None else size for size in x.shape[1:axis]), count)
    y = build("layer_normalization", flat, *vectors, epsilon=float(call.get("epsilon", 1e-5)))
    return _turn(build.reshape(y, *_open(x.shape[1:])), whole.axis)


@operator("LRN")
def _lrn(call: Call, build: Builder) -> Tensor:
    size = int(call.get("size"))
    numbers = {"bias": float(call.get("bias", 1.0)), "beta": float(call.get("beta", 0.75))}
    alpha = float(call.get("alpha", 1e-4)) / size
    y = build("local_response_normalization", _last(build, call.tensor()), size=size, alpha=alpha, **numbers)
    return _first(build, y)


@operator("LpNormalization")
def _lp_normalization(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    axis = axis_of(int(call.get("axis", -1)), len(x.shape), "it normalises")
    order = int(call.get("p", 2))
    if order not in (1, 2):
        raise Unsupported(f"it normalises by a norm of order {order}", "use order 1 or 2")
    total = build.reduce(build.activation(x, "abs" if order == 1 else "square"), "sum", (axis,), keepdims=True)
    length = total if order == 1 else build.activation(total, "sqrt")
    return build("keep", build("divide", x, length), length)  # a vector of zeros stays one


@operator("MeanVarianceNormalization")
def _mean_variance(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    axes = [axis_of(int(axis), len(x.shape), "it normalises") for axis in call.get("axes", [0, 2, 3])]
    centred = build("subtract", x, build.reduce(x, "mean", axes, keepdims=True))
    variance = build.reduce(build.activation(centred, "square"), "mean", axes, keepdims=True)
    return build("divide", centred, build("add", build.activation(variance, "sqrt"), np.full(1, 1e-9)))


@operator("Softmax", "LogSoftmax")
def _softmax(call: Call, build: Builder) -> Tensor | Turned:
    x = call.turned()
    name = "softmax" if call.name == "Softmax" else "log_softmax"
    rank = len(x.shape)
    axis = _inner(x, int(call.get("axis")))
    if call.since >= 13 or axis == rank - 1:
        return _turn(Function(name, axis=axis).apply(build, x.tensor), x.axis)
    # Until opset 12 all axes from this one on count as one.
    y = call.tensor()
    if not known(y.shape):
        raise Unsupported("a size of its input is unknown", FIX)
    flat = build.reshape(y, *(size or 1 for size in y.shape[1:axis]), -1)
    return build.reshape(Function(name, axis=axis).apply(build, flat), *(size or 1 for size in y.shape[1:]))


# Products, frames, sizes ----------------------------------------------------------------------------------------------


@operator("Gemm")
def _gemm(call: Call, build: Builder) -> Tensor:
    x, weights, bias = call.tensor(), call.constant(1, "weights"), call.constant(2, "biases")
    beta = float(call.get("beta", 1.0))
    call.get("broadcast")  # until opset 6 the third operand was broadcast on request; else it has a row for each image
    if call.get("transA", 0):
        raise Unsupported("it transposes its first operand, the batch", "leave transA out")
    assert weights is not None
    matrix = np.asarray(weights.T if call.get("transB", 0) else weights, np.float32) * float(call.get("alpha", 1.0))
    if bias is None:
        return build("dense", x, matrix)
    scaled = np.asarray(bias, np.float32) * beta
    if scaled.ndim == 2 and scaled.shape[0] != 1:
        raise Unsupported(f"its third operand has a row for each image: {scaled.shape}", "give one row for all")
    return build("dense", x, matrix, np.broadcast_to(scaled.reshape(-1), (matrix.shape[1],)))


@operator("MatMul")
def _matmul(call: Call, build: Builder) -> Tensor | Turned:
    x, y = (Turned(v, 0) if isinstance(v, Tensor) else v for v in call.inputs)
    if isinstance(x, Turned) and isinstance(y, Turned):
        (a, b), axis = _aligned(build, (x, y))
        if axis >= max(len(x.shape), len(y.shape)) - 2:
            raise Unsupported("it multiplies along the batch", "keep the batch in front")
        return _turn(build("matmul", a, b), axis)
    if isinstance(x, Turned) and isinstance(y, np.ndarray) and y.ndim == 2 and x.axis < len(x.shape) - 1:
        return _turn(build("dense", x.tensor, y), x.axis)
    if isinstance(y, Turned) and isinstance(x, np.ndarray) and x.ndim == 2 and y.axis < len(y.shape) - 2:
        rank = len(y.shape)
        swap = (*range(1, rank - 2), rank - 1, rank - 2)
        product = build("dense", build.transpose(y.tensor, *swap), x.T)
        return _turn(build.transpose(product, *swap), y.axis)
    raise Unsupported("it multiplies by a constant that is no matrix", "use a matrix")


@operator("Pad")
def _pad(call: Call, build: Builder) -> Tensor | Turned:
    whole = call.turned()
    x, rank = whole.tensor, len(whole.shape)
    pads = _sizes(call.numbers("paddings" if call.since < 2 else "pads", 1), "padding")
    axes = [a % rank for a in call.numbers("axes", 3) or range(rank)]
    mode = str(call.get("mode", "constant"))
    given = call.get("value") if call.since < 11 else call.constant(2, "value")
    value = 0.0 if given is None else float(np.asarray(given).reshape(-1)[0])
    frame = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        pair = (pads[index], pads[len(axes) + index])
        if any(pair):
            frame[_inner(whole, axis, "it pads")] = pair
    if mode not in ("constant", "reflect", "edge"):
        raise Unsupported(f"it pads by {mode!r}", "use constant, reflect or edge")
    for axis, (before, after) in enumerate(frame):
        if before < 0 or after < 0:
            x = build.slice(x, axis, max(0, -before), min(0, after) or LIMIT)
            frame[axis] = (max(0, before), max(0, after))
    if not any(map(any, frame)):
        return _turn(x, whole.axis)
    if rank < 3 or whole.axis:
        return _turn(build.pad(x, frame[1:], mode, value), whole.axis)
    return _first(build, build.pad(_last(build, x), [*frame[2:], frame[1]], mode, value))


@operator("DepthToSpace")
def _depth_to_space(call: Call, build: Builder) -> Tensor:
    block = int(call.get("blocksize"))
    return _first(build, depth_to_space(build, _last(build, call.tensor()), block, call.get("mode", "DCR") == "CRD"))


@operator("SpaceToDepth")
def _space_to_depth(call: Call, build: Builder) -> Tensor:
    block, crd = int(call.get("blocksize")), call.get("mode", "DCR") == "CRD"
    return _first(build, space_to_depth(build, _last(build, call.tensor()), block, crd))


_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
_NEAREST_FOR_NN = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}
"""tf_half_pixel_for_nn, (x + 1/2) / scale, is half_pixel moved by half a pixel, which other roundings undo."""


@operator("Resize", "Upsample")
def _resize(call: Call, build: Builder) -> Tensor:
    x = call.tensor()
    rank = len(x.shape)
    old = call.name == "Upsample" or call.since < 11
    scales, sizes = _scales(call, rank)
    mode = {"bilinear": "linear"}.get(given := str(call.get("mode", "nearest")), given)
    coordinates = str(call.get("coordinate_transformation_mode", "asymmetric"))
    rounding = str(call.get("nearest_mode", "floor"))
    if coordinates == "tf_half_pixel_for_nn" and mode == "nearest" and rounding in _NEAREST_FOR_NN:
        _check_for_nn(x.shape[2:], scales[2:], None if sizes is None else sizes[2:], rounding)
        coordinates, rounding = "half_pixel", _NEAREST_FOR_NN[rounding]
    if coordinates not in _COORDINATES or mode not in ("nearest", "linear", "cubic"):
        raise Unsupported(f"it resizes by {mode!r}, {coordinates!r}", f"use one of {', '.join(_COORDINATES)}")
    if coordinates == "half_pixel_symmetric" and mode == "nearest":
        raise Unsupported("the nearest of half_pixel_symmetric places hangs on rounding", "use half_pixel")
    if coordinates == "align_corners" and sizes is None:
        lengths = zip(x.shape[2:], scales[2:], strict=True)
        if any(float(np.float32(1 if n is None else n) * np.float32(s)) % 1 for n, s in lengths):
            raise Unsupported("it aligns corners by scales that give no whole size, where engines differ", "give sizes")
    if str(call.get("keep_aspect_ratio_policy", "stretch")) != "stretch":
        raise Unsupported("it keeps the aspect ratio", "give both sizes")
    attributes: dict[str, Any] = {
        "method": mode,
        "coordinates": coordinates,
        "rounding": rounding,
        "cubic_coefficient": float(call.get("cubic_coeff_a", -0.75)),
        "exclude_outside": int(call.get("exclude_outside", 0)),
        "antialias": int(call.get("antialias", 0)),
    }
    fixed = [s is None or s == 1.0 for s in scales[:2]] if sizes is None else [n == o for n, o in zip(sizes[:2], x.shape[:2], strict=True)]  # fmt: skip
    fixed[0] = fixed[0] or sizes is not None  # the batch
    if not all(fixed) or rank not in (3, 4):
        raise Unsupported(f"it resizes {x.shape} by {sizes or scales}", "resize height and width of images")
    if sizes is None:
        scales = [*scales[:2], *_scales_that_count(x.shape[2:], scales[2:], bool(attributes["antialias"]))]
        if set(scales) == {1.0}:
            return x
    y = _last(build, x)
    if rank == 3:
        y = build.reshape(y, 1, y.shape[1] or -1, y.shape[2] or -1)
    if sizes is not None:
        y = build("resize", y, sizes=tuple(([1] if rank == 3 else []) + sizes[2:]), **attributes)
    else:
        factors = tuple(float(s) for s in ([1.0] if rank == 3 else []) + list(scales[2:]))
        # Until opset 10 the nearest pixel is the one below, or, where an axis shrinks, the one above.
        shrinks = [factor < 1 for factor in factors]
        if old and mode == "nearest" and any(shrinks):
            kept = tuple(1.0 if down else factor for down, factor in zip(shrinks, factors, strict=True))
            if max(kept) > 1:
                y = build("resize", y, scales=kept, **attributes)
            factors = tuple(factor if down else 1.0 for down, factor in zip(shrinks, factors, strict=True))
            attributes["rounding"] = "ceil"
        y = build("resize", y, scales=factors, **attributes)
    if rank == 3:
        y = build.reshape(y, y.shape[2] or -1, y.shape[3] or -1)
    return _first(build, y)


def _check_for_nn(
    lengths: Sequence[int | None], scales: Sequence[float], sizes: Sequence[int] | None, rounding: str
) -> None:
    """Refuses tf_half_pixel_for_nn where half_pixel and the other rounding take other pixels, as they do by rounding errors."""
    for axis, length in enumerate(lengths):
        if scales[axis] == int(scales[axis]) and sizes is None:
            continue  # places lie as far from borders as they can
        if length is None:
            raise Unsupported("the nearest of places in an image of unknown size hangs on rounding", FIX)
        size = sizes[axis] if sizes else int(np.float32(length) * np.float32(scales[axis]))
        scale = size / length if sizes else scales[axis]
        attributes: dict[str, Any] = {
            "sizes": (0, 0),
            "scales": (scale, 1.0),
            "method": "nearest",
            "coordinates": "half_pixel",
        }
        attributes |= {"rounding": _NEAREST_FOR_NN[rounding], "cubic_coefficient": 0.0}
        attributes |= {"exclude_outside": 0, "antialias": 0}
        charge(ENTRY_BYTES * size, "the places of a resize")
        places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(scale)
        wanted = NEAREST[rounding](places.astype(np.float64))
        if (np.clip(wanted, 0, length - 1) != axis_table(attributes, 0, length, size)[0][:, 0]).any():
            raise Unsupported("the nearest of its places hangs on rounding", "use half_pixel")


def _scales_that_count(lengths: Sequence[int | None], scales: Sequence[float], antialias: bool) -> list[float]:
    """Scales with 1 in the place of those by which ONNX Runtime does not resize: where no size changes, be it that a scale is
    1.2 and 3 pixels stay 3, it copies the image; with antialias it copies along each axis whose size stays."""
    kept: list[bool | None] = []  # None: not known
    for length, scale in zip(lengths, scales, strict=True):
        if length is None:
            kept.append(True if scale == 1 else None if 1 < scale < 1.5 else False)  # 1 pixel is copied by any scale
        else:
            kept.append(int(np.float32(length) * np.float32(scale)) == length)
    if (None in kept) and (antialias or False not in kept):
        raise Unsupported(f"it resizes sizes that are not known, by {list(scales)}, which leaves some as they are", FIX)
    if not antialias and not all(kept):
        return list(scales)
    return [1.0 if same else scale for same, scale in zip(kept, scales, strict=True)]


def _scales(call: Call, rank: int) -> tuple[list[float], list[int] | None]:
    """A factor for each axis, or a size for each."""
    given = call.get("scales") if "scales" in call.schema.attributes else None
    if "height_scale" in call.schema.attributes:
        given = [1.0, 1.0, call.get("height_scale"), call.get("width_scale")]
    index = 1 if call.name == "Upsample" or call.since < 11 else 2
    factors = np.asarray(given) if given is not None else call.constant(index, "scales")
    wanted = None if call.since < 11 else call.constant(3, "sizes")
    if factors is not None and factors.size and wanted is not None and wanted.size:
        raise Unsupported("it has both scales and sizes", "give one of them")
    axes = [axis % rank for axis in call.get("axes", range(rank))]
    scales = [1.0] * rank
    if factors is not None and factors.size:
        if (factors == UNKNOWN).any():
            raise Unsupported("its scales depend on sizes that are known at the call only", FIX)
        for axis, factor in zip(axes, factors.reshape(-1), strict=True):
            scales[axis] = float(factor)
        return scales, None
    if wanted is None:
        raise Unsupported("it has neither scales nor sizes", "export the model again")
    x = call.tensor()
    sizes = [size if size is not None else 0 for size in x.shape]
    for axis, size in zip(axes, _sizes(wanted, "size"), strict=True):
        sizes[axis] = size
    return scales, sizes

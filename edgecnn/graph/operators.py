"""The operator table: for each operator its inputs, attributes, shape rule and cost.

Everything that handles operators (the checker, the file, the planner, the converter's passes, the documentation) reads
this table; an operator exists when it has a row here, a meaning in reference.py and a kernel family in the runtime.

Layout is channels last. Shapes have the batch first (None); a None elsewhere is a size known only at the call, and
every shape rule passes it on.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edgecnn.errors import GraphError

if TYPE_CHECKING:
    from edgecnn.graph.graph import Constant

Shape = tuple[int | None, ...]
AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...]
Attributes = Mapping[str, AttributeValue]
Shapes = Sequence[Shape | None]

LIMIT = 2**31 - 1
"""Largest value of an integer attribute: what a C int holds."""


@dataclass(frozen=True)
class Role:
    """One input of an operator.

    Attributes:
        name: the role ("weights").
        takes: "tensor", "constant" or "either".
        optional: whether it may be absent (its name is then "").
        ranks: allowed ranks of a constant, empty for any.
    """

    name: str
    takes: str = "tensor"
    optional: bool = False
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Attribute:
    """One attribute of an operator.

    Attributes:
        kind: "int", "float", "string", "ints" or "floats".
        minimum, maximum: bounds of each int.
        length: of "ints" and "floats", None for any.
        choices: allowed strings.
    """

    kind: str
    minimum: int = 0
    maximum: int = LIMIT
    length: int | None = None
    choices: tuple[str, ...] = ()

    def complaint(self, value: object) -> str | None:
        """What is wrong with a value, None if nothing."""
        if self.kind == "string":
            if not isinstance(value, str):
                return f"{value!r} is no string"
            if self.choices and value not in self.choices:
                return f"{value!r} is none of {', '.join(self.choices)}"
            return None
        plural = self.kind in ("ints", "floats")
        if plural and not isinstance(value, tuple):
            return f"{value!r} is no tuple"
        items: tuple[object, ...] = value if plural else (value,)  # type: ignore[assignment]
        if plural and self.length is not None and len(items) != self.length:
            return f"{value!r} has {len(items)} entries; wanted {self.length}"
        if self.kind in ("float", "floats"):
            for item in items:
                if type(item) is not float:
                    return f"{item!r} is no float"
            return None
        minimum, maximum = self.minimum, self.maximum
        for item in items:
            if type(item) is not int:
                return f"{item!r} is no int"
            if not minimum <= item <= maximum:
                return f"{item} is outside {minimum}..{maximum}"
        return None


@dataclass(frozen=True)
class Activation:
    """One element-wise activation function; its meaning is `reference.activate`.

    Attributes:
        parameters: names of its parameters.
        defaults: their values in Keras 3.
    """

    parameters: tuple[str, ...] = ()
    defaults: tuple[float, ...] = ()


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": Activation(),
    # x >= max_value: max_value; x > threshold: x; else negative_slope * (x - threshold). Covers ReLU6 and LeakyReLU.
    "relu": Activation(("negative_slope", "max_value", "threshold"), (0.0, math.inf, 0.0)),
    "clip": Activation(("minimum", "maximum"), (-1.0, 1.0)),  # Keras' hard_tanh by default
    "elu": Activation(("alpha",), (1.0,)),
    "celu": Activation(("alpha",), (1.0,)),
    "selu": Activation(),
    "sigmoid": Activation(),
    # clip(slope * x + offset, 0, 1): 1/6 and 1/2 in Keras 3, 0.2 and 1/2 in Keras 2.
    "hard_sigmoid": Activation(("slope", "offset"), (1.0 / 6.0, 0.5)),
    "sparse_sigmoid": Activation(),  # 0 up to -1, (x + 1) / 2, 1 from 1 on
    "log_sigmoid": Activation(),
    "tanh": Activation(),
    "tanh_shrink": Activation(),  # x - tanh(x)
    "softplus": Activation(),
    "sparse_plus": Activation(),  # 0 up to -1, (x + 1)^2 / 4, x from 1 on
    "squareplus": Activation(("b",), (4.0,)),  # (x + sqrt(x^2 + b)) / 2
    "softsign": Activation(),
    "hard_shrink": Activation(("threshold",), (0.5,)),  # x where |x| > threshold, else 0
    "soft_shrink": Activation(("threshold",), (0.5,)),  # x moved towards 0 by the threshold, 0 within it
    "threshold": Activation(("threshold", "default_value"), (0.0, 0.0)),  # x where x > threshold, else the default
    "swish": Activation(),
    "hard_swish": Activation(),
    "mish": Activation(),  # x * tanh(softplus(x))
    "gelu": Activation(),  # x * Phi(x), by erf
    "gelu_tanh": Activation(),  # Keras' approximate=True
    "exponential": Activation(),
    "expm1": Activation(),
    "log": Activation(),
    "log1p": Activation(),
    "sqrt": Activation(),
    "rsqrt": Activation(),
    "reciprocal": Activation(),
    "square": Activation(),
    "abs": Activation(),
    "sign": Activation(),
    "floor": Activation(),
    "ceil": Activation(),
    "round": Activation(),  # halves to even
    "sin": Activation(),
    "cos": Activation(),
    "erf": Activation(),
}
"""The element-wise functions that an operator may carry, by Keras' names."""

MacsRule = Callable[[Attributes, Shapes, Sequence[Shape]], int]
ShapeRule = Callable[[Attributes, Shapes], list[Shape]]


def _no_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return 0


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    Attributes:
        roles: its inputs in order; of a variadic operator the last role repeats (at least once).
        attributes: every attribute; a node has exactly these.
        shapes: shape rule: attributes and input shapes (None for an absent input) to output shapes. Raises GraphError.
        macs: multiply-accumulates for one image; all sizes but the batch are known when it is called.
        activated: whether it ends in an element-wise activation (attributes activation, activation_parameters).
        variadic: whether the last role repeats.
        summary: one line for the documentation.
    """

    roles: tuple[Role, ...]
    shapes: ShapeRule
    summary: str
    attributes: Mapping[str, Attribute]
    macs: MacsRule = _no_macs
    activated: bool = False
    variadic: bool = False

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each role among the inputs."""
        return {role.name: index for index, role in enumerate(self.roles)}

    def complaint(self, attributes: Attributes, inputs: Sequence[str], constants: Mapping[str, Constant]) -> str | None:
        """What is wrong with a node's inputs and attributes (shapes apart), None if nothing."""
        return self._inputs_complaint(inputs, constants) or self._attributes_complaint(attributes)

    def _inputs_complaint(self, inputs: Sequence[str], constants: Mapping[str, Constant]) -> str | None:
        wanted = len(self.roles)
        if len(inputs) < wanted if self.variadic else len(inputs) != wanted:
            return f"has {len(inputs)} inputs; wanted {wanted}{' or more' if self.variadic else ''}"
        for index, name in enumerate(inputs):
            role = self.roles[min(index, wanted - 1)]
            if not name:
                if not role.optional:
                    return f"its {role.name} is absent"
                continue
            if role.takes == "constant" and name not in constants:
                return f"its {role.name} {name!r} must be a constant"
            if role.takes == "tensor" and name in constants:
                return f"its {role.name} {name!r} must be a tensor"
            if role.ranks and name in constants and len(constants[name].shape) not in role.ranks:
                return f"its {role.name} {name!r} has shape {constants[name].shape}; wanted rank {role.ranks}"
        return None

    def _attributes_complaint(self, attributes: Attributes) -> str | None:
        if attributes.keys() != self.attributes.keys():
            return f"has attributes {sorted(attributes)}; wanted {sorted(self.attributes)}"
        for name, attribute in self.attributes.items():
            complaint = attribute.complaint(attributes[name])
            if complaint:
                return f"attribute {name}: {complaint}"
        if self.activated:
            function, parameters = attributes["activation"], attributes["activation_parameters"]
            count = len(ACTIVATIONS[str(function)].parameters)
            if len(parameters) != count:  # type: ignore[arg-type]
                return f"activation {function} has parameters {parameters}; wanted {count}"
        return None


_ACTIVATED: Mapping[str, Attribute] = {
    "activation": Attribute("string", choices=tuple(ACTIVATIONS)),
    "activation_parameters": Attribute("floats"),
}
_WINDOW: Mapping[str, Attribute] = {
    "strides": Attribute("ints", minimum=1),
    # "same": TensorFlow's rule, the odd pixel at the end. "explicit": `pads` = (begin, end) of each spatial axis.
    "padding": Attribute("string", choices=("same", "explicit")),
    "pads": Attribute("ints"),
}
_DILATIONS = {"dilations": Attribute("ints", minimum=1)}
_GROUPS = {"groups": Attribute("int", minimum=1)}
_KEEPDIMS = {"keepdims": Attribute("int", maximum=1)}

MOST_PHASES = 4096
"""Most outputs of a transposed convolution for one input pixel: a stride of 64 in two dimensions."""
PAD_MODES = ("constant", "reflect", "symmetric", "edge")
RESIZE_METHODS = ("nearest", "linear", "cubic", "cubic_table", "lanczos3", "lanczos5", "gaussian", "mitchell", "area")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", "pytorch_half_pixel")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "tensorflow")


def ints(attributes: Attributes, name: str) -> tuple[int, ...]:
    """An "ints" attribute."""
    return attributes[name]  # type: ignore[return-value]


def number(attributes: Attributes, name: str) -> int:
    """An "int" attribute."""
    return attributes[name]  # type: ignore[return-value]


def effective_kernel(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """What a dilated kernel spans along each spatial axis."""
    if max(dilations, default=1) == 1 and len(kernel) == len(dilations):
        return tuple(kernel)
    return tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))


def resolve_pads(attributes: Attributes, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
    """(begin, end) for each spatial axis of a window operator over an input of `size`.

    Args:
        kernel: what the window spans, dilation included.

    Source: TensorFlow's "SAME": ceil(size / stride) outputs, the smaller half of the padding before.
    """
    if attributes["padding"] == "explicit":
        return ints(attributes, "pads")
    pads: list[int] = []
    for length, span, stride in zip(size, kernel, ints(attributes, "strides"), strict=True):
        total = max((-(-length // stride) - 1) * stride + span - length, 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)


def spatial_sizes(shape: Sequence[int | None]) -> tuple[int, ...] | None:
    """Sizes of the axes between batch and channels; None if one is unknown."""
    sizes = tuple(size for size in shape[1:-1] if size is not None)
    return sizes if len(sizes) == len(shape) - 2 else None


def _lengths(attributes: Attributes, axes: int, **factors: int) -> None:
    """Checks that per-axis attributes have an entry (pads: two) for each spatial axis."""
    for name, factor in factors.items():
        given = ints(attributes, name)
        if len(given) != factor * axes:
            raise GraphError(f"{name} {given} has {len(given)} entries; wanted {factor * axes} for {axes} spatial axes")


def _window(attributes: Attributes, x: Shape, kernel: Sequence[int]) -> tuple[int | None, ...]:
    """Sizes of a window operator's output along the spatial axes."""
    _lengths(attributes, len(x) - 2, strides=1, pads=2)
    pads = ints(attributes, "pads")
    if attributes["padding"] == "same" and any(pads):
        raise GraphError(f"padding 'same' with pads {pads}; wanted zeros")
    result: list[int | None] = []
    for axis, (length, stride) in enumerate(zip(x[1:-1], ints(attributes, "strides"), strict=True)):
        if length is None:
            result.append(None)
        elif attributes["padding"] == "same":
            result.append(-(-length // stride))
        else:
            rest = length + pads[2 * axis] + pads[2 * axis + 1] - kernel[axis]
            if rest < 0:
                raise GraphError(f"a window of {kernel[axis]} does not fit an input of {length} with padding {pads}")
            result.append(rest // stride + 1)
    return tuple(result)


def _rank(shape: Shape | None, lowest: int, highest: int, name: str = "x") -> Shape:
    if shape is None or not lowest <= len(shape) <= highest:
        wanted = str(lowest) if lowest == highest else f"{lowest} to {highest}"
        raise GraphError(f"its {name} has shape {shape}; wanted rank {wanted}")
    return shape


def _channels(shape: Shape) -> int:
    if shape[-1] is None:
        raise GraphError(f"its input has shape {shape}; the last dimension must be known")
    return shape[-1]


def _vector(shape: Shape | None, size: int, name: str) -> None:
    if shape is not None and shape != (size,):
        raise GraphError(f"its {name} has shape {shape}; wanted {(size,)}")


def _residual(shape: Shape | None, output: Shape) -> None:
    if shape is not None and shape != output:
        raise GraphError(f"its residual has shape {shape}; wanted that of the output, {output}")


def _size(shape: Sequence[int | None]) -> int:
    """Number of elements of one image; every size but the batch is known."""
    return math.prod(size for size in shape[1:] if size is not None)


def _weights(shape: Shape | None, x: Shape) -> tuple[int, ...]:
    """A kernel's shape: a size for each spatial axis of x, then two more."""
    weights = _rank(shape, len(x), len(x), "weights")
    if min(size or 0 for size in weights) < 1:
        raise GraphError(f"its weights have shape {weights}; every size must be at least 1")
    return tuple(size or 0 for size in weights)


def _conv(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, groups = _rank(inputs[0], 3, 5), number(attributes, "groups")
    *kernel, depth, filters = weights = _weights(inputs[1], x)
    if depth * groups != _channels(x) or filters % groups:
        raise GraphError(f"weights of shape {weights} in {groups} groups do not fit an input of shape {x}")
    _lengths(attributes, len(kernel), dilations=1)
    output = (None, *_window(attributes, x, effective_kernel(kernel, ints(attributes, "dilations"))), filters)
    _vector(inputs[2], filters, "bias")
    _residual(inputs[3], output)
    return [output]


def _conv_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return _size(outputs[0]) * math.prod(inputs[1][:-1])  # type: ignore[index,arg-type]


def _conv_transpose(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, groups = _rank(inputs[0], 3, 5), number(attributes, "groups")
    *kernel, filters, depth = weights = _weights(inputs[1], x)
    if depth != _channels(x) or depth % groups:
        raise GraphError(f"weights of shape {weights} in {groups} groups do not fit an input of shape {x}")
    _lengths(attributes, len(kernel), strides=1, dilations=1, pads=2, output_padding=1)
    if math.prod(ints(attributes, "strides")) > MOST_PHASES:
        raise GraphError(f"strides {ints(attributes, 'strides')}; their product may be {MOST_PHASES} at most")
    pads, more = ints(attributes, "pads"), ints(attributes, "output_padding")
    sizes: list[int | None] = []
    spans = effective_kernel(kernel, ints(attributes, "dilations"))
    for axis, (length, stride) in enumerate(zip(x[1:-1], ints(attributes, "strides"), strict=True)):
        if length is None:
            sizes.append(None)
            continue
        size = (length - 1) * stride + spans[axis] - pads[2 * axis] - pads[2 * axis + 1] + more[axis]
        if size < 1:
            raise GraphError(f"pads {pads} leave nothing of the output of a window of {spans[axis]} over {length}")
        sizes.append(size)
    _vector(inputs[2], filters * groups, "bias")
    return [(None, *sizes, filters * groups)]


def _conv_transpose_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return _size(inputs[0]) * math.prod(inputs[1][:-1])  # type: ignore[index,arg-type]


def _depthwise_conv(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x = _rank(inputs[0], 3, 4)
    *kernel, depth, multiplier = weights = _weights(inputs[1], x)
    if depth != _channels(x):
        raise GraphError(f"weights of shape {weights} do not fit an input of shape {x}")
    _lengths(attributes, len(kernel), dilations=1)
    sizes = _window(attributes, x, effective_kernel(kernel, ints(attributes, "dilations")))
    _vector(inputs[2], depth * multiplier, "bias")
    return [(None, *sizes, depth * multiplier)]


def _depthwise_conv_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return _size(outputs[0]) * math.prod(inputs[1][:-2])  # type: ignore[index,arg-type]


def _dense(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, weights = inputs[0], _rank(inputs[1], 2, 2, "weights")
    if x is None or len(x) < 2:
        raise GraphError(f"its x has shape {x}; wanted rank 2 or more")
    if weights[0] != _channels(x) or not weights[1]:
        raise GraphError(f"weights of shape {weights} do not fit an input of shape {x}")
    output = (*x[:-1], weights[1])
    _vector(inputs[2], weights[1], "bias")
    _residual(inputs[3], output)
    return [output]


def _dense_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return _size(outputs[0]) * inputs[1][0]  # type: ignore[index,operator]


def _matmul(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, y = _rank(inputs[0], 3, 8), _rank(inputs[1], 3, 8, "y")
    pairs = [*zip(x[:-2], y[:-2], strict=False), (x[-1], y[-2])]
    if len(x) != len(y) or any(a != b and None not in (a, b) for a, b in pairs):
        raise GraphError(f"matrices of shapes {x} and {y} cannot be multiplied")
    return [(*x[:-1], y[-1])]


def _matmul_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    return _size(outputs[0]) * inputs[0][-1]  # type: ignore[index,operator]


def _normalization(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    """Of operators with a vector over the channels for every role but x."""
    x = inputs[0]
    if x is None or len(x) < 2:
        raise GraphError(f"its x has shape {x}; wanted rank 2 or more")
    for shape, name in zip(inputs[1:], ("gamma", "beta", "mean", "variance"), strict=False):
        _vector(shape, _channels(x), name)
    if _channels(x) % int(attributes.get("groups", 1)):  # type: ignore[arg-type]
        raise GraphError(f"{_channels(x)} channels cannot be cut into {attributes['groups']} equal groups")
    return [x]


def _pool(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, kernel = _rank(inputs[0], 3, 5), ints(attributes, "pool_size")
    _lengths(attributes, len(x) - 2, pool_size=1)
    sizes = _window(attributes, x, kernel)
    pads = ints(attributes, "pads")
    if any(max(pads[2 * axis : 2 * axis + 2]) >= size for axis, size in enumerate(kernel)):
        raise GraphError(f"pads {pads} leave windows of {kernel} without a pixel; wanted less than the window")
    return [(None, *sizes, _channels(x))]


def _reduce(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,) = _same(attributes, inputs)
    axes = ints(attributes, "axes")
    if not axes or list(axes) != list(range(axes[0], axes[0] + len(axes))) or axes[-1] >= len(x):
        raise GraphError(f"axes {axes} of shape {x}; wanted neighbours in order, 1 or more and less than the rank")
    kept = (1,) * len(axes) if attributes["keepdims"] else ()
    return [(*x[: axes[0]], *kept, *x[axes[-1] + 1 :])]


def broadcast(x: Shape, y: Shape) -> Shape:
    """NumPy's rule; an unknown size goes with itself and with 1."""
    rank = max(len(x), len(y))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (x, y)]
    result: list[int | None] = []
    for a, b in zip(*padded, strict=True):
        if a == b or b == 1:
            result.append(a)
        elif a == 1:
            result.append(b)
        else:
            raise GraphError(f"shapes {x} and {y} cannot be broadcast together")
    return tuple(result)


def _binary(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, y = inputs
    if x is None or y is None:
        raise GraphError("an operand is absent")
    if x[:1] == y[:1] == (None,) and len(x) != len(y):
        raise GraphError(f"tensors of shapes {x} and {y} have different ranks, and their batches would not meet")
    result = broadcast(x, y)
    if not result or result[0] is not None:
        raise GraphError(f"shapes {x} and {y} give {result}; one operand must be a tensor with the batch first")
    return [result]


def _concatenate(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    axis = number(attributes, "axis")
    first = inputs[0]
    if first is None or not 1 <= axis < len(first):
        raise GraphError(f"axis {axis} of shape {first}; wanted 1 or more and less than the rank")
    total: int | None = 0
    result = list(first)
    for shape in inputs:
        if shape is None or len(shape) != len(first):
            raise GraphError(f"shapes {first} and {shape} cannot be concatenated along axis {axis}")
        for i, size in enumerate(shape):
            if i != axis and size is not None:  # an unknown size turns out at the call, and is checked then
                if result[i] not in (None, size):
                    raise GraphError(f"shapes {first} and {shape} cannot be concatenated along axis {axis}")
                result[i] = size
        total = None if total is None or shape[axis] is None else total + shape[axis]  # type: ignore[operator]
    return [(*result[:axis], total, *result[axis + 1 :])]


def _reshape(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,), target = _same(attributes, inputs), list(ints(attributes, "shape"))
    if target.count(-1) > 1:
        raise GraphError(
            f"its target shape {tuple(target)} leaves several sizes open (-1), of which one could be inferred"
        )
    if 0 in target:
        raise GraphError(f"its target shape {tuple(target)} has a size of 0")
    if None in x[1:]:
        return [(None, *(None if size == -1 else size for size in target))]
    size, known = _size(x), math.prod(size for size in target if size != -1)
    if -1 in target and known and size % known == 0:
        target[target.index(-1)] = size // known
    if math.prod(target) != size:
        raise GraphError(f"{size} values of shape {x} cannot take the shape {tuple(target)}")
    return [(None, *target)]


def _transpose(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,), permutation = _same(attributes, inputs), ints(attributes, "permutation")
    if sorted(permutation) != list(range(1, len(x))):
        raise GraphError(f"permutation {permutation} of shape {x}; wanted each axis but the batch once")
    return [(None, *(x[axis] for axis in permutation))]


def slice_range(attributes: Attributes, axis: int, size: int) -> range:
    """The indices that a `slice` takes along an axis (1: the first after the batch) of a size."""
    start, stop, step = (ints(attributes, name)[axis - 1] for name in ("starts", "stops", "steps"))
    return range(*slice(start, None if stop == LIMIT else stop, step).indices(size))


def _slice(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,) = _same(attributes, inputs)
    for name in ("starts", "stops", "steps"):
        if len(ints(attributes, name)) != len(x) - 1:
            raise GraphError(f"{name} {ints(attributes, name)} for an input of shape {x}; wanted one an axis")
    if 0 in ints(attributes, "steps"):
        raise GraphError("a step of 0")
    sizes = [None if size is None else len(slice_range(attributes, axis, size)) for axis, size in enumerate(x) if axis]
    if 0 in sizes:
        raise GraphError(f"the slice leaves nothing of an input of shape {x}")
    return [(None, *sizes)]


def _pad(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,), pads = _same(attributes, inputs), ints(attributes, "pads")
    if len(pads) != 2 * (len(x) - 1):
        raise GraphError(f"pads {pads} for an input of shape {x}; wanted two for each axis but the batch")
    most = {"reflect": -1, "symmetric": 0}.get(str(attributes["mode"]))
    sizes: list[int | None] = []
    for axis, size in enumerate(x[1:]):
        before, after = pads[2 * axis : 2 * axis + 2]
        if size is not None and most is not None and max(before, after) > size + most:
            raise GraphError(f"{attributes['mode']} pads {pads} reach beyond an input of shape {x}")
        sizes.append(None if size is None else size + before + after)
    return [(None, *sizes)]


def _single(value: float) -> float:
    """A number rounded to float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _resize(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, sizes = _rank(inputs[0], 4, 4), ints(attributes, "sizes")
    scales: tuple[float, ...] = attributes["scales"]  # type: ignore[assignment]
    result: list[int | None] = []
    for length, size, scale in zip(x[1:3], sizes, scales, strict=True):
        if not 0 < scale < LIMIT:
            raise GraphError(f"scales {scales}; wanted positive numbers")
        scaled = None if length is None else int(_single(length * _single(scale)))  # as ONNX Runtime multiplies
        if not size and scaled == 0:
            raise GraphError(f"scales {scales} leave nothing of an input of shape {x}")
        result.append(size or scaled)
    return [(None, *result, _channels(x))]


def _same(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    if inputs[0] is None:
        raise GraphError("its input is absent")
    return [inputs[0]]


def _softmax(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,) = _same(attributes, inputs)
    axis = number(attributes, "axis")
    if not 1 <= axis < len(x):
        raise GraphError(f"axis {axis} of shape {x}; wanted 1 or more and less than the rank")
    return [x]


_X = Role("x")
_BIAS = Role("bias", "constant", optional=True, ranks=(1,))
_RESIDUAL = Role("residual", optional=True)
_KERNEL = Role("weights", "constant", ranks=(3, 4, 5))
_AXIS = {"axis": Attribute("int", minimum=1, maximum=7)}
_EPSILON = {"epsilon": Attribute("float")}


def _vectors(*names: str) -> tuple[Role, ...]:
    return tuple(Role(name, "constant", ranks=(1,)) for name in names)


def _binary_row(formula: str) -> Operator:
    roles = (Role("x", "either"), Role("y", "either"))
    return Operator(roles, _binary, f"activation({formula}), with broadcasting", _ACTIVATED, activated=True)


def _reduce_row(what: str) -> Operator:
    return Operator((_X,), _reduce, f"{what} over neighbouring axes", {"axes": Attribute("ints", 1, 7), **_KEEPDIMS})


OPERATORS: Mapping[str, Operator] = {
    "conv": Operator(
        (_X, _KERNEL, _BIAS, _RESIDUAL),
        _conv,
        "activation(convolution(x, weights [*kernel, C / groups, filters]) + bias + residual); 1 to 3 spatial axes",
        {**_WINDOW, **_ACTIVATED, **_DILATIONS, **_GROUPS},
        _conv_macs,
        activated=True,
    ),
    "conv_transpose": Operator(
        (_X, _KERNEL, _BIAS),
        _conv_transpose,
        "activation(transposed convolution(x, weights [*kernel, filters / groups, C]) + bias): each input adds its "
        "weights to the output at `strides` times its place; `pads` are cut off, `output_padding` is added at the ends",
        {
            "strides": Attribute("ints", minimum=1),
            "pads": Attribute("ints"),
            "output_padding": Attribute("ints"),
            **_ACTIVATED,
            **_DILATIONS,
            **_GROUPS,
        },
        _conv_transpose_macs,
        activated=True,
    ),
    "depthwise_conv": Operator(
        (_X, Role("weights", "constant", ranks=(3, 4)), _BIAS),
        _depthwise_conv,
        "activation(depthwise convolution(x, weights [*kernel, C, multiplier]) + bias); 1 or 2 spatial axes",
        {**_WINDOW, **_ACTIVATED, **_DILATIONS},
        _depthwise_conv_macs,
        activated=True,
    ),
    "dense": Operator(
        (_X, Role("weights", "constant", ranks=(2,)), _BIAS, _RESIDUAL),
        _dense,
        "activation(x @ weights [C, units] + bias + residual), over the last axis",
        _ACTIVATED,
        _dense_macs,
        activated=True,
    ),
    "matmul": Operator((_X, Role("y")), _matmul, "x @ y, image by image, over the last two axes", {}, _matmul_macs),
    "batch_normalization": Operator(
        (_X, *_vectors("gamma", "beta", "mean", "variance")),
        _normalization,
        "activation((x - mean) / sqrt(variance + epsilon) * gamma + beta), over the last axis",
        {**_ACTIVATED, **_EPSILON},
        activated=True,
    ),
    "layer_normalization": Operator(
        (_X, *_vectors("gamma", "beta")),
        _normalization,
        "activation((x - mean) / sqrt(variance + epsilon) * gamma + beta), mean and variance over the last axis",
        {**_ACTIVATED, **_EPSILON},
        activated=True,
    ),
    "group_normalization": Operator(
        (_X, *_vectors("gamma", "beta")),
        _normalization,
        "as layer_normalization, mean and variance over all positions and the channels of each group",
        {**_ACTIVATED, **_EPSILON, **_GROUPS},
        activated=True,
    ),
    "local_response_normalization": Operator(
        (_X,),
        _normalization,
        "x / (bias + alpha * sum of x^2 over `size` neighbouring channels) ^ beta",
        {
            "size": Attribute("int", minimum=1),
            "bias": Attribute("float"),
            "alpha": Attribute("float"),
            "beta": Attribute("float"),
        },
    ),
    "activation": Operator((_X,), _same, "activation(x), element by element", _ACTIVATED, activated=True),
    "softmax": Operator(
        (_X,),
        _softmax,
        "exp(x - max) / sum along an axis; log: its logarithm",
        {**_AXIS, "log": Attribute("int", maximum=1)},
    ),
    "sparsemax": Operator((_X,), _same, "Keras' sparsemax over the last axis, whose outputs are mostly zeros", {}),
    "max_pool": Operator(
        (_X,),
        _pool,
        "maximum of each window; padding never wins; 1 to 3 spatial axes",
        {**_WINDOW, "pool_size": Attribute("ints", minimum=1)},
    ),
    "average_pool": Operator(
        (_X,),
        _pool,
        "mean of each window; padding is counted if count_padding; 1 to 3 spatial axes",
        {**_WINDOW, "pool_size": Attribute("ints", minimum=1), "count_padding": Attribute("int", maximum=1)},
    ),
    "reduce_mean": _reduce_row("mean"),
    "reduce_sum": _reduce_row("sum"),
    "reduce_max": _reduce_row("maximum"),
    "reduce_min": _reduce_row("minimum"),
    "add": _binary_row("x + y"),
    "subtract": _binary_row("x - y"),
    "multiply": _binary_row("x * y"),
    "divide": _binary_row("x / y"),
    "maximum": _binary_row("maximum(x, y)"),
    "minimum": _binary_row("minimum(x, y)"),
    "power": _binary_row("x ^ y"),
    "prelu": _binary_row("x where x > 0, else x * y"),
    "equal": _binary_row("1 where x = y, else 0"),
    "less": _binary_row("1 where x < y, else 0"),
    "keep": _binary_row("x where y is not 0, else 0"),
    "concatenate": Operator((_X,), _concatenate, "the inputs one after another along an axis", _AXIS, variadic=True),
    "reshape": Operator(
        (_X,),
        _reshape,
        "the same values, row-major, in another shape (per image; one size may be -1)",
        {"shape": Attribute("ints", minimum=-1)},
    ),
    "transpose": Operator(
        (_X,),
        _transpose,
        "x with its axes in another order: output axis i is input axis permutation[i - 1]",
        {"permutation": Attribute("ints", 1, 7)},
    ),
    "slice": Operator(
        (_X,),
        _slice,
        f"x[start:stop:step] along each axis but the batch, as Python counts; a stop of {LIMIT} means none",
        {name: Attribute("ints", -LIMIT) for name in ("starts", "stops", "steps")},
    ),
    "pad": Operator(
        (_X,),
        _pad,
        "x in a frame: pads = (begin, end) of each axis but the batch; of `value`, or of x mirrored or repeated",
        {"pads": Attribute("ints"), "mode": Attribute("string", choices=PAD_MODES), "value": Attribute("float")},
    ),
    "resize": Operator(
        (_X,),
        _resize,
        "x in another height and width: `sizes`, or, where these are 0, the input's times `scales`; see interpolation.py",
        {
            "sizes": Attribute("ints", length=2),
            "scales": Attribute("floats", length=2),
            "method": Attribute("string", choices=RESIZE_METHODS),
            "coordinates": Attribute("string", choices=COORDINATES),
            "rounding": Attribute("string", choices=ROUNDINGS),
            "cubic_coefficient": Attribute("float"),
            "exclude_outside": Attribute("int", maximum=1),
            "antialias": Attribute("int", maximum=1),
        },
    ),
    "identity": Operator((_X,), _same, "x; what layers become that do nothing at inference", {}),
}
"""Every operator by name."""

"""The operator table: for each operator its inputs, attributes, shape rule and cost.

Everything that handles operators (the checker, the file, the planner, the converter's passes, the documentation) reads
this table; an operator exists when it has a row here, a meaning in reference.py and a kernel family in the runtime.

Layout is channels last. Shapes have the batch first (None); a None elsewhere is a size known only at the call, and
every shape rule passes it on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
        plural = self.kind.endswith("s")
        if plural and not isinstance(value, tuple):
            return f"{value!r} is no tuple"
        items: tuple[object, ...] = value if plural else (value,)  # type: ignore[assignment]
        if plural and self.length is not None and len(items) != self.length:
            return f"{value!r} has {len(items)} entries; wanted {self.length}"
        for item in items:
            if self.kind.startswith("int"):
                if type(item) is not int:
                    return f"{item!r} is no int"
                if not self.minimum <= item <= self.maximum:
                    return f"{item} is outside {self.minimum}..{self.maximum}"
            elif type(item) is not float:
                return f"{item!r} is no float"
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
    "elu": Activation(("alpha",), (1.0,)),
    "selu": Activation(),
    "sigmoid": Activation(),
    # clip(slope * x + offset, 0, 1): 1/6 and 1/2 in Keras 3, 0.2 and 1/2 in Keras 2.
    "hard_sigmoid": Activation(("slope", "offset"), (1.0 / 6.0, 0.5)),
    "tanh": Activation(),
    "softplus": Activation(),
    "softsign": Activation(),
    "swish": Activation(),
    "hard_swish": Activation(),
    "gelu": Activation(),  # x * Phi(x), by erf
    "gelu_tanh": Activation(),  # Keras' approximate=True
    "exponential": Activation(),
}
"""The activation functions that an operator may carry, by Keras' names."""

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

    def complaint(self, attributes: Attributes, inputs: Sequence[str], constants: Mapping[str, Constant]) -> str | None:
        """What is wrong with a node's inputs and attributes (shapes apart), None if nothing."""
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
    "strides": Attribute("ints", minimum=1, length=2),
    # "same": TensorFlow's rule, the odd pixel at the end. "explicit": `pads` = (top, bottom, left, right).
    "padding": Attribute("string", choices=("same", "explicit")),
    "pads": Attribute("ints", length=4),
}


def ints(attributes: Attributes, name: str) -> tuple[int, ...]:
    """An "ints" attribute."""
    return attributes[name]  # type: ignore[return-value]


def effective_kernel(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, int]:
    """Rows and columns that a dilated kernel spans."""
    return (kernel[0] - 1) * dilations[0] + 1, (kernel[1] - 1) * dilations[1] + 1


def resolve_pads(attributes: Attributes, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a window operator over an input of (height, width) `size`.

    Args:
        kernel: what the window spans, dilation included.

    Source: TensorFlow's "SAME": ceil(size / stride) outputs, the smaller half of the padding before.
    """
    if attributes["padding"] == "explicit":
        return ints(attributes, "pads")  # type: ignore[return-value]
    pads: list[int] = []
    for length, span, stride in zip(size, kernel, ints(attributes, "strides"), strict=True):
        total = max((-(-length // stride) - 1) * stride + span - length, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def _window(attributes: Attributes, x: Shape, kernel: Sequence[int]) -> tuple[int | None, int | None]:
    """Height and width of a window operator's output."""
    pads = ints(attributes, "pads")
    if attributes["padding"] == "same" and any(pads):
        raise GraphError(f"padding 'same' with pads {pads}; wanted zeros")
    result: list[int | None] = []
    for axis in (0, 1):
        length, stride = x[1 + axis], ints(attributes, "strides")[axis]
        if length is None:
            result.append(None)
        elif attributes["padding"] == "same":
            result.append(-(-length // stride))
        else:
            rest = length + pads[2 * axis] + pads[2 * axis + 1] - kernel[axis]
            if rest < 0:
                raise GraphError(f"a window of {kernel[axis]} does not fit an input of {length} with padding {pads}")
            result.append(rest // stride + 1)
    return result[0], result[1]


def _rank(shape: Shape | None, rank: int, name: str = "x") -> Shape:
    if shape is None or len(shape) != rank:
        raise GraphError(f"its {name} has shape {shape}; wanted rank {rank}")
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


def _conv2d(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, weights, groups = _rank(inputs[0], 4), _rank(inputs[1], 4, "weights"), int(attributes["groups"])  # type: ignore[arg-type]
    rows, columns, depth, filters = (size or 0 for size in weights)
    if min(rows, columns, depth, filters) < 1:
        raise GraphError(f"its weights have shape {weights}; every size must be at least 1")
    if depth * groups != _channels(x) or filters % groups:
        raise GraphError(f"weights of shape {weights} in {groups} groups do not fit an input of shape {x}")
    height, width = _window(attributes, x, effective_kernel((rows, columns), ints(attributes, "dilations")))
    output = (None, height, width, filters)
    _vector(inputs[2], filters, "bias")
    _residual(inputs[3], output)
    return [output]


def _conv2d_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    rows, columns, depth, _ = inputs[1]  # type: ignore[misc]
    return _size(outputs[0]) * rows * columns * depth  # type: ignore[operator]


def _depthwise_conv2d(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, weights = _rank(inputs[0], 4), _rank(inputs[1], 4, "weights")
    rows, columns, depth, multiplier = (size or 0 for size in weights)
    if min(rows, columns, depth, multiplier) < 1:
        raise GraphError(f"its weights have shape {weights}; every size must be at least 1")
    if depth != _channels(x):
        raise GraphError(f"weights of shape {weights} do not fit an input of shape {x}")
    height, width = _window(attributes, x, effective_kernel((rows, columns), ints(attributes, "dilations")))
    output = (None, height, width, depth * multiplier)
    _vector(inputs[2], depth * multiplier, "bias")
    return [output]


def _depthwise_conv2d_macs(attributes: Attributes, inputs: Shapes, outputs: Sequence[Shape]) -> int:
    rows, columns, _, _ = inputs[1]  # type: ignore[misc]
    return _size(outputs[0]) * rows * columns  # type: ignore[operator]


def _dense(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, weights = inputs[0], _rank(inputs[1], 2, "weights")
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


def _batch_normalization(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x = inputs[0]
    if x is None or len(x) < 2:
        raise GraphError(f"its x has shape {x}; wanted rank 2 or more")
    for shape, name in zip(inputs[1:], ("gamma", "beta", "mean", "variance"), strict=True):
        _vector(shape, _channels(x), name)
    return [x]


def _pool2d(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, kernel = _rank(inputs[0], 4), ints(attributes, "pool_size")
    pads = ints(attributes, "pads")
    if max(pads[:2]) >= kernel[0] or max(pads[2:]) >= kernel[1]:
        raise GraphError(f"pads {pads} leave windows of {kernel} without a pixel; wanted less than the window")
    height, width = _window(attributes, x, kernel)
    return [(None, height, width, _channels(x))]


def _global_pool2d(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x = _rank(inputs[0], 4)
    return [(None, 1, 1, _channels(x)) if attributes["keepdims"] else (None, _channels(x))]


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
    axis = int(attributes["axis"])  # type: ignore[arg-type]
    first = inputs[0]
    if first is None or not 1 <= axis < len(first):
        raise GraphError(f"axis {axis} of shape {first}; wanted 1 or more and less than the rank")
    total: int | None = 0
    for shape in inputs:
        if shape is None or len(shape) != len(first):
            raise GraphError(f"shapes {first} and {shape} cannot be concatenated along axis {axis}")
        if any(a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis):
            raise GraphError(f"shapes {first} and {shape} cannot be concatenated along axis {axis}")
        total = None if total is None or shape[axis] is None else total + shape[axis]  # type: ignore[operator]
    return [(*first[:axis], total, *first[axis + 1 :])]


def _reshape(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, target = inputs[0], list(ints(attributes, "shape"))
    if x is None:
        raise GraphError("its input is absent")
    if target.count(-1) > 1 or 0 in target:
        raise GraphError(f"target shape {tuple(target)}: at most one -1, no 0")
    if None in x[1:]:
        return [(None, *(None if size == -1 else size for size in target))]
    size, known = _size(x), math.prod(size for size in target if size != -1)
    if -1 in target and known and size % known == 0:
        target[target.index(-1)] = size // known
    if math.prod(target) != size:
        raise GraphError(f"{size} values of shape {x} cannot take the shape {tuple(target)}")
    return [(None, *target)]


def _zero_padding2d(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    x, (top, bottom, left, right) = _rank(inputs[0], 4), ints(attributes, "pads")
    height = None if x[1] is None else x[1] + top + bottom
    width = None if x[2] is None else x[2] + left + right
    return [(None, height, width, x[3])]


def _same(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    if inputs[0] is None:
        raise GraphError("its input is absent")
    return [inputs[0]]


def _softmax(attributes: Attributes, inputs: Shapes) -> list[Shape]:
    (x,) = _same(attributes, inputs)
    axis = int(attributes["axis"])  # type: ignore[arg-type]
    if not 1 <= axis < len(x):
        raise GraphError(f"axis {axis} of shape {x}; wanted 1 or more and less than the rank")
    return [x]


_X = Role("x")
_BIAS = Role("bias", "constant", optional=True, ranks=(1,))
_RESIDUAL = Role("residual", optional=True)
_AXIS = {"axis": Attribute("int", minimum=1, maximum=7)}

OPERATORS: Mapping[str, Operator] = {
    "conv2d": Operator(
        (_X, Role("weights", "constant", ranks=(4,)), _BIAS, _RESIDUAL),
        _conv2d,
        "activation(convolution(x, weights [rows, columns, C / groups, filters]) + bias + residual)",
        {
            **_WINDOW,
            **_ACTIVATED,
            "dilations": Attribute("ints", minimum=1, length=2),
            "groups": Attribute("int", minimum=1),
        },
        _conv2d_macs,
        activated=True,
    ),
    "depthwise_conv2d": Operator(
        (_X, Role("weights", "constant", ranks=(4,)), _BIAS),
        _depthwise_conv2d,
        "activation(depthwise convolution(x, weights [rows, columns, C, multiplier]) + bias)",
        {**_WINDOW, **_ACTIVATED, "dilations": Attribute("ints", minimum=1, length=2)},
        _depthwise_conv2d_macs,
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
    "batch_normalization": Operator(
        (_X, *(Role(name, "constant", ranks=(1,)) for name in ("gamma", "beta", "mean", "variance"))),
        _batch_normalization,
        "activation((x - mean) / sqrt(variance + epsilon) * gamma + beta), over the last axis",
        {**_ACTIVATED, "epsilon": Attribute("float")},
        activated=True,
    ),
    "activation": Operator((_X,), _same, "activation(x), element by element", _ACTIVATED, activated=True),
    "softmax": Operator((_X,), _softmax, "exp(x - max) / sum along an axis", _AXIS),
    "max_pool2d": Operator(
        (_X,),
        _pool2d,
        "maximum of each window; padding never wins",
        {**_WINDOW, "pool_size": Attribute("ints", minimum=1, length=2)},
    ),
    "average_pool2d": Operator(
        (_X,),
        _pool2d,
        "mean of each window; padding is not counted",
        {**_WINDOW, "pool_size": Attribute("ints", minimum=1, length=2)},
    ),
    "global_average_pool2d": Operator(
        (_X,), _global_pool2d, "mean of all pixels", {"keepdims": Attribute("int", maximum=1)}
    ),
    "global_max_pool2d": Operator(
        (_X,), _global_pool2d, "maximum of all pixels", {"keepdims": Attribute("int", maximum=1)}
    ),
    "add": Operator(
        (Role("x", "either"), Role("y", "either")),
        _binary,
        "activation(x + y), with broadcasting",
        _ACTIVATED,
        activated=True,
    ),
    "multiply": Operator(
        (Role("x", "either"), Role("y", "either")),
        _binary,
        "activation(x * y), with broadcasting",
        _ACTIVATED,
        activated=True,
    ),
    "concatenate": Operator((_X,), _concatenate, "the inputs one after another along an axis", _AXIS, variadic=True),
    "reshape": Operator(
        (_X,),
        _reshape,
        "the same values, row-major, in another shape (per image; one size may be -1)",
        {"shape": Attribute("ints", minimum=-1)},
    ),
    "zero_padding2d": Operator(
        (_X,),
        _zero_padding2d,
        "x inside a frame of zeros: pads = (top, bottom, left, right)",
        {"pads": Attribute("ints", length=4)},
    ),
    "identity": Operator((_X,), _same, "x; what layers become that do nothing at inference", {}),
}
"""Every operator by name."""

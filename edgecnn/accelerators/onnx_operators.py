"""What each operator becomes in ONNX (opset 17): a function for every row of the operator table, and of the activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.accelerators.onnx_builder import Inexpressible, OnnxBuilder, Order, channels_first, plain
from edgecnn.graph import Node
from edgecnn.graph.interpolation import axis_table
from edgecnn.graph.operators import LIMIT, effective_kernel, ints, number, resolve_pads

Array = np.ndarray[Any, Any]
Emitter = Callable[[OnnxBuilder, Node], None]
Function = Callable[..., str]

TO_THE_END = 2**31 - 1
"""A stop of Slice beyond every size; its negative lies before every beginning."""


def activated(b: OnnxBuilder, node: Node, x: str) -> str:
    """x after the node's activation."""
    parameters: Sequence[float] = node.attributes["activation_parameters"]  # type: ignore[assignment]
    return FUNCTIONS[str(node.attributes["activation"])](b, x, *parameters)


def _named(kind: str, **names: str) -> Function:
    """A function that ONNX has under this name. names: of the attributes that our parameters are, in order."""

    def function(b: OnnxBuilder, x: str, *parameters: float) -> str:
        attributes: dict[str, Any] = dict(zip(names.values(), parameters, strict=True))
        return b.op(kind, x, **attributes)

    return function


def _relu(b: OnnxBuilder, x: str, negative_slope: float, max_value: float, threshold: float) -> str:
    if threshold == 0 and negative_slope == 0:
        return b.op("Relu", x) if max_value == math.inf else _clip(b, x, 0.0, max_value)
    if threshold == 0:
        y = b.op("LeakyRelu", x, alpha=negative_slope)
    else:
        limit = b.constant(threshold)
        below = b.op("Mul", b.op("Sub", x, limit), b.constant(negative_slope)) if negative_slope else b.constant(0.0)
        y = b.op("Where", b.op("LessOrEqual", x, limit), below, x)
    return y if max_value == math.inf else b.op("Min", y, b.constant(max_value))


def _clip(b: OnnxBuilder, x: str, low: float, high: float) -> str:
    return b.op("Clip", x, b.constant(low), b.constant(high))


def _scaled(b: OnnxBuilder, x: str, factor: float) -> str:
    return b.op("Mul", x, b.constant(factor))


def _moved(b: OnnxBuilder, x: str, amount: float) -> str:
    return b.op("Add", x, b.constant(amount))


def _sparse_plus(b: OnnxBuilder, x: str) -> str:
    """(clip(x, -1, 1) + 1)^2 / 4 + relu(x - 1)."""
    inner = _moved(b, _clip(b, x, -1.0, 1.0), 1.0)
    return b.op("Add", _scaled(b, b.op("Mul", inner, inner), 0.25), b.op("Relu", _moved(b, x, -1.0)))


def _squareplus(b: OnnxBuilder, x: str, width: float) -> str:
    root = b.op("Sqrt", _moved(b, b.op("Mul", x, x), width))
    return _scaled(b, b.op("Add", x, root), 0.5)


def _gelu(b: OnnxBuilder, x: str) -> str:
    half = _scaled(b, x, 0.5)
    return b.op("Mul", half, _moved(b, b.op("Erf", _scaled(b, x, math.sqrt(0.5))), 1.0))


def _gelu_tanh(b: OnnxBuilder, x: str) -> str:
    cube = b.op("Mul", b.op("Mul", x, x), x)
    inner = _scaled(b, b.op("Add", x, _scaled(b, cube, 0.044715)), math.sqrt(2 / math.pi))
    return b.op("Mul", _scaled(b, x, 0.5), _moved(b, b.op("Tanh", inner), 1.0))


def _threshold(b: OnnxBuilder, x: str, threshold: float, default: float) -> str:
    return b.op("Where", b.op("Greater", x, b.constant(threshold)), x, b.constant(default))


FUNCTIONS: Mapping[str, Function] = {
    "linear": lambda b, x: x,
    "relu": _relu,
    "clip": _clip,
    "elu": _named("Elu", alpha="alpha"),
    "celu": _named("Celu", alpha="alpha"),
    "selu": lambda b, x: b.op("Selu", x, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "sigmoid": _named("Sigmoid"),
    "hard_sigmoid": _named("HardSigmoid", slope="alpha", offset="beta"),
    "sparse_sigmoid": lambda b, x: b.op("HardSigmoid", x, alpha=0.5, beta=0.5),
    "log_sigmoid": lambda b, x: b.op("Neg", b.op("Softplus", b.op("Neg", x))),
    "tanh": _named("Tanh"),
    "tanh_shrink": lambda b, x: b.op("Sub", x, b.op("Tanh", x)),
    "softplus": _named("Softplus"),
    "sparse_plus": _sparse_plus,
    "squareplus": _squareplus,
    "softsign": _named("Softsign"),
    "hard_shrink": lambda b, x, threshold: b.op("Shrink", x, lambd=threshold, bias=0.0),
    "soft_shrink": lambda b, x, threshold: b.op("Shrink", x, lambd=threshold, bias=threshold),
    "threshold": _threshold,
    "swish": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "hard_swish": _named("HardSwish"),
    "mish": lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x))),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "exponential": _named("Exp"),
    "expm1": lambda b, x: _moved(b, b.op("Exp", x), -1.0),
    "log": _named("Log"),
    "log1p": lambda b, x: b.op("Log", _moved(b, x, 1.0)),
    "sqrt": _named("Sqrt"),
    "rsqrt": lambda b, x: b.op("Reciprocal", b.op("Sqrt", x)),
    "reciprocal": _named("Reciprocal"),
    "square": lambda b, x: b.op("Mul", x, x),
    "abs": _named("Abs"),
    "sign": _named("Sign"),
    "floor": _named("Floor"),
    "ceil": _named("Ceil"),
    "round": _named("Round"),
    "sin": _named("Sin"),
    "cos": _named("Cos"),
    "erf": _named("Erf"),
}
"""Every activation function: the builder, x and our parameters to the name of the result."""


def _window(b: OnnxBuilder, node: Node, kernel: Sequence[int], dilations: Sequence[int]) -> dict[str, Any]:
    """Attributes of a window operator that slides over the node's first input."""
    spans, strides = effective_kernel(kernel, dilations), ints(node.attributes, "strides")
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    sizes = b.shape(node.inputs[0])[1:-1]
    if all(size is not None or stride == 1 for size, stride in zip(sizes, strides, strict=True)):
        # With a stride of 1 what "same" adds does not depend on the size.
        pads = resolve_pads(node.attributes, [size or 1 for size in sizes], spans)
        attributes["pads"] = [*pads[::2], *pads[1::2]]
    elif node.attributes["padding"] == "explicit":
        pads = ints(node.attributes, "pads")
        attributes["pads"] = [*pads[::2], *pads[1::2]]
    elif max(dilations) > 1:
        raise Inexpressible("'same' padding of dilated windows with strides over an input of unknown size")
    else:
        attributes["auto_pad"] = "SAME_UPPER"
    return attributes


def _bias(b: OnnxBuilder, name: str) -> str:
    return b.constant(b.weights(name)) if name else ""


def _conv(b: OnnxBuilder, node: Node) -> None:
    weights = b.weights(node.inputs[1])
    if node.operator == "depthwise_conv":
        *kernel, groups, multiplier = weights.shape
        weights = np.moveaxis(weights, (-2, -1), (0, 1)).reshape(groups * multiplier, 1, *kernel)
    else:
        kernel, groups = list(weights.shape[:-2]), number(node.attributes, "groups")
        weights = np.moveaxis(weights, (-1, -2), (0, 1))
    order = channels_first(b.rank(node.inputs[0]))
    dilations = ints(node.attributes, "dilations")
    y = b.op(
        "Conv",
        b.view(node.inputs[0], order),
        b.constant(weights),
        _bias(b, node.inputs[2]),
        dilations=list(dilations),
        group=groups,
        **_window(b, node, kernel, dilations),
    )
    if len(node.inputs) > 3 and node.inputs[3]:
        y = b.op("Add", y, b.view(node.inputs[3], order))
    b.give(node.output, order, activated(b, node, y))


def _conv_transpose(b: OnnxBuilder, node: Node) -> None:
    weights = b.weights(node.inputs[1])
    order = channels_first(b.rank(node.inputs[0]))
    pads, strides = ints(node.attributes, "pads"), ints(node.attributes, "strides")
    extra = ints(node.attributes, "output_padding")
    begins, ends = pads[::2], [max(0, end - more) for end, more in zip(pads[1::2], extra, strict=True)]
    added = [max(0, more - end) for end, more in zip(pads[1::2], extra, strict=True)]
    # ONNX wants output_padding below the stride. Rows beyond that are reached by no input: they are put around the whole.
    usual = all(more < stride for more, stride in zip(added, strides, strict=True))
    cut: dict[str, Any] = {"pads": [*begins, *ends], "output_padding": added} if usual else {}
    bias = _bias(b, node.inputs[2])
    y = b.op(
        "ConvTranspose",
        b.view(node.inputs[0], order),
        b.constant(np.moveaxis(weights, (-1, -2), (0, 1))),
        bias if usual else "",
        kernel_shape=list(weights.shape[:-2]),
        strides=list(strides),
        dilations=list(ints(node.attributes, "dilations")),
        group=number(node.attributes, "groups"),
        **cut,
    )
    if not usual:
        frame = [more - end for end, more in zip(pads[1::2], extra, strict=True)]
        y = b.op("Pad", y, b.integers(0, 0, *(-begin for begin in begins), 0, 0, *frame))
        if bias:
            y = b.op("Add", y, _along_channels(b, b.weights(node.inputs[2]), order))
    b.give(node.output, order, activated(b, node, y))


def _dense(b: OnnxBuilder, node: Node) -> None:
    order = plain(b.rank(node.inputs[0]))
    x, weights = b.view(node.inputs[0], order), b.constant(b.weights(node.inputs[1]))
    bias = _bias(b, node.inputs[2])
    if len(order) == 2:
        y = b.op("Gemm", x, weights, bias)
    else:
        y = b.op("MatMul", x, weights)
        y = b.op("Add", y, bias) if bias else y
    if node.inputs[3]:
        y = b.op("Add", y, b.view(node.inputs[3], order))
    b.give(node.output, order, activated(b, node, y))


def _matmul(b: OnnxBuilder, node: Node) -> None:
    order = plain(b.rank(node.output))
    b.give(node.output, order, b.op("MatMul", *(b.view(name, order) for name in node.inputs)))


def _epsilon(node: Node) -> float:
    return float(node.attributes["epsilon"])  # type: ignore[arg-type]


def _along_channels(b: OnnxBuilder, values: Array, order: Order) -> str:
    """A vector over the channels, as an operand in an order."""
    after = len(order) - 1 - order.index(len(order) - 1)
    return b.constant(values.reshape(-1, *[1] * after))


def _batch_normalization(b: OnnxBuilder, node: Node) -> None:
    order = b.common_order(node.inputs[:1])
    x = b.view(node.inputs[0], order)
    gamma, beta, mean, variance = (b.weights(name) for name in node.inputs[1:])
    if order[1] == len(order) - 1:
        vectors = map(b.constant, (gamma, beta, mean, variance))
        y = b.op("BatchNormalization", x, *vectors, epsilon=_epsilon(node))
    else:
        exact = [vector.astype(np.float64) for vector in (gamma, beta, mean, variance)]
        scale = exact[0] / np.sqrt(exact[3] + _epsilon(node))
        y = b.op("Mul", x, _along_channels(b, scale, order))
        y = b.op("Add", y, _along_channels(b, exact[1] - exact[2] * scale, order))
    b.give(node.output, order, activated(b, node, y))


def _layer_normalization(b: OnnxBuilder, node: Node) -> None:
    order = plain(b.rank(node.inputs[0]))
    vectors = (b.constant(b.weights(name)) for name in node.inputs[1:])
    y = b.op("LayerNormalization", b.view(node.inputs[0], order), *vectors, axis=-1, epsilon=_epsilon(node))
    b.give(node.output, order, activated(b, node, y))


def _group_normalization(b: OnnxBuilder, node: Node) -> None:
    """Each group as the one channel of an instance normalisation, which every engine has."""
    shape = b.shape(node.inputs[0])
    order, groups = channels_first(len(shape)), number(node.attributes, "groups")
    x = b.view(node.inputs[0], order)
    cut = b.op("Reshape", x, b.integers(0, groups, -1))
    y = b.op(
        "InstanceNormalization",
        cut,
        b.constant(np.ones(groups)),
        b.constant(np.zeros(groups)),
        epsilon=_epsilon(node),
    )
    sizes = [-1 if shape[axis] is None else int(shape[axis] or 0) for axis in order[1:]]
    y = b.op("Reshape", y, b.integers(0, *sizes) if sizes.count(-1) <= 1 else b.op("Shape", x))
    y = b.op("Mul", y, _along_channels(b, b.weights(node.inputs[1]), order))
    y = b.op("Add", y, _along_channels(b, b.weights(node.inputs[2]), order))
    b.give(node.output, order, activated(b, node, y))


def _local_response_normalization(b: OnnxBuilder, node: Node) -> None:
    shape, size = b.shape(node.inputs[0]), number(node.attributes, "size")
    bias, alpha, beta = (float(node.attributes[name]) for name in ("bias", "alpha", "beta"))  # type: ignore[arg-type]
    if len(shape) == 4 and size % 2:
        order = channels_first(4)
        x = b.view(node.inputs[0], order)
        b.give(node.output, order, b.op("LRN", x, size=size, bias=bias, alpha=alpha * size, beta=beta))
        return
    # ONNX Runtime takes images of two axes and odd sizes only: the sum over neighbours is a product with a band of ones.
    order, channels = plain(len(shape)), shape[-1] or 0
    x = b.view(node.inputs[0], order)
    distance = np.arange(channels)[:, None] - np.arange(channels)
    band = (-((size - 1) // 2) <= distance) & (distance <= size // 2)
    total = b.op("MatMul", b.op("Mul", x, x), b.constant(band))
    divisor = b.op("Pow", _moved(b, _scaled(b, total, alpha), bias), b.constant(beta))
    b.give(node.output, order, b.op("Div", x, divisor))


def _activation(b: OnnxBuilder, node: Node) -> None:
    if node.attributes["activation"] == "linear":
        _identity(b, node)
        return
    order = b.common_order(node.inputs)
    b.give(node.output, order, activated(b, node, b.view(node.inputs[0], order)))


def _softmax(b: OnnxBuilder, node: Node) -> None:
    order = b.common_order(node.inputs)
    axis = order.index(number(node.attributes, "axis"))
    kind = "LogSoftmax" if node.attributes["log"] else "Softmax"
    b.give(node.output, order, b.op(kind, b.view(node.inputs[0], order), axis=axis))


def _sparsemax(b: OnnxBuilder, node: Node) -> None:
    """reference.py's, line by line."""
    shape = b.shape(node.inputs[0])
    order, channels = plain(len(shape)), shape[-1] or 0
    x, last, axes = b.view(node.inputs[0], order), len(order) - 1, b.integers(len(order) - 1)
    z, _ = b.ops(2, "TopK", x, b.integers(channels), axis=last)
    less = _moved(b, b.op("CumSum", z, b.constant(last, np.int64)), -1.0)
    supported = b.op("Less", b.op("Div", less, b.constant(np.arange(1, channels + 1))), z)
    sums = b.op("Where", supported, _moved(b, less, 1.0), b.constant(0.0))
    total = _moved(b, b.op("ReduceSum", sums, axes), -1.0)
    count = b.op("ReduceSum", b.op("Cast", supported, to=1), axes)  # 1: float32
    b.give(node.output, order, b.op("Relu", b.op("Sub", x, b.op("Div", total, count))))


def _pool(b: OnnxBuilder, node: Node) -> None:
    kernel = ints(node.attributes, "pool_size")
    order = channels_first(b.rank(node.inputs[0]))
    attributes = _window(b, node, kernel, (1,) * len(kernel))
    kind = "MaxPool"
    if node.operator == "average_pool":
        kind, attributes["count_include_pad"] = "AveragePool", node.attributes["count_padding"]
    b.give(node.output, order, b.op(kind, b.view(node.inputs[0], order), **attributes))


def _reduce(b: OnnxBuilder, node: Node) -> None:
    order, gone, keep = b.common_order(node.inputs), ints(node.attributes, "axes"), number(node.attributes, "keepdims")
    x, axes = b.view(node.inputs[0], order), sorted(order.index(axis) for axis in gone)
    if node.operator == "reduce_sum":
        y = b.op("ReduceSum", x, b.integers(*axes), keepdims=keep)
    else:
        kind = {"reduce_mean": "ReduceMean", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}[node.operator]
        y = b.op(kind, x, axes=axes, keepdims=keep)
    if not keep:
        left = [axis for axis in order if axis not in gone]
        order = tuple(sorted(left).index(axis) for axis in left)
    b.give(node.output, order, y)


_BINARY = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "power": "Pow",
}


def _binary(b: OnnxBuilder, node: Node) -> None:
    order = b.common_order(node.inputs)
    x, y = (b.operand(name, order) for name in node.inputs)
    if node.operator in _BINARY:
        result = b.op(_BINARY[node.operator], x, y)
    elif node.operator in ("equal", "less"):
        result = b.op("Cast", b.op(node.operator.capitalize(), x, y), to=1)  # 1: float32
    elif node.operator == "keep":
        result = b.op("Where", b.op("Equal", y, b.constant(0.0)), b.constant(0.0), x)
    elif b.shape(node.inputs[0]) == b.shape(node.output):
        result = b.op("PRelu", x, y)
    else:  # prelu whose x is the smaller one
        result = b.op("Where", b.op("Greater", x, b.constant(0.0)), x, b.op("Mul", x, y))
    b.give(node.output, order, activated(b, node, result))


def _concatenate(b: OnnxBuilder, node: Node) -> None:
    order = b.common_order(node.inputs)
    axis = order.index(number(node.attributes, "axis"))
    b.give(node.output, order, b.op("Concat", *(b.view(name, order) for name in node.inputs), axis=axis))


def _reshape(b: OnnxBuilder, node: Node) -> None:
    x, order = b.view(node.inputs[0], plain(b.rank(node.inputs[0]))), plain(b.rank(node.output))
    sizes = [-1 if size is None else size for size in b.shape(node.output)[1:]]
    if b.shape(node.inputs[0]) == b.shape(node.output) and -1 not in sizes:
        _identity(b, node)
        return
    b.give(node.output, order, b.op("Reshape", x, b.integers(0, *sizes)))


def _transpose(b: OnnxBuilder, node: Node) -> None:
    b.share(node.inputs[0], node.output, (0, *ints(node.attributes, "permutation")))


def _slice(b: OnnxBuilder, node: Node) -> None:
    order = b.common_order(node.inputs)
    cuts = []
    for place, axis in enumerate(order):
        if axis == 0:
            continue
        start, stop, step = (ints(node.attributes, name)[axis - 1] for name in ("starts", "stops", "steps"))
        if (start, stop, step) != (0, LIMIT, 1):
            end = stop if stop != LIMIT else TO_THE_END if step > 0 else -TO_THE_END
            cuts.append((start, end, place, step))
    if not cuts:
        _identity(b, node)
        return
    bounds = (b.integers(*column) for column in zip(*cuts, strict=True))
    b.give(node.output, order, b.op("Slice", b.view(node.inputs[0], order), *bounds))


def _pad(b: OnnxBuilder, node: Node) -> None:
    order, mode, pads = b.common_order(node.inputs), str(node.attributes["mode"]), ints(node.attributes, "pads")
    if not any(pads):
        _identity(b, node)
        return
    frame = [(0, 0) if axis == 0 else pads[2 * axis - 2 : 2 * axis] for axis in order]
    x = b.view(node.inputs[0], order)
    if mode == "symmetric":
        for place, (before, after) in enumerate(frame):
            x = _mirrored(b, x, place, before, after)
    else:
        ends = b.integers(*(pair[side] for side in (0, 1) for pair in frame))
        value = b.constant(float(node.attributes["value"])) if mode == "constant" else ""  # type: ignore[arg-type]
        x = b.op("Pad", x, ends, value, mode=mode)
    b.give(node.output, order, x)


def _mirrored(b: OnnxBuilder, x: str, place: int, before: int, after: int) -> str:
    """x between mirror images of its ends, the last pixel repeated: ONNX' own mirror leaves that out."""

    def reversed_part(start: int, stop: int) -> str:
        return b.op("Slice", x, *map(b.integers, (start, stop, place, -1)))

    parts = [reversed_part(before - 1, -TO_THE_END)] if before else []
    parts.append(x)
    if after:
        parts.append(reversed_part(-1, -after - 1))
    return b.op("Concat", *parts, axis=place) if len(parts) > 1 else x


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


def _resize(b: OnnxBuilder, node: Node) -> None:
    order = channels_first(4)
    x = b.view(node.inputs[0], order)
    lengths, sizes = b.shape(node.inputs[0])[1:3], b.shape(node.output)[1:3]
    given: Sequence[float] = node.attributes["scales"]  # type: ignore[assignment]
    scales = [
        size / length if target and size and length else scale
        for length, size, target, scale in zip(lengths, sizes, ints(node.attributes, "sizes"), given, strict=True)
    ]
    if _onnx_resizes_alike(node, lengths, sizes, scales):
        method = str(node.attributes["method"])
        attributes: dict[str, Any] = {
            "mode": method,
            "coordinate_transformation_mode": str(node.attributes["coordinates"]),
        }
        if method == "nearest":
            rounding = str(node.attributes["rounding"])
            theirs = "floor" if attributes["coordinate_transformation_mode"] == "asymmetric" else "round_prefer_ceil"
            attributes["nearest_mode"] = theirs if rounding == "tensorflow" else rounding
        b.give(node.output, order, b.op("Resize", x, "", b.constant([1.0, 1.0, *scales]), **attributes))
        return
    for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        if length is None or size is None:
            raise Inexpressible("a resize of this kind of an input of unknown size")
        places, weights = axis_table(node.attributes, axis, length, size)
        matrix = np.zeros((size, length))
        np.add.at(matrix, (np.arange(size)[:, None], places), weights)
        if not np.array_equal(matrix, np.eye(length)[:size]) or size != length:
            x = b.op("MatMul", b.constant(matrix), x) if axis == 0 else b.op("MatMul", x, b.constant(matrix.T))
    b.give(node.output, order, x)


def _onnx_resizes_alike(
    node: Node, lengths: Sequence[int | None], sizes: Sequence[int | None], scales: Sequence[float]
) -> bool:
    """Whether every engine's Resize must give what ours does: it computes places in float32, from a scale of float32, and
    two pixels apart where a place falls on the border between them. Other cases become products with our own tables."""
    method, coordinates = str(node.attributes["method"]), str(node.attributes["coordinates"])
    if coordinates not in _COORDINATES or method not in ("nearest", "linear") or node.attributes["antialias"]:
        return False
    for length, size, scale in zip(lengths, sizes, scales, strict=True):
        if length is None or size is None:
            if scale != int(scale):
                return False
        else:
            rounded = np.float32(scale)
            found = {int(rounded * np.float32(length)), int(float(rounded) * length)}  # engines take one or the other
            if found != {size} or abs(length * scale - size) > 1e-9:
                return False
    if method == "linear":
        return True
    rounding = str(node.attributes["rounding"])
    if any(scale != int(scale) for scale in scales):
        return False
    if coordinates == "asymmetric":
        return rounding in ("floor", "tensorflow")
    # (i + 1/2) / scale - 1/2 lies half way between two pixels for no i, and for no even scale on a pixel.
    between = rounding.startswith("round") or rounding == "tensorflow"
    return coordinates == "half_pixel" and (between or all(scale % 2 == 0 for scale in scales))


def _identity(b: OnnxBuilder, node: Node) -> None:
    b.share(node.inputs[0], node.output, plain(b.rank(node.inputs[0])))


EMITTERS: Mapping[str, Emitter] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "depthwise_conv": _conv,
    "dense": _dense,
    "matmul": _matmul,
    "batch_normalization": _batch_normalization,
    "layer_normalization": _layer_normalization,
    "group_normalization": _group_normalization,
    "local_response_normalization": _local_response_normalization,
    "activation": _activation,
    "softmax": _softmax,
    "sparsemax": _sparsemax,
    "max_pool": _pool,
    "average_pool": _pool,
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), _reduce),
    **dict.fromkeys((*_BINARY, "prelu", "equal", "less", "keep"), _binary),
    "concatenate": _concatenate,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "identity": _identity,
}
"""Every operator: adds to the builder what gives the node's output."""

"""A graph as a Keras 3 model of Keras' own layers: to train it on, or to run it under any of Keras' backends.

A node becomes the layers that the converter would make it of: padding, the operator with its bias, the sum, the activation. They are
called after the source layers that the node computes (see graph/names.py), so that a second conversion gives the same file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgecnn import format as file_format
from edgecnn.accelerators.keras_layers import local_response_normalization_class
from edgecnn.errors import MissingPackageError, UnsupportedLayer, UnsupportedLayerError
from edgecnn.graph import Graph, Node
from edgecnn.graph.canonical import layer_of
from edgecnn.graph.interpolation import axis_table
from edgecnn.graph.names import layer_name
from edgecnn.graph.operators import LIMIT, effective_kernel, ints, number, resolve_pads, slice_range, spatial_sizes
from edgecnn.graph.reference import values_of

Array = np.ndarray[Any, Any]
Operand = Any
"""A symbolic tensor of Keras, an array, or None."""

_NAMED = (
    "selu", "sigmoid", "log_sigmoid", "tanh", "tanh_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "swish",
    "hard_swish", "mish", "gelu", "exponential",
)  # fmt: skip
"""Functions without parameters that keras.activations knows by our name."""
_OPERATIONS = (
    "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "square", "abs", "sign", "floor", "ceil", "round", "sin", "cos", "erf",
)  # fmt: skip
"""Functions of keras.ops."""
_INTERPOLATIONS = {
    "nearest": "nearest",
    "linear": "bilinear",
    "cubic_table": "bicubic",
    "lanczos3": "lanczos3",
    "lanczos5": "lanczos5",
}


def to_keras(source: Any) -> Any:
    """Rebuild a model in Keras, under the backend that Keras runs on here.

    What the converter folded stays folded: a batch normalisation that has gone into a convolution is not there again. Zeros of a
    pruned model are weights like others, unless `edgecnn.training.Pruning` holds them.

    Args:
        source: path of an .ecnn file, its bytes, a graph, or a loaded model.

    Returns:
        A keras.Model of plain layers, its inputs and outputs named as in the file. Sparse, compressed and quantised weights are
        float32.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: Keras 3 is not installed.
        UnsupportedLayerError: what no layer or function of Keras computes; all of it is listed.
    """
    if isinstance(source, Graph):
        return _Rebuilder(source).model()
    graph = getattr(source, "graph", None)
    if isinstance(graph, Graph):
        return _Rebuilder(graph).model()
    with file_format.reading(source) as read:
        return _Rebuilder(read).model()


def import_keras() -> Any:
    """Keras 3, as late as possible.

    Raises:
        MissingPackageError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
    except ImportError as error:
        raise MissingPackageError('a Keras model needs Keras 3: pip install "edgecnn[train]"') from error
    if not hasattr(keras, "ops"):
        raise MissingPackageError(f'Keras {keras.__version__} is too old: pip install "edgecnn[train]"')
    return keras


class _Unsupported(Exception):
    """What Keras cannot say; the text is the reason."""


class _Names:
    """Names for the Keras layers of one node.

    The node's source layers are shared out: the first to a padding before the operator, the last ones to a sum and an activation behind
    it, the rest to the operator itself. Where there are too few, a name says that it stands for no layer.
    """

    def __init__(
        self, node: Node, parts: Sequence[str], final: str | None, reserved: frozenset[str], taken: set[str]
    ) -> None:
        self.node, self.taken = node, taken
        layers = list(node.layers)
        self.merged = len(layers) < len(parts)
        shares: dict[str, tuple[str, ...]] = dict.fromkeys(parts, ())
        if not self.merged:
            if "pad" in shares:
                shares["pad"] = (layers.pop(0),)
            for part in ("activation", "sum"):
                if part in shares:
                    shares[part] = (layers.pop(),)
        shares["main"] = tuple(layers)
        self.names: dict[str, str] = {}
        for part, share in shares.items():
            own = node.name if part == "main" else share[0] if share else f"{node.name}/{part}"
            name = layer_name(own, share)
            free = name not in taken and (name not in reserved or (part == parts[-1] and name == final))
            if not free:  # what stands behind "-->" tells the layers all the same
                name = layer_name(node.name if part == "main" else f"{node.name}/{part}", share, long=True)
            number = 2
            while name in taken:
                name, number = layer_name(f"{node.name}/{part}_{number}", share, long=True), number + 1
            taken.add(name)
            self.names[part] = name

    def __getitem__(self, part: str) -> str:
        return self.names[part]


class _Rebuilder:
    def __init__(self, graph: Graph) -> None:
        self.keras = import_keras()
        self.graph = _without_dots(graph) if self.keras.backend.backend() == "torch" else graph
        self.values: dict[str, Any] = {}
        self.shared: dict[object, Any] = {}
        self.taken: set[str] = set()
        self.reserved = frozenset(port.name for port in (*graph.inputs, *graph.outputs))

    def model(self) -> Any:
        """The model.

        Raises:
            UnsupportedLayerError: see `to_keras`.
        """
        graph = self.graph
        inputs = {
            port.name: self.keras.Input(graph.shape(port.tensor)[1:], name=_safe(port.name)) for port in graph.inputs
        }
        self.values = {port.tensor: inputs[port.name] for port in graph.inputs}
        self.taken |= {_safe(name) for name in inputs}
        items: list[UnsupportedLayer] = []
        missing: set[str] = set()
        for node in graph.nodes:
            if missing.intersection(node.inputs):
                missing.add(node.output)
                continue
            try:
                self.values[node.output] = self._node(node)
            except _Unsupported as problem:
                items.append(UnsupportedLayer(node.name, node.operator, str(problem), "run the file with edgecnn.load"))
                missing.add(node.output)
        if items:
            raise UnsupportedLayerError(f"{graph.name}: to Keras", items)
        outputs = {port.name: self._output(port.name, self.values[port.tensor]) for port in graph.outputs}
        return self.keras.Model(
            _structured(graph.input_structure, inputs),
            _structured(graph.output_structure, outputs),
            name=_safe(graph.name),
        )

    def _output(self, name: str, value: Any) -> Any:
        """A public output, given by a layer of its name."""
        if _maker(value).name == name:
            return value
        while _safe(name) in self.taken:
            name = f"{name}_"
        self.taken.add(_safe(name))
        return self.keras.layers.Identity(name=_safe(name))(value)

    def _node(self, node: Node) -> Any:
        given = [self._operand(name) for name in node.inputs]
        parts = ["main"]
        if self._pads(node):
            parts.insert(0, "pad")
        if node.operator in ("conv", "dense") and node.input("residual"):
            parts.append("sum")
        function = "linear" if node.operator == "activation" else str(node.attributes.get("activation", "linear"))
        if function != "linear":
            parts.append("activation")
        final = next((port.name for port in self.graph.outputs if port.tensor == node.output), None)
        names = _Names(node, parts, final, self.reserved, self.taken)
        inside = None
        if names.merged and parts[-1] == "activation" and parts[-2] == "main" and node.operator in _WITH_ACTIVATION:
            inside = _spelled(node)
        if inside is not None:
            # The layer ends in the activation itself: a sum stands not between, and one name is enough.
            self.taken.difference_update(names.names.values())
            names = _Names(node, parts[:-1], final, self.reserved, self.taken)
        y = _OPERATORS[node.operator](self, node, names, *given, **({} if inside is None else {"activation": inside}))
        if "sum" in parts:
            y = self.layer(self.keras.layers.Add, names["sum"], [given[3], y])
        if "activation" in parts and inside is None:
            y = self.function(names["activation"], function, node.attributes["activation_parameters"], y)
        return y

    def _operand(self, name: str) -> Operand:
        if not name:
            return None
        if name in self.graph.constants:
            return np.ascontiguousarray(values_of(self.graph.constants[name], np.float32))
        return self.values[name]

    def layer(self, kind: Any, name: str, x: Any, *weights: Array | None, **config: Any) -> Any:
        """A layer applied; its weights are set, absent ones left out."""
        made = kind(name=name, **config)
        y = made(x)
        if weights:
            made.set_weights([array for array in weights if array is not None])
        return y

    def weighted(self, kind: Any, node: Node, name: str, x: Any, *weights: Array | None, **config: Any) -> Any:
        """`layer`, or the layer itself again where the node is a further call of it."""
        base = layer_of(node.name)
        constants = tuple(other for other in node.inputs if other in self.graph.constants)
        key = (base, kind, constants, repr(sorted(config.items(), key=lambda item: item[0])))
        if node.name != base and key in self.shared:
            self.taken.discard(name)
            return self.shared[key](x)
        y = self.layer(kind, name, x, *weights, **config)
        self.shared[key] = _maker(y)
        return y

    def operation(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A function of keras.ops, recorded under a name."""
        y = function(*arguments, **options)
        _maker(y).name = name
        return y

    def function(self, name: str, function: str, parameters: Any, x: Any) -> Any:
        """An activation as a layer, or as a function of keras.ops."""
        layers, ops = self.keras.layers, self.keras.ops
        if function == "linear":
            return self.layer(layers.Activation, name, x, activation="linear")
        if function == "relu":
            slope, most, threshold = parameters
            if min(slope, most, threshold) >= 0:
                limit = None if most == math.inf else most
                return self.layer(layers.ReLU, name, x, negative_slope=slope, max_value=limit, threshold=threshold)
            below = ops.multiply(ops.subtract(x, threshold), slope)
            return self.operation(name, ops.minimum, ops.where(x <= threshold, below, x), most)
        if function == "elu":
            return self.layer(layers.ELU, name, x, alpha=parameters[0])
        if function == "hard_sigmoid" and parameters != _HARD_SIGMOID:
            slope, offset = parameters
            return self.operation(name, ops.clip, ops.add(ops.multiply(x, slope), offset), 0.0, 1.0)
        if function in _NAMED or function == "hard_sigmoid":
            return self.layer(layers.Activation, name, x, activation=function)
        if function == "gelu_tanh":
            return self.operation(name, ops.gelu, x, approximate=True)
        return self.operation(name, getattr(ops, function), x, *parameters)

    def _pads(self, node: Node) -> tuple[int, ...]:
        """Zeros that a window operator needs before it, that are not its own."""
        if node.operator not in ("conv", "depthwise_conv", "max_pool", "average_pool"):
            return ()
        x, attributes = self.graph.shape(node.inputs[0]), node.attributes
        kernel = self._span(node)
        if _by_hand(node):
            sizes = spatial_sizes(x)
            if sizes is None:
                raise _Unsupported("strides and dilations that Keras does not take, of an input of unknown size")
            pads = resolve_pads(attributes, sizes, kernel)
        elif attributes["padding"] == "same" or _causal(node, kernel):
            return ()
        else:
            pads = ints(attributes, "pads")
        return pads if any(pads) else ()

    def _span(self, node: Node) -> tuple[int, ...]:
        if "pool_size" in node.attributes:
            return ints(node.attributes, "pool_size")
        kernel = self.graph.shape(node.input("weights"))[:-2]
        return effective_kernel([size or 1 for size in kernel], ints(node.attributes, "dilations"))

    def padded(self, node: Node, names: _Names, x: Any, value: float = 0.0) -> Any:
        """The input of a window operator in its frame."""
        pads = self._pads(node)
        if not pads:
            return x
        pairs = [tuple(pads[i : i + 2]) for i in range(0, len(pads), 2)]
        if value == 0.0:
            return self.layer(
                self.of_axes("ZeroPadding", x), names["pad"], x, padding=pairs[0] if len(pairs) == 1 else tuple(pairs)
            )
        frame = ((0, 0), *pairs, (0, 0))
        return self.operation(names["pad"], self.keras.ops.pad, x, frame, constant_values=value)

    def of_axes(self, family: str, x: Any) -> Any:
        """The class of a family for a tensor's spatial axes: Conv2D for an image."""
        return getattr(self.keras.layers, f"{family}{len(x.shape) - 2}D")

    def thinned(self, node: Node, y: Any) -> Any:
        """Each stride-th pixel of what was computed at all of them."""
        steps = ints(node.attributes, "strides")
        return y[(slice(None), *(slice(None, None, step) for step in steps))]


def _without_dots(graph: Graph) -> Graph:
    """The graph with names for its nodes that PyTorch takes for its parameters."""
    taken = {node.name for node in graph.nodes}
    nodes = []
    for node in graph.nodes:
        name = plain = node.name.replace(".", "_")
        while name != node.name and name in taken:
            name += "_"
        taken.add(name)
        layers = tuple(name if layer == node.name else layer.replace(".", "_") for layer in node.layers)
        nodes.append(replace(node, name=name, layers=layers) if plain != node.name else replace(node, layers=layers))
    return replace(graph, nodes=tuple(nodes))


def _safe(name: str) -> str:
    """A public name as Keras takes it: as it is, where that can be."""
    return (
        name
        if re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\-]*(>[A-Za-z0-9][A-Za-z0-9_.\-]*)*", name)
        else layer_name(name, (name,))
    )


def _maker(value: Any) -> Any:
    """The layer or operation that gives a symbolic tensor."""
    return value._keras_history.operation


def _structured(structure: str, values: Mapping[str, Any]) -> Any:
    if structure == "single":
        return next(iter(values.values()))
    return dict(values) if structure == "dict" else list(values.values())


_HARD_SIGMOID = (1.0 / 6.0, 0.5)
_WITH_ACTIVATION = ("conv", "depthwise_conv", "conv_transpose", "dense")
"""Operators whose Keras layers end in an activation, if wanted."""


def _spelled(node: Node) -> str | None:
    """The node's activation as a Keras layer takes it by name; None where it has parameters of its own."""
    function = str(node.attributes["activation"])
    parameters: Any = node.attributes["activation_parameters"]
    if function == "relu":
        known = {(0.0, math.inf, 0.0): "relu", (0.0, 6.0, 0.0): "relu6", (0.2, math.inf, 0.0): "leaky_relu"}
        return known.get(parameters)
    if function == "hard_sigmoid":
        return function if parameters == _HARD_SIGMOID else None
    if function == "elu":
        return function if parameters == (1.0,) else None
    return function if function in _NAMED else None


def _by_hand(node: Node) -> bool:
    """Whether strides are such as Keras' layers do not take: beside dilations, or unequal ones of a depthwise convolution."""
    if node.operator not in ("conv", "depthwise_conv"):
        return False
    strides, dilations = ints(node.attributes, "strides"), ints(node.attributes, "dilations")
    unequal = node.operator == "depthwise_conv" and len(set(strides)) > 1
    return max(strides) > 1 and (max(dilations) > 1 or unequal)


def _causal(node: Node, span: Sequence[int]) -> bool:
    """Whether a convolution over time sees the past alone."""
    return node.operator == "conv" and len(span) == 1 and span[0] > 1 and node.attributes["pads"] == (span[0] - 1, 0)


def _window(self: _Rebuilder, node: Node) -> dict[str, Any]:
    """Strides and padding as Keras says them; zeros that stand before are a layer of their own."""
    if _by_hand(node):
        return {"strides": 1, "padding": "valid"}
    padding = "same" if node.attributes["padding"] == "same" else "valid"
    if padding == "valid" and _causal(node, self._span(node)):
        padding = "causal"
    return {"strides": ints(node.attributes, "strides"), "padding": padding}


def _conv(
    self: _Rebuilder,
    node: Node,
    names: _Names,
    x: Any,
    weights: Array,
    bias: Array | None,
    residual: Any,
    activation: str = "linear",
) -> Any:
    y = self.weighted(
        self.of_axes("Conv", x),
        node,
        names["main"],
        self.padded(node, names, x),
        weights,
        bias,
        filters=weights.shape[-1],
        kernel_size=weights.shape[:-2],
        dilation_rate=ints(node.attributes, "dilations"),
        groups=number(node.attributes, "groups"),
        use_bias=bias is not None,
        activation=activation,
        **_window(self, node),
    )
    return self.thinned(node, y) if _by_hand(node) else y


def _depthwise_conv(
    self: _Rebuilder, node: Node, names: _Names, x: Any, weights: Array, bias: Array | None, activation: str = "linear"
) -> Any:
    y = self.weighted(
        self.of_axes("DepthwiseConv", x),
        node,
        names["main"],
        self.padded(node, names, x),
        weights,
        bias,
        kernel_size=weights.shape[:-2],
        depth_multiplier=weights.shape[-1],
        dilation_rate=ints(node.attributes, "dilations"),
        use_bias=bias is not None,
        activation=activation,
        **_window(self, node),
    )
    return self.thinned(node, y) if _by_hand(node) else y


def _conv_transpose(
    self: _Rebuilder, node: Node, names: _Names, x: Any, weights: Array, bias: Array | None, activation: str = "linear"
) -> Any:
    attributes = node.attributes
    *kernel, filters, channels = weights.shape
    groups, strides, dilations = (
        number(attributes, "groups"),
        ints(attributes, "strides"),
        ints(attributes, "dilations"),
    )
    if max(dilations) > 1 and max(strides) > 1:
        raise _Unsupported("a transposed convolution of both strides and dilations")
    spans = effective_kernel(kernel, dilations)
    spelled = _transposed_padding(node, spans)
    padding, output_padding = spelled or ("valid", None)
    kind = self.of_axes("Conv", x)
    kind = getattr(self.keras.layers, f"{kind.__name__}Transpose")
    config = {
        "filters": filters,
        "kernel_size": tuple(kernel),
        "strides": strides,
        "padding": padding,
        "output_padding": output_padding,
        "dilation_rate": dilations,
        "use_bias": bias is not None,
        "activation": activation if spelled else "linear",
    }
    if groups == 1:
        y = self.weighted(kind, node, names["main"], x, weights, bias, **config)
    else:
        depth = channels // groups
        rows = []
        for g in range(groups):
            part = slice(g * depth, (g + 1) * depth)
            own = None if bias is None else bias[g * filters : (g + 1) * filters]
            rows.append(self.layer(kind, f"{names['main']}_{g}", x[..., part], weights[..., part], own, **config))
        y = self.layer(self.keras.layers.Concatenate, names["main"], rows)
    return y if spelled else _recut(self, node, spans, y)


def _transposed_padding(node: Node, spans: Sequence[int]) -> tuple[str, tuple[int, ...] | None] | None:
    """Keras' padding and output padding, where they say what the node's attributes say."""
    pads, more, strides = (ints(node.attributes, name) for name in ("pads", "output_padding", "strides"))
    for padding in ("valid", "same"):
        same = padding == "same"
        cuts = [max(span - stride, 0) if same else 0 for span, stride in zip(spans, strides, strict=True)]
        ends = tuple(max(stride - span, 0) for span, stride in zip(spans, strides, strict=True))
        if pads == tuple(half for cut in cuts for half in (cut // 2, cut - cut // 2)) and more == ends:
            return padding, None
    for padding in ("valid", "same"):
        found = []
        for axis, (span, stride) in enumerate(zip(spans, strides, strict=True)):
            cut = pads[2 * axis] + pads[2 * axis + 1]
            given = more[axis] - cut + 2 * (span // 2 if padding == "same" else 0)
            if not 0 <= given < stride or pads[2 * axis] != cut // 2 or (cut and more[axis]):
                break
            found.append(given)
        if len(found) == len(spans):
            return padding, tuple(found)
    return None


def _recut(self: _Rebuilder, node: Node, spans: Sequence[int], y: Any) -> Any:
    """What Keras' "valid" gives, cut and lengthened to the node's own ends."""
    pads, more, strides = (ints(node.attributes, name) for name in ("pads", "output_padding", "strides"))
    cut, frame = [], []
    for axis, (span, stride) in enumerate(zip(spans, strides, strict=True)):
        end = pads[2 * axis + 1] - more[axis] + max(stride - span, 0)
        cut.append((pads[2 * axis], max(end, 0)))
        frame.append((0, max(-end, 0)))
    index = tuple(slice(before, -after or None) for before, after in cut)
    if any(before or after for before, after in cut):
        y = y[(slice(None), *index)]
    return self.keras.ops.pad(y, ((0, 0), *frame, (0, 0))) if any(after for _, after in frame) else y


def _dense(
    self: _Rebuilder,
    node: Node,
    names: _Names,
    x: Any,
    weights: Array,
    bias: Array | None,
    residual: Any,
    activation: str = "linear",
) -> Any:
    config = {"units": weights.shape[1], "use_bias": bias is not None, "activation": activation}
    return self.weighted(self.keras.layers.Dense, node, names["main"], x, weights, bias, **config)


def _batch_normalization(self: _Rebuilder, node: Node, names: _Names, x: Any, *weights: Array) -> Any:
    _, _, mean, variance = weights
    epsilon = float(node.attributes["epsilon"])  # type: ignore[arg-type]
    # A scale and a shift that were never statistics must not become some in training.
    learned = bool(mean.any() or (variance != 1).any() or epsilon)
    kind = self.keras.layers.BatchNormalization
    return self.weighted(
        kind, node, names["main"], x, *weights, epsilon=epsilon, **({} if learned else {"trainable": False})
    )


def _layer_normalization(self: _Rebuilder, node: Node, names: _Names, x: Any, gamma: Array, beta: Array) -> Any:
    kind = self.keras.layers.LayerNormalization
    return self.weighted(kind, node, names["main"], x, gamma, beta, epsilon=node.attributes["epsilon"])


def _group_normalization(self: _Rebuilder, node: Node, names: _Names, x: Any, gamma: Array, beta: Array) -> Any:
    kind = self.keras.layers.GroupNormalization
    config = {"groups": node.attributes["groups"], "epsilon": node.attributes["epsilon"]}
    return self.weighted(kind, node, names["main"], x, gamma, beta, **config)


def _local_response_normalization(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.layer(local_response_normalization_class(), names["main"], x, **node.attributes)


def _activation(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.function(names["main"], str(node.attributes["activation"]), node.attributes["activation_parameters"], x)


def _softmax(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    axis = number(node.attributes, "axis")
    if not node.attributes["log"]:
        return self.layer(self.keras.layers.Softmax, names["main"], x, axis=axis)
    return self.operation(names["main"], self.keras.ops.log_softmax, x, axis=axis)


def _sparsemax(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.layer(self.keras.layers.Activation, names["main"], x, activation="sparsemax")


def _max_pool(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    # Zeros never win against what is never negative; the converter absorbs such a padding again.
    before = self.graph.producers.get(node.inputs[0])
    value = 0.0 if before is not None and _never_negative(self.graph, before) else -math.inf
    pool_size = ints(node.attributes, "pool_size")
    kind = self.of_axes("MaxPooling", x)
    return self.layer(
        kind, names["main"], self.padded(node, names, x, value), pool_size=pool_size, **_window(self, node)
    )


def _never_negative(graph: Graph, node: Node) -> bool:
    """Whether all values of a node are 0 or more, as far as the nodes before it tell."""
    function = node.attributes.get("activation")
    if function == "relu":
        slope, most, threshold = node.attributes["activation_parameters"]  # type: ignore[misc,str-unpack]
        return slope == 0.0 and most >= 0.0 and threshold >= 0.0  # type: ignore[operator]
    if node.operator in ("max_pool", "average_pool", "concatenate", "reshape", "transpose", "slice"):
        before = [graph.producers.get(name) for name in node.inputs]
        return all(other is not None and _never_negative(graph, other) for other in before)
    return node.operator == "softmax" or function in (
        "sigmoid",
        "hard_sigmoid",
        "softplus",
        "exponential",
        "square",
        "abs",
    )


def _average_pool(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    pool_size, window = ints(node.attributes, "pool_size"), _window(self, node)
    kind = self.of_axes("AveragePooling", x)
    framed = self.padded(node, names, x)
    if node.attributes["count_padding"] and window["padding"] == "same":
        sizes = spatial_sizes(self.graph.shape(node.inputs[0]))
        if sizes is None:
            raise _Unsupported("an average that counts its padding, of an input of unknown size")
        pads = resolve_pads(node.attributes, sizes, pool_size)
        frame = ((0, 0), *((pads[i], pads[i + 1]) for i in range(0, len(pads), 2)), (0, 0))
        framed, window = self.keras.ops.pad(x, frame), {**window, "padding": "valid"}
    if node.attributes["count_padding"] or framed is x:
        return self.layer(kind, names["main"], framed, pool_size=pool_size, **window)
    sizes = spatial_sizes(self.graph.shape(node.inputs[0]))
    if sizes is None:
        raise _Unsupported("an average that does not count its padding, of an input of unknown size")
    means = self.layer(kind, f"{names['main']}_of_all", framed, pool_size=pool_size, **window)
    return self.operation(names["main"], self.keras.ops.multiply, means, _inverse_shares(node, sizes))


def _inverse_shares(node: Node, sizes: Sequence[int]) -> Array:
    """For each window one over the share of its pixels that is no padding."""
    pads, strides, kernel = (ints(node.attributes, name) for name in ("pads", "strides", "pool_size"))
    result = np.ones((1,) * (len(sizes) + 2), np.float32)
    for axis, size in enumerate(sizes):
        before, after = pads[2 * axis : 2 * axis + 2]
        firsts = np.arange(0, before + size + after - kernel[axis] + 1, strides[axis]) - before
        seen = np.minimum(firsts + kernel[axis], size) - np.maximum(firsts, 0)
        shape = [1] * result.ndim
        shape[axis + 1] = -1
        result = result * (kernel[axis] / seen).astype(np.float32).reshape(shape)
    return result


def _reduce(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    axes, keepdims = ints(node.attributes, "axes"), bool(node.attributes["keepdims"])
    kind = node.operator.removeprefix("reduce_")
    family = {"mean": "GlobalAveragePooling", "max": "GlobalMaxPooling"}.get(kind)
    if family and 3 <= len(x.shape) <= 5 and axes == tuple(range(1, len(x.shape) - 1)):
        return self.layer(self.of_axes(family, x), names["main"], x, keepdims=keepdims)
    return self.operation(names["main"], getattr(self.keras.ops, kind), x, axis=axes, keepdims=keepdims)


_MERGING = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum"}


def _binary(self: _Rebuilder, node: Node, names: _Names, x: Operand, y: Operand) -> Any:
    name, ops = names["main"], self.keras.ops
    if node.operator in _MERGING and not isinstance(x, np.ndarray) and not isinstance(y, np.ndarray):
        return self.layer(getattr(self.keras.layers, _MERGING[node.operator]), name, [x, y])
    if node.operator == "prelu":
        slopes = y if isinstance(y, np.ndarray) else None
        if slopes is not None and slopes.ndim == len(x.shape) - 1:
            shared = [axis for axis, size in enumerate(slopes.shape, 1) if size == 1 != x.shape[axis]]
            return self.layer(self.keras.layers.PReLU, name, x, slopes, shared_axes=shared or None)
        return self.operation(name, ops.where, ops.greater(x, 0.0), x, ops.multiply(x, y))
    if node.operator in ("equal", "less"):
        return self.operation(name, ops.cast, getattr(ops, node.operator)(x, y), "float32")
    if node.operator == "keep":
        return self.operation(name, ops.where, ops.not_equal(y, 0.0), x, 0.0)
    if node.operator == "add" and isinstance(y, np.ndarray) and y.size > 1 and y.shape[-1] == 1:
        # Keras' add on TensorFlow takes a vector along any axis for a bias along the last one.
        return self.operation(name, ops.subtract, x, -y)
    return self.operation(name, getattr(ops, node.operator), x, y)


def _concatenate(self: _Rebuilder, node: Node, names: _Names, *xs: Any) -> Any:
    if len(xs) == 1:
        return self.layer(self.keras.layers.Identity, names["main"], xs[0])
    return self.layer(self.keras.layers.Concatenate, names["main"], list(xs), axis=node.attributes["axis"])


def _reshape(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.layer(self.keras.layers.Reshape, names["main"], x, target_shape=ints(node.attributes, "shape"))


def _transpose(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.layer(self.keras.layers.Permute, names["main"], x, dims=ints(node.attributes, "permutation"))


def _slice(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    cut = [slice(None)]
    shape = self.graph.shape(node.inputs[0])
    for axis, bounds in enumerate(
        zip(*(ints(node.attributes, n) for n in ("starts", "stops", "steps")), strict=True), 1
    ):
        start, stop, step = bounds
        size = shape[axis]
        if step < 0:
            if size is None:
                raise _Unsupported("a slice that runs backwards along an axis of unknown size")
            found = slice_range(node.attributes, axis, size)
            # Backends differ in what runs backwards to the first pixel: forwards, then turned.
            x = self.keras.ops.take(x, list(found), axis=axis)
            cut.append(slice(None))
            continue
        cut.append(slice(start or None, None if stop == LIMIT else stop, None if step == 1 else step))
    y = x if all(part == slice(None) for part in cut) else x[tuple(cut)]
    if y is x and _maker(x).name in self.taken:
        return self.layer(self.keras.layers.Identity, names["main"], x)
    _maker(y).name = names["main"]
    return y


def _pad(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    pads, mode, value = ints(node.attributes, "pads"), str(node.attributes["mode"]), node.attributes["value"]
    pairs = [tuple(pads[i : i + 2]) for i in range(0, len(pads), 2)]
    inner = pairs[:-1]
    if mode == "constant" and value == 0.0 and pairs[-1] == (0, 0) and 1 <= len(inner) <= 3:
        padding = inner[0] if len(inner) == 1 else tuple(inner)
        return self.layer(self.of_axes("ZeroPadding", x), names["main"], x, padding=padding)
    if mode == "edge":
        shape = self.graph.shape(node.inputs[0])
        for axis, (before, after) in enumerate(pairs, 1):
            size = shape[axis]
            if size is None:
                raise _Unsupported("edges repeated along an axis of unknown size")
            places = np.clip(np.arange(-before, size + after), 0, size - 1).tolist()
            x = self.keras.ops.take(x, places, axis=axis)
        _maker(x).name = names["main"]
        return x
    options = {"constant_values": value} if mode == "constant" else {}
    return self.operation(names["main"], self.keras.ops.pad, x, ((0, 0), *pairs), mode=mode, **options)


def _resize(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    attributes = node.attributes
    sizes = ints(attributes, "sizes")
    scales: Any = attributes["scales"]
    plain = (
        attributes["coordinates"] == "half_pixel"
        and attributes["exclude_outside"] == 1
        and attributes["method"] in _INTERPOLATIONS
    )
    older = "round_prefer_ceil" if attributes["method"] == "nearest" else "floor"  # in files of version 0.1
    plain = plain and attributes["rounding"] in ("tensorflow", older)
    if str(attributes["method"]).startswith("cubic"):
        plain = plain and attributes["cubic_coefficient"] == -0.5
    interpolation = _INTERPOLATIONS.get(str(attributes["method"]))
    if plain and not any(sizes) and not attributes["antialias"] and all(s >= 1 and s == int(s) for s in scales):
        size = tuple(int(s) for s in scales)
        return self.layer(self.keras.layers.UpSampling2D, names["main"], x, size=size, interpolation=interpolation)
    if plain and all(sizes):
        options = {"antialias": True} if attributes["antialias"] else {}
        kind = self.keras.layers.Resizing
        return self.layer(
            kind, names["main"], x, height=sizes[0], width=sizes[1], interpolation=interpolation, **options
        )
    shape = self.graph.shape(node.inputs[0])
    wanted = self.graph.shape(node.output)
    for axis in (0, 1):
        before, after = shape[axis + 1], wanted[axis + 1]
        if before is None or after is None:
            raise _Unsupported("an interpolation that Keras lacks, of an input of unknown size")
        places, weights = axis_table(attributes, axis, before, after)
        matrix = np.zeros((after, before), np.float32)
        np.add.at(matrix, (np.arange(after)[:, None], places), weights)
        equation = ("nhwc,oh->nowc", "nhwc,ow->nhoc")[axis]
        x = self.keras.ops.einsum(equation, x, matrix)
    _maker(x).name = names["main"]
    return x


def _identity(self: _Rebuilder, node: Node, names: _Names, x: Any) -> Any:
    return self.layer(self.keras.layers.Identity, names["main"], x)


def _matmul(self: _Rebuilder, node: Node, names: _Names, x: Any, y: Any) -> Any:
    return self.operation(names["main"], self.keras.ops.matmul, x, y)


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "depthwise_conv": _depthwise_conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "matmul": _matmul,
    "batch_normalization": _batch_normalization,
    "layer_normalization": _layer_normalization,
    "group_normalization": _group_normalization,
    "local_response_normalization": _local_response_normalization,
    "activation": _activation,
    "softmax": _softmax,
    "sparsemax": _sparsemax,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), _reduce),
    **dict.fromkeys((*_MERGING, "divide", "power", "prelu", "equal", "less", "keep"), _binary),
    "concatenate": _concatenate,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "identity": _identity,
}

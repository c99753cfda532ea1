"""Graphs for tests: a builder that fills in shapes and attributes, and a strategy that gives random legal networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgecnn.graph import ACTIVATIONS, OPERATORS, Constant, Graph, Node, Port, Tensor, reference
from edgecnn.graph.operators import LIMIT

DEFAULTS: dict[str, Any] = {
    "strides": (1, 1),
    "padding": "explicit",
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "groups": 1,
    "activation": "linear",
    "epsilon": 1e-3,
    "axes": (1, 2),
    "output_padding": (0, 0),
    "keepdims": 0,
    "count_padding": 0,
    "mode": "constant",
    "value": 0.0,
    "log": 0,
}


class GraphBuilder:
    """A graph, node by node: shapes follow from the operator table, attributes that are not given have plain values."""

    def __init__(self) -> None:
        self.inputs: list[Port] = []
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Constant] = {}

    def input(self, name: str, *sizes: int | None) -> str:
        """A public input of (N, *sizes); gives its tensor, which has the same name."""
        self.inputs.append(Port(name, name))
        self.tensors[name] = Tensor(name, (None, *sizes))
        return name

    def constant(self, name: str, values: Any) -> str:
        """A float32 constant."""
        self.constants[name] = Constant(name, np.ascontiguousarray(values, np.float32))
        return name

    def add(self, operator: str, *inputs: Any, name: str = "", layers: tuple[str, ...] = (), **attributes: Any) -> str:
        """A node; gives its output tensor, which has the node's name.

        Args:
            inputs: names of tensors or constants, arrays (which become constants), or None for an absent one.
            name: by default the operator and a number.
            layers: by default the node's name.
        """
        name = name or f"{operator}_{len(self.nodes)}"
        row = OPERATORS[operator]
        given = list(inputs) + [None] * (0 if row.variadic else len(row.roles) - len(inputs))
        names = []
        for index, value in enumerate(given):
            role = row.roles[min(index, len(row.roles) - 1)].name
            if value is None or isinstance(value, str):
                names.append(value or "")
            else:
                names.append(self.constant(f"{name}/{role}", value))
        pads = attributes.get("pads", DEFAULTS["pads"])
        if operator == "pad" and len(pads) == 4 and len(self.shape(inputs[0])) == 4:  # of an image; not its channels
            attributes["pads"] = (*pads, 0, 0)
        filled = {key: attributes.pop(key, DEFAULTS.get(key)) for key in row.attributes}
        if row.activated and filled["activation_parameters"] is None:
            filled["activation_parameters"] = ACTIVATIONS[filled["activation"]].defaults
        assert not attributes, f"{operator} has no attributes {sorted(attributes)}"
        (shape,) = row.shapes(filled, [self.shape(n) if n else None for n in names])
        self.tensors[name] = Tensor(name, shape)
        self.nodes.append(Node(operator, name, tuple(names), (name,), filled, layers or (name,)))
        return name

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Shape of a tensor or constant."""
        return self.tensors[name].shape if name in self.tensors else self.constants[name].shape

    def graph(self, *outputs: str) -> Graph:
        """The checked graph; public outputs are called like their tensors."""
        graph = Graph(
            "test",
            tuple(self.inputs),
            tuple(Port(name, name) for name in outputs),
            tuple(self.nodes),
            dict(self.tensors),
            dict(self.constants),
            "list",
            "list",
        )
        graph.check()
        return graph


class Weights:
    """Random weights that neither let values grow through a deep network nor fade."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, fan_in: int = 1) -> np.ndarray:
        return (self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    def statistics(self, channels: int) -> list[np.ndarray]:
        """gamma (of both signs), beta, mean and variance of a batch normalisation: no zero mean, no unit variance."""
        sign = self.rng.choice([-1.0, 1.0], channels)
        gamma, variance = sign * self.rng.uniform(0.5, 1.5, channels), self.rng.uniform(0.5, 2.0, channels)
        beta, mean = self.rng.uniform(-0.5, 0.5, (2, channels))
        return [gamma, beta, mean, variance]


def conv(
    b: GraphBuilder, w: Weights, x: str, filters: int, kernel: int = 1, bias: bool = True, **attributes: Any
) -> str:
    """A convolution with random weights."""
    channels = (b.shape(x)[-1] or 1) // attributes.get("groups", 1)
    weights = w.normal(kernel, kernel, channels, filters, fan_in=kernel * kernel * channels)
    return b.add("conv", x, weights, w.normal(filters) if bias else None, **attributes)


def depthwise(b: GraphBuilder, w: Weights, x: str, kernel: int = 3, multiplier: int = 1, **attributes: Any) -> str:
    """A depthwise convolution with random weights and no bias."""
    weights = w.normal(kernel, kernel, b.shape(x)[-1] or 1, multiplier, fan_in=kernel * kernel)
    return b.add("depthwise_conv", x, weights, None, **attributes)


def batch_norm(b: GraphBuilder, w: Weights, x: str, **attributes: Any) -> str:
    """A batch normalisation with random statistics."""
    return b.add("batch_normalization", x, *w.statistics(b.shape(x)[-1] or 1), **attributes)


def random_inputs(graph: Graph, seed: int, images: int = 2) -> dict[str, np.ndarray]:
    """Values between -1 and 1 for every public input; a size that is not known becomes 6."""
    rng = np.random.default_rng(seed)
    shapes = {port.name: tuple(size or 6 for size in graph.shape(port.tensor)[1:]) for port in graph.inputs}
    return {name: rng.uniform(-1, 1, (images, *shape)) for name, shape in shapes.items()}


# Functions with a slope of about one at most: rounding that enters before them does not grow in them.
_FUNCTIONS: list[dict[str, Any]] = [
    {"activation": "relu"},
    {"activation": "relu", "activation_parameters": (0.0, 6.0, 0.0)},
    {"activation": "relu", "activation_parameters": (0.25, float("inf"), 0.0)},
    {"activation": "sigmoid"},
    {"activation": "tanh"},
    {"activation": "hard_swish"},
    {"activation": "linear"},
]


class _Network:
    """A network in the making: `alive` are tensors of rank 4 that may be read."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.b = GraphBuilder()
        self.w = Weights(draw(st.integers(0, 2**32 - 1)))
        sizes = draw(st.sampled_from([(8, 8), (7, 5), (6, 9)]))
        self.alive = [self.b.input("image", *sizes, draw(st.integers(1, 4)))]
        if draw(st.integers(0, 3)) == 0:
            self.alive.append(self.b.input("other", *sizes, draw(st.integers(1, 4))))

    def some(self) -> str:
        """A tensor, most often one made late: networks are deep, with a branch now and then."""
        return self.alive[-1] if self.draw(st.integers(0, 4)) else self.draw(st.sampled_from(self.alive))

    def window(self, x: str, kernel: int) -> dict[str, Any]:
        """A stride and a padding that fit."""
        height, width = self.b.shape(x)[1:3]
        small = min(height or 1, width or 1)
        same = small < kernel or self.draw(st.booleans())
        pads = (0, 0, 0, 0)
        if not same and kernel > 1 and self.draw(st.booleans()):
            pads = self.draw(st.tuples(*[st.integers(0, kernel - 1)] * 4))
        stride = self.draw(st.sampled_from([1, 1, 1, 2])) if small > 3 else 1
        return {"strides": (stride, stride), "padding": "same" if same else "explicit", "pads": pads}

    def conv(self, x: str) -> str:
        kernel, groups = self.draw(st.sampled_from([1, 1, 3])), 1
        channels = self.b.shape(x)[-1] or 1
        if channels % 2 == 0:
            groups = self.draw(st.sampled_from([1, 1, 2]))
        filters = groups * self.draw(st.integers(1, 4))
        attributes = {**self.window(x, kernel), **self.maybe_function(), "groups": groups}
        return conv(self.b, self.w, x, filters, kernel, self.draw(st.booleans()), **attributes)

    def depthwise(self, x: str) -> str:
        multiplier = self.draw(st.sampled_from([1, 1, 2]))
        if (self.b.shape(x)[-1] or 1) > 8:
            multiplier = 1
        return depthwise(self.b, self.w, x, 3, multiplier, **self.window(x, 3), **self.maybe_function())

    def maybe_function(self) -> dict[str, Any]:
        return self.draw(st.sampled_from([{}, {}, {}, *_FUNCTIONS]))

    def batch_norm(self, x: str) -> str:
        return batch_norm(self.b, self.w, x, **self.maybe_function())

    def activation(self, x: str) -> str:
        return self.b.add("activation", x, **self.draw(st.sampled_from(_FUNCTIONS)))

    def constant(self, x: str) -> str:
        """A sum or product with a constant, on either side."""
        channels = self.b.shape(x)[-1] or 1
        shape = self.draw(st.sampled_from([(channels,), (1,), (), (1, 1, channels), (1, channels)]))
        values = self.b.constant(f"constant {len(self.b.nodes)}", self.w.rng.uniform(0.5, 1.5, shape))
        operands = self.draw(st.permutations([x, values]))
        return self.b.add(self.draw(st.sampled_from(["add", "multiply"])), *operands, **self.maybe_function())

    def add(self, x: str) -> str:
        """A sum of two tensors, of a tensor with a small one, or of a tensor with itself."""
        shape = self.b.shape(x)
        fits = [name for name in self.alive if self.b.shape(name) == shape]
        small = (None, 1, 1, shape[-1])
        fits += [name for name in self.alive if self.b.shape(name) == small]
        other = self.draw(st.sampled_from(fits)) if fits else conv(self.b, self.w, x, shape[-1] or 1)
        return self.b.add("add", *self.draw(st.permutations([x, other])), **self.maybe_function())

    def residual(self, x: str) -> str:
        """x + conv(x), as in residual networks."""
        y = conv(self.b, self.w, x, self.b.shape(x)[-1] or 1, 3, padding="same")
        if self.draw(st.booleans()):
            y = self.batch_norm(y)
        return self.b.add("add", *self.draw(st.permutations([x, y])), **self.maybe_function())

    def squeeze(self, x: str) -> str:
        """Squeeze and excitation: x * sigmoid(conv(mean of x)); the mean perhaps through a reshape."""
        channels = self.b.shape(x)[-1] or 1
        keep = self.draw(st.integers(0, 1))
        y = self.b.add("reduce_mean", x, keepdims=keep)
        if not keep:
            y = self.b.add("reshape", y, shape=(1, 1, channels))
        y = conv(self.b, self.w, y, channels)
        self.alive.append(y)
        y = self.b.add("activation", y, activation="sigmoid")
        return self.b.add("multiply", x, y)

    def zero_padding(self, x: str) -> str:
        if max(size or 0 for size in self.b.shape(x)[1:3]) > 12:
            return self.identity(x)
        return self.b.add("pad", x, pads=self.draw(st.tuples(*[st.integers(0, 2)] * 4)))

    def pool(self, x: str) -> str:
        operator = self.draw(st.sampled_from(["max_pool", "max_pool", "average_pool"]))
        kernel = self.draw(st.integers(1, 3))
        return self.b.add(operator, x, pool_size=(kernel, kernel), **self.window(x, kernel))

    def slice(self, x: str) -> str:
        """Every n-th pixel, or without some at the edges."""
        axes = []
        for size in self.b.shape(x)[1:3]:
            start = self.draw(st.integers(0, min(1, (size or 1) - 1)))
            stop = self.draw(st.sampled_from([LIMIT, LIMIT, size or 1, max(start + 1, (size or 1) - 1)]))
            axes.append((start, stop, self.draw(st.integers(1, 2))))
        starts, stops, steps = zip(*axes, (0, LIMIT, 1), strict=True)
        return self.b.add("slice", x, starts=starts, stops=stops, steps=steps)

    def concatenate(self, x: str) -> str:
        fits = [name for name in self.alive if self.b.shape(name)[:3] == self.b.shape(x)[:3]]
        others = self.draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))
        if sum(self.b.shape(name)[-1] or 0 for name in (x, *others)) > 16:
            return self.identity(x)
        return self.b.add("concatenate", x, *others, axis=3)

    def identity(self, x: str) -> str:
        height, _, channels = (size or 1 for size in self.b.shape(x)[1:])
        kind = self.draw(st.integers(0, 3))
        if kind == 0:
            return self.b.add("reshape", x, shape=(height, -1, channels))
        if kind == 1:
            return self.b.add("pad", x)
        return self.b.add("identity", x)

    def reshape(self, x: str) -> str:
        height, width, channels = (size or 1 for size in self.b.shape(x)[1:])
        flat = self.b.add("reshape", x, shape=(-1,))
        return self.b.add(
            "reshape", flat, shape=self.draw(st.sampled_from([(width, height, channels), (height, width, -1)]))
        )

    def head(self, x: str) -> str:
        """A classifier: pooling or flattening, dense layers, softmax."""
        if self.draw(st.booleans()):
            x = self.b.add("reduce_max", x, keepdims=1)
        x = self.b.add("reshape", x, shape=(-1,))
        for units in (5, 3):
            depth = self.b.shape(x)[-1] or 1
            x = self.b.add("dense", x, self.w.normal(depth, units, fan_in=depth), **self.maybe_function())
            if self.draw(st.booleans()):
                x = self.batch_norm(x)
            if self.draw(st.booleans()):
                x = self.activation(x)
        return self.b.add("softmax", x, axis=1) if self.draw(st.booleans()) else x

    def joined(self) -> str:
        """All tensors that nobody reads yet, pooled and joined: nothing in the network is dead."""
        read = {name for node in self.b.nodes for name in node.inputs}
        loose = [name for name in self.alive if name not in read]
        pooled = [self.b.add("reduce_mean", name) for name in loose]
        return self.b.add("concatenate", *pooled, axis=1) if len(pooled) > 1 else pooled[0]


_PARTS: list[Callable[[_Network, str], str]] = [
    _Network.conv,
    _Network.conv,
    _Network.depthwise,
    _Network.batch_norm,
    _Network.batch_norm,
    _Network.activation,
    _Network.constant,
    _Network.add,
    _Network.residual,
    _Network.squeeze,
    _Network.zero_padding,
    _Network.pool,
    _Network.slice,
    _Network.concatenate,
    _Network.identity,
    _Network.reshape,
]


@st.composite
def cnn_graphs(draw: st.DrawFn, parts: int = 10) -> Graph:
    """A legal network of branches, sums, concatenations, normalisations with random statistics, and paddings.

    Some tensors are public outputs though others read them, and some nodes are read by nobody.
    """
    network = _Network(draw)
    for part in draw(st.lists(st.sampled_from(_PARTS), min_size=min(4, parts), max_size=parts)):
        network.alive.append(part(network, network.some()))
    ends = [network.joined() if draw(st.integers(0, 2)) else network.alive[-1]]
    if len(network.b.shape(ends[0])) == 4 and draw(st.booleans()):
        ends = [network.head(ends[0])]
    tensors = sorted(network.b.tensors)
    ends += draw(st.lists(st.sampled_from(tensors), max_size=2)) if draw(st.booleans()) else []
    graph = network.b.graph(*dict.fromkeys(ends))
    return share_at_random(graph) if draw(st.booleans()) else graph


def share_at_random(graph: Graph) -> Graph:
    """The graph with every bias of the same size as an earlier one equal to it: constants that may be shared."""
    first: dict[tuple[int, ...], Constant] = {}
    constants = {}
    for name, constant in graph.constants.items():
        if name.endswith("/bias"):
            constant = replace(first.setdefault(constant.shape, constant), name=name)
        constants[name] = constant
    return replace(graph, constants=constants)


ROUNDING = 1e-6
"""How far answers may move, relative to the largest value anywhere in the network. A folded weight or bias is rounded to
float32 once or twice, which moves it by 2**-24 of itself each time; functions and normalisations here have slopes of about
one, so that over the dozen folded nodes that a value passes these add up, at worst, to some ten of such steps."""


def assert_same_answers(before: Graph, after: Graph, seed: int = 0) -> None:
    """Both graphs have the same public face and, computed in float64, give the same but for rounded constants."""
    assert after.inputs == before.inputs
    assert [port.name for port in after.outputs] == [port.name for port in before.outputs]
    inputs = random_inputs(before, seed)
    values = reference.run_all(before, inputs)
    largest = max(1.0, *(float(np.abs(value).max()) for value in values.values()))
    answers = reference.run(after, inputs)
    for port in before.outputs:
        error = float(np.abs(answers[port.name] - values[port.tensor]).max())
        assert error <= ROUNDING * largest, f"{port.name}: off by {error}, where the largest value is {largest}"


def operators(graph: Graph) -> list[str]:
    """The operator of every node, in order."""
    return [node.operator for node in graph.nodes]

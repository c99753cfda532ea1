"""Hypothesis strategies: one node of every operator, with its inputs and constants, inside a small graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from edgecnn.errors import GraphError
from edgecnn.graph import ACTIVATIONS, OPERATORS, Constant, Graph, Node, Port, Tensor

CHANNELS = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 97]))
SIZES = st.integers(1, 12)


@dataclass(frozen=True)
class Case:
    """A graph with one node under test, and inputs for it.

    Attributes:
        graph: its last output is the node's.
        node: the node under test.
        inputs: by port name, float32, (N, ...).
    """

    graph: Graph
    node: Node
    inputs: dict[str, np.ndarray]


@st.composite
def activations(draw: st.DrawFn) -> dict[str, object]:
    """Attributes activation and activation_parameters."""
    name = draw(st.sampled_from(sorted(ACTIVATIONS)))
    parameters = ACTIVATIONS[name].defaults
    if name == "relu":
        parameters = draw(
            st.sampled_from(
                [(0.0, math.inf, 0.0), (0.0, 6.0, 0.0), (0.25, math.inf, 0.0), (0.125, 3.0, 0.5), (0.0, 2.0, 1.0)]
            )
        )
    return {"activation": name, "activation_parameters": parameters}


@st.composite
def windows(
    draw: st.DrawFn, kernel: tuple[int, int], dilations: tuple[int, int] = (1, 1), most: int = 3
) -> dict[str, object]:
    """Attributes strides, padding and pads; pads smaller than the kernel."""
    same = draw(st.booleans())
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = (0, 0, 0, 0)
    if not same:
        high = [min(most, k - 1) for k in kernel]
        pads = tuple(draw(st.integers(0, high[i // 2])) for i in range(4))
    return {"strides": strides, "padding": "same" if same else "explicit", "pads": pads}


def _values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn, operator: str) -> Case:
    """A legal node of an operator between strided neighbours.

    The graph around the node makes the runtime place its tensors inside wider ones where `around` says so: inputs are
    then slices of a concatenation, and so is the output, so that kernels meet pixels that do not follow each other.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.integers(1, 3))
    around = draw(st.booleans())
    constants: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    attributes: dict[str, object] = {}
    names: list[str] = ["x"]
    row = OPERATORS[operator]
    if row.activated:
        attributes |= draw(activations())

    if operator in ("conv2d", "depthwise_conv2d"):
        kernel = draw(
            st.one_of(st.sampled_from([(1, 1), (3, 3), (5, 5)]), st.tuples(st.integers(1, 7), st.integers(1, 7)))
        )
        dilations = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (1, 3)]))
        spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        window = draw(windows(spans, dilations))
        height = draw(st.integers(max(1, spans[0] - sum(window["pads"][:2])), spans[0] + 12))
        width = draw(st.integers(max(1, spans[1] - sum(window["pads"][2:])), spans[1] + 12))
        attributes |= {**window, "dilations": dilations}
        if operator == "conv2d":
            groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
            depth, filters = draw(CHANNELS), draw(CHANNELS)
            attributes["groups"] = groups
            shapes["x"] = (height, width, depth * groups)
            weights = (*kernel, depth, filters * groups)
            bias = filters * groups
        else:
            channels, multiplier = draw(CHANNELS), draw(st.sampled_from([1, 1, 1, 2, 3]))
            shapes["x"] = (height, width, channels)
            weights = (*kernel, channels, multiplier)
            bias = channels * multiplier
        constants["weights"] = _values(rng, weights)
        names.append("weights")
        if draw(st.booleans()):
            constants["bias"] = _values(rng, (bias,))
            names.append("bias")
        else:
            names.append("")
    elif operator == "dense":
        shapes["x"] = (*draw(st.lists(st.integers(1, 5), max_size=2)), draw(CHANNELS))
        units = draw(CHANNELS)
        constants["weights"] = _values(rng, (shapes["x"][-1], units))
        names.append("weights")
        names.append("bias" if draw(st.booleans()) else "")
        if names[-1]:
            constants["bias"] = _values(rng, (units,))
    elif operator == "batch_normalization":
        shapes["x"] = (*draw(st.lists(st.integers(1, 6), max_size=2)), draw(CHANNELS))
        for name in ("gamma", "beta", "mean", "variance"):
            constants[name] = _values(rng, (shapes["x"][-1],))
        constants["variance"] = np.abs(constants["variance"]) + np.float32(0.1)
        names += ["gamma", "beta", "mean", "variance"]
        attributes["epsilon"] = 1e-3
    elif operator in ("max_pool2d", "average_pool2d"):
        kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        window = draw(windows(kernel))
        height = draw(st.integers(max(1, kernel[0] - sum(window["pads"][:2])), kernel[0] + 9))
        width = draw(st.integers(max(1, kernel[1] - sum(window["pads"][2:])), kernel[1] + 9))
        attributes |= {**window, "pool_size": kernel}
        shapes["x"] = (height, width, draw(CHANNELS))
    elif operator in ("global_average_pool2d", "global_max_pool2d"):
        shapes["x"] = (draw(SIZES), draw(SIZES), draw(CHANNELS))
        attributes["keepdims"] = draw(st.integers(0, 1))
    elif operator in ("add", "multiply"):
        shape = (*draw(st.lists(st.integers(1, 6), max_size=3)), draw(CHANNELS))
        shapes["x"] = shape
        other = tuple(size if draw(st.booleans()) else 1 for size in shape)
        if draw(st.booleans()):
            shapes["x"], other = other, shape
        if draw(st.booleans()):
            rank = draw(st.integers(0, len(other)))
            constants["y"] = _values(rng, other[len(other) - rank :])
        else:
            shapes["y"] = other
        names = draw(st.permutations(["x", "y"]))
    elif operator == "concatenate":
        shape = [*draw(st.lists(st.integers(1, 5), max_size=3)), draw(CHANNELS)]
        axis = draw(st.integers(0, len(shape) - 1))
        names = [f"x{i}" for i in range(draw(st.integers(1, 4)))]
        for name in names:
            shape[axis] = draw(st.integers(1, 9))
            shapes[name] = tuple(shape)
        if draw(st.booleans()):
            names.append(names[0])
        attributes["axis"] = axis + 1
    elif operator == "softmax":
        shapes["x"] = (*draw(st.lists(st.integers(1, 6), max_size=3)), draw(CHANNELS))
        attributes["axis"] = draw(st.integers(1, len(shapes["x"])))
    elif operator == "reshape":
        shapes["x"] = (draw(SIZES), draw(SIZES), draw(CHANNELS))
        h, w, c = shapes["x"]
        attributes["shape"] = draw(st.sampled_from([(h * w * c,), (-1, c), (w, h, c), (1, h * w, -1), (h, w, c)]))
    elif operator == "zero_padding2d":
        shapes["x"] = (draw(SIZES), draw(SIZES), draw(CHANNELS))
        attributes["pads"] = tuple(draw(st.integers(0, 3)) for _ in range(4))
    else:  # activation, identity
        shapes["x"] = (*draw(st.lists(st.integers(1, 6), max_size=3)), draw(CHANNELS))

    if operator in ("conv2d", "dense"):
        given = [(None, *shapes["x"]), constants["weights"].shape, None, None]
        (out,) = row.shapes(attributes, given)
        names.append("residual" if draw(st.booleans()) else "")
        if names[-1]:
            shapes["residual"] = tuple(out[1:])
    return build(operator, names, attributes, shapes, constants, rng, images, around)


def build(
    operator: str,
    names: list[str],
    attributes: dict[str, object],
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, np.ndarray],
    rng: np.random.Generator,
    images: int,
    around: bool,
) -> Case:
    """The graph: each input passes an activation (so that it lies in the arena), then the node, then perhaps readers that
    make slices of input and output."""
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    outputs: list[Port] = []
    plain = {"activation": "relu", "activation_parameters": (0.5, math.inf, 0.0)}

    def tensor(name: str, shape: tuple[int | None, ...]) -> str:
        tensors[name] = Tensor(name, (None, *shape))
        return name

    def widen(name: str) -> None:
        """A concatenation of a tensor with another: the tensor becomes a slice of it."""
        shape = tensors[name].shape[1:]
        other = tensor(f"{name} again", shape)
        nodes.append(Node("activation", f"{name} again", (name,), (other,), plain))
        wide = tensor(f"{name} wide", (*shape[:-1], 2 * shape[-1]))
        nodes.append(Node("concatenate", f"{name} wide", (other, name), (wide,), {"axis": len(shape)}))
        outputs.append(Port(f"{name} wide", wide))

    for name, shape in shapes.items():
        tensor(f"{name} given", shape)
        tensor(name, shape)
        nodes.append(Node("activation", f"{name} made", (f"{name} given",), (name,), plain))
        if around:
            widen(name)
    given = [None if not n else (None, *shapes[n]) if n in shapes else constants[n].shape for n in names]
    (out,) = OPERATORS[operator].shapes(attributes, given)
    node = Node(operator, "under test", tuple(names), (tensor("result", out[1:]),), attributes)
    nodes.append(node)
    if around:
        widen("result")
    last = tensor("last", out[1:])
    nodes.append(Node("identity", "last", ("result",), (last,)))
    outputs.append(Port("result", last))
    graph = Graph(
        "case",
        tuple(Port(name, f"{name} given") for name in shapes),
        tuple(outputs),
        tuple(nodes),
        tensors,
        {name: Constant(name, array) for name, array in constants.items()},
        "dict",
        "dict",
    )
    graph.check()
    return Case(graph, node, {name: _values(rng, (images, *shape)) for name, shape in shapes.items()})


__all__ = ["CHANNELS", "Case", "GraphError", "activations", "build", "cases", "windows"]

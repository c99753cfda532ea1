"""Hypothesis strategies: one node of every operator, with its inputs and constants, inside a small graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from edgecnn.errors import GraphError
from edgecnn.graph import ACTIVATIONS, OPERATORS, Constant, Graph, Node, Port, Tensor
from edgecnn.graph.graph import MOST_RANK
from edgecnn.graph.operators import COORDINATES, LIMIT, PAD_MODES, RESIZE_METHODS, ROUNDINGS
from edgecnn.runtime.memory import BINARY

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


POSITIVE = {"log", "sqrt", "rsqrt", "reciprocal", "log1p"}
"""Functions that want values well above zero; they are drawn for `activation` nodes, whose inputs are chosen to suit."""
COMPARISONS = {"equal", "less", "keep"}
"""Functions of two that jump: they are drawn for whole numbers, of which some are equal and some are 0."""
STEPS = {"sign", "floor", "ceil", "round", "hard_shrink", "threshold"}
"""Functions that jump: no bound on the error of their input bounds theirs, so they are drawn for exact inputs."""


@st.composite
def activations(draw: st.DrawFn, exact: bool = False) -> dict[str, object]:
    """Attributes activation and activation_parameters. exact: whether the values that it meets are free of rounding."""
    name = draw(st.sampled_from(sorted(ACTIVATIONS if exact else ACTIVATIONS.keys() - POSITIVE - STEPS)))
    parameters = ACTIVATIONS[name].defaults
    if name == "relu":
        parameters = draw(
            st.sampled_from(
                [(0.0, math.inf, 0.0), (0.0, 6.0, 0.0), (0.25, math.inf, 0.0), (0.125, 3.0, 0.5), (0.0, 2.0, 1.0)]
            )
        )
    return {"activation": name, "activation_parameters": parameters}


@st.composite
def windows(draw: st.DrawFn, kernel: tuple[int, ...], most: int = 3) -> dict[str, object]:
    """Attributes strides, padding and pads; pads smaller than the kernel."""
    same = draw(st.booleans())
    strides = draw(st.one_of(st.just((1,) * len(kernel)), st.tuples(*[st.integers(1, 3)] * len(kernel))))
    pads = (0,) * (2 * len(kernel))
    if not same:
        high = [min(most, k - 1) for k in kernel]
        pads = tuple(draw(st.integers(0, high[i // 2])) for i in range(2 * len(kernel)))
    return {"strides": strides, "padding": "same" if same else "explicit", "pads": pads}


@st.composite
def kernels(draw: st.DrawFn, ranks: tuple[int, ...] = (2, 2, 2, 1, 3), most: int = 7) -> tuple[int, ...]:
    """A kernel's sizes for 1 to 3 spatial axes."""
    rank = draw(st.sampled_from(ranks))
    square = st.sampled_from([1, 3, 5]).map(lambda side: (side,) * rank)
    anything = st.tuples(*[st.integers(1, most if rank < 3 else 3)] * rank)
    if rank == 2 and most >= 7:
        square = st.one_of(square, st.sampled_from([(1, 3), (3, 1), (1, 7), (7, 1)]))
    return draw(square if rank < 3 and draw(st.booleans()) else anything)


def _sizes(draw: st.DrawFn, spans: tuple[int, ...], pads: tuple[int, ...], more: int) -> tuple[int, ...]:
    """Sizes of an image that windows of `spans` fit."""
    more = more if len(spans) < 3 else 4
    least = [max(1, span - sum(pads[2 * axis : 2 * axis + 2])) for axis, span in enumerate(spans)]
    return tuple(draw(st.integers(low, span + more)) for low, span in zip(least, spans, strict=True))


def _values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _leading(draw: st.DrawFn, high: bool, largest: int = 6, most: int = MOST_RANK - 2) -> list[int]:
    """Sizes between the batch and the last ones: three as a rule, as many as there can be now and then where `high`."""
    few = not high or draw(st.booleans())
    return draw(st.lists(st.integers(1, largest if few else 3), max_size=min(3, most) if few else most))


@st.composite
def cases(draw: st.DrawFn, operator: str, taps: tuple[int, int] | None = None, high: bool = False) -> Case:
    """A legal node of an operator between strided neighbours.

    Args:
        taps: for a `conv` of this window, of stride 1 and with channels enough for Winograd's algorithm.
        high: whether tensors may have the highest rank, which other engines do not take everywhere.

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
        attributes |= draw(activations(operator == "activation"))

    if operator in ("conv", "depthwise_conv"):
        kernel = taps or draw(kernels() if operator == "conv" else kernels((2, 2, 1)))
        any_dilation = st.sampled_from([(1, 1, 1), (1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 1, 3)])
        dilations = ((1, 1, 1) if taps else draw(any_dilation))[: len(kernel)]
        spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        window = draw(windows(spans))
        sizes = _sizes(draw, spans, window["pads"], 12)
        if taps:
            window["strides"] = (1, 1)
        attributes |= {**window, "dilations": dilations}
        if operator == "conv":
            groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
            depth, filters = draw(CHANNELS) + (7 if taps else 0), draw(CHANNELS)
            attributes["groups"] = groups
            shapes["x"] = (*sizes, depth * groups)
            weights = (*kernel, depth, filters * groups)
            bias = filters * groups
        else:
            channels, multiplier = draw(CHANNELS), draw(st.sampled_from([1, 1, 1, 2, 3]))
            shapes["x"] = (*sizes, channels)
            weights = (*kernel, channels, multiplier)
            bias = channels * multiplier
        constants["weights"] = _values(rng, weights)
        names.append("weights")
        if draw(st.booleans()):
            constants["bias"] = _values(rng, (bias,))
            names.append("bias")
        else:
            names.append("")
    elif operator == "conv_transpose":
        kernel = draw(kernels(most=5))
        axes = range(len(kernel))
        strides = tuple(draw(st.integers(1, 4)) for _ in axes)
        dilations = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in axes)
        sizes = tuple(draw(st.integers(1, 7 if len(kernel) < 3 else 4)) for _ in axes)
        more = tuple(draw(st.integers(0, 3)) for _ in axes)
        pads = []
        for axis in axes:
            size = (sizes[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + more[axis]
            before = draw(st.integers(0, min(3, size - 1)))
            pads += [before, draw(st.integers(0, min(3, size - 1 - before)))]
        groups, depth, filters = draw(st.sampled_from([1, 1, 2, 3])), draw(CHANNELS), draw(CHANNELS)
        attributes |= {"strides": strides, "dilations": dilations, "output_padding": more, "pads": tuple(pads)}
        attributes["groups"] = groups
        shapes["x"] = (*sizes, depth * groups)
        constants["weights"] = _values(rng, (*kernel, filters, depth * groups))
        names += ["weights", "bias" if draw(st.booleans()) else ""]
        if names[-1]:
            constants["bias"] = _values(rng, (filters * groups,))
    elif operator == "dense":
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))
        units = draw(CHANNELS)
        constants["weights"] = _values(rng, (shapes["x"][-1], units))
        names.append("weights")
        names.append("bias" if draw(st.booleans()) else "")
        if names[-1]:
            constants["bias"] = _values(rng, (units,))
    elif operator == "batch_normalization":
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))
        for name in ("gamma", "beta", "mean", "variance"):
            constants[name] = _values(rng, (shapes["x"][-1],))
        constants["variance"] = np.abs(constants["variance"]) + np.float32(0.1)
        names += ["gamma", "beta", "mean", "variance"]
        attributes["epsilon"] = 1e-3
    elif operator in ("layer_normalization", "group_normalization"):
        groups = draw(st.sampled_from([1, 2, 3])) if operator == "group_normalization" else 1
        shapes["x"] = (*_leading(draw, high), groups * draw(CHANNELS))
        for name in ("gamma", "beta"):
            constants[name] = _values(rng, (shapes["x"][-1],))
        names += ["gamma", "beta"]
        attributes["epsilon"] = 0.1
        if operator == "group_normalization":
            attributes["groups"] = groups
    elif operator == "local_response_normalization":
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))
        attributes |= {"size": draw(st.integers(1, 9)), "bias": 2.0, "alpha": 0.5, "beta": 0.75}
    elif operator in ("max_pool", "average_pool"):
        kernel = draw(kernels(most=5))
        window = draw(windows(kernel))
        attributes |= {**window, "pool_size": kernel}
        if operator == "average_pool":
            attributes["count_padding"] = draw(st.integers(0, 1))
        shapes["x"] = (*_sizes(draw, kernel, window["pads"], 9), draw(CHANNELS))
    elif operator.startswith("reduce_"):
        shapes["x"] = (*_leading(draw, high, 12), draw(CHANNELS))
        first = draw(st.integers(1, len(shapes["x"])))
        attributes["axes"] = tuple(range(first, draw(st.integers(first, len(shapes["x"]))) + 1))
        attributes["keepdims"] = draw(st.integers(0, 1))
    elif operator == "matmul":
        *outer, m, k, n = _leading(draw, high, most=5) + [draw(st.integers(1, 20)) for _ in range(3)]
        shapes["x"], shapes["y"] = (*outer, m, k), (*outer, k, n)
        names.append("y")
    elif operator in BINARY:
        shape = (*_leading(draw, high), draw(CHANNELS))
        which = [draw(st.sampled_from(["both", "both", "x", "y"])) for _ in shape]  # which operand has an axis
        shapes["x"] = tuple(1 if who == "y" else size for who, size in zip(which, shape, strict=True))
        other = tuple(1 if who == "x" else size for who, size in zip(which, shape, strict=True))
        if draw(st.booleans()):
            rank = draw(st.integers(0, len(other)))
            constants["y"] = _values(rng, other[len(other) - rank :])
        else:
            shapes["y"] = other
        names = draw(st.permutations(["x", "y"]))
    elif operator == "concatenate":
        shape = [*_leading(draw, high), draw(CHANNELS)]
        axis = draw(st.integers(0, len(shape) - 1))
        names = [f"x{i}" for i in range(draw(st.integers(1, 4)))]
        for name in names:
            shape[axis] = draw(st.integers(1, 9))
            shapes[name] = tuple(shape)
        if draw(st.booleans()):
            names.append(names[0])
        attributes["axis"] = axis + 1
    elif operator == "softmax":
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))
        attributes |= {"axis": draw(st.integers(1, len(shapes["x"]))), "log": draw(st.integers(0, 1))}
    elif operator == "reshape":
        shapes["x"] = (draw(SIZES), draw(SIZES), draw(CHANNELS))
        h, w, c = shapes["x"]
        attributes["shape"] = draw(st.sampled_from([(h * w * c,), (-1, c), (w, h, c), (1, h * w, -1), (h, w, c)]))
    elif operator == "transpose":
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))
        attributes["permutation"] = tuple(draw(st.permutations(range(1, len(shapes["x"]) + 1))))
    elif operator == "slice":
        shapes["x"] = (*_leading(draw, high, 9), draw(CHANNELS))
        cuts = []
        for size in shapes["x"]:
            start, step = draw(st.integers(-size, size - 1)), draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
            cuts.append((start, LIMIT, step))
            stop = draw(st.integers(-size, size + 3))
            if range(*slice(start, stop, step).indices(size)):
                cuts[-1] = (start, stop, step)
        attributes |= dict(zip(("starts", "stops", "steps"), map(tuple, zip(*cuts, strict=True)), strict=True))
    elif operator == "pad":
        shapes["x"] = (*_leading(draw, high, 9), draw(CHANNELS))
        mode = draw(st.sampled_from(PAD_MODES))
        most = [min(3, size - (mode == "reflect")) for size in shapes["x"] for _ in (0, 1)]
        attributes |= {"mode": mode, "value": draw(st.sampled_from([0.0, -1.5]))}
        attributes["pads"] = tuple(draw(st.integers(0, high)) for high in most)
    elif operator == "resize":
        shapes["x"] = (draw(SIZES), draw(SIZES), draw(CHANNELS))
        attributes |= {
            "sizes": draw(st.sampled_from([(0, 0), (0, 0), (5, 9), (13, 1)])),
            "scales": draw(st.sampled_from([(2.0, 2.0), (3.0, 1.0), (1.0, 1.25)])),
            "method": draw(st.sampled_from(RESIZE_METHODS)),
            "coordinates": draw(st.sampled_from(COORDINATES)),
            "rounding": draw(st.sampled_from(ROUNDINGS)),
            "cubic_coefficient": draw(st.sampled_from([-0.5, -0.75])),
            "antialias": draw(st.integers(0, 1)),
            "exclude_outside": draw(st.integers(0, 1)),
        }
    else:  # activation, identity
        shapes["x"] = (*_leading(draw, high), draw(CHANNELS))

    if operator in ("conv", "dense"):
        given = [(None, *shapes["x"]), constants["weights"].shape, None, None]
        (out,) = row.shapes(attributes, given)
        names.append("residual" if draw(st.booleans()) else "")
        if names[-1]:
            shapes["residual"] = tuple(out[1:])
    positive = operator in ("divide", "power") or attributes.get("activation") in POSITIVE
    if positive:
        constants = {name: np.abs(array) + np.float32(0.5) for name, array in constants.items()}
    if operator in COMPARISONS:
        constants = {name: np.round(array) for name, array in constants.items()}
    case = build(operator, names, attributes, shapes, constants, rng, images, around)
    if positive:
        for array in case.inputs.values():
            array[:] = np.abs(array) + np.float32(0.5)
    if operator in COMPARISONS:
        for array in case.inputs.values():
            array[:] = np.round(array)
    return case


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
        if not shape:
            return
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
